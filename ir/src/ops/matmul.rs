//! Matrix products.

use serde::{Deserialize, Serialize};

use super::{Operator, QuantRule, Types, arity, broadcast, float, has_one_value, one, refuse, same_elem};
use crate::error::TypeError;
use crate::types::{Dim, Shape, TensorType};

/// Product of matrices on the last two axes; the axes before them broadcast. a `[.., M, K]`, b `[.., K, N]`
/// (`transpose_b`: `[.., N, K]`), bias `[N]` (may be absent) to `[.., M, N]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MatMul {
    /// b is given as `[.., N, K]`.
    pub transpose_b: bool,
}

impl Operator for MatMul {
    const NAME: &'static str = "matmul";

    fn infer(&self, operands: &[&TensorType]) -> Result<Types, TypeError> {
        arity(Self::NAME, operands, 2, 3)?;
        float(operands, 0)?;
        same_elem(operands, 0, 1)?;
        for i in 0..2 {
            if operands[i].rank() < 2 {
                return Err(refuse(operands, i, "rank 2 or more"));
            }
        }
        let (a, b) = (operands[0].shape.dims(), operands[1].shape.dims());
        let (mut k, mut n) = (&b[b.len() - 2], &b[b.len() - 1]);
        if self.transpose_b {
            std::mem::swap(&mut k, &mut n);
        }
        has_one_value(operands, 0, a.len() - 1, k)?;
        has_one_value(operands, 1, b.len() - if self.transpose_b { 1 } else { 2 }, &a[a.len() - 1])?;
        if a[a.len() - 1].agreed(k).is_none() {
            return Err(refuse(operands, 1, format!("{} rows to multiply", a[a.len() - 1])));
        }
        if let Some(bias) = operands.get(2) {
            if bias.shape.dims() != std::slice::from_ref(n) {
                return Err(refuse(operands, 2, format!("a bias [{n}]")));
            }
            same_elem(operands, 0, 2)?;
        }
        let outer = |d: &[Dim]| d[..d.len() - 2].iter().cloned().collect::<Shape>();
        let batch = broadcast(&outer(a), &outer(b))?;
        let matrix = [a[a.len() - 2].clone(), n.clone()];
        one(operands[0].elem.clone(), batch.dims().iter().cloned().chain(matrix).collect())
    }

    fn quant_rule(&self) -> QuantRule {
        QuantRule::Contraction { channel: if self.transpose_b { 0 } else { 1 } }
    }
}
