//! Which nodes may compute on integers: all that no policy vetoes.
//!
//! A policy is a file with one function that gives the nodes it vetoes, each with a reason. It is asked about the nodes that
//! no policy before it has vetoed.

use qcc_ir::target::{Quantized, Target};
use qcc_ir::{Graph, NodeId};
use rustc_hash::{FxHashMap, FxHashSet};

use super::{Interface, Options};
use crate::calibrate::CalibrationTable;
use crate::decisions::Reason;

mod calibrated;
mod decoding;
mod excluded;
pub(super) mod few_steps;
mod kernel;
pub(super) mod last;
mod no_reals;
mod operands;
pub(super) mod partition;
mod paths;
mod positions;
mod recurrence;
pub(super) mod resolution;
#[cfg(test)]
mod tests;
mod wasted_range;
mod weights;

pub use excluded::{matches, unmatched};
pub(super) use paths::{puts_on_integers, read_real};
pub(super) use weights::weights_only;

/// What policies look at.
pub(super) struct Case<'a> {
    pub(super) g: &'a Graph,
    pub(super) order: &'a [NodeId],
    pub(super) target: &'a Target,
    pub(super) ranges: &'a CalibrationTable,
    pub(super) options: &'a Options,
    /// Nodes that the source model has in floating point and others quantized.
    pub(super) given_real: &'a FxHashSet<NodeId>,
}

impl Case<'_> {
    /// True where inputs and outputs hold real numbers: what is at the ends of the model may be real as well.
    fn has_real_interface(&self) -> bool {
        self.options.interface == Interface::Float
    }

    /// The target's kernel for a node that takes quantized activations.
    pub(super) fn kernel(&self, n: NodeId) -> Option<Quantized> {
        self.target.kernel_of(self.g, n)?.quantized
    }

    /// The nodes of `able`, in order.
    fn able<'s>(&'s self, able: &'s FxHashSet<NodeId>) -> impl DoubleEndedIterator<Item = NodeId> + 's {
        self.order.iter().copied().filter(|n| able.contains(n))
    }
}

/// Nodes of those that are able, and why they are not.
type Vetoes = Vec<(NodeId, Reason)>;

/// What vetoes nodes.
pub(super) type Policy = fn(&Case<'_>, &FxHashSet<NodeId>) -> Vetoes;

/// The policies for integer activations that ask nothing of the ranges of all candidates.
pub(super) const ACTIVATIONS: &[Policy] = &[
    no_reals::vetoes,
    excluded::vetoes,
    recurrence::vetoes,
    kernel::vetoes,
    wasted_range::vetoes,
    calibrated::vetoes,
    positions::vetoes,
    decoding::vetoes,
    operands::vetoes,
];

/// The policies for integer weights under real activations.
pub(super) const WEIGHTS: &[Policy] = &[no_reals::vetoes, excluded::vetoes, weights::vetoes];

/// The nodes that no policy has vetoed so far, and why others were.
pub(super) struct Candidates<'a> {
    case: &'a Case<'a>,
    able: FxHashSet<NodeId>,
    vetoes: FxHashMap<NodeId, Reason>,
}

impl<'a> Candidates<'a> {
    /// All nodes but those that the policies veto.
    pub(super) fn of(case: &'a Case<'a>, policies: &[Policy]) -> Self {
        let able = case.order.iter().copied().collect();
        let mut candidates = Candidates { case, able, vetoes: FxHashMap::default() };
        policies.iter().for_each(|policy| candidates.ask(policy));
        candidates
    }

    /// Takes away what a policy vetoes. The first reason of a node is kept.
    pub(super) fn ask(&mut self, policy: impl Fn(&Case<'a>, &FxHashSet<NodeId>) -> Vetoes) {
        for (n, reason) in policy(self.case, &self.able) {
            if self.able.remove(&n) {
                self.vetoes.insert(n, reason);
            }
        }
    }

    /// The nodes that are left.
    pub(super) fn able(&self) -> &FxHashSet<NodeId> {
        &self.able
    }

    /// The nodes that are left, and why others are not.
    pub(super) fn into_parts(self) -> (FxHashSet<NodeId>, FxHashMap<NodeId, Reason>) {
        (self.able, self.vetoes)
    }
}
