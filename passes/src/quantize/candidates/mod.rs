//! Selection of the nodes that may be quantized: all that no policy vetoes.
//!
//! Each policy is a function in its own file. It returns the nodes that it vetoes, each with a reason. It is asked
//! about the nodes that no earlier policy vetoed.

use qcc_ir::target::{Quantized, Target};
use qcc_ir::{Graph, NodeId, StorageType};
use rustc_hash::{FxHashMap, FxHashSet};

use super::Options;
use crate::calibrate::CalibrationTable;
use crate::decisions::Reason;

mod calibrated;
mod decoding;
mod excluded;
pub(super) mod few_steps;
mod kernel;
pub(super) mod last;
mod not_float;
mod operands;
pub(super) mod partition;
mod paths;
mod positions;
mod raised;
mod recurrence;
pub(super) mod resolution;
#[cfg(test)]
mod tests;
mod wasted_range;
mod weights;

pub use excluded::{matches, unmatched};
pub(super) use paths::{only_float_users, quantizes_dynamically};
pub(super) use weights::weights_only;

/// The input of policies.
pub(super) struct Case<'a> {
    pub(super) g: &'a Graph,
    pub(super) order: &'a [NodeId],
    pub(super) target: &'a Target,
    /// Storage type of quantized activations.
    pub(super) storage: StorageType,
    pub(super) ranges: &'a CalibrationTable,
    pub(super) options: &'a Options,
    /// Nodes that the source model keeps in floating point while it quantizes others.
    pub(super) float_in_source: &'a FxHashSet<NodeId>,
}

impl Case<'_> {
    /// True if inputs and outputs are floats, so that nodes at the ends of the model may be as well.
    fn has_float_interface(&self) -> bool {
        self.options.interface.is_float()
    }

    /// The kernel of the target for a node with quantized activations.
    pub(super) fn kernel(&self, n: NodeId) -> Option<Quantized> {
        self.target.kernel_of(self.g, n)?.for_storage(self.storage)
    }

    /// The nodes of `able`, in order.
    fn able<'s>(&'s self, able: &'s FxHashSet<NodeId>) -> impl DoubleEndedIterator<Item = NodeId> + 's {
        self.order.iter().copied().filter(|n| able.contains(n))
    }
}

/// Vetoed nodes, each with a reason.
type Vetoes = Vec<(NodeId, Reason)>;

/// A function that vetoes nodes among the candidates.
pub(super) type Policy = fn(&Case<'_>, &FxHashSet<NodeId>) -> Vetoes;

/// The policies for quantized activations that do not depend on the ranges of all candidates.
pub(super) const ACTIVATIONS: &[Policy] = &[
    not_float::vetoes,
    excluded::vetoes,
    raised::vetoes,
    recurrence::vetoes,
    kernel::vetoes,
    wasted_range::vetoes,
    calibrated::vetoes,
    positions::vetoes,
    decoding::vetoes,
    operands::vetoes,
];

/// The policies for weight-only quantization.
pub(super) const WEIGHTS: &[Policy] = &[not_float::vetoes, excluded::vetoes, weights::vetoes];

/// The nodes that no policy vetoed so far, and the reasons for the others.
pub(super) struct Candidates<'a> {
    case: &'a Case<'a>,
    able: FxHashSet<NodeId>,
    vetoes: FxHashMap<NodeId, Reason>,
}

impl<'a> Candidates<'a> {
    /// All nodes, after the given policies.
    pub(super) fn of(case: &'a Case<'a>, policies: &[Policy]) -> Self {
        let able = case.order.iter().copied().collect();
        let mut candidates = Candidates { case, able, vetoes: FxHashMap::default() };
        policies.iter().for_each(|policy| candidates.ask(policy));
        candidates
    }

    /// Removes the nodes that a policy vetoes. The first reason of a node is kept.
    pub(super) fn ask(&mut self, policy: impl Fn(&Case<'a>, &FxHashSet<NodeId>) -> Vetoes) {
        for (n, reason) in policy(self.case, &self.able) {
            if self.able.remove(&n) {
                self.vetoes.insert(n, reason);
            }
        }
    }

    /// The remaining candidates.
    pub(super) fn able(&self) -> &FxHashSet<NodeId> {
        &self.able
    }

    /// The remaining candidates, and the reasons for the other nodes.
    pub(super) fn into_parts(self) -> (FxHashSet<NodeId>, FxHashMap<NodeId, Reason>) {
        (self.able, self.vetoes)
    }
}
