//! What OpenVINO IR takes.

use qcc_ir::ops::{
    Binary, BinaryFn, Granularity, Op, Pad, PadMode, Pool, PoolFn, Reduce, ReduceFn, Resize, ResizeMode, Unary, UnaryFn,
};
use qcc_ir::target::{GridDemands, OpenBatch, Sums, Tables, Target, Zero};
use qcc_ir::{Affine, Dim, Elem, Layout, Store, TensorType};

use super::ops::{elementwise, recurrent, resize};

/// OpenVINO IR, run by its CPU plugin: everything is row-major.
pub static TARGET: Target = target(|_, _| None);

/// As [`TARGET`], with activations of products quantized when the model runs where their weights alone are narrow: the
/// plugin's default, by which each group of 32 numbers of a row share a scale.
pub static DYNAMIC: Target = target(dynamic);

/// The target; `dynamic` says what share a scale where activations are quantized when the model runs.
const fn target(dynamic: fn(&Op, &[&TensorType]) -> Option<Granularity>) -> Target {
    Target {
        name: "openvino",
        native,
        image_layout: Layout::row_major,
        weight_layout: |_, _, ty| Layout::row_major(ty.rank()),
        index: Elem::I64,
        // The plugin stores 64-bit integers as ones of 32 bits.
        integers: Elem::I32,
        negative_indices: true,
        half_graphs: true,
        half: None,
        open_batch: OpenBatch::Real,
        grids: GridDemands {
            activation: Store::U8,
            integer,
            weights_only,
            dynamic,
            tables: Tables::Rows,
            per_channel: |_, _| true,
            // Runs are an axis of their own.
            pairs,
            blocks: Some(|extent, size| extent % size == 0),
            sums: |_, _| Sums::Real,
            zero,
        },
    }
}

/// The plugin's `DYNAMIC_QUANTIZATION_GROUP_SIZE`, unless the model says another.
const GROUP: usize = 32;

/// Blocks of the weight must hold whole groups.
fn dynamic(op: &Op, operands: &[&TensorType]) -> Option<Granularity> {
    let whole = match operands[1].elem.grid().map(|grid| &grid.map) {
        Some(Affine::PerBlock { size, .. }) => size % GROUP == 0,
        _ => true,
    };
    (matches!(op, Op::MatMul(_)) && whole).then_some(Granularity::Groups(GROUP))
}

fn native(op: &Op, operands: &[&TensorType]) -> bool {
    match op {
        Op::Input(_) | Op::Const(_) | Op::Quantize(_) | Op::Dequantize(_) | Op::Relayout(_) => true,
        Op::DynamicQuantize(_) => true,
        Op::Unary(Unary { f }) => native_unary(*f, operands[0]),
        Op::Binary(Binary { f }) => native_binary(*f, operands),
        Op::Pool(Pool { f, dilation, .. }) => {
            dilation.len() <= 3 && (*f == PoolFn::Max || dilation.iter().all(|&d| d == 1))
        }
        Op::Resize(op) => resize::native(op, operands[0]),
        Op::GridSample(_) => operands[0].rank() == 4,
        Op::Clamp(_) | Op::Select(_) | Op::Cast(_) => true,
        Op::Conv(_) | Op::ConvTranspose(_) | Op::MatMul(_) => true,
        Op::Recurrent(_) => recurrent::native(operands),
        Op::Reduce(Reduce { f, .. }) => {
            let chooses = matches!(f, ReduceFn::Max | ReduceFn::Min | ReduceFn::All | ReduceFn::Any);
            chooses || !saturates(operands[0])
        }
        Op::CumSum(_) => !saturates(operands[0]),
        Op::LayerNorm(_) | Op::Softmax(_) | Op::ArgReduce(_) => true,
        Op::Reshape(_) | Op::Transpose(_) | Op::Concat(_) | Op::Slice(_) | Op::Pad(_) | Op::Expand(_) => true,
        Op::Tile(_) | Op::Reverse(_) | Op::DepthToSpace(_) | Op::SpaceToDepth(_) => true,
        // Data and indices differ along the axis alone.
        Op::GatherElements(op) => {
            let [data, indices] = [0, 1].map(|i| operands[i].shape.with(op.axis, 1));
            data == indices
        }
        Op::Gather(_) | Op::GatherNd(_) | Op::ScatterNd(_) | Op::TopK(_) => true,
    }
}

/// Integers whose sums and products the plugin limits to their range, where they should wrap around.
fn saturates(ty: &TensorType) -> bool {
    matches!(ty.elem, Elem::I8 | Elem::U8 | Elem::I16)
}

fn native_unary(f: UnaryFn, x: &TensorType) -> bool {
    use UnaryFn::*;
    match f {
        Reciprocal | Rsqrt | Threshold { .. } => false,
        Abs | Neg | Sign => !saturates(x),
        // It has an operation of its own.
        HardSigmoid { alpha, beta } if (alpha, beta) == (1.0 / 6.0, 0.5) => true,
        // The plugin takes coefficients of 0 for ones that are not given.
        HardSigmoid { alpha: a, beta: b } | Selu { alpha: a, gamma: b } => a != 0.0 && b != 0.0,
        _ => true,
    }
}

fn native_binary(f: BinaryFn, operands: &[&TensorType]) -> bool {
    use BinaryFn::*;
    let [x, y] = [operands[0], operands[1]];
    match f {
        Add | Sub | Mul | Div | Pow | Rem | FloorMod | SquaredDifference => !saturates(x),
        // The plugin's division truncates whatever the operation says.
        FloorDiv => !x.elem.is_integer(),
        Prelu => !x.elem.is_integer() && elementwise::slope(&x.shape, &y.shape).is_some(),
        Atan2 => false,
        Max | Min | Equal | NotEqual | Less | LessEqual | Greater | GreaterEqual | And | Or | Xor => true,
    }
}

/// Contractions, and what stays on integers between two of them. Everything else works on real numbers, and the plugin
/// runs it at the end of the contraction before it.
fn integer(op: &Op, operands: &[&TensorType]) -> bool {
    if !native(op, operands) {
        return false;
    }
    let real = || operands.iter().any(|t| t.elem == Elem::F32);
    match op {
        Op::Conv(_) | Op::ConvTranspose(_) | Op::MatMul(_) => true,
        // A mean is real: the grid goes behind it.
        Op::Pool(Pool { f, .. }) => *f == PoolFn::Max,
        Op::Resize(Resize { mode, .. }) => matches!(mode, ResizeMode::Nearest(_)),
        Op::Pad(Pad { mode, .. }) => real() && *mode == PadMode::Constant(0.0),
        Op::Reduce(Reduce { f, .. }) => real() && matches!(f, ReduceFn::Max | ReduceFn::Min),
        Op::Reshape(_) | Op::Transpose(_) | Op::Concat(_) | Op::Slice(_) => real(),
        Op::DepthToSpace(_) | Op::SpaceToDepth(_) => real(),
        Op::Quantize(_) | Op::Dequantize(_) => true,
        Op::Unary(_) | Op::Binary(_) | Op::Clamp(_) | Op::Select(_) | Op::Cast(_) => false,
        Op::LayerNorm(_) | Op::Recurrent(_) | Op::Softmax(_) | Op::ArgReduce(_) | Op::CumSum(_) => false,
        Op::Expand(_) | Op::Tile(_) | Op::Reverse(_) | Op::Relayout(_) | Op::GridSample(_) => false,
        Op::Gather(_) | Op::GatherElements(_) | Op::GatherNd(_) | Op::ScatterNd(_) | Op::TopK(_) => false,
        Op::Input(_) | Op::Const(_) | Op::DynamicQuantize(_) => false,
    }
}

/// Products with a constant matrix read narrow weights; convolutions widen them when the model is loaded, and only the
/// file is smaller.
fn weights_only(op: &Op, _: &[&TensorType]) -> bool {
    matches!(op, Op::Conv(_) | Op::ConvTranspose(_) | Op::MatMul(_) | Op::Recurrent(_) | Op::Gather(_))
}

/// Convolutions and products with a constant matrix take a zero anywhere; products of two computed matrices and
/// transposed convolutions are real where it is neither in the middle nor at the end. What a convolution reads becomes
/// unsigned: one FakeQuantize for both would leave all its readers real.
fn zero(op: &Op, operand: usize, known: bool) -> Zero {
    match op {
        _ if operand == 1 => Zero::Middle,
        Op::MatMul(_) if known => Zero::Anywhere,
        Op::MatMul(_) | Op::ConvTranspose(_) => Zero::MiddleOrEnd,
        Op::Conv(_) => Zero::Apart,
        _ => Zero::Anywhere,
    }
}

/// Kernels for one filter a channel sum in 32 bits.
fn pairs(op: &Op, weight: &TensorType) -> bool {
    !matches!(op, Op::Conv(c) if c.is_depthwise(&weight.shape) && weight.shape.dims()[0] == Dim::Known(c.groups))
}
