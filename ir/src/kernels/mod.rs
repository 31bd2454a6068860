//! The kernels of `eval`: functions from tensors to tensors, without a graph. All tensors are row-major.

use smallvec::SmallVec;

use crate::error::{EvalError, TypeError};
use crate::ops::{Operator, Tensors};
use crate::types::{Elem, Tensor, TensorType};

pub(crate) mod conv;
pub(crate) mod dynamic;
pub(crate) mod elementwise;
mod evaluate;
pub(crate) mod gemm;
pub(crate) mod index;
pub(crate) mod integer;
pub(crate) mod matmul;
pub(crate) mod movement;
pub(crate) mod norm;
pub(crate) mod pool;
pub(crate) mod recurrent;
pub(crate) mod reduce;
pub(crate) mod resize;
pub(crate) mod sample;
mod vector;
pub(crate) mod walk;

#[cfg(test)]
pub(crate) use evaluate::Evaluate;

/// Runs an expression with `T` as a scalar of the element's size.
macro_rules! by_width {
    ($elem:expr, $t:ident => $body:expr) => {
        match $elem.size() {
            1 => {
                type $t = u8;
                $body
            }
            2 => {
                type $t = i16;
                $body
            }
            4 => {
                type $t = i32;
                $body
            }
            _ => {
                type $t = i64;
                $body
            }
        }
    };
}
use by_width;

/// The type of the one result of `op`, as inferred.
fn result<O: Operator>(op: &O, operands: &[&Tensor]) -> Result<TensorType, EvalError> {
    let types: SmallVec<[&TensorType; 4]> = operands.iter().map(|t| t.ty()).collect();
    Ok(op.infer(&types)?.swap_remove(0))
}

/// The extents of a type whose extents are all known.
fn extents(ty: &TensorType) -> Result<SmallVec<[usize; 6]>, EvalError> {
    let open = || EvalError::Type(TypeError::Symbolic { operand: 0, ty: Box::new(ty.clone()) });
    ty.shape.extents().ok_or_else(open)
}

/// Runs `f` on `F16` operands converted to `F32`, and rounds the results.
fn widened(x: &Tensor, f: impl FnOnce(&Tensor) -> Result<Tensors, EvalError>) -> Result<Tensors, EvalError> {
    let wide = elementwise::cast(&Elem::F32, x)?;
    f(&wide[0])?
        .into_iter()
        .map(|t| if t.ty().elem == Elem::F32 { Ok(elementwise::cast(&Elem::F16, &t)?.swap_remove(0)) } else { Ok(t) })
        .collect()
}

/// The error for an element type that an operator cannot be evaluated on.
fn unfit(op: &'static str, elem: &Elem) -> EvalError {
    EvalError::Elem { op, elem: elem.to_string() }
}
