//! Normalisations over axes.

use serde::{Deserialize, Serialize};

use super::elementwise::float_same;
use super::{LayoutRule, Operator, QuantRule, Types, axis_of, refuse, same_elem};
use crate::error::TypeError;
use crate::types::TensorType;

/// exp(x) divided by its sum along an axis, or the logarithm of that.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Softmax {
    /// The axis that sums to 1.
    pub axis: usize,
    /// Compute the logarithm.
    pub log: bool,
}

impl Operator for Softmax {
    const NAME: &'static str = "softmax";

    fn infer(&self, operands: &[&TensorType]) -> Result<Types, TypeError> {
        let types = float_same(Self::NAME, operands, 1)?;
        axis_of(operands, 0, self.axis)?;
        Ok(types)
    }

    fn layout(&self) -> LayoutRule {
        LayoutRule::Innermost(self.axis)
    }

    fn quant_rule(&self) -> QuantRule {
        if self.log { QuantRule::Float } else { QuantRule::Fixed { lo: 0.0, hi: 1.0 } }
    }
}

/// `(x - mean) / sqrt(variance + epsilon)` over the axes from `axis` on, times scale plus bias, which have the
/// extents of those axes and may be absent (bias only together with scale).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayerNorm {
    /// First normalised axis.
    pub axis: usize,
    /// Added to the variance.
    pub epsilon: f32,
}

impl Operator for LayerNorm {
    const NAME: &'static str = "layer_norm";

    fn infer(&self, operands: &[&TensorType]) -> Result<Types, TypeError> {
        let types = float_same(Self::NAME, operands, 3)?;
        axis_of(operands, 0, self.axis)?;
        for i in 1..operands.len() {
            same_elem(operands, 0, i)?;
            if operands[i].shape.dims() != &operands[0].shape.dims()[self.axis..] {
                return Err(refuse(operands, i, "the extents of the normalised axes"));
            }
        }
        Ok(types)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Elem;

    #[test]
    fn scale_and_bias_have_the_element_type_of_the_operand() {
        let (x, f) = (TensorType::f32(&[2, 3]), TensorType::f32(&[3]));
        let integers = f.with_elem(Elem::I64);
        let norm = LayerNorm { axis: 1, epsilon: 1e-5 };
        assert!(norm.infer(&[&x, &f, &f]).is_ok());
        assert!(norm.infer(&[&x, &integers]).is_err());
        assert!(norm.infer(&[&x, &f, &integers]).is_err());
    }
}
