//! The target ONNX, as ONNX Runtime executes it on CPUs.

use qcc_formats::onnx::NAME;
use qcc_ir::ops::{
    Binary, BinaryFn, Conv, Granularity, MatMul, Op, Pool, PoolFn, Reduce, ReduceFn, ResizeMode, ScatterFn, ScatterNd,
    Unary, UnaryFn, broadcast,
};
use qcc_ir::target::{
    BlockDynamic, BlockGrid, Blocks, Device, FusedClamps, Kernel, Latency, ProductTime, Quantized, Target, Weights,
};
use qcc_ir::{Elem, Layout, StorageType, TensorType};

use super::ops::{elementwise, pool, reduce, resize};

/// ONNX, run by ONNX Runtime: everything is row-major, activations are 8-bit unsigned.
pub static TARGET: Target = target(kernel, StorageType::U8, None);

/// As [`TARGET`], with dynamic quantization of the activations of weight-only quantized products.
pub static DYNAMIC: Target = target(dynamic_kernel, StorageType::U8, None);

/// The target with the table of a device, and the storage type of its activations.
pub(super) const fn target(
    kernel: fn(&Op, &[&TensorType]) -> Option<Kernel>,
    activation: StorageType,
    device: Option<Device>,
) -> Target {
    Target {
        name: NAME,
        kernel,
        image_layout: Layout::row_major,
        index: Elem::I64,
        integers: Elem::I64,
        negative_indices: true,
        activation,
        half_graphs: true,
        half_values: true,
        open_batch: true,
        keeps_states: false,
        latency: Some(LATENCY),
        device,
    }
}

/// Matrix products have one scale for all activations (DynamicQuantizeLinear), or with blockwise weights (MatMulNBits)
/// one for each block of a row.
fn dynamic_kernel(op: &Op, x: &[&TensorType]) -> Option<Kernel> {
    let kernel = kernel(op, x)?;
    let weights = kernel.weights.filter(|_| matches!(op, Op::MatMul(_)) && x[1].rank() == 2);
    let Some(weights) = weights else { return Some(kernel) };
    let blocks =
        weights.blocks.map(|b| Blocks { dynamic: BlockDynamic::Groups(|size| Some(Granularity::Groups(size))), ..b });
    let dynamic = Some(Granularity::Axes { from: 0, to: x[0].rank() });
    Some(kernel.weights(Weights { dynamic, blocks, ..weights }))
}

/// Times fitted by `benches/cost.py --fit` to those of 23 models (classifiers, detectors, text, sound; 0.01 to 100 ms) as
/// float32 and int8, on one thread of an x86 processor with AVX-512 VNNI and AMX: ONNX Runtime 1.32.
const LATENCY: Latency =
    Latency { product: ProductTime { integer: 0.0047, float: 0.011 }, byte: 0.0092, operator: 620.0 };

/// Depthwise convolutions, from chains of them (`benches/cost.py --depthwise`, the same runtime and processor).
const DEPTHWISE: ProductTime = ProductTime { integer: 0.020, float: 0.012 };

/// Kernels compute with F16 as well as with F32.
const FLOAT: Kernel = Kernel { half: true, ..Kernel::FLOAT };

/// Accumulations, sorting and indices stay in F32.
const SINGLE: Kernel = Kernel::FLOAT;

const QUANTIZED: Quantized = Quantized::ANY;

/// A clamp of the result is part of its quantized range.
const ARITHMETIC: Quantized = Quantized { fuses_clamp: true, ..QUANTIZED };

/// Pools of 8 bits are vectorized where channels are innermost, as integer convolutions give them. Otherwise maxima take 70
/// times as long as in floating point, and means 8 times.
const POOLING: Quantized = Quantized { follows: true, ..QUANTIZED };

/// Without VNNI-class instructions, kernels accumulate two adjacent products in saturating 16-bit integers.
const PRODUCTS: Quantized = Quantized { pair_limit: Some(i16::MAX as i32), ..ARITHMETIC };

/// A DequantizeLinear dequantizes the weight at run time.
const WEIGHTS: Weights = Weights::ONE_SCALE;

/// Block sizes of MatMulNBits.
const BLOCKS: Blocks =
    Blocks { fits: |extent, size| extent >= size && size >= 16 && size.is_power_of_two(), ..ANY_BLOCKS };

/// DequantizeLinear supports blocks of any size.
const RESTORED: Blocks = ANY_BLOCKS;

const ANY_BLOCKS: Blocks = Blocks { fits: |_, _| true, dynamic: BlockDynamic::Groups(|_| None), grid: BlockGrid::Any };

/// Element types with arithmetic.
fn number(ty: &TensorType) -> bool {
    ty.elem.is_float() || matches!(ty.elem, Elem::I32 | Elem::I64)
}

/// The table of kernels. Activations of 16 bits are computed in single precision between QuantizeLinear and
/// DequantizeLinear, where accelerators have integer kernels.
pub(super) fn kernel(op: &Op, x: &[&TensorType]) -> Option<Kernel> {
    let row = row(op, x)?;
    let wide = |quantized| Quantized { pair_limit: None, gives_float: false, ..quantized };
    Some(row.wide(row.quantized.map(wide)))
}

/// The table without 16-bit activations. Integer kernels are those that ONNX Runtime fuses with the surrounding
/// QuantizeLinear and DequantizeLinear.
fn row(op: &Op, x: &[&TensorType]) -> Option<Kernel> {
    let float = || x.iter().all(|t| t.elem.is_float());
    let moves = || FLOAT.quantized_if(x.iter().any(|t| t.elem == Elem::F32), QUANTIZED);
    match op {
        Op::Input(_) | Op::Const(_) | Op::DynamicQuantize(_) | Op::Cast(_) => Some(FLOAT),
        Op::Quantize(_) => Some(FLOAT),
        Op::Dequantize(_) => Some(FLOAT.weights(Weights { blocks: Some(RESTORED), ..WEIGHTS })),
        Op::Relayout(_) | Op::Reshape(_) | Op::Transpose(_) | Op::Concat(_) | Op::Slice(_) => Some(moves()),
        Op::OpenSlice(_) => Some(moves()),
        Op::Symbolic(_) | Op::Define(_) | Op::NonZero(_) => Some(FLOAT),
        Op::NonMaxSuppression(_) | Op::Loop(_) | Op::If(_) => Some(SINGLE),
        Op::Expand(_) | Op::Tile(_) | Op::Reverse(_) => Some(moves()),
        Op::Unary(Unary { f }) => unary(*f, x),
        Op::Binary(Binary { f }) => binary(*f, x),
        // The clamp of a contraction's result becomes its quantized range.
        Op::Clamp(_) => number(x[0]).then(moves),
        Op::Select(_) => (number(x[1]) || x[1].elem == Elem::U8).then(moves),
        Op::Conv(c) => float().then(|| convolution(c, x)),
        // The output padding must be smaller than the stride.
        Op::ConvTranspose(op) => {
            let fits = op.extra.iter().zip(&op.stride).all(|(extra, stride)| extra < stride);
            (float() && fits).then(|| FLOAT.weights(Weights { axis: Some(1), ..WEIGHTS }))
        }
        Op::MatMul(m) => float().then(|| product(m, x)),
        // One scale for each row of a weight matrix.
        Op::Recurrent(_) => float().then(|| FLOAT.weights(Weights { axis: Some(0), dequantized: true, ..WEIGHTS })),
        Op::Pool(op @ Pool { f, dilation, .. }) => {
            let quantized = *f == PoolFn::Max || dilation.iter().all(|&d| d == 1);
            (float() && pool::native(op)).then(|| FLOAT.quantized_if(quantized, POOLING))
        }
        // The integer softmax is slower than the float one, and 8 bits are too coarse for most of its operands.
        Op::LayerNorm(_) | Op::Softmax(_) => float().then_some(FLOAT),
        Op::Reduce(op @ Reduce { f, .. }) => {
            let row = FLOAT.quantized_if(reduce::is_global_average(op, x[0]), QUANTIZED);
            match f {
                ReduceFn::Mean => (float() || x[0].elem == Elem::I32).then_some(row),
                ReduceFn::Sum | ReduceFn::Max | ReduceFn::Min | ReduceFn::Prod => number(x[0]).then_some(row),
                ReduceFn::All | ReduceFn::Any => Some(row),
            }
        }
        Op::ArgReduce(_) => (float() || x[0].elem == Elem::I32).then_some(FLOAT),
        Op::CumSum(_) | Op::TopK(_) => number(x[0]).then_some(SINGLE),
        Op::Pad(_) => (x[0].elem != Elem::I16).then_some(FLOAT),
        Op::DepthToSpace(_) => float().then(moves),
        Op::SpaceToDepth(_) => float().then_some(FLOAT),
        Op::Gather(_) => Some(moves().weights(Weights { axis: Some(1), ..WEIGHTS })),
        Op::GatherElements(_) | Op::GatherNd(_) => Some(FLOAT),
        Op::ScatterNd(ScatterNd { f: ScatterFn::Replace }) => Some(FLOAT),
        Op::ScatterNd(_) => (number(x[0]) && x[0].elem != Elem::F16).then_some(SINGLE),
        Op::Resize(op) => {
            let row = FLOAT.quantized_if(matches!(op.mode, ResizeMode::Nearest(_)), QUANTIZED);
            (float() && resize::native(op, x[0])).then_some(row)
        }
        Op::GridSample(op) => (float() && resize::samples(op, x[0])).then_some(SINGLE),
        Op::DetectionPostProcess(_) => None,
        Op::RoiAlign(_) => (x[0].elem == Elem::F32).then_some(SINGLE),
        Op::Custom(op) => (op.format == NAME).then_some(SINGLE),
    }
}

/// Depthwise kernels accumulate in 32 bits.
fn convolution(c: &Conv, x: &[&TensorType]) -> Kernel {
    let pair_limit = PRODUCTS.pair_limit.filter(|_| !c.has_one_filter_per_channel(&x[1].shape));
    let quantized = Quantized { weight_axis: Some(0), pair_limit, ..PRODUCTS };
    let kernel = FLOAT.quantized_if(x.iter().any(|t| t.elem == Elem::F32), quantized).fuses(FusedClamps::Any);
    let kernel = kernel.weights(Weights { axis: Some(0), ..WEIGHTS });
    if c.is_depthwise(&x[1].shape) { kernel.timed(DEPTHWISE) } else { kernel }
}

/// Matrix products are fused without a following QuantizeLinear too, convolutions are not.
fn product(m: &MatMul, x: &[&TensorType]) -> Kernel {
    let axis = (x[1].rank() == 2).then_some(usize::from(!m.transpose_b));
    let quantized = Quantized { weight_axis: axis, gives_float: true, ..PRODUCTS };
    FLOAT.quantized_if(x.iter().any(|t| t.elem == Elem::F32), quantized).weights(Weights {
        axis,
        blocks: axis.map(|_| BLOCKS),
        ..WEIGHTS
    })
}

fn unary(f: UnaryFn, x: &[&TensorType]) -> Option<Kernel> {
    let float = x[0].elem.is_float() && elementwise::function(f).is_some();
    match f {
        UnaryFn::Not => Some(FLOAT),
        UnaryFn::Abs | UnaryFn::Neg | UnaryFn::Sign => number(x[0]).then_some(FLOAT),
        UnaryFn::Sigmoid | UnaryFn::LeakyRelu { .. } => float.then_some(FLOAT.quantized(QUANTIZED)),
        // With integers it is written as an Add.
        UnaryFn::HardSigmoid { alpha, beta } => {
            float.then_some(FLOAT.quantized_if(alpha > 0.0 && beta > 0.0, QUANTIZED))
        }
        UnaryFn::Elu { .. } | UnaryFn::Selu { .. } | UnaryFn::Softplus => float.then_some(FLOAT.apart()),
        _ => float.then_some(FLOAT),
    }
}

fn binary(f: BinaryFn, x: &[&TensorType]) -> Option<Kernel> {
    use BinaryFn::*;
    let [a, b] = [x[0], x[1]];
    let any_float = x.iter().any(|t| t.elem == Elem::F32);
    match f {
        Add | Mul => number(a).then_some(FLOAT.quantized_if(any_float, ARITHMETIC)),
        Sub | Div | Pow | Max | Min | Rem => number(a).then_some(FLOAT),
        // For floats, Mod only supports the remainder with the sign of the dividend.
        FloorMod => a.elem.is_integer().then_some(FLOAT),
        Less | LessEqual | Greater | GreaterEqual => number(a).then_some(FLOAT),
        Equal | NotEqual => (number(a) || a.elem == Elem::Bool).then_some(FLOAT),
        And | Or | Xor => Some(FLOAT),
        // PRelu broadcasts the slope only, never the data.
        Prelu => {
            (a.elem.is_float() && broadcast(&a.shape, &b.shape).is_ok_and(|s| s == a.shape)).then_some(FLOAT.apart())
        }
        Atan2 | FloorDiv | SquaredDifference => None,
    }
}
