//! Clamps.

use qcc_ir::ops::{BinaryFn, Clamp, Op, OpKind, UnaryFn};
use qcc_ir::{Graph, NodeId};

use crate::pattern::{become_op, by_scalar, only_here, unary};
use crate::{Rule, Skip};

pub(super) const MERGE: &[Rule] = &[Rule { name: "merge-clamps", anchor: &[OpKind::Clamp], apply: merge_clamps }];

pub(super) const RECOGNISE: &[Rule] =
    &[Rule { name: "recognise-clamp", anchor: &[OpKind::Binary], apply: recognise_clamp }];

/// Merges successive clamps, and removes bounds that a sigmoid never reaches.
fn merge_clamps(g: &mut Graph, at: NodeId) -> Result<(), Skip> {
    let &Op::Clamp(Clamp { lo, hi }) = g.op(at) else { return Err(Skip::NoMatch) };
    let x = g.operands(at)[0];
    if unary(g, x, UnaryFn::Sigmoid).is_ok() && lo <= 0.0 && hi >= 1.0 {
        return Ok(g.replace(at.value(0), x)?);
    }
    let &Op::Clamp(inner) = &g.producer(x) else { return Err(Skip::NoMatch) };
    only_here(g, x, at)?;
    let limit = |v: f32| v.max(lo).min(hi);
    let merged = Clamp { lo: limit(inner.lo), hi: limit(inner.hi) };
    become_op(g, at, merged, &[g.operands(x.node)[0]], &[x.node])
}

/// max(x, c) and min(x, c).
fn recognise_clamp(g: &mut Graph, at: NodeId) -> Result<(), Skip> {
    let v = at.value(0);
    let (x, clamp) = match by_scalar(g, v, BinaryFn::Max) {
        Ok((x, lo)) => (x, Clamp { lo, hi: f32::INFINITY }),
        Err(_) => {
            let (x, hi) = by_scalar(g, v, BinaryFn::Min)?;
            (x, Clamp { lo: f32::NEG_INFINITY, hi })
        }
    };
    become_op(g, at, clamp, &[x], &[])
}
