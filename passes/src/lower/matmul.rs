//! Lowering of matrix products.

use qcc_ir::ops::{MatMul, Op, OpKind};
use qcc_ir::{Dim, Graph, NodeId, Shape, ValueId};

use super::build::{Build, Built};
use crate::pattern::is_known;
use crate::{Rule, Skip};

/// The bias becomes a separate addition, and axes before the matrices become one.
pub(super) fn matmul(b: &mut Build<'_>, node: NodeId) -> Built {
    let Op::MatMul(op) = b.g.op(node) else { return Err(Skip::NoMatch) };
    let (op, operands) = (op.clone(), b.g.operands(node));
    match *operands.as_slice() {
        [x, y, bias] => {
            let product = b.op(op, &[x, y])?;
            b.add(product, bias)
        }
        [x, y] => {
            let whole = b.ty(node.value(0)).shape.clone();
            let [x, y] = fewer_axes(b, x, y)?;
            let product = b.op(op, &[x, y])?;
            b.reshape(product, whole)
        }
        _ => Err(Skip::NoMatch),
    }
}

/// The operands with the rows of all matrices as one matrix if the second one is a single matrix, else with one axis before
/// the matrices.
fn fewer_axes(b: &mut Build<'_>, x: ValueId, y: ValueId) -> Result<[ValueId; 2], Skip> {
    let [a, w] = [x, y].map(|v| b.ty(v).shape.dims().to_vec());
    let merged = |dims: &[Dim], kept: usize| -> Option<Shape> {
        let (outer, kept) = dims.split_at(dims.len() - kept);
        Some(std::iter::once(Shape::count(outer)?).chain(kept.iter().cloned()).collect())
    };
    let single = w.len() == 2;
    if a.len() <= if single { 2 } else { 3 } || !(single || a[..a.len() - 2] == w[..w.len() - 2]) {
        return Err(Skip::NoMatch);
    }
    let rows = merged(&a, if single { 1 } else { 2 }).ok_or(Skip::NoMatch)?;
    let y = match single {
        true => y,
        false => b.reshape(y, merged(&w, 2).ok_or(Skip::NoMatch)?)?,
    };
    Ok([b.reshape(x, rows)?, y])
}

/// Rules that convert products to the form that backends expect.
pub(super) const RULES: &[Rule] =
    &[Rule { name: "transpose-constant", anchor: &[OpKind::MatMul], apply: transpose_constant }];

/// A constant second matrix becomes `[N, K]`, the form of fully connected layers.
fn transpose_constant(g: &mut Graph, at: NodeId) -> Result<(), Skip> {
    let Op::MatMul(op) = g.op(at) else { return Err(Skip::NoMatch) };
    let (transposed, mut operands) = (op.transpose_b, g.operands(at));
    let (a, w) = (g.ty(operands[0]), g.ty(operands[1]));
    let (outer, matrix) = w.shape.dims().split_at(w.rank() - 2);
    let plain = outer.iter().all(|d| *d == Dim::Known(1)) && w.rank() <= a.rank();
    if !is_known(g, operands[1]) || !plain || (transposed && outer.is_empty()) {
        return Err(Skip::NoMatch);
    }
    let matrix: Shape = matrix.iter().cloned().collect();
    let mut b = Build::at(g, at);
    operands[1] = b.reshape(operands[1], matrix)?;
    if !transposed {
        operands[1] = b.transpose(operands[1], &[1, 0])?;
    }
    let y = b.op(MatMul { transpose_b: true }, &operands)?;
    Ok(g.replace(at.value(0), y)?)
}
