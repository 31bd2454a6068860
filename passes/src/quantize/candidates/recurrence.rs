//! Nodes of loops that were unrolled: an error on a grid inside a loop would grow with each turn.

use qcc_ir::ops::Op;
use qcc_ir::{Graph, NodeId, ValueId};
use rustc_hash::{FxHashMap, FxHashSet};

use super::{Case, Vetoes};
use crate::decisions::Reason;

/// Loops of fewer turns are like layers that share a weight.
const FEWEST_TURNS: usize = 16;

pub(super) fn vetoes(case: &Case<'_>, able: &FxHashSet<NodeId>) -> Vetoes {
    if !case.has_real_interface() {
        return Vetoes::new();
    }
    let nodes = nodes(case.g, case.order);
    case.able(able).filter(|n| nodes.contains(n)).map(|n| (n, Reason::Recurrence)).collect()
}

/// The nodes of unrolled loops: many contractions with one weight that follow upon each other, what lies between two of
/// them, and what comes from there or leads only there, as far as the next contraction.
fn nodes(g: &Graph, order: &[NodeId]) -> FxHashSet<NodeId> {
    let mut readers: FxHashMap<ValueId, FxHashSet<NodeId>> = FxHashMap::default();
    for &n in order.iter().filter(|n| g.op(**n).is_contraction()) {
        readers.entry(g.operands(n)[1]).or_default().insert(n);
    }
    let mut nodes = FxHashSet::default();
    for turns in readers.values().filter(|turns| turns.len() >= FEWEST_TURNS) {
        nodes.extend(between(g, order, turns));
    }
    if nodes.is_empty() {
        return nodes;
    }
    let simple = |n: NodeId| !g.op(n).is_contraction() && !matches!(g.op(n), Op::Input(_) | Op::Const(_));
    for &n in order.iter().filter(|n| simple(**n)) {
        if g.operands(n).iter().any(|v| nodes.contains(&v.node)) {
            nodes.insert(n);
        }
    }
    for &n in order.iter().rev().filter(|n| simple(**n)) {
        let mut users = g.results(n).flat_map(|v| g.users(v)).peekable();
        if users.peek().is_some() && users.all(|(user, _)| nodes.contains(&user)) {
            nodes.insert(n);
        }
    }
    nodes
}

/// The turns that follow upon others, or that others follow, and what lies between; nothing where few follow.
fn between(g: &Graph, order: &[NodeId], turns: &FxHashSet<NodeId>) -> Vec<NodeId> {
    let (mut after, mut before) = (FxHashSet::default(), FxHashSet::default());
    for &n in order {
        if g.operands(n).iter().any(|v| turns.contains(&v.node) || after.contains(&v.node)) {
            after.insert(n);
        }
    }
    if turns.iter().filter(|n| after.contains(n)).count() + 1 < FEWEST_TURNS {
        return Vec::new();
    }
    for n in order.iter().rev() {
        if turns.contains(n) || before.contains(n) {
            before.extend(g.operands(*n).iter().map(|v| v.node));
        }
    }
    let inside = |n: &&NodeId| match turns.contains(n) {
        true => after.contains(n) || before.contains(n),
        false => after.contains(n) && before.contains(n),
    };
    order.iter().filter(inside).copied().collect()
}
