//! TensorFlow Lite for Microcontrollers with its reference kernels: `tensorflow/lite/micro/kernels/*.cc` and
//! `tensorflow/lite/micro/micro_mutable_op_resolver.h` of github.com/tensorflow/tflite-micro at 90b983c. Element types
//! are those of the `switch` in each kernel; limits of the rank are named with their constants.

use qcc_ir::ops::{Binary, BinaryFn, Cast, Op, Pad, PadMode, Reduce, ReduceFn, Resize, ResizeMode, Unary, UnaryFn};
use qcc_ir::target::{Device as Limits, Kernel, Quantized};
use qcc_ir::{Elem, TensorType};

use super::super::target;
use crate::device::{Split, known_extents, unless};
use crate::{Device, Format};

/// The device.
pub static TFLM: Device = device("tflm", "TensorFlow Lite for Microcontrollers, reference kernels", None);

/// A device with these kernels, which may divide the operators between them and faster ones.
pub(super) const fn device(name: &'static str, about: &'static str, split: Option<Split>) -> Device {
    let limits =
        Limits { name, rule, lacks: &[Elem::I64, Elem::F16], quantized_interface: true, keeps_states: split.is_none() };
    Device {
        name,
        about,
        format: Format::Tflite,
        target: target::target(kernel, Some(limits)),
        operators: || OPERATORS.iter().map(|(name, _)| *name).collect(),
        split,
        standard_qdq: false,
        most_bytes: None,
    }
}

/// Its builtin operators, and the names of the methods of `MicroMutableOpResolver` that register them.
pub(crate) const OPERATORS: &[(&str, &str)] = &[
    ("ABS", "Abs"),
    ("ADD", "Add"),
    ("ARG_MAX", "ArgMax"),
    ("ARG_MIN", "ArgMin"),
    ("AVERAGE_POOL_2D", "AveragePool2D"),
    ("ASSIGN_VARIABLE", "AssignVariable"),
    ("BATCH_MATMUL", "BatchMatMul"),
    ("BROADCAST_TO", "BroadcastTo"),
    ("CALL_ONCE", "CallOnce"),
    ("CAST", "Cast"),
    ("CEIL", "Ceil"),
    ("CONCATENATION", "Concatenation"),
    ("CONV_2D", "Conv2D"),
    ("COS", "Cos"),
    ("CUMSUM", "CumSum"),
    ("DEPTHWISE_CONV_2D", "DepthwiseConv2D"),
    ("DEPTH_TO_SPACE", "DepthToSpace"),
    ("DEQUANTIZE", "Dequantize"),
    ("DIV", "Div"),
    ("ELU", "Elu"),
    ("EQUAL", "Equal"),
    ("EXP", "Exp"),
    ("FLOOR", "Floor"),
    ("FLOOR_DIV", "FloorDiv"),
    ("FLOOR_MOD", "FloorMod"),
    ("FULLY_CONNECTED", "FullyConnected"),
    ("GATHER", "Gather"),
    ("GATHER_ND", "GatherNd"),
    ("GREATER", "Greater"),
    ("GREATER_EQUAL", "GreaterEqual"),
    ("HARD_SWISH", "HardSwish"),
    ("LEAKY_RELU", "LeakyRelu"),
    ("LESS", "Less"),
    ("LESS_EQUAL", "LessEqual"),
    ("LOG", "Log"),
    ("LOGICAL_AND", "LogicalAnd"),
    ("LOGICAL_NOT", "LogicalNot"),
    ("LOGICAL_OR", "LogicalOr"),
    ("LOGISTIC", "Logistic"),
    ("LOG_SOFTMAX", "LogSoftmax"),
    ("MAXIMUM", "Maximum"),
    ("MAX_POOL_2D", "MaxPool2D"),
    ("MEAN", "Mean"),
    ("MINIMUM", "Minimum"),
    ("MIRROR_PAD", "MirrorPad"),
    ("MUL", "Mul"),
    ("NEG", "Neg"),
    ("NOT_EQUAL", "NotEqual"),
    ("PAD", "Pad"),
    ("PADV2", "PadV2"),
    ("PRELU", "Prelu"),
    ("QUANTIZE", "Quantize"),
    ("READ_VARIABLE", "ReadVariable"),
    ("REDUCE_ALL", "ReduceAll"),
    ("REDUCE_MAX", "ReduceMax"),
    ("REDUCE_MIN", "ReduceMin"),
    ("RELU", "Relu"),
    ("RELU6", "Relu6"),
    ("RESHAPE", "Reshape"),
    ("RESIZE_BILINEAR", "ResizeBilinear"),
    ("RESIZE_NEAREST_NEIGHBOR", "ResizeNearestNeighbor"),
    ("REVERSE_V2", "ReverseV2"),
    ("ROUND", "Round"),
    ("RSQRT", "Rsqrt"),
    ("SELECT_V2", "SelectV2"),
    ("SIN", "Sin"),
    ("SLICE", "Slice"),
    ("SOFTMAX", "Softmax"),
    ("SPACE_TO_DEPTH", "SpaceToDepth"),
    ("SQRT", "Sqrt"),
    ("SQUARED_DIFFERENCE", "SquaredDifference"),
    ("STRIDED_SLICE", "StridedSlice"),
    ("SUB", "Sub"),
    ("SUM", "Sum"),
    ("TANH", "Tanh"),
    ("TRANSPOSE", "Transpose"),
    ("TRANSPOSE_CONV", "TransposeConv"),
    ("VAR_HANDLE", "VarHandle"),
];

/// The table of the target without what the device lacks. No kernel computes with quantized weights and float
/// activations: `conv.cc`, `fully_connected.cc` and `gather.cc` require equal types.
pub(super) fn kernel(op: &Op, x: &[&TensorType]) -> Option<Kernel> {
    let kernel = match op {
        // `prelu.cc`; an 8-bit kernel is as fast as the others here.
        Op::Binary(Binary { f: BinaryFn::Prelu }) => target::kernel(op, x)?.quantized(Quantized::ANY),
        _ => target::kernel(op, x)?,
    };
    // Integer kernels are the faster ones of the reference kernels.
    let quantized = kernel.quantized.map(|quantized| Quantized { slow: false, ..quantized });
    let kernel = Kernel { quantized, ..kernel };
    let wide = kernel.wide.filter(|_| takes_wide(op));
    missing(op, x).is_none().then_some(Kernel { weights: None, wide, ..kernel })
}

/// True for operators that take int16 as LiteRT does: `reduce.cc`, `resize_bilinear.cc`, `mirror_pad.cc` and `gather.cc`
/// have no such case.
fn takes_wide(op: &Op) -> bool {
    match op {
        Op::Reduce(Reduce { f, .. }) => *f == ReduceFn::Mean,
        Op::Resize(Resize { mode, .. }) => matches!(mode, ResizeMode::Nearest(_)),
        Op::Pad(Pad { mode, .. }) => *mode != PadMode::Reflect,
        Op::Gather(_) | Op::GatherNd(_) => false,
        _ => true,
    }
}

/// The rule that leaves a row of the target's table out.
pub(super) fn rule(op: &Op, x: &[&TensorType]) -> Option<&'static str> {
    target::kernel(op, x).and_then(|_| missing(op, x))
}

/// Limits of the rank.
const SHAPES: &str = "its values have 6 axes at most (RuntimeShape::kMaxSmallSize)";
const BROADCASTS: &str = "its kernels broadcast 4 axes at most (NdArrayDesc<4>)";

/// Why the device has no kernel, if so.
fn missing(op: &Op, x: &[&TensorType]) -> Option<&'static str> {
    let elem = |i: usize| x.get(i).map(|t| &t.elem);
    let is = |elems: &[Elem]| elem(0).is_some_and(|e| elems.contains(e));
    let rank = x.iter().map(|t| t.rank()).max().unwrap_or(0);
    if let Some(rule) = known_extents(op, x) {
        return Some(rule);
    }
    // A tensor is stored with any number of axes; kernels that look at the shape have a limit.
    if rank > 6 && !matches!(op, Op::Input(_) | Op::Const(_) | Op::Reshape(_) | Op::Cast(_)) {
        return Some(SHAPES);
    }
    match op {
        Op::Input(_) | Op::Const(_) | Op::Reshape(_) => None,
        // They have open extents.
        Op::Symbolic(_)
        | Op::OpenSlice(_)
        | Op::Define(_)
        | Op::NonZero(_)
        | Op::NonMaxSuppression(_)
        | Op::Loop(_)
        | Op::If(_) => None,
        Op::Quantize(_) | Op::Dequantize(_) | Op::MatMul(_) | Op::Pool(_) | Op::Resize(_) => None,
        Op::Conv(_) | Op::ConvTranspose(_) | Op::Softmax(_) => None,
        Op::Unary(Unary { f }) => unary(*f, x[0]),
        Op::Binary(Binary { f }) => binary(*f, x),
        Op::Cast(Cast { to }) => cast(&x[0].elem, to),
        Op::Clamp(_) => unless(is(&[Elem::F32, Elem::I32]), "RELU, MAXIMUM and MINIMUM take float32 and int32"),
        Op::Select(_) => unless(elem(1) == Some(&Elem::F32), "SELECT_V2 takes float32 and int8")
            .or_else(|| unless(rank <= 5, "SELECT_V2 takes 5 axes at most (BroadcastSelect5DSlow)")),
        Op::Reduce(Reduce { f, axes, .. }) => match f {
            ReduceFn::Prod => Some("it has no REDUCE_PROD"),
            ReduceFn::Any => Some("it has no REDUCE_ANY"),
            ReduceFn::All => None,
            _ => unless(is(&[Elem::F32]), "MEAN, SUM, REDUCE_MAX and REDUCE_MIN take float32 and int8")
                .or_else(|| unless(axes.len() <= 4, "MEAN and SUM reduce 4 axes at most (MeanParams::axis)")),
        },
        Op::ArgReduce(_) => unless(is(&[Elem::F32]), "ARG_MAX and ARG_MIN take float32 and int8"),
        Op::CumSum(_) => unless(is(&[Elem::F32]), "CUMSUM takes float32"),
        Op::TopK(_) => Some("it has no TOPK_V2"),
        Op::Concat(_) if x.iter().any(|t| t.shape.elements() == Some(0)) => Some("it has no values without elements"),
        Op::Concat(_) => unless(x.len() <= MOST_CONCATENATED, "CONCATENATION takes 10 operands at most (kMaxInputNum)")
            .or_else(|| {
                let stored = [Elem::F32, Elem::I8, Elem::I32, Elem::Bool];
                unless(is(&stored), "CONCATENATION takes float32, int8, int32 and bool")
            }),
        Op::Slice(slice) => unless(is(&[Elem::F32, Elem::I8, Elem::I32, Elem::Bool]), "SLICE takes no such values")
            .or_else(|| unless(rank <= 5, "SLICE takes 5 axes at most (kMaxDim)"))
            .or_else(|| {
                let strided = slice.ranges.iter().any(|r| r.step != 1);
                unless(!strided || rank <= 4, "STRIDED_SLICE takes 4 axes at most (kMaxDim)")
            }),
        Op::Expand(e) => unless(e.shape.rank() <= 5, "BROADCAST_TO takes 5 axes at most (kMaxDims)"),
        Op::Tile(_) => Some("it has no TILE"),
        Op::Reverse(_) => unless(!is(&[Elem::U8]), "REVERSE_V2 takes no such values"),
        Op::Transpose(_) | Op::Relayout(_) => {
            unless(is(&[Elem::F32, Elem::I8, Elem::I16]), "TRANSPOSE takes float32, int8 and int16")
                .or_else(|| unless(rank <= 5, "TRANSPOSE takes 5 axes at most"))
        }
        Op::Pad(Pad { mode, .. }) => {
            let elems: &[Elem] = if *mode == PadMode::Reflect { &[Elem::F32] } else { &[Elem::F32, Elem::I32] };
            unless(is(elems), "PAD takes float32, int8 and int32, MIRROR_PAD float32 and int8")
                .or_else(|| unless(rank <= 5, "PAD takes 5 axes at most (PadKernelMaxDimensionCount)"))
        }
        Op::DepthToSpace(_) => unless(is(&[Elem::F32]), "DEPTH_TO_SPACE takes float32 and int8"),
        Op::SpaceToDepth(_) => unless(is(&[Elem::F32]), "SPACE_TO_DEPTH takes float32 and int8"),
        Op::Gather(_) => unless(is(&[Elem::F32, Elem::I8]), "GATHER takes float32 and int8 data"),
        Op::GatherNd(_) => unless(is(&[Elem::F32, Elem::I8]), "GATHER_ND takes float32 and int8 data"),
        Op::ScatterNd(_) => Some("it has no SCATTER_ND"),
        Op::DetectionPostProcess(_) => None,
        Op::Custom(_) => Some("it has no such custom operator"),
        Op::LayerNorm(_)
        | Op::Recurrent(_)
        | Op::GatherElements(_)
        | Op::GridSample(_)
        | Op::RoiAlign(_)
        | Op::DynamicQuantize(_) => Some("it has no such operator"),
    }
}

/// The largest number of operands of CONCATENATION (`kMaxInputNum` in `concatenation.cc`).
const MOST_CONCATENATED: usize = 10;

fn unary(f: UnaryFn, x: &TensorType) -> Option<&'static str> {
    match f {
        UnaryFn::Not => None,
        UnaryFn::Sign => Some("it has no SIGN"),
        UnaryFn::Gelu { .. } => Some("it has no GELU"),
        _ => (x.elem != Elem::F32).then_some("its functions of one operand take float32 and int8"),
    }
}

fn binary(f: BinaryFn, x: &[&TensorType]) -> Option<&'static str> {
    use BinaryFn::*;
    let shape = &x[0].shape;
    if x.iter().any(|t| t.shape != *shape && t.rank().max(shape.rank()) > 4) {
        return Some(BROADCASTS);
    }
    let float = x[0].elem == Elem::F32;
    match f {
        Add | Sub | Mul | Max | Min | SquaredDifference => None,
        Less | LessEqual | Greater | GreaterEqual | Equal | NotEqual | And | Or => None,
        Div | FloorDiv | FloorMod => (!float).then_some("DIV, FLOOR_DIV and FLOOR_MOD take float32"),
        Prelu => None,
        Xor => (x[0].elem != Elem::Bool).then_some("it has no BITWISE_XOR"),
        Pow => Some("it has no POW"),
        Atan2 => Some("it has no ATAN2"),
        Rem => Some("it has no such operator"),
    }
}

/// `cast.cc`. Those to and from 64-bit integers and 16-bit floats are at inputs and outputs, and are removed with these
/// types.
fn cast(from: &Elem, to: &Elem) -> Option<&'static str> {
    const FROM: &[Elem] = &[Elem::F32, Elem::I8, Elem::I16, Elem::I32, Elem::Bool];
    const TO: &[Elem] = &[Elem::F32, Elem::I8, Elem::I16, Elem::I32];
    let interface =
        [(&Elem::I64, &Elem::I32), (&Elem::I32, &Elem::I64), (&Elem::F16, &Elem::F32), (&Elem::F32, &Elem::F16)];
    let known = FROM.contains(from) && TO.contains(to) || interface.contains(&(from, to));
    (!known).then_some("CAST takes float32, int8, int16, int32 and bool, and gives all but bool")
}
