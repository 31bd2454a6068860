//! Lowering of matrix products.

use qcc_ir::ops::{MatMul, Op, OpKind};
use qcc_ir::{Dim, Graph, NodeId, Shape};

use super::build::{Build, Built};
use crate::pattern::is_known;
use crate::{Rule, Skip};

/// The bias becomes a separate addition.
pub(super) fn add_bias(b: &mut Build<'_>, node: NodeId) -> Built {
    let Op::MatMul(op) = b.g.op(node) else { return Err(Skip::NoMatch) };
    let (op, operands) = (op.clone(), b.g.operands(node));
    let &[x, y, bias] = operands.as_slice() else { return Err(Skip::NoMatch) };
    let product = b.op(op, &[x, y])?;
    b.add(product, bias)
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
