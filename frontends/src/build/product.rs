//! Matrix products.

use qcc_ir::ops::{BinaryFn, MatMul, ReduceFn};
use qcc_ir::{Dim, Elem, Shape, ValueId};

use super::Build;
use crate::refusal::Refusal;

/// Matrix product. A vector is a matrix of one row (left) or one column (right), and that axis is removed from the
/// result.
pub(crate) fn matmul<B: Build>(n: &mut B, a: ValueId, b: ValueId) -> Result<ValueId, Refusal> {
    let (row, column) = (n.rank(a) == 1, n.rank(b) == 1);
    let length = |n: &B, v: ValueId| n.shape(v).dims()[0].clone();
    let a = if row { n.reshape_to(a, [Dim::Known(1), length(n, a)].into_iter().collect())? } else { a };
    let b = if column { n.reshape_to(b, [length(n, b), Dim::Known(1)].into_iter().collect())? } else { b };
    let product = product(n, a, b, false)?;
    let mut dims = n.shape(product).dims().to_vec();
    if column {
        dims.pop();
    }
    if row {
        dims.remove(dims.len() - usize::from(!column) - 1);
    }
    n.reshape_to(product, dims.into_iter().collect())
}

/// The most products of a matrix product of integers.
const MOST_PRODUCTS: usize = 1 << 22;

/// The product of matrices, the second one of columns if `transposed`. Of integers, all products of an element of a row and one
/// of a column are summed.
pub(crate) fn product<B: Build>(n: &mut B, a: ValueId, b: ValueId, transposed: bool) -> Result<ValueId, Refusal> {
    if !matches!(n.ty(a).elem, Elem::I32 | Elem::I64) {
        return n.add(MatMul { transpose_b: transposed }, &[a, b]);
    }
    let with_one = |n: &B, v: ValueId, from_end: usize| -> Shape {
        let mut dims = n.shape(v).dims().to_vec();
        dims.insert(dims.len() - from_end, Dim::Known(1));
        dims.into_iter().collect()
    };
    // [.., rows, 1, inner] and [.., 1, columns, inner], or [.., rows, inner, 1] and [.., 1, inner, columns].
    let (rows, columns) = (with_one(n, a, usize::from(transposed)), with_one(n, b, 2));
    let (a, b) = (n.reshape_to(a, rows)?, n.reshape_to(b, columns)?);
    let products = n.binary(BinaryFn::Mul, a, b)?;
    if n.shape(products).elements().is_some_and(|count| count > MOST_PRODUCTS) {
        let message = format!("a product of integers with more than {MOST_PRODUCTS} terms is not supported");
        return Err(Refusal::Advised { message, help: "export the model with a product of floats" });
    }
    let axis = n.rank(products) - if transposed { 1 } else { 2 };
    n.reduce(ReduceFn::Sum, products, &[axis], false)
}
