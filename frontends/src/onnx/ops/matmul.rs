//! Matrix products.

use qcc_ir::ops::{BinaryFn, MatMul, ReduceFn};
use qcc_ir::{Dim, Elem, ValueId};

use super::super::node::NodeCx;
use super::Row;
use crate::build::einsum::einsum;
use crate::build::{Build, Values, matmul, one};
use crate::refusal::Refusal;

pub(super) const ROWS: &[Row] = &[
    ("Einsum", |n| {
        let equation = n.string("equation", "")?;
        let tensors = n.all_inputs()?;
        one(einsum(n, equation, &tensors)?)
    }),
    ("Gemm", gemm),
    ("MatMul", |n| {
        let (a, b) = (n.input(0)?, n.input(1)?);
        let integers = matches!(n.ty(a).elem, Elem::I32 | Elem::I64) && n.rank(a) > 1 && n.rank(b) > 1;
        one(if integers { integer_product(n, a, b)? } else { matmul(n, a, b)? })
    }),
];

/// Maximum number of products of a matrix product of integers.
const MOST_PRODUCTS: usize = 1 << 22;

/// A matrix product of integers: all products of an element of a row and one of a column, summed.
fn integer_product(n: &mut NodeCx<'_, '_>, a: ValueId, b: ValueId) -> Result<ValueId, Refusal> {
    let (mut rows, mut columns) = (n.dims(a)?, n.dims(b)?);
    rows.push(1);
    columns.insert(columns.len() - 2, 1);
    let (a, b) = (n.reshape(a, &rows)?, n.reshape(b, &columns)?);
    let products = n.binary(BinaryFn::Mul, a, b)?;
    if n.dims(products)?.iter().product::<usize>() > MOST_PRODUCTS {
        let message = format!("a product of integers with more than {MOST_PRODUCTS} terms is not supported");
        return Err(Refusal::Advised { message, help: "export the model with a product of floats" });
    }
    let axis = n.rank(products) - 2;
    n.reduce(ReduceFn::Sum, products, &[axis], false)
}

/// alpha * A * B + beta * C; C broadcasts to the product.
fn gemm(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let (mut a, mut b) = (n.input(0)?, n.input(1)?);
    let (alpha, beta) = (n.float("alpha", 1.0)?, n.float("beta", 1.0)?);
    let (transpose_a, transpose_b) = (n.flag("transA", false)?, n.flag("transB", false)?);
    if n.opset() < 7 {
        n.flag("broadcast", false)?;
    }
    if n.rank(a) != 2 || n.rank(b) != 2 {
        return Err(Refusal::Invalid(format!("a product of {} and {}; expected matrices", n.ty(a), n.ty(b))));
    }
    if transpose_a {
        a = n.transpose(a, &[1, 0])?;
    }
    b = scaled(n, b, alpha)?;
    let product = MatMul { transpose_b };
    let c = match n.optional(2) {
        Some(c) if beta != 0.0 => scaled(n, c, beta)?,
        _ => return one(n.add(product, &[a, b])?),
    };
    let columns = n.shape(b).dims()[usize::from(!transpose_b)].known();
    let c_shape = n.shape(c);
    let is_bias = c_shape.dims().last().and_then(Dim::known) == columns && c_shape.rank() <= 2;
    if let Some(columns) = columns.filter(|_| is_bias && c_shape.elements() == columns && n.is_known(c)) {
        let bias = n.reshape(c, &[columns])?;
        return one(n.add(product, &[a, b, bias])?);
    }
    let product = n.add(product, &[a, b])?;
    let sum = n.binary(BinaryFn::Add, product, c)?;
    if n.ty(sum) != n.ty(product) {
        return Err(Refusal::Invalid(format!("C is {}, which does not broadcast to {}", n.ty(c), n.ty(product))));
    }
    one(sum)
}

fn scaled(n: &mut NodeCx<'_, '_>, v: ValueId, by: f32) -> Result<ValueId, Refusal> {
    if by == 1.0 {
        return Ok(v);
    }
    let factor = n.scalar(by.into(), v)?;
    n.binary(BinaryFn::Mul, v, factor)
}
