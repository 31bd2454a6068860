//! Qualcomm Hexagon NPUs (HTP) through ONNX Runtime's QNN execution provider: "QNN Execution Provider" in
//! `docs/execution_providers` of github.com/onnxruntime/onnxruntime-qnn at 0131740, and version 2.7.0 of the package
//! onnxruntime-qnn, which was asked for the nodes that it takes. What it does not take runs on the CPU.

use qcc_ir::ops::{
    ArgReduce, Binary, BinaryFn, Cell, Coordinates, CumSum, GatherNd, GridSample, Nearest, Op, Pool, PoolFn, Recurrent,
    Reduce, ReduceFn, Resize, ResizeMode, SampleMode, ScatterFn, ScatterNd, Unary, UnaryFn,
};
use qcc_ir::target::{Device as Limits, Kernel, Quantized};
use qcc_ir::{Elem, Graph, NodeId, StorageType, TensorType};

use super::super::target;
use super::operators;
use crate::device::{Split, Takes, known_extents, unless};
use crate::operation::{Verdict, ensure};
use crate::{Device, Format};

/// The device.
pub static QNN: Device = Device {
    name: "qnn",
    about: "Qualcomm Hexagon NPU, through ONNX Runtime with QNN",
    format: Format::Onnx,
    target: target::target(
        kernel,
        StorageType::U8,
        Some(Limits { name: "qnn", rule, lacks: &[], quantized_interface: true, keeps_states: false }),
    ),
    operators: || operators::with_common(&[]),
    split: Some(Split { takes: Takes::Node(takes), fast: "on the NPU", rest_is_unlimited: true, ..Split::ACCELERATOR }),
    standard_qdq: true,
    most_bytes: None,
};

/// A kernel of integers gives integers: an operator of integers with a float result runs on the CPU.
const QUANTIZED: Quantized = Quantized { fuses_clamp: true, ..Quantized::ANY };

/// The table of the target, with values quantized wherever the NPU has a kernel.
fn kernel(op: &Op, x: &[&TensorType]) -> Option<Kernel> {
    let kernel = target::kernel(op, x).filter(|_| missing(op, x).is_none())?;
    let weight_axis = kernel.quantized.and_then(|quantized| quantized.weight_axis);
    let quantized = match op {
        Op::Input(_) | Op::Const(_) | Op::Quantize(_) | Op::Dequantize(_) | Op::Custom(_) => kernel.quantized,
        Op::Conv(_) | Op::MatMul(_) => kernel.quantized.map(|_| Quantized { weight_axis, ..QUANTIZED }),
        Op::ConvTranspose(_) => Some(Quantized { weight_axis: Some(1), ..QUANTIZED }),
        _ if x.iter().any(|t| t.elem == Elem::F32) && computes(op, x).is_ok() => Some(QUANTIZED),
        _ => None,
    };
    Some(Kernel { quantized, wide: None, weights: None, ..kernel })
}

/// The rule that leaves a row of the target's table out.
fn rule(op: &Op, x: &[&TensorType]) -> Option<&'static str> {
    target::kernel(op, x).and_then(|_| missing(op, x))
}

/// Why a model with the operator would be refused, or why another operator is better, if so.
fn missing(op: &Op, x: &[&TensorType]) -> Option<&'static str> {
    if let Some(rule) = known_extents(op, x) {
        return Some(rule);
    }
    let several = |numbers: &[usize]| numbers.iter().any(|&n| n != 1);
    match op {
        Op::Unary(Unary { f: UnaryFn::Mish }) => Some("it has no Mish"),
        Op::Unary(Unary { f: UnaryFn::Erf }) => Some("it has no Erf"),
        Op::Unary(Unary { f: UnaryFn::Softsign }) => Some("it has no Softsign"),
        Op::Conv(c) if several(&c.dilation) => {
            let both = c.is_depthwise(&x[1].shape) && several(&c.stride);
            unless(!both, "a depthwise convolution has strides or dilations, not both")
                .or_else(|| unless(x[0].rank() <= 4, "convolutions of volumes have no dilations"))
        }
        Op::ConvTranspose(c) => unless(!several(&c.dilation), "transposed convolutions have no dilations"),
        Op::GridSample(_) => unless(x[0].rank() <= 4, "GridSample takes images with 2 axes"),
        Op::Resize(Resize { mode: ResizeMode::Nearest(_), .. }) => {
            unless(x[0].rank() == 4, "nearest pixels are of images with 2 axes")
        }
        Op::Binary(_) => unless(
            x.iter().all(|t| t.elem != Elem::I64 || t.rank() <= 4),
            "operators of 64-bit integers have 4 axes at most",
        ),
        _ => None,
    }
}

/// Whether the NPU runs a node.
fn takes(graph: &Graph, node: NodeId) -> Verdict {
    let (op, x, y) = (graph.op(node), graph.operand_types(node), graph.result_types(node));
    let narrow = |t: &TensorType| matches!(t.elem, Elem::I8 | Elem::I16 | Elem::U8);
    let bytes = matches!(op, Op::Cast(_)) && [x[0], &y[0]].into_iter().all(|t| !narrow(t) || t.elem == Elem::U8);
    ensure(
        bytes || !x.iter().copied().chain(&y).any(narrow),
        "it has no integers of 8 and 16 bits but quantized ones",
    )?;
    ensure(x.iter().copied().chain(&y).all(|t| t.rank() <= 5), "values have 5 axes at most")?;
    if !matches!(op, Op::Quantize(_) | Op::Dequantize(_) | Op::Custom(_)) {
        let mixed = x.iter().any(|t| t.elem.qparams().is_some()) && y.iter().any(|t| t.elem.is_float());
        ensure(!mixed, "results of operators of integers are quantized as well")?;
    }
    let real: Vec<TensorType> = x.iter().map(|t| t.real()).collect();
    computes(op, &real.iter().collect::<Vec<_>>())
}

/// Whether the NPU computes an operator on floats, or on integers that represent them.
fn computes(op: &Op, x: &[&TensorType]) -> Verdict {
    let float = x.first().is_some_and(|t| t.elem.is_float());
    match op {
        Op::Custom(_) => ensure(false, "it is not among the supported operators"),
        Op::Unary(Unary { f }) => {
            use UnaryFn::*;
            let lacks = matches!(f, Acos | Acosh | Asin | Asinh | Atanh | Cosh | Sinh);
            ensure(!lacks, "it is not among the supported operators")?;
            ensure(float || !matches!(f, Neg | Sign), "Neg and Sign take floats")
        }
        Op::Binary(Binary { f }) => {
            let logical = matches!(f, BinaryFn::And | BinaryFn::Or | BinaryFn::Xor);
            ensure(!logical || x[0].elem == Elem::Bool, "it has no bitwise operators")?;
            let equal = matches!(f, BinaryFn::Equal | BinaryFn::NotEqual);
            ensure(!equal || x[0].elem != Elem::Bool, "Equal takes numbers")?;
            ensure(float || *f != BinaryFn::Pow, "Pow takes floats")?;
            ensure(*f != BinaryFn::Rem, "Mod has the sign of the divisor")?;
            ensure(*f != BinaryFn::FloorMod || x[0].rank() <= 4, "Mod takes 4 axes at most")
        }
        Op::Pool(Pool { f, dilation, .. }) => {
            ensure(dilation.iter().all(|&d| d == 1), "pooling has no dilations")?;
            ensure(*f != PoolFn::Max || x[0].rank() <= 4, "MaxPool takes images with 2 axes")
        }
        Op::CumSum(CumSum { exclusive, reverse, .. }) => {
            ensure(!exclusive && !reverse, "CumSum is neither exclusive nor reverse")
        }
        Op::GatherNd(GatherNd { batch }) => ensure(*batch == 0, "GatherND has no batch"),
        Op::Recurrent(Recurrent { cell, clip, .. }) => {
            ensure(!matches!(cell, Cell::Rnn { .. }), "it is not among the supported operators")?;
            ensure(clip.is_none(), "recurrent layers have no clip")
        }
        Op::LayerNorm(l) => ensure(l.axis + 1 == x[0].rank(), "LayerNormalization is along the last axis"),
        Op::MatMul(_) => ensure(x[0].rank() <= 4, "matrix products have 4 axes at most"),
        Op::Reduce(Reduce { f, .. }) => {
            ensure(*f != ReduceFn::Prod, "it is not among the supported operators")?;
            ensure(float || *f != ReduceFn::Mean, "ReduceMean takes floats")?;
            let extreme = matches!(f, ReduceFn::Max | ReduceFn::Min);
            ensure(!extreme || !float || x[0].rank() <= 4, "ReduceMax and ReduceMin of floats take 4 axes at most")
        }
        Op::Transpose(_) => {
            let most = if x[0].elem.is_integer() { 4 } else { 5 };
            ensure(x[0].rank() <= most, "Transpose takes 5 axes at most, of integers 4")
        }
        Op::ArgReduce(ArgReduce { largest, .. }) => ensure(float || *largest, "ArgMin takes floats"),
        Op::Resize(Resize { mode, coordinates, scale, .. }) => {
            use Coordinates::{Asymmetric, HalfPixelForNearest};
            use Nearest::{Ceil, Floor, PreferFloor};
            let exact = x[0].shape.dims().iter().skip(2).zip(scale).all(|(n, scale)| {
                let end = n.known().map_or(0.0, |n| n as f32 * scale);
                (end - end.round()).abs() < 1e-3
            });
            ensure(
                exact || !matches!(mode, ResizeMode::Cubic { .. }),
                "cubic interpolation has scales that give whole extents",
            )?;
            let rounds = match (mode, coordinates) {
                (ResizeMode::Nearest(round), HalfPixelForNearest) => *round == Floor,
                (ResizeMode::Nearest(round), Asymmetric) => !matches!(round, Ceil | PreferFloor),
                _ => true,
            };
            ensure(rounds, "Resize has no such rounding of these coordinates")
        }
        Op::GridSample(GridSample { mode, .. }) => {
            ensure(*mode != SampleMode::Cubic, "GridSample has no cubic interpolation")
        }
        Op::ScatterNd(ScatterNd { f }) => {
            ensure(!matches!(f, ScatterFn::Min | ScatterFn::Max), "ScatterND has no minimum and no maximum")
        }
        Op::Pad(_) => ensure(float, "Pad takes floats"),
        _ => Ok(()),
    }
}
