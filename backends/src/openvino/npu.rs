//! Intel NPUs (Core Ultra processors) through OpenVINO: the parser of github.com/openvinotoolkit/npu_compiler
//! (`src/vpux_compiler/src/frontend/IE.cpp` and the operators in `dialect/IE/IR/ops`) at 150e202 (December 2024) and, for
//! the list of operators, at 0ccf9bf. Known extents: "NPU Device" of OpenVINO's documentation (2026). Quantization: what
//! NNCF 3.4 gives models for NPUs (`nncf/common/hardware/setups/npu.py`) takes in all that it gives those for CPUs.

use qcc_ir::ops::{Cell, Op, Recurrent, ScatterFn, ScatterNd, Unary, UnaryFn};
use qcc_ir::target::{Device as Limits, Kernel};
use qcc_ir::{Elem, TensorType};

use super::target;
use crate::device::known_extents;
use crate::{Device, Format};

/// The device.
pub static NPU: Device = Device {
    name: "openvino-npu",
    about: "Intel NPU, through OpenVINO",
    format: Format::Openvino,
    target: target::target(
        kernel,
        Some(Limits { name: "openvino-npu", rule, lacks: &[], quantized_interface: true, keeps_states: false }),
    ),
    operators: || OPERATORS.to_vec(),
    split: None,
    standard_qdq: false,
    most_bytes: None,
};

/// The operators that its parser has, or makes others of, and that qcc writes.
const OPERATORS: &[&str] = &[
    "Abs",
    "Acos",
    "Acosh",
    "Add",
    "Asin",
    "Asinh",
    "Atan",
    "Atanh",
    "AvgPool",
    "BitwiseAnd",
    "BitwiseNot",
    "BitwiseOr",
    "BitwiseXor",
    "Broadcast",
    "Ceiling",
    "Clamp",
    "Concat",
    "Convert",
    "Convolution",
    "ConvolutionBackpropData",
    "Cos",
    "Cosh",
    "CumSum",
    "DepthToSpace",
    "Divide",
    "Elu",
    "Equal",
    "Erf",
    "Exp",
    "FakeQuantize",
    "Floor",
    "FloorMod",
    "GRUSequence",
    "Gather",
    "GatherElements",
    "GatherND",
    "Gelu",
    "Greater",
    "GreaterEqual",
    "GridSample",
    "GroupConvolution",
    "GroupConvolutionBackpropData",
    "HSigmoid",
    "HSwish",
    "HardSigmoid",
    "Interpolate",
    "LSTMSequence",
    "Less",
    "LessEqual",
    "Log",
    "LogSoftmax",
    "LogicalAnd",
    "LogicalNot",
    "LogicalOr",
    "LogicalXor",
    "MVN",
    "MatMul",
    "MaxPool",
    "Maximum",
    "Minimum",
    "Mish",
    "Mod",
    "Multiply",
    "Negative",
    "NotEqual",
    "PReLU",
    "Pad",
    "Power",
    "ReLU",
    "ReduceLogicalAnd",
    "ReduceLogicalOr",
    "ReduceMax",
    "ReduceMean",
    "ReduceMin",
    "ReduceProd",
    "ReduceSum",
    "Reshape",
    "Round",
    "ScatterNDUpdate",
    "Select",
    "Selu",
    "Sigmoid",
    "Sign",
    "Sin",
    "Sinh",
    "Slice",
    "SoftMax",
    "SoftPlus",
    "SpaceToDepth",
    "Sqrt",
    "SquaredDifference",
    "Squeeze",
    "StridedSlice",
    "Subtract",
    "Swish",
    "Tan",
    "Tanh",
    "Tile",
    "TopK",
    "Transpose",
    "Unsqueeze",
];

fn kernel(op: &Op, x: &[&TensorType]) -> Option<Kernel> {
    target::kernel(op, x).filter(|_| missing(op, x).is_none())
}

/// The rule that leaves a row of the target's table out.
fn rule(op: &Op, x: &[&TensorType]) -> Option<&'static str> {
    target::kernel(op, x).and_then(|_| missing(op, x))
}

/// Why the device has no kernel, if so.
fn missing(op: &Op, x: &[&TensorType]) -> Option<&'static str> {
    if let Some(rule) = known_extents(op, x) {
        return Some(rule);
    }
    match op {
        Op::Unary(Unary { f: UnaryFn::Softsign }) => Some("it has no SoftSign"),
        Op::RoiAlign(_) => Some("it has no ROIAlign"),
        Op::Recurrent(Recurrent { cell: Cell::Rnn { .. }, .. }) => Some("it has no RNNSequence"),
        Op::Recurrent(Recurrent { clip: Some(_), .. }) => Some("its recurrent layers have no clip"),
        Op::ScatterNd(ScatterNd { f }) if *f != ScatterFn::Replace => Some("ScatterNDUpdate has no reduction"),
        Op::DepthToSpace(_) | Op::SpaceToDepth(_) if !x[0].elem.is_float() && x[0].elem != Elem::U8 => {
            Some("DepthToSpace and SpaceToDepth take floats and uint8")
        }
        _ => None,
    }
}
