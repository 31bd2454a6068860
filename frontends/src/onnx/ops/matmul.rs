//! Matrix products.

use qcc_ir::ops::{BinaryFn, MatMul, Range, Slice};
use qcc_ir::{Dim, Shape, ValueId};

use super::super::node::NodeCx;
use super::Row;
use crate::build::einsum::einsum;
use crate::build::product::matmul;
use crate::build::{Build, Values, one};
use crate::refusal::Refusal;

pub(super) const ROWS: &[Row] = &[
    ("Det", determinant),
    ("Einsum", |n| {
        let equation = n.string("equation", "")?;
        let tensors = n.all_inputs()?;
        one(einsum(n, equation, &tensors)?)
    }),
    ("Gemm", gemm),
    ("MatMul", |n| {
        let (a, b) = (n.input(0)?, n.input(1)?);
        one(matmul(n, a, b)?)
    }),
];

/// The most rows of a matrix whose determinant is expanded.
const MOST_ROWS: usize = 4;

/// The determinant of the matrices that the last two axes form, expanded along their rows.
fn determinant(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let x = n.input(0)?;
    let dims = n.shape(x).dims().to_vec();
    let [batch @ .., rows, columns] = dims.as_slice() else {
        return Err(Refusal::Invalid(format!("the determinant of {}", n.ty(x))));
    };
    let size = match (rows.known(), columns.known()) {
        (Some(rows), Some(columns)) if rows == columns && (1..=MOST_ROWS).contains(&rows) => rows,
        (Some(rows), Some(columns)) if rows != columns => {
            return Err(Refusal::Invalid(format!("the determinant of {rows} rows and {columns} columns")));
        }
        _ => {
            let message = format!("the determinant of {} is not supported; {MOST_ROWS} rows are the most", n.ty(x));
            return Err(Refusal::Unsupported(message));
        }
    };
    let list = batch.iter().cloned().chain([Dim::Known(size * size)]).collect();
    let list = n.reshape_to(x, list)?;
    let (axis, batch) = (batch.len(), batch.iter().cloned().collect::<Shape>());
    let elements = (0..size * size).map(|start| {
        let element = n.add(Slice { ranges: vec![Range { axis, start, len: 1, step: 1 }] }, &[list])?;
        n.reshape_to(element, batch.clone())
    });
    let elements = elements.collect::<Result<Vec<_>, Refusal>>()?;
    one(expanded(n, &elements, size, &(0..size).collect::<Vec<_>>())?)
}

/// The determinant of the last rows, as many as there are columns, without the other columns.
fn expanded(n: &mut NodeCx<'_, '_>, elements: &[ValueId], size: usize, columns: &[usize]) -> Result<ValueId, Refusal> {
    let row = size - columns.len();
    let mut sum = None;
    for (i, &column) in columns.iter().enumerate() {
        let element = elements[row * size + column];
        let others: Vec<usize> = columns.iter().copied().filter(|&other| other != column).collect();
        let product = match others.is_empty() {
            true => element,
            false => {
                let minor = expanded(n, elements, size, &others)?;
                n.binary(BinaryFn::Mul, element, minor)?
            }
        };
        let f = if i % 2 == 0 { BinaryFn::Add } else { BinaryFn::Sub };
        sum = Some(sum.map_or(Ok(product), |sum| n.binary(f, sum, product))?);
    }
    sum.ok_or_else(|| Refusal::Invalid("a determinant of no columns".into()))
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
