//! The kernels of `eval`: functions from tensors to tensors, without a graph. All tensors are row-major.

use smallvec::SmallVec;

use crate::error::{EvalError, TypeError};
use crate::ops::{Operator, Tensors};
use crate::types::{Elem, Tensor, TensorType};

mod boxes;
pub(crate) mod conv;
pub(crate) mod dynamic;
pub(crate) mod elementwise;
mod evaluate;
mod fused;
pub(crate) mod gemm;
pub(crate) mod index;
pub(crate) mod integer;
pub(crate) mod matmul;
pub(crate) mod matrix;
pub(crate) mod movement;
pub(crate) mod norm;
pub(crate) mod pool;
mod product;
pub(crate) mod recurrent;
pub(crate) mod reduce;
pub(crate) mod resize;
mod roi;
pub(crate) mod sample;
pub(crate) mod then;
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

/// Runs `f` on an `F16` operand converted to `F32`, and rounds the results.
fn widened(x: &Tensor, f: impl FnOnce(&Tensor) -> Result<Tensors, EvalError>) -> Result<Tensors, EvalError> {
    all_widened(&[x], |wide| f(wide[0]))
}

/// The same for several operands.
fn all_widened(
    operands: &[&Tensor],
    f: impl FnOnce(&[&Tensor]) -> Result<Tensors, EvalError>,
) -> Result<Tensors, EvalError> {
    let cast = |to: &Elem, t: &Tensor| Ok(elementwise::cast(to, t)?.swap_remove(0));
    let wide = operands.iter().map(|t| cast(&Elem::F32, t)).collect::<Result<Vec<Tensor>, EvalError>>()?;
    let results = f(&wide.iter().collect::<SmallVec<[&Tensor; 4]>>())?.into_iter();
    results.map(|t| if t.ty().elem == Elem::F32 { cast(&Elem::F16, &t) } else { Ok(t) }).collect()
}

/// The error for an element type that an operator cannot be evaluated on.
fn unfit(op: &'static str, elem: &Elem) -> EvalError {
    EvalError::Elem { op, elem: elem.to_string() }
}

#[cfg(test)]
mod tests {
    use crate::eval::Executor;
    use crate::testing::{half_operators, operators};
    use crate::types::Elem;

    /// The FNV-1a hash of all results of all operators. NaNs are alike: processors differ in their sign.
    fn digest() -> u64 {
        let mut digest = 0xcbf2_9ce4_8422_2325_u64;
        let mut add = |byte: u8| digest = (digest ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        for case in operators().into_iter().chain(half_operators()) {
            for result in Executor::new(&case.graph).run(&case.inputs, &mut |_, _| {}).unwrap() {
                match result.ty().elem {
                    Elem::F32 | Elem::F16 => {
                        let canonical = |v: f32| if v.is_nan() { f32::NAN } else { v };
                        let bits = result.floats().iter().map(|&v| canonical(v).to_bits()).collect::<Vec<_>>();
                        bits.iter().flat_map(|b| b.to_le_bytes()).for_each(&mut add);
                    }
                    _ => result.data().iter().copied().for_each(&mut add),
                }
            }
        }
        digest
    }

    /// Every processor computes these bits. The number changes with the arithmetic of an operator or a new case.
    #[test]
    fn results_of_all_operators_are_the_same_everywhere() {
        assert_eq!(digest(), 15_729_827_719_345_989_123);
    }
}
