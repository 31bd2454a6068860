//! Kernels.
use crate::error::EvalError;
use crate::ops::*;
use crate::types::Tensor;

pub(crate) fn gather(_op: &Gather, _x: &Tensor, _i: &Tensor) -> Result<Tensors, EvalError> {
    Err(EvalError::Unknown("kernel"))
}
pub(crate) fn gather_elements(_op: &GatherElements, _x: &Tensor, _i: &Tensor) -> Result<Tensors, EvalError> {
    Err(EvalError::Unknown("kernel"))
}
pub(crate) fn gather_nd(_op: &GatherNd, _x: &Tensor, _i: &Tensor) -> Result<Tensors, EvalError> {
    Err(EvalError::Unknown("kernel"))
}
pub(crate) fn scatter_nd(_x: &Tensor, _i: &Tensor, _u: &Tensor) -> Result<Tensors, EvalError> {
    Err(EvalError::Unknown("kernel"))
}
pub(crate) fn top_k(_op: &TopK, _x: &Tensor) -> Result<Tensors, EvalError> {
    Err(EvalError::Unknown("kernel"))
}
pub(crate) fn arg_reduce(_op: &ArgReduce, _x: &Tensor) -> Result<Tensors, EvalError> {
    Err(EvalError::Unknown("kernel"))
}
pub(crate) fn cum_sum(_op: &CumSum, _x: &Tensor) -> Result<Tensors, EvalError> {
    Err(EvalError::Unknown("kernel"))
}
