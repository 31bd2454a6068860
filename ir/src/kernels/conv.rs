//! Kernels.
use crate::error::EvalError;
use crate::ops::*;
use crate::types::Tensor;

pub(crate) fn conv(_op: &Conv, _operands: &[&Tensor]) -> Result<Tensors, EvalError> {
    Err(EvalError::Unknown("kernel"))
}
pub(crate) fn conv_transpose(_op: &ConvTranspose, _operands: &[&Tensor]) -> Result<Tensors, EvalError> {
    Err(EvalError::Unknown("kernel"))
}
