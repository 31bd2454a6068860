//! What a target's kernels for one operator take and give.

use crate::graph::{Graph, NodeId};
use crate::ops::{Granularity, Op};
use crate::types::{Affine, QuantParams, StorageType, TensorType};

/// The kernels that a target has for an operator on operands of given real types: a row of the target's table.
///
/// Every target that has the operator computes it in single precision, or on integers and booleans that are no quantized
/// numbers. What else it can do is in the fields.
#[derive(Clone, Copy, Debug, Default)]
pub struct Kernel {
    /// True where it works on 16-bit floats as well.
    pub half: bool,
    /// The order of a weight's axes in memory (operand 1 of an image operator), outermost first; empty for row-major.
    pub weight_order: &'static [usize],
    /// How it works on quantized activations, where it does.
    pub quantized: Option<Quantized>,
    /// How it takes quantized constant weights beside real activations, where it does.
    pub weights: Option<Weights>,
}

/// A kernel whose activations are quantized.
#[derive(Clone, Copy, Debug)]
pub struct Quantized {
    /// Where the zero point of an activation lies that a constant weight is multiplied with. Weights are symmetric. Where a
    /// range that is known beforehand puts it elsewhere, a slower kernel runs.
    pub zero_point: ZeroPoint,
    /// As [`Quantized::zero_point`], of two computed factors.
    pub zero_points: [ZeroPoint; 2],
    /// The axis of a constant weight whose indices may have a scale each. `None`: the weight has one scale.
    pub weight_axis: Option<usize>,
    /// True where the result may be quantized.
    pub gives_quantized: bool,
    /// True where the result may be real: the accumulators, rescaled to single precision.
    pub gives_real: bool,
    /// The largest sum of two neighbouring products, where some processors add them in narrow integers that saturate.
    pub pair_limit: Option<i32>,
    /// The ratio of an operand's scale to that of the result (of contractions `input scale * weight scale / result scale`)
    /// that kernels refuse, and all above it.
    pub rescale_limit: Option<f32>,
    /// The scale and zero point that results have, whatever the artefact says.
    pub result: Option<(f32, i32)>,
    /// True where limits to the result (a `Clamp` that alone reads it) are applied as it is rounded.
    pub fuses_clamp: bool,
}

/// A kernel that takes quantized constant weights beside real activations.
#[derive(Clone, Copy, Debug)]
pub struct Weights {
    /// The axis of the weight whose indices have a scale each. `None`: the weight has one scale.
    pub axis: Option<usize>,
    /// True where real weights are restored before the operator, by a `Dequantize`.
    pub restored: bool,
    /// What shares a scale where the kernel quantizes its activations when the model runs (dynamic quantization). `None`:
    /// it computes with real numbers.
    pub dynamic: Option<Granularity>,
    /// How the weight may be 4-bit integers with a scale for each block.
    pub blocks: Option<Blocks>,
}

/// Weights of 4 bits with a scale for each block: a run along the axis that is summed up.
#[derive(Clone, Copy, Debug)]
pub struct Blocks {
    /// True where an axis of that extent may have blocks of that size, in this order.
    pub fits: fn(usize, usize) -> bool,
    /// As [`Weights::dynamic`], for blocks of that size.
    pub dynamic: fn(usize) -> Option<Granularity>,
}

/// Where kernels want the zero point of an activation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ZeroPoint {
    /// Wherever the range puts it.
    Any,
    /// Wherever the range puts it: quantized apart for this consumer where another one asks for a symmetric grid.
    AnyPerConsumer,
    /// In the middle of the stored integers.
    Symmetric,
    /// In the middle, or at the lower end where no number is negative.
    SymmetricOrUnsigned,
}

/// What is told of numbers that kernels do not bring to the scale of a result.
const FAR: &str = "no kernel brings its operands to a scale that is so much smaller";

impl Kernel {
    /// A kernel for real numbers alone, in single precision.
    pub const REAL: Kernel = Kernel { half: false, weight_order: &[], quantized: None, weights: None };

    /// As this one, with quantized activations as well.
    pub const fn quantized(self, quantized: Quantized) -> Self {
        Kernel { quantized: Some(quantized), ..self }
    }

    /// As this one, with quantized activations as well where that `holds`.
    pub const fn quantized_if(self, holds: bool, quantized: Quantized) -> Self {
        if holds { self.quantized(quantized) } else { self }
    }

    /// As this one, with quantized weights beside real activations as well.
    pub const fn weights(self, weights: Weights) -> Self {
        Kernel { weights: Some(weights), ..self }
    }

    /// As this one, with its weight in that order.
    pub const fn ordered(self, weight_order: &'static [usize]) -> Self {
        Kernel { weight_order, ..self }
    }
}

impl Quantized {
    /// A kernel from any activation to a quantized result.
    pub const ANY: Quantized = Quantized {
        zero_point: ZeroPoint::Any,
        zero_points: [ZeroPoint::Any; 2],
        weight_axis: None,
        gives_quantized: true,
        gives_real: false,
        pair_limit: None,
        rescale_limit: None,
        result: None,
        fuses_clamp: false,
    };

    /// Where the zero point of operand `i` of a contraction lies, beside a constant weight or a computed one.
    pub fn zero_point_of(&self, i: usize, constant_weight: bool) -> ZeroPoint {
        if constant_weight { self.zero_point } else { self.zero_points[i.min(1)] }
    }

    /// True where sums of products of an activation with a weight can be rescaled to a result.
    pub fn rescales(&self, x: &QuantParams, weight: &QuantParams, result: &QuantParams) -> bool {
        let ratio = |s: &f32| x.scales()[0] * s / result.scales()[0];
        self.rescale_limit.is_none_or(|limit| weight.scales().iter().all(|s| ratio(s) < limit))
    }

    /// Why an operator whose operands are quantized, and which is no contraction, is not one that the kernel takes.
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

    /// Why a contraction whose activation is quantized is not one that the kernel takes.
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
            Some(_) if !self.gives_quantized => Err("kernels on quantized numbers give real ones".into()),
            None if !self.gives_real => Err("kernels on quantized numbers give quantized ones".into()),
            Some(to) if !self.rescales(x, weight, to) => Err(FAR.into()),
            _ => Ok(()),
        }
    }
}

impl ZeroPoint {
    /// True where the zero point of a grid of 8 bits lies there.
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
    /// A weight with one scale, which the kernel reads as it is.
    pub const ONE_SCALE: Weights = Weights { axis: None, restored: false, dynamic: None, blocks: None };

    /// What shares a scale where the kernel quantizes its activations beside a weight of that type.
    pub fn dynamic_beside(&self, weight: &TensorType) -> Option<Granularity> {
        match weight.elem.qparams().map(|qparams| &qparams.map) {
            Some(Affine::PerBlock { size, .. }) => self.blocks.and_then(|blocks| (blocks.dynamic)(*size)),
            _ => self.dynamic,
        }
    }

    /// Why a quantized weight beside real activations is not one that the kernel takes.
    fn takes(&self, weight: &TensorType) -> Result<(), String> {
        let Some(qparams) = weight.elem.qparams() else { return Ok(()) };
        let Some(blocks) = self.blocks.filter(|_| qparams.is_for_weights()) else {
            return match &qparams.map {
                _ if qparams.is_for_weights() => Err("no kernel takes weights in 4 bits or in blocks".into()),
                Affine::PerAxis { axis, .. } if Some(*axis) != self.axis => {
                    Err(format!("no kernel takes a weight with scales along axis {axis}"))
                }
                _ => Ok(()),
            };
        };
        let Affine::PerBlock { axis, size, .. } = &qparams.map else { return Ok(()) };
        let extent = weight.shape.dims()[*axis].known().unwrap_or(0);
        if (blocks.fits)(extent, *size) { Ok(()) } else { Err(format!("no kernel takes weights in blocks of {size}")) }
    }
}

impl Kernel {
    /// Fails where values of a node of well-typed graph `g` are quantized otherwise than this kernel takes them.
    ///
    /// # Errors
    /// Why it does not take them.
    pub fn takes(&self, g: &Graph, node: NodeId) -> Result<(), String> {
        let (op, types, results) = (g.op(node), g.operand_types(node), g.result_types(node));
        let is_quantized = |t: &TensorType| t.elem.qparams().is_some();
        let none = !types.iter().any(|t| is_quantized(t)) && !results.iter().any(is_quantized);
        let border = matches!(op, Op::Quantize(_) | Op::Dequantize(_));
        let for_weights = || types[0].elem.qparams().is_some_and(QuantParams::is_for_weights);
        // Custom operators are quantized as they declare.
        if none || matches!(op, Op::Input(_) | Op::Const(_) | Op::Custom(_)) || (border && !for_weights()) {
            return Ok(());
        }
        let weight = usize::from(op.is_contraction());
        let is_constant = g.constant(g.operand(node, weight)).is_some();
        match (self.weights, self.quantized) {
            (Some(kernel), _) if is_constant && (weight == 0 || !is_quantized(types[0])) => kernel.takes(types[weight]),
            (_, Some(kernel)) if op.is_contraction() && is_quantized(types[0]) => {
                kernel.contracts(&types, &results[0], is_constant)
            }
            (_, Some(kernel)) if !op.is_contraction() => kernel.takes(&types, &results[0]),
            _ if op.is_contraction() && !is_quantized(types[0]) => Err("no kernel takes its weight quantized".into()),
            _ => Err("no kernel takes it quantized".into()),
        }
    }
}
