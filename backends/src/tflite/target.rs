//! The target TensorFlow Lite.

use qcc_formats::tflite::NAME;
use qcc_ir::ops::{
    Binary, BinaryFn, Conv, DepthToSpace, GatherNd, Granularity, MatMul, Op, Pad, PadMode, Reduce, ReduceFn, ScatterFn,
    ScatterNd, TopK, Unary, UnaryFn, broadcast,
};
use qcc_ir::target::{
    BlockDynamic, BlockGrid, Blocks, Device, FusedClamps, Kernel, Latency, ProductTime, Quantized, Target, Weights,
    ZeroPoint,
};
use qcc_ir::{Dim, Elem, Layout, StorageType, TensorType};

use super::ops::{boxes, conv, pool, recurrent, resize};

/// TensorFlow Lite, run by LiteRT: images are N,H,W,C; activations are 8-bit signed.
pub static TARGET: Target = target(kernel, None);

/// The target with the table of a device.
pub(super) const fn target(kernel: fn(&Op, &[&TensorType]) -> Option<Kernel>, device: Option<Device>) -> Target {
    Target {
        name: NAME,
        kernel,
        image_layout: Layout::channels_last,
        index: Elem::I32,
        integers: Elem::I32,
        negative_indices: false,
        activation: StorageType::I8,
        half_graphs: false,
        half_values: false,
        open_batch: false,
        keeps_states: match &device {
            None => true,
            Some(device) => device.keeps_states,
        },
        latency: Some(LATENCY),
        device,
    }
}

/// Times fitted by `benches/cost.py --fit` to those of 23 models (classifiers, detectors, text, sound; 0.01 to 100 ms) as
/// float32 and int8, on one thread of an x86 processor with AVX-512 VNNI and AMX: LiteRT 2.3.
const LATENCY: Latency =
    Latency { product: ProductTime { integer: 0.0031, float: 0.010 }, byte: 0.0059, operator: 66.0 };

/// Depthwise convolutions, from chains of them (`benches/cost.py --depthwise`, the same runtime and processor).
const DEPTHWISE: ProductTime = ProductTime { integer: 0.022, float: 0.020 };

const FLOAT: Kernel = Kernel::FLOAT;

/// Results have their own quantization parameters; operators that only move elements keep those of the operand.
const QUANTIZED: Quantized = Quantized::ANY;

/// The second operand is symmetric, constant or computed: XNNPACK supports no other, and refuses the whole model if the
/// accumulator is rescaled by 256 or more.
const PRODUCTS: Quantized = Quantized {
    zero_points: [ZeroPoint::Any, ZeroPoint::Symmetric],
    rescale_limit: Some(256.0),
    fuses_clamp: true,
    ..QUANTIZED
};

/// Binary operators support a fused activation function, also with integers.
const ARITHMETIC: Quantized = Quantized { fuses_clamp: true, ..QUANTIZED };

/// Kernels abort if an operand is rescaled by more.
const SUMS: Quantized = Quantized { rescale_limit: Some((1 << 19) as f32), ..ARITHMETIC };

/// Ranges 0 to 1, and -1 to 1.
const FRACTIONS: Quantized = Quantized { result: Some((1.0 / 256.0, -128)), ..QUANTIZED };
const SIGNED_FRACTIONS: Quantized = Quantized { result: Some((1.0 / 128.0, 0)), ..QUANTIZED };

/// Both of them, in 16 bits.
const WIDE_FRACTIONS: (f32, i32) = (1.0 / 32768.0, 0);

/// RELU, RELU6 and RELU_N1_TO_1.
const ACTIVATIONS: FusedClamps = FusedClamps::Limits(&[(0.0, f32::INFINITY), (0.0, 6.0), (-1.0, 1.0)]);

/// Element types with arithmetic.
fn number(ty: &TensorType) -> bool {
    matches!(ty.elem, Elem::F32 | Elem::I32)
}

fn real(ty: &TensorType) -> bool {
    ty.elem == Elem::F32
}

/// The table of kernels.
pub(super) fn kernel(op: &Op, x: &[&TensorType]) -> Option<Kernel> {
    let row = row(op, x)?;
    Some(row.wide(row.quantized.and_then(|quantized| wide(op, quantized))))
}

/// The kernels for 16-bit activations, given those for 8 bits.
fn wide(op: &Op, quantized: Quantized) -> Option<Quantized> {
    match op {
        Op::Unary(Unary { f }) => match f {
            UnaryFn::Sigmoid | UnaryFn::Tanh => Some(Quantized { result: Some(WIDE_FRACTIONS), ..quantized }),
            UnaryFn::Abs | UnaryFn::LeakyRelu { .. } | UnaryFn::Gelu { .. } => Some(quantized),
            // There are none, or they look results up in tables that are too coarse.
            _ => None,
        },
        Op::Softmax(_) => Some(Quantized { result: Some(WIDE_FRACTIONS), ..quantized }),
        Op::Binary(Binary { f: BinaryFn::SquaredDifference }) | Op::ArgReduce(_) | Op::TopK(_) => None,
        Op::DepthToSpace(_) | Op::SpaceToDepth(_) => None,
        _ => Some(quantized),
    }
}

/// The table without kernels for 16-bit activations.
fn row(op: &Op, x: &[&TensorType]) -> Option<Kernel> {
    let all_float = || x.iter().all(|t| real(t));
    // F16 is a storage type without arithmetic.
    let stored = |i: usize| x[i].elem != Elem::F16;
    let blocks = || !matches!(x[0].elem, Elem::F16 | Elem::I16 | Elem::Bool);
    // Operators that move or select elements do so with quantized ones too.
    let moves = || FLOAT.quantized_if(x.iter().any(|t| real(t)), QUANTIZED);
    match op {
        Op::Input(_) | Op::Const(_) | Op::DynamicQuantize(_) | Op::Cast(_) => Some(FLOAT),
        Op::Quantize(_) | Op::Dequantize(_) => Some(FLOAT.weights(Weights::ONE_SCALE)),
        Op::Relayout(_) | Op::Reshape(_) => Some(moves()),
        Op::Unary(Unary { f }) => unary(*f, x[0]),
        Op::Binary(Binary { f }) => binary(*f, x),
        Op::Clamp(_) => number(x[0]).then(moves),
        Op::Select(_) => stored(1).then(moves),
        Op::Conv(c) => (all_float() && conv::native(op, x)).then(|| convolution(c, x)),
        Op::ConvTranspose(_) => {
            let dynamic = Some(Granularity::Axes { from: 1, to: x[0].rank() });
            let weights = Weights { axis: Some(1), dynamic, ..Weights::ONE_SCALE };
            let quantized = Quantized { weight_axis: Some(1), ..PRODUCTS };
            let transposed = FLOAT.ordered(&[1, 2, 3, 0]).quantized(quantized).weights(weights);
            (all_float() && conv::native(op, x)).then_some(transposed)
        }
        Op::MatMul(m) => (all_float() && x[0].rank() <= most_axes(m, x) && x[1].rank() <= 5).then(|| product(m, x)),
        // Quantized weights are dequantized, with one scale for each row. The kernels for quantized weights take one
        // scale for each gate, which is too coarse. TensorFlow Lite for Microcontrollers dequantizes with one scale for
        // each tensor only, and it has no UNIDIRECTIONAL_SEQUENCE_RNN.
        Op::Recurrent(_) => (all_float() && recurrent::native(x))
            .then(|| FLOAT.weights(Weights { axis: Some(0), dequantized: true, ..Weights::ONE_SCALE })),
        Op::Pool(_) => (all_float() && pool::native(op, x)).then(|| FLOAT.quantized(QUANTIZED).fuses(ACTIVATIONS)),
        Op::Resize(_) => (all_float() && resize::native(op, x)).then(|| FLOAT.quantized(QUANTIZED)),
        Op::Softmax(s) => all_float().then(|| FLOAT.quantized_if(!s.log, FRACTIONS)),
        Op::Reduce(Reduce { f, .. }) => match f {
            ReduceFn::Mean => real(x[0]).then(moves),
            ReduceFn::Max | ReduceFn::Min => number(x[0]).then(moves),
            // The 8-bit SUM of TensorFlow Lite for Microcontrollers differs from LiteRT's.
            ReduceFn::Sum | ReduceFn::Prod => number(x[0]).then_some(FLOAT),
            ReduceFn::All | ReduceFn::Any => Some(FLOAT),
        },
        Op::ArgReduce(_) => number(x[0]).then(moves),
        Op::CumSum(_) => number(x[0]).then_some(FLOAT),
        Op::TopK(TopK { largest, .. }) => (*largest && number(x[0])).then(moves),
        Op::Symbolic(_) | Op::Define(_) | Op::NonZero(_) => Some(FLOAT),
        Op::NonMaxSuppression(op) => boxes::native(op, x[0], x[1]).then_some(FLOAT),
        Op::OpenSlice(_) => stored(0).then(moves),
        // XNNPACK takes tensors of more than 6 axes, and fails.
        Op::Concat(_) if x[0].rank() > 6 => None,
        Op::Concat(_) | Op::Slice(_) | Op::Expand(_) | Op::Tile(_) | Op::Reverse(_) => stored(0).then(moves),
        Op::Transpose(_) => (stored(0) && x[0].rank() <= 8).then(moves),
        Op::Pad(Pad { mode, .. }) => (stored(0) && *mode != PadMode::Edge).then(moves),
        Op::DepthToSpace(DepthToSpace { channel_first, .. }) => (blocks() && !channel_first).then(moves),
        Op::SpaceToDepth(_) => blocks().then(moves),
        Op::Gather(_) => stored(0).then(|| moves().weights(Weights::ONE_SCALE)),
        Op::GatherNd(GatherNd { batch }) => (stored(0) && *batch == 0).then(moves),
        Op::ScatterNd(ScatterNd { f }) => (*f == ScatterFn::Add && number(x[0])).then_some(FLOAT),
        Op::LayerNorm(_) | Op::GatherElements(_) | Op::GridSample(_) | Op::RoiAlign(_) => None,
        Op::DetectionPostProcess(op) => boxes::post_processes(op).then_some(FLOAT),
        Op::Custom(op) => (op.format == NAME).then_some(FLOAT),
        Op::Loop(_) | Op::If(_) => Some(FLOAT),
    }
}

/// CONV_2D and DEPTHWISE_CONV_2D: filters are O,H,W,I and 1,H,W,O. Dynamic quantization has one scale for each image of
/// a batch; pointwise convolutions are matrix products in XNNPACK, with one scale for each row. Depthwise convolutions
/// use slow kernels with dynamic quantization, and their weights are small, so they stay float.
fn convolution(c: &Conv, x: &[&TensorType]) -> Kernel {
    let quantized = Quantized { weight_axis: Some(0), ..PRODUCTS };
    if c.is_depthwise(&x[1].shape) {
        return FLOAT.ordered(&[1, 2, 3, 0]).quantized(quantized).fuses(ACTIVATIONS).timed(DEPTHWISE);
    }
    let one_tap = x[1].shape.dims()[2..].iter().all(|d| *d == Dim::Known(1));
    let rows = one_tap && c.groups == 1 && c.stride.iter().all(|&s| s == 1);
    let to = if rows { 2 } else { x[0].rank() };
    let dynamic = Some(Granularity::Axes { from: 1, to });
    let weights = Weights { axis: Some(0), dynamic, ..Weights::ONE_SCALE };
    FLOAT.ordered(&[0, 2, 3, 1]).quantized(quantized).weights(weights).fuses(ACTIVATIONS)
}

/// FULLY_CONNECTED multiplies by matrices of rank 2, which are stored transposed if they are per-channel quantized;
/// BATCH_MATMUL by all others, per-tensor and without bias. Dynamic quantization has one scale for each row.
///
/// 4-bit weights may have a scale for each block. XNNPACK takes blocks of 32 and multiples, LiteRT's own kernel matrices of
/// at least 32 inputs and 4 outputs; it treats others as if they had one scale for each row, and gives zeros.
///
/// XNNPACK's 8-bit product of two computed matrices is wrong once inputs were resized to larger ones: such products of open
/// extent are in floating point.
fn product(m: &MatMul, x: &[&TensorType]) -> Kernel {
    let rank = x[0].rank();
    let connected = is_connected(m, x);
    let axis = connected.then_some(0);
    let quantized = Quantized { weight_axis: axis, ..PRODUCTS };
    let resized = x[1].shape.is_open() || (x[1].rank() > 2 && x[0].shape.is_open());
    let kernel = FLOAT.quantized_if(!resized && (x.len() == 2 || x[1].rank() == 2), quantized);
    let dynamic = Some(Granularity::Axes { from: rank.saturating_sub(1), to: rank });
    let outputs = x[1].shape.dims().first().and_then(|n| n.known()).unwrap_or(0);
    let blocks = (connected && outputs >= 4).then_some(BLOCKS);
    let weights = Weights { axis, dynamic, blocks, ..Weights::ONE_SCALE };
    if connected { kernel.weights(weights).fuses(ACTIVATIONS) } else { kernel }
}

/// FULLY_CONNECTED takes all axes but the last as one; XNNPACK takes tensors of 6.
fn most_axes(m: &MatMul, x: &[&TensorType]) -> usize {
    if is_connected(m, x) { 6 } else { 5 }
}

fn is_connected(m: &MatMul, x: &[&TensorType]) -> bool {
    m.transpose_b && x[1].rank() == 2
}

const BLOCKS: Blocks = Blocks {
    fits: |extent, size| size.is_multiple_of(32) && extent.is_multiple_of(size),
    dynamic: BlockDynamic::AsOthers,
    grid: BlockGrid::ShortScales,
};

fn unary(f: UnaryFn, x: &TensorType) -> Option<Kernel> {
    use UnaryFn::*;
    let quantized = FLOAT.quantized(QUANTIZED);
    match f {
        Not => Some(FLOAT),
        Abs => number(x).then_some(quantized),
        // NEG negates the stored integer and ignores the zero point.
        Neg | Sign => number(x).then_some(FLOAT),
        Sigmoid => real(x).then_some(FLOAT.quantized(FRACTIONS)),
        Tanh => real(x).then_some(FLOAT.quantized(SIGNED_FRACTIONS)),
        // XNNPACK has no 8-bit kernel for it; the reference kernel takes longer than float with its conversions.
        HardSwish => real(x).then_some(FLOAT.quantized(Quantized { slow: true, ..QUANTIZED })),
        Rsqrt | LeakyRelu { .. } | Gelu { .. } => real(x).then_some(quantized),
        Elu { alpha } => (real(x) && alpha == 1.0).then_some(quantized),
        // TensorFlow Lite for Microcontrollers has no 8-bit kernels for them.
        Exp | Log | Sqrt => real(x).then_some(FLOAT),
        Ceil | Cos | Floor | Round | Sin => real(x).then_some(FLOAT),
        Acos | Acosh | Asin | Asinh | Atan | Atanh | Cosh | Sinh => None,
        Erf | Reciprocal | Silu | Softplus | Softsign | Tan | Mish => None,
        HardSigmoid { .. } | Selu { .. } | Threshold { .. } => None,
    }
}

fn binary(f: BinaryFn, x: &[&TensorType]) -> Option<Kernel> {
    use BinaryFn::*;
    let [a, b] = [x[0], x[1]];
    let any_float = x.iter().any(|t| real(t));
    let fusing = if real(a) { FLOAT.fuses(ACTIVATIONS) } else { FLOAT };
    match f {
        Add | Sub => number(a).then_some(fusing.quantized_if(any_float, SUMS)),
        Mul => number(a).then_some(fusing.quantized_if(any_float, ARITHMETIC)),
        Max | Min if a.elem == Elem::I64 => Some(FLOAT),
        Max | Min | SquaredDifference => number(a).then_some(FLOAT.quantized_if(any_float, QUANTIZED)),
        // A divisor less than half a step from 0 would be quantized to 0.
        Div => number(a).then_some(fusing),
        Pow | FloorDiv | FloorMod => number(a).then_some(FLOAT),
        Less | LessEqual | Greater | GreaterEqual => number(a).then_some(FLOAT),
        Equal | NotEqual => (number(a) || a.elem == Elem::Bool).then_some(FLOAT),
        And | Or => (a.elem == Elem::Bool).then_some(FLOAT),
        Xor => matches!(a.elem, Elem::Bool | Elem::I32).then_some(FLOAT),
        Atan2 => real(a).then_some(FLOAT),
        // PRELU broadcasts the slope only, never the data. The 8-bit kernel is several times slower than the float one,
        // and needs quantized operands as well as a quantized result.
        Prelu => (real(a) && broadcast(&a.shape, &b.shape).is_ok_and(|shape| shape == a.shape)).then_some(FLOAT),
        Rem => None,
    }
}
