//! Kernels.
use crate::error::EvalError;
use crate::ops::*;
use crate::types::{Tensor, TensorType};

pub(crate) fn binary(
    _f: BinaryFn,
    _operands: &[&Tensor],
    _results: &[TensorType],
) -> Result<Option<Tensors>, EvalError> {
    Ok(None)
}
pub(crate) fn conv(_op: &Conv, _operands: &[&Tensor], _results: &[TensorType]) -> Result<Option<Tensors>, EvalError> {
    Ok(None)
}
pub(crate) fn conv_transpose(
    _op: &ConvTranspose,
    _operands: &[&Tensor],
    _results: &[TensorType],
) -> Result<Option<Tensors>, EvalError> {
    Ok(None)
}
pub(crate) fn pool(_op: &Pool, _x: &Tensor, _results: &[TensorType]) -> Result<Option<Tensors>, EvalError> {
    Ok(None)
}
pub(crate) fn matmul(
    _op: &MatMul,
    _operands: &[&Tensor],
    _results: &[TensorType],
) -> Result<Option<Tensors>, EvalError> {
    Ok(None)
}
pub(crate) fn reduce(_op: &Reduce, _x: &Tensor, _results: &[TensorType]) -> Result<Option<Tensors>, EvalError> {
    Ok(None)
}
pub(crate) fn quantize(_x: &Tensor, _result: &TensorType) -> Result<Option<Tensors>, EvalError> {
    Ok(None)
}
