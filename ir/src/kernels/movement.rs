//! Kernels.
use crate::error::EvalError;
use crate::ops::*;
use crate::types::Tensor;

pub(crate) fn reshape(_op: &Reshape, _x: &Tensor) -> Result<Tensors, EvalError> {
    Err(EvalError::Unknown("kernel"))
}
pub(crate) fn transpose(_op: &Transpose, _x: &Tensor) -> Result<Tensors, EvalError> {
    Err(EvalError::Unknown("kernel"))
}
pub(crate) fn concat(_op: &Concat, _xs: &[&Tensor]) -> Result<Tensors, EvalError> {
    Err(EvalError::Unknown("kernel"))
}
pub(crate) fn slice(_op: &Slice, _x: &Tensor) -> Result<Tensors, EvalError> {
    Err(EvalError::Unknown("kernel"))
}
pub(crate) fn pad(_op: &Pad, _x: &Tensor) -> Result<Tensors, EvalError> {
    Err(EvalError::Unknown("kernel"))
}
pub(crate) fn expand(_op: &Expand, _x: &Tensor) -> Result<Tensors, EvalError> {
    Err(EvalError::Unknown("kernel"))
}
pub(crate) fn tile(_op: &Tile, _x: &Tensor) -> Result<Tensors, EvalError> {
    Err(EvalError::Unknown("kernel"))
}
pub(crate) fn reverse(_op: &Reverse, _x: &Tensor) -> Result<Tensors, EvalError> {
    Err(EvalError::Unknown("kernel"))
}
pub(crate) fn depth_to_space(_op: &DepthToSpace, _x: &Tensor) -> Result<Tensors, EvalError> {
    Err(EvalError::Unknown("kernel"))
}
pub(crate) fn space_to_depth(_op: &SpaceToDepth, _x: &Tensor) -> Result<Tensors, EvalError> {
    Err(EvalError::Unknown("kernel"))
}
