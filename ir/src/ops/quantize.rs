//! Conversions between floating point and quantized values, and between layouts.

use serde::{Deserialize, Serialize};

use super::{LayoutRule, Operator, Types, arity, one, refuse, refuse_element};
use crate::error::TypeError;
use crate::types::{Elem, TensorType};

/// Quantizes floating-point values, or requantizes quantized ones. The parameters are those of the result's type.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quantize {}

impl Operator for Quantize {
    const NAME: &'static str = "quantize";

    fn infer(&self, operands: &[&TensorType]) -> Result<Types, TypeError> {
        arity(Self::NAME, operands, 1, 1)?;
        one(Elem::F32, operands[0].shape.clone())
    }

    fn layout(&self) -> LayoutRule {
        LayoutRule::Follow
    }
}

/// Dequantizes a value to `F32`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dequantize {}

impl Operator for Dequantize {
    const NAME: &'static str = "dequantize";

    fn infer(&self, operands: &[&TensorType]) -> Result<Types, TypeError> {
        arity(Self::NAME, operands, 1, 1)?;
        one(Elem::F32, operands[0].shape.clone())
    }

    fn layout(&self) -> LayoutRule {
        LayoutRule::Follow
    }
}

/// Granularity of dynamic quantization: the elements that share a scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Granularity {
    /// Elements whose indices differ only in the axes `from..to`. Asymmetric: the range from the minimum to the
    /// maximum, extended to include 0.
    Axes {
        /// The first of the axes.
        from: usize,
        /// One past the last.
        to: usize,
    },
    /// Groups of that many elements along the last axis; the last group may be shorter. Symmetric: the range is the
    /// largest magnitude.
    Groups(usize),
}

/// Dynamic quantization: quantizes to 8 bits with parameters computed at run time, and dequantizes. It represents what
/// kernels for quantized weights do to float activations.
///
/// `x` and the result are `F32` of the same shape. Asymmetric: with `s = (max(x, 0) - min(x, 0)) / 255` and
/// `z = round(-min(x, 0) / s)`, the result is `(clamp(round(x / s) + z, 0, 255) - z) * s`. Symmetric: with
/// `s = max |x| / 127`, the result is `round(x / s) * s`. Halves are rounded to even.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DynamicQuantize {
    /// The elements that share a scale.
    pub granularity: Granularity,
}

impl Operator for DynamicQuantize {
    const NAME: &'static str = "dynamic_quantize";

    fn infer(&self, operands: &[&TensorType]) -> Result<Types, TypeError> {
        arity(Self::NAME, operands, 1, 1)?;
        if operands[0].elem != Elem::F32 {
            return Err(refuse_element(operands, 0, "f32"));
        }
        match self.granularity {
            Granularity::Axes { from, to } if from > to || to > operands[0].rank() => {
                return Err(refuse(operands, 0, format!("axes {from} to {to}")));
            }
            Granularity::Groups(size) if size == 0 || operands[0].rank() == 0 => {
                return Err(refuse(operands, 0, "an axis to divide into groups of at least 1"));
            }
            Granularity::Axes { .. } | Granularity::Groups(_) => {}
        }
        one(Elem::F32, operands[0].shape.clone())
    }

    fn layout(&self) -> LayoutRule {
        LayoutRule::Follow
    }
}

/// Copies a value into another layout, that of the result's type. Element values do not change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Relayout {}

impl Operator for Relayout {
    const NAME: &'static str = "relayout";

    fn infer(&self, operands: &[&TensorType]) -> Result<Types, TypeError> {
        arity(Self::NAME, operands, 1, 1)?;
        one(operands[0].elem.clone(), operands[0].shape.clone())
    }

    fn layout(&self) -> LayoutRule {
        LayoutRule::Free
    }

    fn quant_rule(&self) -> super::QuantRule {
        super::QuantRule::SameAsInput
    }
}
