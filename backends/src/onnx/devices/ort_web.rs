//! ONNX Runtime Web with its WebAssembly backend: the kernels of ONNX Runtime for CPUs. Version 1.30.0 of the package
//! onnxruntime-web runs what qcc writes for ONNX Runtime but for one operator. The limit of memory, of 32-bit
//! addresses, is that of onnxruntime.ai/docs/tutorials/web/large-models.html (2026).

use qcc_ir::ops::{Op, Pool, PoolFn};
use qcc_ir::target::{Device as Limits, Kernel};
use qcc_ir::{StorageType, TensorType};

use super::super::target;
use super::{operators, tensorrt};
use crate::{Device, Format};

/// The device.
pub static ORT_WEB: Device = Device {
    name: "ort-web",
    about: "ONNX Runtime Web, WebAssembly backend",
    format: Format::Onnx,
    target: target::target(
        kernel,
        StorageType::U8,
        Some(Limits { name: "ort-web", rule, lacks: &[], quantized_interface: true, keeps_states: false }),
    ),
    operators: || [&operators::with_common(tensorrt::OWN), OTHERS].concat(),
    split: None,
    standard_qdq: false,
    most_bytes: Some(1 << 32),
};

/// The operators that qcc writes besides those that TensorRT has as well.
const OTHERS: &[&str] = &[
    "BitwiseAnd",
    "BitwiseOr",
    "BitwiseXor",
    "DynamicQuantizeLinear",
    "MatMulInteger",
    "MatMulIntegerToFloat",
    "MatMulNBits",
    "QGemm",
    "QLinearAdd",
    "QLinearAveragePool",
    "QLinearConv",
    "QLinearGlobalAveragePool",
    "QLinearLeakyRelu",
    "QLinearMatMul",
    "QLinearMul",
    "QLinearSigmoid",
    "QLinearSoftmax",
];

fn kernel(op: &Op, x: &[&TensorType]) -> Option<Kernel> {
    target::kernel(op, x).filter(|_| missing(op).is_none())
}

/// The rule that leaves a row of the target's table out.
fn rule(op: &Op, x: &[&TensorType]) -> Option<&'static str> {
    target::kernel(op, x).and_then(|_| missing(op))
}

/// Why the device has no kernel, if so.
fn missing(op: &Op) -> Option<&'static str> {
    match op {
        Op::Pool(Pool { f: PoolFn::Average, dilation, .. }) if dilation.iter().any(|&d| d != 1) => {
            Some("its optimizer gives a dilated AveragePool more padding than its kernel takes")
        }
        _ => None,
    }
}
