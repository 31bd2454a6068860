//! Reshapes.

use qcc_ir::ops::{Op, OpKind, Reduce, ReduceFn, Reshape};
use qcc_ir::{Dim, Graph, NodeId};

use crate::pattern::{become_op, when};
use crate::{Rule, Skip};

pub(super) const RULES: &[Rule] = &[
    Rule { name: "merge-reshapes", anchor: &[OpKind::Reshape], apply: merge_reshapes },
    Rule { name: "reduce-to-reshape", anchor: &[OpKind::Reduce], apply: reduce_to_reshape },
];

/// Two successive reshapes are equal to the second.
fn merge_reshapes(g: &mut Graph, at: NodeId) -> Result<(), Skip> {
    let Op::Reshape(op) = g.op(at).clone() else { return Err(Skip::NoMatch) };
    let inner = g.operands(at)[0];
    when(matches!(g.producer(inner), Op::Reshape(_)))?;
    become_op(g, at, op, &[g.operands(inner.node)[0]], &[])
}

/// A reduction over axes of extent 1 is a reshape.
fn reduce_to_reshape(g: &mut Graph, at: NodeId) -> Result<(), Skip> {
    let Op::Reduce(Reduce { f, axes, .. }) = g.op(at) else { return Err(Skip::NoMatch) };
    when(!matches!(f, ReduceFn::All | ReduceFn::Any))?;
    let x = g.operands(at)[0];
    let dims = g.ty(x).shape.dims();
    when(axes.iter().all(|&a| dims[a] == Dim::Known(1)))?;
    let shape = g.ty(at.value(0)).shape.clone();
    become_op(g, at, Reshape { shape }, &[x], &[])
}
