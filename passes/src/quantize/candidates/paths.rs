//! Reachability of contractions.

use qcc_ir::target::Target;
use qcc_ir::{Graph, NodeId};
use rustc_hash::FxHashSet;

/// The nodes from which a contraction is reachable.
pub(super) fn reaching_contractions(g: &Graph, order: &[NodeId]) -> FxHashSet<NodeId> {
    let mut reaching: FxHashSet<NodeId> = FxHashSet::default();
    for &n in order.iter().rev() {
        if g.op(n).is_contraction() || reaching.contains(&n) {
            reaching.extend(g.operands(n).iter().map(|v| v.node));
        }
    }
    reaching
}

/// True if no quantized node uses a result of `n`.
pub(in super::super) fn only_float_users(g: &Graph, n: NodeId, integer: &FxHashSet<NodeId>) -> bool {
    g.results(n).all(|v| g.users(v).iter().all(|u| !integer.contains(&u.0)))
}

/// True if the target dynamically quantizes the activations of a contraction.
pub(in super::super) fn quantizes_dynamically(g: &Graph, target: &Target, n: NodeId) -> bool {
    let weights = || target.kernel_of(g, n)?.weights;
    g.op(n).is_contraction() && weights().is_some_and(|weights| weights.dynamic.is_some())
}
