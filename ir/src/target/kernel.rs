//! Kernel signatures: the operands and results that a target's kernels for one operator take and give.

use super::latency::ProductTime;
use crate::graph::{Graph, NodeId};
use crate::ops::{Clamp, Granularity, Op};
use crate::types::{Affine, QuantParams, StorageType, TensorType};

/// The kernels that a target has for an operator on operands of given types: a row of the target's table.
///
/// Every target that has the operator computes it in single precision, or on plain integers and booleans. Further
/// capabilities are in the fields.
#[derive(Clone, Copy, Debug, Default)]
pub struct Kernel {
    /// True where it takes 16-bit floats as well.
    pub half: bool,
    /// Axis order of the weight (operand 1 of an image operator) in memory, outermost first; empty for row-major.
    pub weight_order: &'static [usize],
    /// Kernels for activations quantized to 8 bits, if any.
    pub quantized: Option<Quantized>,
    /// Kernels for activations quantized to 16 bits, if any. These activations are symmetric.
    pub wide: Option<Quantized>,
    /// Kernels for quantized constant weights and float activations (weight-only quantization), if any.
    pub weights: Option<Weights>,
    /// The activation functions that the kernel applies to its result itself.
    pub fuses: FusedClamps,
    /// The time of a product, if it is not that of the target's other kernels.
    pub product: Option<ProductTime>,
    /// True for a function of each element that the runtime does not compute together with the product before it, so that it
    /// is faster behind a pool, which leaves fewer elements.
    pub apart: bool,
    /// True for a division that multiplies by the rounded reciprocal.
    pub reciprocal: bool,
}

/// The clamps that a kernel applies to its result as fused activation functions.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum FusedClamps {
    /// None.
    #[default]
    None,
    /// Those with one of these pairs of limits, and those that the quantized range of the result implies.
    Limits(&'static [(f32, f32)]),
    /// All.
    Any,
}

/// A kernel for quantized activations.
#[derive(Clone, Copy, Debug)]
pub struct Quantized {
    /// Zero points of an activation that is multiplied with a constant weight. Constant weights are symmetric. An
    /// activation whose range is fixed may have another zero point; a slower kernel then runs.
    pub zero_point: ZeroPoint,
    /// As [`Quantized::zero_point`], for two operands that are both computed.
    pub zero_points: [ZeroPoint; 2],
    /// The axis of a constant weight that may be quantized per channel. `None`: the weight is quantized per tensor.
    pub weight_axis: Option<usize>,
    /// True where the result may be quantized.
    pub gives_quantized: bool,
    /// True where the result may be float: the accumulators, rescaled to single precision.
    pub gives_float: bool,
    /// The largest sum of two adjacent products, where kernels for some processors add them in saturating 16-bit
    /// integers.
    pub pair_limit: Option<i32>,
    /// Limit of the rescaling factor: `operand scale / result scale`, for contractions
    /// `input scale * weight scale / result scale`. Kernels refuse this factor and larger ones.
    pub rescale_limit: Option<f32>,
    /// The fixed scale and zero point of results, if the kernel ignores those in the artefact.
    pub result: Option<(f32, i32)>,
    /// True where a `Clamp` that is the only user of the result is implied by the quantized range of the result.
    pub fuses_clamp: bool,
    /// True where the float kernel is faster, even with conversions around it. Models that are quantized already keep the
    /// integers.
    pub slow: bool,
    /// True where the kernel is fast only behind another integer kernel, whose layout it takes.
    pub follows: bool,
}

/// A kernel for quantized constant weights and float activations (weight-only quantization).
#[derive(Clone, Copy, Debug)]
pub struct Weights {
    /// The axis of the weight that is quantized per channel. `None`: the weight is quantized per tensor.
    pub axis: Option<usize>,
    /// True where the weight is dequantized before the operator, by a `Dequantize` in the artefact.
    pub dequantized: bool,
    /// Granularity of dynamic quantization, where the kernel quantizes its activations at run time. `None`: it computes
    /// in floating point.
    pub dynamic: Option<Granularity>,
    /// Support for 4-bit weights quantized per block, if any.
    pub blocks: Option<Blocks>,
}

/// Support for 4-bit weights with a scale and a zero point for each block of the reduction axis.
#[derive(Clone, Copy, Debug)]
pub struct Blocks {
    /// Called with the extent of the axis and a block size: true where the kernel takes such blocks.
    pub fits: fn(usize, usize) -> bool,
    /// [`Weights::dynamic`] for such weights.
    pub dynamic: BlockDynamic,
    /// The scales and zero points that it takes.
    pub grid: BlockGrid,
}

/// How a kernel quantizes activations at run time beside a weight in blocks.
#[derive(Clone, Copy, Debug)]
pub enum BlockDynamic {
    /// Not at all, or in groups of a number that depends on the block size.
    Groups(fn(usize) -> Option<Granularity>),
    /// As beside other weights.
    AsOthers,
}

/// The scales and zero points of blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockGrid {
    /// Any.
    Any,
    /// Positive scales that are numbers of bfloat16 and normal ones of float16, without zero points.
    ShortScales,
}

impl BlockGrid {
    /// The nearest scale that kernels take.
    pub fn scale(self, scale: f32) -> f32 {
        match self {
            BlockGrid::Any => scale,
            BlockGrid::ShortScales => {
                // The largest power of two of float16.
                let (least, most) = (half::f16::MIN_POSITIVE.to_f32(), 32768.0);
                half::bf16::from_f32(scale.clamp(least, most)).to_f32()
            }
        }
    }

    /// True where kernels take the scales and zero points of blocks.
    pub fn admits(self, qparams: &QuantParams) -> bool {
        let short = || qparams.scales().iter().all(|&scale| scale > 0.0 && self.scale(scale) == scale);
        self == BlockGrid::Any || (qparams.block_zero_points().is_none() && short())
    }
}

/// The zero points that kernels take for an activation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ZeroPoint {
    /// Any.
    Any,
    /// Any; quantized separately for this consumer where another one requires symmetric quantization.
    AnyPerConsumer,
    /// Symmetric: 0 for signed storage, 128 for unsigned.
    Symmetric,
    /// Symmetric, or the smallest integer where no value is negative.
    SymmetricOrUnsigned,
}

/// The reason given for a rescaling factor beyond the limit of the kernels.
const FAR: &str = "no kernel rescales its operands to a result scale that is so much smaller";

impl Kernel {
    /// A kernel for single precision only.
    pub const FLOAT: Kernel = Kernel {
        half: false,
        weight_order: &[],
        quantized: None,
        wide: None,
        weights: None,
        fuses: FusedClamps::None,
        product: None,
        apart: false,
        reciprocal: false,
    };

    /// The same row with a kernel for quantized activations.
    pub const fn quantized(self, quantized: Quantized) -> Self {
        Kernel { quantized: Some(quantized), ..self }
    }

    /// The same row with a kernel for activations of 16 bits.
    pub const fn wide(self, wide: Option<Quantized>) -> Self {
        Kernel { wide, ..self }
    }

    /// The kernels for quantized activations of a storage type.
    pub fn for_storage(&self, storage: StorageType) -> Option<Quantized> {
        if storage == StorageType::I16 { self.wide } else { self.quantized }
    }

    /// As [`Kernel::quantized`] where `holds` is true, else the row unchanged.
    pub const fn quantized_if(self, holds: bool, quantized: Quantized) -> Self {
        if holds { self.quantized(quantized) } else { self }
    }

    /// The same row with a kernel for weight-only quantization.
    pub const fn weights(self, weights: Weights) -> Self {
        Kernel { weights: Some(weights), ..self }
    }

    /// The same row with fused activation functions.
    pub const fn fuses(self, fuses: FusedClamps) -> Self {
        Kernel { fuses, ..self }
    }

    /// The same row with a time of its own.
    pub const fn timed(self, product: ProductTime) -> Self {
        Kernel { product: Some(product), ..self }
    }

    /// The same row for a function that is computed apart.
    pub const fn apart(self) -> Self {
        Kernel { apart: true, ..self }
    }

    /// The same row for a division that multiplies by the rounded reciprocal.
    pub const fn reciprocal(self) -> Self {
        Kernel { reciprocal: true, ..self }
    }

    /// The same row with that axis order of the weight.
    pub const fn ordered(self, weight_order: &'static [usize]) -> Self {
        Kernel { weight_order, ..self }
    }
}

impl FusedClamps {
    /// True for a clamp that the kernel applies to a result of this type.
    pub fn takes(self, clamp: &Clamp, result: &TensorType) -> bool {
        match self {
            FusedClamps::None => false,
            FusedClamps::Limits(limits) => {
                let implied = |qparams: &QuantParams| qparams.keeps_within(clamp.lo, clamp.hi);
                limits.contains(&(clamp.lo, clamp.hi)) || result.elem.qparams().is_some_and(implied)
            }
            FusedClamps::Any => true,
        }
    }
}

impl Quantized {
    /// A kernel that takes activations of any zero point and gives a quantized result.
    pub const ANY: Quantized = Quantized {
        zero_point: ZeroPoint::Any,
        zero_points: [ZeroPoint::Any; 2],
        weight_axis: None,
        gives_quantized: true,
        gives_float: false,
        pair_limit: None,
        rescale_limit: None,
        result: None,
        fuses_clamp: false,
        slow: false,
        follows: false,
    };

    /// The zero points that the kernel takes for operand `i` of a contraction with a constant or a computed weight.
    pub fn zero_point_of(&self, i: usize, constant_weight: bool) -> ZeroPoint {
        if constant_weight { self.zero_point } else { self.zero_points[i.min(1)] }
    }

    /// True where the rescaling factors of a contraction are below the limit of the kernel.
    pub fn rescales(&self, x: &QuantParams, weight: &QuantParams, result: &QuantParams) -> bool {
        let ratio = |s: &f32| x.scales()[0] * s / result.scales()[0];
        self.rescale_limit.is_none_or(|limit| weight.scales().iter().all(|s| ratio(s) < limit))
    }

    /// Checks the parameters of a `Quantize` or `Dequantize`. Fails with the reason.
    fn converts(&self, qparams: Option<&QuantParams>) -> Result<(), String> {
        match qparams {
            Some(qparams) if qparams.is_for_weights() => Err("no kernel takes 4-bit weights".into()),
            Some(qparams) if !self.zero_point.admits(qparams) => {
                Err("no kernel takes a zero point other than 0".into())
            }
            _ => Ok(()),
        }
    }

    /// Checks the parameters of an operator with quantized operands that is not a contraction. Fails with the reason.
    fn takes(&self, types: &[&TensorType], result: &TensorType) -> Result<(), String> {
        let Some(to) = result.elem.qparams() else { return Ok(()) };
        let far =
            |from: &QuantParams| self.rescale_limit.is_some_and(|limit| from.scales()[0] / to.scales()[0] >= limit);
        match self.result {
            _ if types.iter().filter_map(|t| t.elem.qparams()).any(far) => Err(FAR.into()),
            Some(own) if to.tensor_map() != Some(own) => {
                Err(format!("its result has scale {} and zero point {}", own.0, own.1))
            }
            _ => Ok(()),
        }
    }

    /// Checks the parameters of a contraction with a quantized activation. Fails with the reason.
    fn contracts(&self, types: &[&TensorType], result: &TensorType, constant_weight: bool) -> Result<(), String> {
        let (Some(x), Some(weight)) = (types[0].elem.qparams(), types[1].elem.qparams()) else { return Ok(()) };
        let symmetric = ZeroPoint::Symmetric.admits(weight);
        match &weight.map {
            Affine::PerAxis { axis, .. } if Some(*axis) != self.weight_axis => {
                return Err(format!("no kernel takes a weight with scales along axis {axis}"));
            }
            Affine::PerTensor { .. } if constant_weight && !symmetric => {
                return Err("no kernel takes a weight that is not symmetric".into());
            }
            _ => {}
        }
        match result.elem.qparams() {
            Some(_) if !self.gives_quantized => Err("kernels with quantized operands give float results".into()),
            None if !self.gives_float => Err("kernels with quantized operands give quantized results".into()),
            Some(to) if !self.rescales(x, weight, to) => Err(FAR.into()),
            _ => Ok(()),
        }
    }
}

impl ZeroPoint {
    /// True where 8-bit quantization parameters have such a zero point.
    pub fn admits(self, qparams: &QuantParams) -> bool {
        let (lowest, middle) = (qparams.storage.range().0, if qparams.storage == StorageType::U8 { 128 } else { 0 });
        match self {
            ZeroPoint::Any | ZeroPoint::AnyPerConsumer => true,
            ZeroPoint::Symmetric => qparams.zero_point() == middle,
            ZeroPoint::SymmetricOrUnsigned => [lowest, middle].contains(&qparams.zero_point()),
        }
    }
}

impl Weights {
    /// A per-tensor weight that the kernel takes directly, with float activations.
    pub const ONE_SCALE: Weights = Weights { axis: None, dequantized: false, dynamic: None, blocks: None };

    /// Granularity of dynamic quantization of the activations, for a weight of that type.
    pub fn dynamic_beside(&self, weight: &TensorType) -> Option<Granularity> {
        match weight.elem.qparams().map(|qparams| &qparams.map) {
            Some(Affine::PerBlock { size, .. }) => match self.blocks?.dynamic {
                BlockDynamic::Groups(groups) => groups(*size),
                BlockDynamic::AsOthers => self.dynamic,
            },
            _ => self.dynamic,
        }
    }

    /// Checks the parameters of a quantized weight with float activations. Fails with the reason.
    fn takes(&self, weight: &TensorType) -> Result<(), String> {
        let Some(qparams) = weight.elem.qparams() else { return Ok(()) };
        let Some(blocks) = self.blocks.filter(|_| qparams.is_for_weights()) else {
            return match &qparams.map {
                _ if qparams.is_for_weights() => {
                    Err("no kernel takes 4-bit weights or weights quantized per block".into())
                }
                Affine::PerAxis { axis, .. } if Some(*axis) != self.axis => {
                    Err(format!("no kernel takes a weight with scales along axis {axis}"))
                }
                _ => Ok(()),
            };
        };
        let Affine::PerBlock { axis, size, .. } = &qparams.map else { return Ok(()) };
        let extent = weight.shape.dims()[*axis].known().unwrap_or(0);
        match () {
            () if !(blocks.fits)(extent, *size) => Err(format!("no kernel takes weights in blocks of {size}")),
            () if !blocks.grid.admits(qparams) => {
                Err("no kernel takes blocks with such scales, or with zero points".into())
            }
            () => Ok(()),
        }
    }
}

/// True for the nodes between floating-point and quantized values.
fn boundary(op: &Op) -> bool {
    matches!(op, Op::Quantize(_) | Op::Dequantize(_))
}

/// True for a node with a computed operand or a result of 16 bits.
fn holds_wide(g: &Graph, node: NodeId) -> bool {
    let computed = g.operands(node).into_iter().filter(|v| g.constant(*v).is_none());
    computed.chain(g.results(node)).any(|v| g.ty(v).is_wide())
}

impl Kernel {
    /// Checks that the kernel takes the values of a node of a well-typed graph as they are quantized.
    ///
    /// # Errors
    /// The reason why it does not.
    pub fn takes(&self, g: &Graph, node: NodeId) -> Result<(), String> {
        let (op, types, result) = (g.op(node), g.operand_types(node), g.ty(node.value(0)));
        let is_quantized = |t: &TensorType| t.elem.qparams().is_some();
        if let (true, Some(kernel)) = (boundary(op), self.quantized) {
            return kernel.converts(types[0].elem.qparams().or(result.elem.qparams()));
        }
        let none = !types.iter().any(|t| is_quantized(t)) && !g.results(node).any(|v| is_quantized(g.ty(v)));
        let for_weights = || types[0].elem.qparams().is_some_and(QuantParams::is_for_weights);
        // The types of custom operators are those of the source.
        if none || matches!(op, Op::Input(_) | Op::Const(_) | Op::Custom(_)) || (boundary(op) && !for_weights()) {
            return Ok(());
        }
        let weight = usize::from(op.is_contraction());
        let is_constant = g.constant(g.operand(node, weight)).is_some();
        let quantized = if holds_wide(g, node) { self.wide } else { self.quantized };
        match (self.weights, quantized) {
            (Some(kernel), _) if is_constant && (weight == 0 || !is_quantized(types[0])) => kernel.takes(types[weight]),
            (_, Some(kernel)) if op.is_contraction() && is_quantized(types[0]) => {
                kernel.contracts(&types, result, is_constant)
            }
            (_, Some(kernel)) if !op.is_contraction() => kernel.takes(&types, result),
            _ if op.is_contraction() && !is_quantized(types[0]) => Err("no kernel takes its weight quantized".into()),
            _ => Err("no kernel takes it quantized".into()),
        }
    }
}
