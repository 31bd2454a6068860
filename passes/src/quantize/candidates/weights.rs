//! Vetoes nodes without constant weights that the target supports in quantized form with float activations.

use qcc_ir::target::Target;
use qcc_ir::{Elem, Graph, NodeId, Tensor};
use rustc_hash::FxHashSet;

use super::super::kernels::weights;
use super::{Case, Vetoes};
use crate::decisions::Reason;

/// Lookup tables and weights of other operators with fewer elements are not quantized.
const SMALL: usize = 4096;

pub(super) fn vetoes(case: &Case<'_>, able: &FxHashSet<NodeId>) -> Vetoes {
    case.able(able).filter_map(|n| Some((n, obstacle(case.g, case.target, n)?))).collect()
}

/// True if the target supports weight-only quantization of a node.
pub(in super::super) fn weights_only(g: &Graph, target: &Target, n: NodeId) -> bool {
    obstacle(g, target, n).is_none()
}

/// Why weight-only quantization of a node is not possible.
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
