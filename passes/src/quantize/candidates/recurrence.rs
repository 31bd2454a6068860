//! Vetoes nodes of unrolled recurrences: a quantization error would grow with each step.

use qcc_ir::ops::Op;
use qcc_ir::{Graph, NodeId, ValueId};
use rustc_hash::{FxHashMap, FxHashSet};

use super::{Case, Vetoes};
use crate::decisions::Reason;

/// Recurrences with fewer steps are treated like layers that share a weight.
const FEWEST_STEPS: usize = 16;

pub(super) fn vetoes(case: &Case<'_>, able: &FxHashSet<NodeId>) -> Vetoes {
    if !case.has_float_interface() {
        return Vetoes::new();
    }
    let nodes = nodes(case.g, case.order);
    case.able(able).filter(|n| nodes.contains(n)).map(|n| (n, Reason::Recurrence)).collect()
}

/// The nodes of unrolled recurrences: many contractions with the same weight that depend on each other, the nodes
/// between them, and the nodes before and after them up to the next contraction.
fn nodes(g: &Graph, order: &[NodeId]) -> FxHashSet<NodeId> {
    let mut users_of_weight: FxHashMap<ValueId, FxHashSet<NodeId>> = FxHashMap::default();
    for &n in order.iter().filter(|n| g.op(**n).is_contraction()) {
        users_of_weight.entry(g.operands(n)[1]).or_default().insert(n);
    }
    let mut nodes = FxHashSet::default();
    for steps in users_of_weight.values().filter(|steps| steps.len() >= FEWEST_STEPS) {
        nodes.extend(between(g, order, steps));
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

/// The contractions of `steps` that depend on each other, and the nodes between them. Empty if the chain is short.
fn between(g: &Graph, order: &[NodeId], steps: &FxHashSet<NodeId>) -> Vec<NodeId> {
    let (mut after, mut before) = (FxHashSet::default(), FxHashSet::default());
    for &n in order {
        if g.operands(n).iter().any(|v| steps.contains(&v.node) || after.contains(&v.node)) {
            after.insert(n);
        }
    }
    if steps.iter().filter(|n| after.contains(n)).count() + 1 < FEWEST_STEPS {
        return Vec::new();
    }
    for n in order.iter().rev() {
        if steps.contains(n) || before.contains(n) {
            before.extend(g.operands(*n).iter().map(|v| v.node));
        }
    }
    let inside = |n: &&NodeId| match steps.contains(n) {
        true => after.contains(n) || before.contains(n),
        false => after.contains(n) && before.contains(n),
    };
    order.iter().filter(inside).copied().collect()
}
