//! Reshapes.

use qcc_ir::ops::{Extents, Op, OpKind, Reduce, ReduceFn, Reshape};
use qcc_ir::{Dim, Graph, NodeId, Shape};

use crate::pattern::{become_op, only_here, when};
use crate::{Rule, Skip};

pub(super) const RULES: &[Rule] = &[
    Rule { name: "merge-reshapes", anchor: &[OpKind::Reshape], apply: merge_reshapes },
    Rule { name: "reduce-to-reshape", anchor: &[OpKind::Reduce], apply: reduce_to_reshape },
    Rule { name: "reduce-before-reshape", anchor: &[OpKind::Reduce], apply: reduce_before_reshape },
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

/// A reduction of a reshape that only adds and removes axes of extent 1 is a reshape of a reduction. A runtime gives the
/// former a wrong rank where the reshape adds an axis and removes another.
fn reduce_before_reshape(g: &mut Graph, at: NodeId) -> Result<(), Skip> {
    let Op::Reduce(Reduce { f, axes, .. }) = g.op(at).clone() else { return Err(Skip::NoMatch) };
    let shaped = g.operands(at)[0];
    when(matches!(g.producer(shaped), Op::Reshape(_)))?;
    only_here(g, shaped, at)?;
    let x = g.operands(shaped.node)[0];
    let (before, after) = (longer(&g.ty(x).shape), longer(&g.ty(shaped).shape));
    when(before.iter().map(|a| a.1).eq(after.iter().map(|a| a.1)))?;
    let pairs = before.iter().zip(&after);
    let axes: Extents = pairs.filter(|(_, to)| axes.contains(&to.0)).map(|(from, _)| from.0).collect();
    when(!axes.is_empty())?;
    let dims = g.ty(x).shape.dims();
    let shape = g.ty(at.value(0)).shape.clone();
    let is_left = |axes: &Extents| (0..dims.len()).filter(|a| !axes.contains(a)).map(|a| &dims[a]).eq(shape.dims());
    let all: Extents = (0..dims.len()).filter(|a| axes.contains(a) || dims[*a] == Dim::Known(1)).collect();
    if let Some(axes) = [&axes, &all].into_iter().find(|axes| is_left(axes)).cloned() {
        return become_op(g, at, Reduce { f, axes, keep: false }, &[x], &[shaped.node]);
    }
    let origin = g.origin(shaped.node).and(g.origin(at));
    let reduced = g.add1(Reduce { f, axes, keep: false }, &[x], origin)?;
    become_op(g, at, Reshape { shape }, &[reduced], &[])
}

/// The axes whose extents are not 1.
fn longer(shape: &Shape) -> Vec<(usize, &Dim)> {
    shape.dims().iter().enumerate().filter(|(_, d)| **d != Dim::Known(1)).collect()
}
