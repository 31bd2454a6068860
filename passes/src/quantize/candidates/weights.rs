//! Nodes without constant weights that the target takes on a grid beside real activations.

use qcc_ir::target::Target;
use qcc_ir::{Elem, Graph, NodeId, Tensor};
use rustc_hash::FxHashSet;

use super::super::kernels::weights;
use super::{Case, Vetoes};
use crate::decisions::Reason;

/// Constants with fewer numbers, of which no contraction is made, are not worth a grid.
const SMALL: usize = 4096;

pub(super) fn vetoes(case: &Case<'_>, able: &FxHashSet<NodeId>) -> Vetoes {
    case.able(able).filter_map(|n| Some((n, obstacle(case.g, case.target, n)?))).collect()
}

/// True where the weights of a node are constants that the target takes on a grid beside real activations.
pub(in super::super) fn weights_only(g: &Graph, target: &Target, n: NodeId) -> bool {
    obstacle(g, target, n).is_none()
}

/// Why the weights of a node do not lie on a grid beside real activations.
fn obstacle(g: &Graph, target: &Target, n: NodeId) -> Option<Reason> {
    let (op, operands) = (g.op(n), g.operands(n));
    let weights = weights(op);
    if weights.is_empty() {
        return Some(Reason::NoWeights);
    }
    let known = |&i: &usize| g.constant(operands[i]).filter(|w| w.ty().elem == Elem::F32);
    let large = |w: &Tensor| op.is_contraction() || (w.ty().rank() == 2 && w.len() >= SMALL);
    if !weights.iter().all(|i| known(i).is_some()) {
        return Some(Reason::ComputedWeight);
    }
    if !weights.iter().filter_map(known).all(large) {
        return Some(Reason::SmallTable);
    }
    target.kernel_of(g, n).and_then(|kernel| kernel.weights).is_none().then_some(Reason::NoWeightKernel)
}
