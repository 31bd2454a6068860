//! Loops that were unrolled.

use qcc_ir::ops::GridRule;
use qcc_ir::{Graph, NodeId, ValueId};
use rustc_hash::{FxHashMap, FxHashSet};

use super::plan::is_contraction;

/// Loops of fewer turns are like layers that share a weight.
const FEWEST_TURNS: usize = 16;

/// The nodes of unrolled loops: what lies between two of many contractions with one weight that follow upon each other,
/// these, and what only hands values to them.
pub(super) fn nodes(g: &Graph, order: &[NodeId]) -> FxHashSet<NodeId> {
    let mut readers: FxHashMap<ValueId, FxHashSet<NodeId>> = FxHashMap::default();
    for &n in order.iter().filter(|n| is_contraction(g, **n)) {
        readers.entry(g.operands(n)[1]).or_default().insert(n);
    }
    let mut nodes = FxHashSet::default();
    for turns in readers.values().filter(|turns| turns.len() >= FEWEST_TURNS) {
        nodes.extend(between(g, order, turns));
    }
    for &n in order.iter().rev() {
        let hands_on = matches!(g.op(n).grid(), GridRule::Carry);
        let readers = || g.results(n).flat_map(|v| g.users(v));
        if hands_on && readers().next().is_some() && readers().all(|(user, _)| nodes.contains(&user)) {
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
