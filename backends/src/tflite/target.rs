//! What TensorFlow Lite takes.

use qcc_ir::ops::{
    Binary, BinaryFn, DepthToSpace, GatherNd, Granularity, Op, Pad, PadMode, Reduce, ReduceFn, ScatterFn, ScatterNd,
    TopK, Unary, UnaryFn, broadcast,
};
use qcc_ir::target::{GridDemands, OpenBatch, Sums, Tables, Target, Zero};
use qcc_ir::{Dim, Elem, Layout, Store, TensorType};

use super::ops::{conv, pool, resize};

/// TensorFlow Lite, run by LiteRT: images are N,H,W,C; activations are 8-bit signed.
pub static TARGET: Target = Target {
    name: "tflite",
    native,
    image_layout: Layout::channels_last,
    weight_layout,
    index: Elem::I32,
    integers: Elem::I32,
    negative_indices: false,
    half_graphs: false,
    half: None,
    open_batch: OpenBatch::Never,
    grids: GridDemands {
        activation: Store::I8,
        integer,
        weights_only,
        dynamic,
        tables: Tables::Whole,
        per_channel,
        pairs: |_, _| false,
        blocks: None,
        sums: |_, _| Sums::Grid,
        zero,
    },
};

/// Convolution filters are O,H,W,I; depthwise ones 1,H,W,O; those of transposed convolutions O,H,W,I, where the IR has
/// I,O,H,W.
fn weight_layout(op: &Op, operand: usize, ty: &TensorType) -> Layout {
    let order: &[usize] = match op {
        Op::Conv(c) if operand == 1 && c.is_depthwise(&ty.shape) => &[1, 2, 3, 0],
        Op::Conv(_) if operand == 1 => &[0, 2, 3, 1],
        Op::ConvTranspose(_) if operand == 1 => &[1, 2, 3, 0],
        _ => &[],
    };
    Layout::from_order(order).filter(|l| l.rank() == ty.rank()).unwrap_or_else(|| Layout::row_major(ty.rank()))
}

/// Elements that arithmetic runs on.
fn number(ty: &TensorType) -> bool {
    matches!(ty.elem, Elem::F32 | Elem::I32)
}

fn native(op: &Op, operands: &[&TensorType]) -> bool {
    let float = || operands.iter().all(|t| t.elem == Elem::F32);
    let stored = |i: usize| !matches!(operands[i].elem, Elem::F16);
    match op {
        Op::Input(_) | Op::Const(_) | Op::Quantize(_) | Op::Dequantize(_) | Op::Relayout(_) => true,
        Op::DynamicQuantize(_) => true,
        Op::Unary(Unary { f }) => native_unary(*f, operands[0]),
        Op::Binary(Binary { f }) => native_binary(*f, operands),
        Op::Clamp(_) => number(operands[0]),
        Op::Select(_) => stored(1),
        Op::Cast(_) => true,
        Op::Conv(_) | Op::ConvTranspose(_) => float() && conv::native(op, operands),
        Op::Pool(_) => float() && pool::native(op, operands),
        Op::MatMul(_) => float() && operands[0].rank() <= 5 && operands[1].rank() <= 5,
        Op::LayerNorm(_) | Op::Recurrent(_) | Op::GatherElements(_) | Op::GridSample(_) => false,
        Op::ScatterNd(ScatterNd { f }) => *f == ScatterFn::Add && number(operands[0]),
        Op::Softmax(_) => float(),
        Op::Reduce(Reduce { f, .. }) => match f {
            ReduceFn::Mean => operands[0].elem == Elem::F32,
            ReduceFn::Sum | ReduceFn::Max | ReduceFn::Min | ReduceFn::Prod => number(operands[0]),
            ReduceFn::All | ReduceFn::Any => true,
        },
        Op::ArgReduce(_) | Op::CumSum(_) => number(operands[0]),
        Op::TopK(TopK { largest, .. }) => *largest && number(operands[0]),
        Op::Reshape(_) => true,
        Op::Concat(_) | Op::Slice(_) | Op::Expand(_) | Op::Tile(_) | Op::Reverse(_) => stored(0),
        Op::Transpose(_) => stored(0) && operands[0].rank() <= 8,
        Op::Pad(Pad { mode, .. }) => stored(0) && *mode != PadMode::Edge,
        Op::DepthToSpace(DepthToSpace { channel_first, .. }) => stored(0) && !channel_first,
        Op::SpaceToDepth(_) => stored(0) && operands[0].elem != Elem::I16,
        Op::Gather(_) => stored(0),
        Op::GatherNd(GatherNd { batch }) => stored(0) && *batch == 0,
        Op::Resize(_) => float() && resize::native(op, operands),
    }
}

fn native_unary(f: UnaryFn, x: &TensorType) -> bool {
    use UnaryFn::*;
    match f {
        Not => true,
        Abs | Neg | Sign => number(x),
        Ceil | Cos | Exp | Floor | Log | Round | Rsqrt | Sigmoid | Sin | Sqrt | Tanh | HardSwish => x.elem == Elem::F32,
        LeakyRelu { .. } | Gelu { .. } => x.elem == Elem::F32,
        Elu { alpha } => x.elem == Elem::F32 && alpha == 1.0,
        Acos | Acosh | Asin | Asinh | Atan | Atanh | Cosh | Sinh => false,
        Erf | Reciprocal | Silu | Softplus | Softsign | Tan | Mish => false,
        HardSigmoid { .. } | Selu { .. } | Threshold { .. } => false,
    }
}

fn native_binary(f: BinaryFn, operands: &[&TensorType]) -> bool {
    use BinaryFn::*;
    let x = operands[0];
    match f {
        Add | Sub | Mul | Div | Pow | Max | Min | SquaredDifference => number(x),
        Less | LessEqual | Greater | GreaterEqual => number(x),
        Equal | NotEqual => number(x) || x.elem == Elem::Bool,
        And | Or => x.elem == Elem::Bool,
        Xor => matches!(x.elem, Elem::Bool | Elem::I32),
        FloorDiv | FloorMod => number(x),
        Atan2 => x.elem == Elem::F32,
        // PRELU repeats the slope, never the data.
        Prelu => x.elem == Elem::F32 && broadcast(&x.shape, &operands[1].shape).is_ok_and(|shape| shape == x.shape),
        Rem => false,
    }
}

/// Operators with 8-bit kernels that give what the real operator gives, within the grid.
fn integer(op: &Op, operands: &[&TensorType]) -> bool {
    if !native(op, operands) {
        return false;
    }
    let real = || operands.iter().any(|t| t.elem == Elem::F32);
    match op {
        Op::Unary(Unary { f }) => match f {
            UnaryFn::Sigmoid | UnaryFn::Tanh | UnaryFn::HardSwish | UnaryFn::Abs => true,
            UnaryFn::Rsqrt | UnaryFn::Gelu { .. } => true,
            UnaryFn::LeakyRelu { .. } | UnaryFn::Elu { .. } => true,
            // TensorFlow Lite for Microcontrollers has no 8-bit kernels for them.
            UnaryFn::Exp | UnaryFn::Log | UnaryFn::Sqrt => false,
            // NEG negates the stored integer, whatever the zero point.
            UnaryFn::Neg | UnaryFn::Not => false,
            UnaryFn::Ceil | UnaryFn::Cos | UnaryFn::Floor | UnaryFn::Round | UnaryFn::Sign | UnaryFn::Sin => false,
            UnaryFn::Acos | UnaryFn::Acosh | UnaryFn::Asin | UnaryFn::Asinh | UnaryFn::Atan | UnaryFn::Atanh => false,
            UnaryFn::Cosh | UnaryFn::Sinh => false,
            UnaryFn::Erf | UnaryFn::Reciprocal | UnaryFn::Silu | UnaryFn::Softplus | UnaryFn::Softsign => false,
            UnaryFn::Tan | UnaryFn::Mish | UnaryFn::HardSigmoid { .. } | UnaryFn::Selu { .. } => false,
            UnaryFn::Threshold { .. } => false,
        },
        Op::Binary(Binary { f }) => match f {
            BinaryFn::Add | BinaryFn::Sub | BinaryFn::Mul | BinaryFn::Max | BinaryFn::Min => real(),
            // A divisor between 0 and the first step of its grid becomes 0.
            BinaryFn::Div => false,
            BinaryFn::SquaredDifference => real(),
            // The 8-bit PRELU is several times slower than the real one, and wants a grid before it as well as behind.
            BinaryFn::Prelu => false,
            BinaryFn::FloorDiv | BinaryFn::FloorMod | BinaryFn::Rem | BinaryFn::Pow | BinaryFn::Atan2 => false,
            BinaryFn::Equal | BinaryFn::NotEqual | BinaryFn::Less | BinaryFn::LessEqual => false,
            BinaryFn::Greater | BinaryFn::GreaterEqual | BinaryFn::And | BinaryFn::Or | BinaryFn::Xor => false,
        },
        Op::Conv(_) | Op::ConvTranspose(_) | Op::Pool(_) | Op::Resize(_) => true,
        // BATCH_MATMUL adds no bias, and FULLY_CONNECTED multiplies by matrices of rank 2.
        Op::MatMul(_) => operands.len() == 2 || operands[1].rank() == 2,
        Op::Softmax(s) => !s.log,
        // The 8-bit SUM of TensorFlow Lite for Microcontrollers gives other numbers than LiteRT's.
        Op::Reduce(r) => real() && matches!(r.f, ReduceFn::Mean | ReduceFn::Max | ReduceFn::Min),
        Op::Clamp(_) | Op::Select(_) | Op::ArgReduce(_) | Op::TopK(_) | Op::Gather(_) | Op::GatherNd(_) => real(),
        Op::Reshape(_) | Op::Transpose(_) | Op::Concat(_) | Op::Slice(_) | Op::Pad(_) | Op::Expand(_) => real(),
        Op::Tile(_) | Op::Reverse(_) | Op::DepthToSpace(_) | Op::SpaceToDepth(_) | Op::Relayout(_) => real(),
        Op::Quantize(_) | Op::Dequantize(_) => true,
        Op::Input(_) | Op::Const(_) | Op::Cast(_) | Op::CumSum(_) => false,
        Op::LayerNorm(_) | Op::Recurrent(_) | Op::GatherElements(_) | Op::ScatterNd(_) => false,
        Op::GridSample(_) | Op::DynamicQuantize(_) => false,
    }
}

/// Operators whose kernels quantize real activations on the fly (dynamic range). Depthwise convolutions do it on slow
/// kernels only, and their weights are few.
fn weights_only(op: &Op, operands: &[&TensorType]) -> bool {
    match op {
        Op::Conv(c) => native(op, operands) && !c.is_depthwise(&operands[1].shape),
        Op::ConvTranspose(_) => native(op, operands),
        Op::MatMul(m) => native(op, operands) && m.transpose_b && operands[1].rank() == 2,
        Op::Gather(_) => native(op, operands),
        _ => false,
    }
}

/// Kernels for narrow weights beside real activations have one scale for each row of a matrix and each image of a batch.
/// Convolutions of single pixels are products of matrices to XNNPACK.
fn dynamic(op: &Op, operands: &[&TensorType]) -> Option<Granularity> {
    let (rank, weight) = (operands[0].rank(), &operands[1].shape);
    let one_tap = || weight.dims()[2..].iter().all(|d| *d == Dim::Known(1));
    match op {
        Op::MatMul(_) => Some(Granularity::Axes { from: rank.saturating_sub(1), to: rank }),
        Op::Conv(c) if one_tap() && c.groups == 1 && c.stride.iter().all(|&s| s == 1) => {
            Some(Granularity::Axes { from: 1, to: 2 })
        }
        Op::Conv(_) | Op::ConvTranspose(_) => Some(Granularity::Axes { from: 1, to: rank }),
        _ => None,
    }
}

/// Convolutions and FULLY_CONNECTED take one scale for each output channel, BATCH_MATMUL one for all.
fn per_channel(op: &Op, weight: &TensorType) -> bool {
    match op {
        Op::MatMul(m) => m.transpose_b && weight.rank() == 2,
        _ => true,
    }
}

/// BATCH_MATMUL takes a symmetric second operand.
fn zero(_: &Op, operand: usize, _: bool) -> Zero {
    if operand == 1 { Zero::Middle } else { Zero::Anywhere }
}
