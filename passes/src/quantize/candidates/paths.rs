//! What lies before and behind a contraction.

use qcc_ir::target::Target;
use qcc_ir::{Graph, NodeId};
use rustc_hash::FxHashSet;

/// Nodes that a contraction follows upon.
pub(super) fn leading_on(g: &Graph, order: &[NodeId]) -> FxHashSet<NodeId> {
    let mut leads_on: FxHashSet<NodeId> = FxHashSet::default();
    for &n in order.iter().rev() {
        if g.op(n).is_contraction() || leads_on.contains(&n) {
            leads_on.extend(g.operands(n).iter().map(|v| v.node));
        }
    }
    leads_on
}

/// True where no integer node reads a result.
pub(in super::super) fn read_real(g: &Graph, n: NodeId, integer: &FxHashSet<NodeId>) -> bool {
    g.results(n).all(|v| g.users(v).iter().all(|u| !integer.contains(&u.0)))
}

/// True where the target quantizes the real activations of a contraction when the model runs.
pub(in super::super) fn puts_on_integers(g: &Graph, target: &Target, n: NodeId) -> bool {
    let weights = || target.kernel_of(g, n)?.weights;
    g.op(n).is_contraction() && weights().is_some_and(|weights| weights.dynamic.is_some())
}
