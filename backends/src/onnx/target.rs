//! What ONNX takes, as ONNX Runtime runs it on processors.

use qcc_ir::ops::{
    ArgReduce, Binary, BinaryFn, Cast, Clamp, CumSum, Granularity, LayerNorm, Op, Pool, PoolFn, Reduce, ReduceFn,
    ResizeMode, ScatterFn, ScatterNd, Softmax, TopK, Unary, UnaryFn, broadcast,
};
use qcc_ir::target::{GridDemands, OpenBatch, Sums, Tables, Target, Zero};
use qcc_ir::{Affine, Dim, Elem, Layout, Store, TensorType};

use super::ops::{elementwise, pool, reduce, resize};

/// ONNX, run by ONNX Runtime: everything is row-major, activations are 8-bit unsigned.
pub static TARGET: Target = target(|_, _| None);

/// As [`TARGET`], with activations of products quantized when the model runs where their weights alone are narrow.
pub static DYNAMIC: Target = target(dynamic);

/// The target; `dynamic` says what share a scale where activations are quantized when the model runs.
const fn target(dynamic: fn(&Op, &[&TensorType]) -> Option<Granularity>) -> Target {
    Target {
        name: "onnx",
        native,
        image_layout: Layout::row_major,
        weight_layout: |_, _, ty| Layout::row_major(ty.rank()),
        index: Elem::I64,
        integers: Elem::I64,
        negative_indices: true,
        half_graphs: true,
        half: Some(half),
        open_batch: OpenBatch::All,
        grids: GridDemands {
            activation: Store::U8,
            integer,
            weights_only,
            dynamic,
            tables: Tables::Columns,
            per_channel: |op, weight| !matches!(op, Op::MatMul(_)) || weight.rank() == 2,
            pairs,
            // The sizes of MatMulNBits.
            blocks: Some(|extent, size| extent >= size && size >= 16 && size.is_power_of_two()),
            sums,
            zero: |_, _, _| Zero::Anywhere,
        },
    }
}

/// Products of matrices have one scale for all activations (DynamicQuantizeLinear), or those with weights in blocks
/// (MatMulNBits) one for each block of a row.
fn dynamic(op: &Op, operands: &[&TensorType]) -> Option<Granularity> {
    let whole = matches!(op, Op::MatMul(_)) && operands[1].rank() == 2;
    match operands[1].elem.grid().map(|grid| &grid.map) {
        Some(Affine::PerBlock { size, .. }) => Some(Granularity::Groups(*size)),
        _ => whole.then_some(Granularity::Axes { from: 0, to: operands[0].rank() }),
    }
}

/// Elements that arithmetic runs on.
fn number(ty: &TensorType) -> bool {
    ty.elem.is_float() || matches!(ty.elem, Elem::I32 | Elem::I64)
}

fn native(op: &Op, operands: &[&TensorType]) -> bool {
    let float = || operands.iter().all(|t| t.elem.is_float());
    match op {
        Op::Input(_) | Op::Const(_) | Op::Quantize(_) | Op::Dequantize(_) | Op::Relayout(_) => true,
        Op::DynamicQuantize(_) => true,
        Op::Unary(Unary { f }) => match f {
            UnaryFn::Not => true,
            UnaryFn::Abs | UnaryFn::Neg | UnaryFn::Sign => number(operands[0]),
            f => float() && elementwise::function(*f).is_some(),
        },
        Op::Binary(Binary { f }) => native_binary(*f, operands),
        Op::Clamp(Clamp { .. }) => number(operands[0]),
        Op::Cast(Cast { .. }) => true,
        Op::Select(_) => number(operands[1]) || operands[1].elem == Elem::U8,
        Op::Conv(_) | Op::MatMul(_) | Op::Recurrent(_) => float(),
        // What is added to the end must be less than a step.
        Op::ConvTranspose(op) => float() && op.extra.iter().zip(&op.stride).all(|(extra, stride)| extra < stride),
        Op::Pool(op) => float() && pool::native(op),
        Op::LayerNorm(LayerNorm { .. }) | Op::Softmax(Softmax { .. }) => float(),
        Op::Reduce(Reduce { f, .. }) => match f {
            ReduceFn::Mean => float() || operands[0].elem == Elem::I32,
            ReduceFn::Sum | ReduceFn::Max | ReduceFn::Min | ReduceFn::Prod => number(operands[0]),
            ReduceFn::All | ReduceFn::Any => true,
        },
        Op::ArgReduce(ArgReduce { .. }) => float() || operands[0].elem == Elem::I32,
        Op::CumSum(CumSum { .. }) | Op::TopK(TopK { .. }) => number(operands[0]),
        Op::Reshape(_) | Op::Transpose(_) | Op::Concat(_) | Op::Slice(_) | Op::Expand(_) => true,
        Op::Pad(_) => operands[0].elem != Elem::I16,
        Op::DepthToSpace(_) | Op::SpaceToDepth(_) => float(),
        Op::Tile(_) | Op::Reverse(_) => true,
        Op::Gather(_) | Op::GatherElements(_) | Op::GatherNd(_) => true,
        Op::ScatterNd(ScatterNd { f }) => {
            *f == ScatterFn::Replace || number(operands[0]) && operands[0].elem != Elem::F16
        }
        Op::Resize(op) => float() && resize::native(op, operands[0]),
        Op::GridSample(op) => float() && resize::samples(op, operands[0]),
    }
}

fn native_binary(f: BinaryFn, operands: &[&TensorType]) -> bool {
    use BinaryFn::*;
    let x = operands[0];
    match f {
        Add | Sub | Mul | Div | Pow | Max | Min | Rem => number(x),
        // Of floats, Mod gives the remainder with the sign of the dividend only.
        FloorMod => x.elem.is_integer(),
        Less | LessEqual | Greater | GreaterEqual => number(x),
        Equal | NotEqual => number(x) || x.elem == Elem::Bool,
        And | Or | Xor => true,
        // PRelu repeats the slope, never the data.
        Prelu => x.elem.is_float() && broadcast(&x.shape, &operands[1].shape).is_ok_and(|shape| shape == x.shape),
        Atan2 | FloorDiv | SquaredDifference => false,
    }
}

/// Operators that ONNX Runtime fuses with the QuantizeLinear and DequantizeLinear around them.
fn integer(op: &Op, operands: &[&TensorType]) -> bool {
    if !native(op, operands) {
        return false;
    }
    let real = || operands.iter().any(|t| t.elem == Elem::F32);
    match op {
        Op::Unary(Unary { f }) => match f {
            UnaryFn::Sigmoid | UnaryFn::LeakyRelu { .. } => true,
            // It is written as a sum.
            UnaryFn::HardSigmoid { alpha, beta } => *alpha > 0.0 && *beta > 0.0,
            _ => false,
        },
        Op::Binary(Binary { f }) => matches!(f, BinaryFn::Add | BinaryFn::Mul) && real(),
        // Of a contraction's result, it is in the limits of the grid.
        Op::Clamp(_) => real(),
        Op::Conv(_) | Op::MatMul(_) => real(),
        Op::Pool(Pool { f: PoolFn::Max, .. }) => true,
        Op::Pool(Pool { f: PoolFn::Average, dilation, .. }) => dilation.iter().all(|&d| d == 1),
        Op::Reduce(op) => reduce::is_global_average(op, operands[0]),
        Op::Resize(op) => matches!(op.mode, ResizeMode::Nearest(_)),
        Op::Reshape(_) | Op::Transpose(_) | Op::Concat(_) | Op::Slice(_) | Op::Expand(_) | Op::Tile(_) => real(),
        Op::Reverse(_) | Op::DepthToSpace(_) | Op::Gather(_) | Op::Select(_) | Op::Relayout(_) => real(),
        Op::Quantize(_) | Op::Dequantize(_) => true,
        Op::ConvTranspose(_) | Op::Recurrent(_) | Op::LayerNorm(_) | Op::Pad(_) | Op::SpaceToDepth(_) => false,
        // The operator on integers is slower than the real one, and a grid is too coarse for most of its operands.
        Op::Softmax(_) => false,
        Op::ArgReduce(_) | Op::CumSum(_) | Op::TopK(_) | Op::GridSample(_) => false,
        Op::GatherElements(_) | Op::GatherNd(_) | Op::ScatterNd(_) => false,
        Op::Input(_) | Op::Const(_) | Op::Cast(_) | Op::DynamicQuantize(_) => false,
    }
}

/// A DequantizeLinear restores the weight when the model runs.
fn weights_only(op: &Op, operands: &[&TensorType]) -> bool {
    let weighs = matches!(op, Op::Conv(_) | Op::ConvTranspose(_) | Op::MatMul(_) | Op::Recurrent(_) | Op::Gather(_));
    weighs && native(op, operands)
}

/// Products of matrices are fused without a QuantizeLinear behind them too, convolutions are not.
fn sums(op: &Op, _: &[&TensorType]) -> Sums {
    if matches!(op, Op::MatMul(_)) { Sums::Either } else { Sums::Grid }
}

/// What accumulates, orders by size, or tells places, stays in single precision.
fn half(op: &Op, _: &[&TensorType]) -> bool {
    let accumulates = matches!(op, Op::ScatterNd(s) if s.f != ScatterFn::Replace);
    !accumulates && !matches!(op, Op::CumSum(_) | Op::TopK(_) | Op::GridSample(_))
}

/// Kernels for one filter a channel sum in 32 bits.
fn pairs(op: &Op, weight: &TensorType) -> bool {
    !matches!(op, Op::Conv(c) if c.is_depthwise(&weight.shape) && weight.shape.dims()[0] == Dim::Known(c.groups))
}
