//! Matrix products.

use qcc_ir::ops::{BinaryFn, MatMul};
use qcc_ir::{Dim, Shape, ValueId};

use super::super::node::{NodeCx, Operand};
use super::Row;
use crate::build::einsum::einsum;
use crate::build::product::matmul;
use crate::build::{Build, Values, count_axis, one};
use crate::refusal::Refusal;

pub(super) const ROWS: &[Row] = &[
    ("addmm", |n| add_product(n, "mat1", "mat2")),
    ("addmv", |n| add_product(n, "mat", "vec")),
    ("baddbmm", |n| add_product(n, "batch1", "batch2")),
    ("bmm", |n| product(n, "mat2")),
    ("dot", |n| product(n, "tensor")),
    ("einsum", |n| {
        let equation = n.text("equation", "")?;
        let tensors = n.tensors("tensors")?;
        let operands: Vec<Operand> = tensors.iter().map(|&v| Operand::Tensor(v)).collect();
        let elem = n.promoted(&operands);
        let tensors = tensors.into_iter().map(|v| n.cast(v, elem.clone())).collect::<Result<Values, _>>()?;
        one(einsum(n, equation, &tensors)?)
    }),
    ("linear", linear),
    ("matmul", |n| product(n, "other")),
    ("mm", |n| product(n, "mat2")),
    ("mv", |n| product(n, "vec")),
    ("outer", outer),
    ("tensordot", tensordot),
];

fn product(n: &mut NodeCx<'_, '_>, other: &str) -> Result<Values, Refusal> {
    let (a, b) = (n.tensor("self")?, n.tensor(other)?);
    one(matmul(n, a, b)?)
}

/// x times the transposed weight, plus bias.
fn linear(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let (x, weight) = (n.tensor("input")?, n.tensor("weight")?);
    let bias = n.optional("bias")?;
    if n.rank(weight) == 1 && n.rank(x) > 0 {
        let y = matmul(n, x, weight)?;
        return one(bias.map_or(Ok(y), |bias| n.binary(BinaryFn::Add, y, bias))?);
    }
    if n.rank(weight) != 2 || n.rank(x) == 0 {
        return Err(Refusal::Invalid(format!("a weight {} for {}", n.ty(weight), n.ty(x))));
    }
    let vector = n.rank(x) == 1;
    let row = |n: &NodeCx<'_, '_>| [Dim::Known(1), n.shape(x).dims()[0].clone()].into_iter().collect();
    let x = if vector { n.reshape_to(x, row(n))? } else { x };
    let operands: Values = [x, weight].into_iter().chain(bias).collect();
    let y = n.add(MatMul { transpose_b: true }, &operands)?;
    one(if vector { n.reshape_to(y, n.shape(y).without(0))? } else { y })
}

/// beta * self + alpha * (a times b)
fn add_product(n: &mut NodeCx<'_, '_>, a: &str, b: &str) -> Result<Values, Refusal> {
    let (c, a, b) = (n.tensor("self")?, n.tensor(a)?, n.tensor(b)?);
    let (alpha, beta) = (n.float("alpha", 1.0)?, n.float("beta", 1.0)?);
    let b = scaled(n, b, alpha)?;
    if beta == 0.0 {
        return one(matmul(n, a, b)?);
    }
    let c = scaled(n, c, beta)?;
    let columns = n.shape(b).dims().last().and_then(Dim::known);
    if columns.is_some_and(|columns| *n.shape(c) == Shape::known(&[columns])) && n.rank(a) >= 2 && n.rank(b) >= 2 {
        return one(n.add(MatMul { transpose_b: false }, &[a, b, c])?);
    }
    let product = matmul(n, a, b)?;
    one(n.binary(BinaryFn::Add, product, c)?)
}

fn scaled(n: &mut NodeCx<'_, '_>, v: ValueId, by: f64) -> Result<ValueId, Refusal> {
    if by == 1.0 {
        return Ok(v);
    }
    let factor = n.scalar(by, v)?;
    n.binary(BinaryFn::Mul, v, factor)
}

/// The sums of products along pairs of axes.
fn tensordot(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let (a, b) = (n.tensor("self")?, n.tensor("other")?);
    let axes = |n: &mut NodeCx<'_, '_>, name: &str, v: ValueId| -> Result<Vec<usize>, Refusal> {
        n.ints(name)?.into_iter().map(|axis| count_axis(axis, n.rank(v))).collect()
    };
    let (of_a, of_b) = (axes(n, "dims_self", a)?, axes(n, "dims_other", b)?);
    let name = |i: usize| char::from_u32('a' as u32 + i as u32).ok_or(Refusal::Unsupported("so many axes".into()));
    let first = (0..n.rank(a)).map(name).collect::<Result<Vec<char>, _>>()?;
    let mut second = (n.rank(a)..n.rank(a) + n.rank(b)).map(name).collect::<Result<Vec<char>, _>>()?;
    if of_a.len() != of_b.len() {
        return Err(Refusal::Invalid(format!("{} axes of one and {} of the other", of_a.len(), of_b.len())));
    }
    of_a.iter().zip(&of_b).for_each(|(&i, &j)| second[j] = first[i]);
    let only = |own: &[char], summed: &[usize]| -> String {
        own.iter().enumerate().filter(|(i, _)| !summed.contains(i)).map(|(_, c)| c).collect()
    };
    let [left, right] = [&first, &second].map(|names| names.iter().collect::<String>());
    let equation = format!("{left},{right}->{}{}", only(&first, &of_a), only(&second, &of_b));
    one(einsum(n, &equation, &[a, b])?)
}

fn outer(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let (a, b) = (n.tensor("self")?, n.tensor("vec2")?);
    let a = n.column(a)?;
    one(n.binary(BinaryFn::Mul, a, b)?)
}
