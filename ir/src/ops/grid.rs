//! Borders between real numbers and grids, and between layouts.

use serde::{Deserialize, Serialize};
use smallvec::smallvec;

use super::{LayoutRule, Operator, Tensors, Types, arity, one};
use crate::error::{EvalError, TypeError};
use crate::types::{Elem, Tensor, TensorType};

/// Puts real numbers on a grid, or moves a value from one grid to another. The grid is that of the result's type.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Quantize {}

impl Operator for Quantize {
    const NAME: &'static str = "quantize";

    fn infer(&self, operands: &[&TensorType]) -> Result<Types, TypeError> {
        arity(Self::NAME, operands, 1, 1)?;
        one(Elem::F32, operands[0].shape.clone())
    }

    fn eval(&self, operands: &[&Tensor]) -> Result<Tensors, EvalError> {
        Ok(smallvec![operands[0].clone()])
    }

    fn eval_grid(&self, operands: &[&Tensor], results: &[TensorType]) -> Result<Option<Tensors>, EvalError> {
        crate::kernels::integer::quantize(operands[0], &results[0])
    }

    fn layout(&self) -> LayoutRule {
        LayoutRule::Follow
    }
}

/// The real numbers that a value on a grid stands for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Dequantize {}

impl Operator for Dequantize {
    const NAME: &'static str = "dequantize";

    fn infer(&self, operands: &[&TensorType]) -> Result<Types, TypeError> {
        arity(Self::NAME, operands, 1, 1)?;
        one(Elem::F32, operands[0].shape.clone())
    }

    fn eval(&self, operands: &[&Tensor]) -> Result<Tensors, EvalError> {
        Ok(smallvec![operands[0].clone()])
    }

    fn layout(&self) -> LayoutRule {
        LayoutRule::Follow
    }
}

/// Moves the bytes of a value into another layout: that of the result's type. Its meaning is the identity.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Relayout {}

impl Operator for Relayout {
    const NAME: &'static str = "relayout";

    fn infer(&self, operands: &[&TensorType]) -> Result<Types, TypeError> {
        arity(Self::NAME, operands, 1, 1)?;
        one(operands[0].elem.clone(), operands[0].shape.clone())
    }

    fn eval(&self, operands: &[&Tensor]) -> Result<Tensors, EvalError> {
        Ok(smallvec![operands[0].clone()])
    }

    fn layout(&self) -> LayoutRule {
        LayoutRule::Free
    }

    fn grid(&self) -> super::GridRule {
        super::GridRule::Carry
    }
}
