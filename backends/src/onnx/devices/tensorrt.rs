//! TensorRT 10: `docs/operators.md` and `onnxOpImporters.cpp` of github.com/onnx/onnx-tensorrt at 96e7811 (10.1, June
//! 2024), the parser of ONNX models, and "Working with Quantized Types" and "Explicit Quantization" of TensorRT's
//! documentation (10.11).
//!
//! Its quantization is symmetric (`QuantDequantLinearHelper`): integers are signed, all zero points are 0, activations
//! have one scale, and weights one for each output channel. The documentation recommends to quantize the inputs of
//! convolutions and products and not their results, so that TensorRT fuses what follows them, and moves the conversions
//! over operators that only move elements.

use qcc_ir::ops::{Binary, BinaryFn, Cast, Op, Pool, Resize, ResizeMode, ScatterFn, ScatterNd, TopK};
use qcc_ir::target::{Device as Limits, Kernel, Quantized, ZeroPoint};
use qcc_ir::{Elem, StorageType, TensorType};

use super::super::target;
use super::operators;
use crate::device::unless;
use crate::{Device, Format};

/// The device.
pub static TENSORRT: Device = Device {
    name: "tensorrt",
    about: "NVIDIA TensorRT 10",
    format: Format::Onnx,
    target: target::target(
        kernel,
        StorageType::I8,
        Some(Limits {
            name: "tensorrt",
            rule,
            lacks: &[Elem::I8, Elem::I16],
            quantized_interface: false,
            keeps_states: false,
        }),
    ),
    operators: || operators::with_common(OWN),
    split: None,
    standard_qdq: true,
    most_bytes: None,
};

/// The operators of the table that qcc writes, besides those that all devices have.
pub(super) const OWN: &[&str] = &[
    "Acos",
    "Acosh",
    "Asin",
    "Asinh",
    "Atanh",
    "Cosh",
    "Erf",
    "Mish",
    "NonMaxSuppression",
    "NonZero",
    "RNN",
    "ReduceProd",
    "RoiAlign",
    "Shape",
    "Sinh",
    "Softsign",
];

/// Convolutions and products of symmetric integers with float results.
const PRODUCTS: Quantized = Quantized {
    zero_point: ZeroPoint::Symmetric,
    zero_points: [ZeroPoint::Symmetric; 2],
    gives_quantized: false,
    gives_float: true,
    fuses_clamp: true,
    ..Quantized::ANY
};

/// The table of the target with the quantization of the device.
fn kernel(op: &Op, x: &[&TensorType]) -> Option<Kernel> {
    let kernel = target::kernel(op, x)?;
    let weight_axis = kernel.quantized.and_then(|quantized| quantized.weight_axis);
    let quantized = match op {
        Op::Conv(_) | Op::MatMul(_) => kernel.quantized.map(|_| Quantized { weight_axis, ..PRODUCTS }),
        Op::Quantize(_) | Op::Dequantize(_) => Some(PRODUCTS),
        _ => None,
    };
    missing(op, x).is_none().then_some(Kernel { quantized, wide: None, weights: None, ..kernel })
}

/// The rule that leaves a row of the target's table out.
fn rule(op: &Op, x: &[&TensorType]) -> Option<&'static str> {
    target::kernel(op, x).and_then(|_| missing(op, x))
}

/// Why the device has no kernel, if so.
fn missing(op: &Op, x: &[&TensorType]) -> Option<&'static str> {
    let is = |elems: &[Elem]| x.first().is_some_and(|t| elems.contains(&t.elem));
    let narrow = |elem: &Elem| matches!(elem, Elem::I8 | Elem::I16 | Elem::U8);
    if x.iter().any(|t| t.rank() > 8) {
        return Some("its values have 8 axes at most (Dims::MAX_DIMS)");
    }
    if x.iter().any(|t| narrow(&t.elem)) && !matches!(op, Op::Cast(_)) {
        return Some("it computes with integers of 32 and 64 bits only");
    }
    match op {
        Op::Cast(Cast { to }) => unless(!narrow(to), "Cast gives floats, integers of 32 and 64 bits, and booleans")
            .or_else(|| unless(!is(&[Elem::I8, Elem::I16]), "Cast takes no integers of 8 and 16 bits but uint8")),
        Op::Clamp(_) => unless(is(&[Elem::F32, Elem::F16]), "Clip takes floats"),
        Op::Binary(Binary { f }) => match f {
            BinaryFn::And | BinaryFn::Or | BinaryFn::Xor => unless(is(&[Elem::Bool]), "it has no bitwise operators"),
            BinaryFn::Pow => unless(is(&[Elem::F32, Elem::F16]), "Pow takes floats"),
            _ => None,
        },
        Op::Conv(_) | Op::ConvTranspose(_) => unless(x[0].rank() <= 5, "convolutions have 3 spatial axes at most"),
        Op::Pool(Pool { dilation, .. }) => {
            unless(dilation.iter().all(|&d| d == 1), "AveragePool and MaxPool have no dilations")
        }
        Op::Resize(Resize { mode, .. }) => {
            unless(!matches!(mode, ResizeMode::Cubic { .. }), "Resize has no cubic interpolation")
        }
        Op::GridSample(_) => unless(x[0].rank() == 4, "GridSample takes images with 2 axes"),
        Op::DepthToSpace(_) => unless(x[0].rank() == 4, "DepthToSpace takes images with 2 axes"),
        Op::CumSum(_) => unless(is(&[Elem::F32, Elem::F16]), "CumSum takes floats"),
        Op::NonZero(_) => unless(is(&[Elem::F32, Elem::F16]), "NonZero takes floats"),
        Op::TopK(TopK { k, .. }) => unless(k.known().is_some_and(|k| k < 3840), "TopK gives fewer than 3840 elements"),
        Op::ScatterNd(ScatterNd { f }) => unless(*f == ScatterFn::Replace, "ScatterND has no reduction"),
        Op::DynamicQuantize(_) => Some("it has no DynamicQuantizeLinear"),
        _ => None,
    }
}
