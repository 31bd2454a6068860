//! The target OpenVINO IR.

use qcc_ir::ops::{
    Binary, BinaryFn, Conv, ConvTranspose, Granularity, MatMul, Op, Pad, PadMode, Pool, PoolFn, Reduce, ReduceFn,
    Resize, ResizeMode, Unary, UnaryFn,
};
use qcc_ir::target::{
    BlockDynamic, BlockGrid, Blocks, Device, FusedClamps, Kernel, Latency, ProductTime, Quantized, Target, Weights,
    ZeroPoint,
};
use qcc_ir::{Dim, Elem, Layout, StorageType, TensorType};

use super::ops::{elementwise, resize};

/// OpenVINO IR, run by its CPU plugin: everything is row-major.
pub static TARGET: Target = target(kernel, None);

/// As [`TARGET`], with dynamic quantization of the activations of weight-only quantized products: the plugin's default,
/// with one scale for each group of 32 elements of a row.
pub static DYNAMIC: Target = target(dynamic_kernel, None);

/// The target with the table of a device.
pub(super) const fn target(kernel: fn(&Op, &[&TensorType]) -> Option<Kernel>, device: Option<Device>) -> Target {
    Target {
        name: "openvino",
        kernel,
        image_layout: Layout::row_major,
        index: Elem::I64,
        // The plugin computes 64-bit integers as 32-bit ones.
        integers: Elem::I32,
        negative_indices: true,
        activation: StorageType::U8,
        half_graphs: true,
        half_values: false,
        open_batch: true,
        keeps_states: match &device {
            None => true,
            Some(device) => device.keeps_states,
        },
        latency: Some(LATENCY),
        device,
    }
}

/// Times fitted by `benches/cost.py --fit` to those of 23 models (classifiers, detectors, text, sound; 0.01 to 100 ms) as
/// float32 and int8, on one thread of an x86 processor with AVX-512 VNNI and AMX: OpenVINO
/// 2026.4.
const LATENCY: Latency =
    Latency { product: ProductTime { integer: 0.0043, float: 0.0076 }, byte: 0.0001, operator: 2350.0 };

/// Depthwise convolutions, from chains of them (`benches/cost.py --depthwise`, the same runtime and processor).
const DEPTHWISE: ProductTime = ProductTime { integer: 0.024, float: 0.022 };

/// The plugin's default `DYNAMIC_QUANTIZATION_GROUP_SIZE`.
const GROUP: usize = 32;

/// The block size of the weight must be a multiple of the group size.
fn dynamic_kernel(op: &Op, x: &[&TensorType]) -> Option<Kernel> {
    let kernel = kernel(op, x)?;
    let Some(weights) = kernel.weights.filter(|_| matches!(op, Op::MatMul(_))) else { return Some(kernel) };
    let groups = |size: usize| size.is_multiple_of(GROUP).then_some(Granularity::Groups(GROUP));
    let blocks = weights.blocks.map(|b| Blocks { dynamic: BlockDynamic::Groups(groups), ..b });
    Some(kernel.weights(Weights { dynamic: Some(Granularity::Groups(GROUP)), blocks, ..weights }))
}

const FLOAT: Kernel = Kernel::FLOAT;

const QUANTIZED: Quantized = Quantized::ANY;

/// Contractions have float results; a fused activation function is applied before quantization. Without VNNI-class
/// instructions, kernels accumulate two adjacent products in saturating 16-bit integers.
const PRODUCTS: Quantized = Quantized {
    gives_quantized: false,
    gives_float: true,
    pair_limit: Some(i16::MAX as i32),
    fuses_clamp: true,
    ..QUANTIZED
};

/// Products with a constant matrix use quantized weights at run time. Weights of convolutions are dequantized when the
/// model is loaded: only the file is smaller.
const WEIGHTS: Weights = Weights::ONE_SCALE;

/// Blocks are an axis of their own.
const BLOCKS: Blocks =
    Blocks { fits: |extent, size| extent % size == 0, dynamic: BlockDynamic::Groups(|_| None), grid: BlockGrid::Any };

/// The table of kernels. Integer kernels are contractions, and operators that pass integers from one to another. All
/// others compute in floating point, and the plugin fuses them into the preceding contraction. It has no products of
/// 16-bit activations: they are floats after a FakeQuantize.
pub(super) fn kernel(op: &Op, x: &[&TensorType]) -> Option<Kernel> {
    let row = row(op, x)?;
    Some(row.wide(row.quantized.filter(|_| !op.is_contraction())))
}

/// The table without 16-bit activations.
fn row(op: &Op, x: &[&TensorType]) -> Option<Kernel> {
    let moves = || FLOAT.quantized_if(x.iter().any(|t| t.elem == Elem::F32), QUANTIZED);
    match op {
        Op::Input(_) | Op::Const(_) | Op::Relayout(_) | Op::DynamicQuantize(_) => Some(FLOAT),
        Op::Quantize(_) => Some(FLOAT),
        Op::Dequantize(_) => Some(FLOAT.weights(Weights { blocks: Some(BLOCKS), ..WEIGHTS })),
        Op::Unary(Unary { f }) => unary(*f, x[0]),
        Op::Binary(Binary { f }) => binary(*f, x),
        Op::Clamp(_) | Op::Select(_) | Op::Cast(_) => Some(FLOAT),
        Op::Conv(c) => Some(convolution(c, x)),
        Op::ConvTranspose(c) => Some(transposed_convolution(c, x)),
        Op::MatMul(m) => Some(product(m, x)),
        // One scale for each row of a weight matrix.
        Op::Recurrent(_) => Some(FLOAT.weights(Weights { axis: Some(0), dequantized: true, ..WEIGHTS })),
        Op::Pool(Pool { f, dilation, .. }) => {
            let fits = dilation.len() <= 3 && (*f == PoolFn::Max || dilation.iter().all(|&d| d == 1));
            // A mean is a float, which is quantized afterwards.
            fits.then(|| FLOAT.quantized_if(*f == PoolFn::Max, QUANTIZED))
        }
        Op::Resize(op @ Resize { mode, .. }) => {
            (resize::native(op, x[0])).then(|| FLOAT.quantized_if(matches!(mode, ResizeMode::Nearest(_)), QUANTIZED))
        }
        Op::GridSample(_) => (x[0].rank() == 4).then_some(FLOAT),
        Op::Reduce(Reduce { f, .. }) => match f {
            ReduceFn::Max | ReduceFn::Min => Some(moves()),
            ReduceFn::All | ReduceFn::Any => Some(FLOAT),
            ReduceFn::Sum | ReduceFn::Mean | ReduceFn::Prod => (!saturates(x[0])).then_some(FLOAT),
        },
        Op::CumSum(_) => (!saturates(x[0])).then_some(FLOAT),
        Op::LayerNorm(_) | Op::Softmax(_) | Op::ArgReduce(_) | Op::TopK(_) => Some(FLOAT),
        Op::Reshape(_) | Op::Transpose(_) | Op::Concat(_) | Op::Slice(_) => Some(moves()),
        Op::OpenSlice(_) => Some(moves()),
        Op::DetectionPostProcess(_) => None,
        // The largest of its samples is not the largest product.
        Op::RoiAlign(op) => (op.f == PoolFn::Average).then_some(FLOAT),
        Op::Symbolic(_) | Op::Define(_) | Op::NonZero(_) | Op::NonMaxSuppression(_) => Some(FLOAT),
        Op::Loop(_) | Op::If(_) => Some(FLOAT),
        Op::DepthToSpace(_) | Op::SpaceToDepth(_) => Some(moves()),
        Op::Pad(Pad { mode: PadMode::Constant(0.0), .. }) => Some(moves()),
        Op::Pad(_) | Op::Expand(_) | Op::Tile(_) | Op::Reverse(_) => Some(FLOAT),
        // Rows are dequantized, with one scale for each.
        Op::Gather(_) => Some(FLOAT.weights(Weights { axis: Some(0), dequantized: true, ..WEIGHTS })),
        // Data and indices may only differ in their extent along the axis.
        Op::GatherElements(op) => {
            let [data, indices] = [0, 1].map(|i| x[i].shape.with(op.axis, 1));
            (data == indices).then_some(FLOAT)
        }
        Op::GatherNd(_) | Op::ScatterNd(_) => Some(FLOAT),
        Op::Custom(_) => None,
    }
}

/// Products of a quantized activation with a constant weight, or of two computed operands, with their rules for the
/// zero points.
const fn products(weight_axis: Option<usize>, zero_point: ZeroPoint, zero_points: [ZeroPoint; 2]) -> Quantized {
    Quantized { weight_axis, zero_point, zero_points, ..PRODUCTS }
}

/// The activation of a convolution is unsigned: a FakeQuantize that a convolution shares with a matrix product would
/// make all its consumers float. Depthwise kernels accumulate in 32 bits.
fn convolution(c: &Conv, x: &[&TensorType]) -> Kernel {
    let zeros = [ZeroPoint::AnyPerConsumer, ZeroPoint::Symmetric];
    let products = products(Some(0), ZeroPoint::AnyPerConsumer, zeros);
    let pair_limit = products.pair_limit.filter(|_| !c.has_one_filter_per_channel(&x[1].shape));
    let kernel = FLOAT.quantized(Quantized { pair_limit, ..products }).fuses(FusedClamps::Any);
    let kernel = kernel.weights(Weights { axis: Some(0), ..WEIGHTS });
    if c.is_depthwise(&x[1].shape) { kernel.timed(DEPTHWISE) } else { kernel }
}

/// The integer kernel takes no window that is smaller than its stride, strides up to 3 along the last axis, and groups of
/// whole blocks of 16 channels. The plugin computes others in floating point, on weights that stay integers, with a kernel
/// that is not optimized.
fn transposed_convolution(c: &ConvTranspose, x: &[&TensorType]) -> Kernel {
    let zeros = [ZeroPoint::SymmetricOrUnsigned, ZeroPoint::Symmetric];
    let products = products(Some(1), ZeroPoint::SymmetricOrUnsigned, zeros);
    let [channels, filters, window @ ..] = x[1].shape.dims() else { return FLOAT };
    let blocks = |d: &Dim, groups: usize| d.known().is_some_and(|n| n.is_multiple_of(groups * 16));
    let integer = c.stride.last().is_none_or(|&s| s <= 3)
        && window.iter().filter_map(Dim::known).zip(&c.stride).all(|(k, &s)| k >= s)
        && (c.groups == 1 || blocks(channels, c.groups) && blocks(filters, 1));
    let weights = Weights { axis: Some(1), ..WEIGHTS };
    FLOAT.quantized_if(integer, products).weights(weights).fuses(FusedClamps::Any)
}

/// Products with a constant matrix accept any zero point. Products of two computed matrices are computed in floating
/// point unless the zero point is the middle or the end of the range.
fn product(m: &MatMul, x: &[&TensorType]) -> Kernel {
    let axis = Some(usize::from(!m.transpose_b));
    let products = products(axis, ZeroPoint::Any, [ZeroPoint::SymmetricOrUnsigned, ZeroPoint::Symmetric]);
    let blocks = (x[1].rank() == 2).then_some(BLOCKS);
    FLOAT.quantized(products).weights(Weights { axis, blocks, ..WEIGHTS }).fuses(FusedClamps::Any)
}

/// Integer types for which the plugin's sums and products saturate instead of wrapping around.
fn saturates(ty: &TensorType) -> bool {
    matches!(ty.elem, Elem::I8 | Elem::U8 | Elem::I16)
}

fn unary(f: UnaryFn, x: &TensorType) -> Option<Kernel> {
    use UnaryFn::*;
    let has = match f {
        Reciprocal | Rsqrt | Threshold { .. } => false,
        Abs | Neg | Sign => !saturates(x),
        // It has its own operation, HSigmoid.
        HardSigmoid { alpha, beta } if (alpha, beta) == (1.0 / 6.0, 0.5) => true,
        // The plugin ignores coefficients of 0.
        HardSigmoid { alpha: a, beta: b } | Selu { alpha: a, gamma: b } => a != 0.0 && b != 0.0,
        _ => true,
    };
    has.then_some(FLOAT)
}

fn binary(f: BinaryFn, x: &[&TensorType]) -> Option<Kernel> {
    use BinaryFn::*;
    let [a, b] = [x[0], x[1]];
    let has = match f {
        Add | Sub | Mul | Div | Pow | Rem | FloorMod | SquaredDifference => !saturates(a),
        // The plugin's integer division always truncates.
        FloorDiv => !a.elem.is_integer(),
        Prelu => !a.elem.is_integer() && elementwise::slope(&a.shape, &b.shape).is_some(),
        Atan2 => false,
        Max | Min | Equal | NotEqual | Less | LessEqual | Greater | GreaterEqual | And | Or | Xor => true,
    };
    let kernel = FLOAT.fuses(FusedClamps::Any);
    has.then_some(if f == Div && a.elem.is_float() { kernel.reciprocal() } else { kernel })
}
