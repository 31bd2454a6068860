//! Borders between real numbers and grids, and between layouts.

use serde::{Deserialize, Serialize};

use super::{LayoutRule, Operator, Types, arity, one, refuse, refuse_element};
use crate::error::TypeError;
use crate::types::{Elem, TensorType};

/// Puts real numbers on a grid, or moves a value from one grid to another. The grid is that of the result's type.
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

/// The real numbers that a value on a grid stands for.
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

/// Which numbers share a scale that is found when the model runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Granularity {
    /// Those that differ in the axes `from..to` alone, with a zero point: from the least number, or 0, to the greatest, or
    /// 0.
    Axes {
        /// The first of the axes.
        from: usize,
        /// The first behind them.
        to: usize,
    },
    /// Runs of so many along the last axis, the last of which may be shorter, without a zero point: up to the greatest
    /// magnitude.
    Groups(usize),
}

/// Dynamic quantization: rounds real numbers to 8 bits whose scale is found when the model runs. Kernels for weights on a
/// grid do this to activations.
///
/// `x` and the result are `F32` of one shape. With a zero point, `s = (max(x, 0) - min(x, 0)) / 255` and
/// `z = round(-min(x, 0) / s)`, the result is `(clamp(round(x / s) + z, 0, 255) - z) * s`; without, `s = max |x| / 127`
/// and the result is `round(x / s) * s`. Halves are rounded to even.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DynamicQuantize {
    /// What shares a scale.
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

/// Moves the bytes of a value into another layout: that of the result's type. Its meaning is the identity.
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
