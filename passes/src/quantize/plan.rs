//! The plan: which nodes are quantized.

use qcc_ir::target::Target;
use qcc_ir::{Graph, NodeId, StorageType};
use rustc_hash::{FxHashMap, FxHashSet};

use super::candidates::few_steps::{self, FewSteps};
use super::candidates::{
    self, Candidates, Case, last, only_float_users, partition, quantizes_dynamically, weights_only,
};
use super::{Activations, Dynamic, Options};
use crate::calibrate::{CalibrationTable, OwnRanges};
use crate::decisions::Reason;

/// How a node is quantized.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// Weight-only: a quantized constant weight, everything else in floating point.
    Weights,
    /// Quantized operands and a floating-point result.
    FloatResult,
    /// Quantized operands and results.
    Integer,
}

/// Which nodes are quantized, and the ranges of the values that may be quantized.
#[derive(Debug)]
pub(super) struct Plan {
    /// Nodes that are not in the map compute in floating point.
    modes: FxHashMap<NodeId, Mode>,
    /// Why nodes are not fully quantized.
    vetoes: FxHashMap<NodeId, Reason>,
    pub(super) ranges: OwnRanges,
    /// Storage type of quantized activations.
    pub(super) storage: StorageType,
}

impl Plan {
    /// How a node is quantized, or `None` if it computes in floating point.
    pub(super) fn mode(&self, n: NodeId) -> Option<Mode> {
        self.modes.get(&n).copied()
    }

    /// Why a node is not fully quantized.
    pub(super) fn veto(&self, n: NodeId) -> Option<Reason> {
        self.vetoes.get(&n).copied()
    }

    /// The nodes with quantized operands and results.
    pub(super) fn integers(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.modes.iter().filter(|(_, mode)| **mode == Mode::Integer).map(|(n, _)| *n)
    }

    /// Removes nodes from the plan. Nodes with a constant weight keep a quantized weight where the reason permits.
    pub(super) fn release(&mut self, g: &Graph, target: &Target, dynamic: Dynamic, vetoes: &[(NodeId, Reason)]) {
        for &(n, reason) in vetoes {
            self.vetoes.insert(n, reason);
            match keeps_weights(g, n, reason) && weight_only_allowed(g, target, dynamic, n) {
                true => drop(self.modes.insert(n, Mode::Weights)),
                false => drop(self.modes.remove(&n)),
            }
        }
    }
}

/// Plans the quantization of a graph. The nodes of `float_in_source` stay in floating point.
pub(super) fn plan(
    g: &Graph,
    target: &Target,
    ranges: &CalibrationTable,
    options: &Options,
    float_in_source: &FxHashSet<NodeId>,
) -> Plan {
    let order = g.order();
    let storage = options.activations.storage(target).unwrap_or(target.activation);
    let case = Case { g, order: &order, target, storage, ranges, options, float_in_source };
    if options.activations == Activations::Float {
        let (able, vetoes) = Candidates::of(&case, candidates::WEIGHTS).into_parts();
        let modes = able.into_iter().map(|n| (n, Mode::Weights)).collect();
        return Plan { modes, vetoes, ranges: OwnRanges::default(), storage };
    }
    let mut candidates = Candidates::of(&case, candidates::ACTIVATIONS);
    let own = ranges.own(g, candidates.able());
    let few = FewSteps::of(&case, &own);
    candidates.ask(|case, able| few_steps::vetoes(case, able, &few));
    candidates.ask(|case, able| last::vetoes(case, able, &few));
    candidates.ask(partition::vetoes);
    let (integer, vetoes) = candidates.into_parts();
    let mode = |n: NodeId| match case.kernel(n).filter(|kernel| kernel.gives_float) {
        Some(kernel) if !kernel.gives_quantized => Mode::FloatResult,
        Some(_) if options.interface.is_float() && only_float_users(g, n, &integer) => Mode::FloatResult,
        _ => Mode::Integer,
    };
    let mut modes: FxHashMap<NodeId, Mode> = integer.iter().map(|&n| (n, mode(n))).collect();
    let kept = |(n, reason): &(NodeId, Reason)| {
        keeps_weights(g, *n, *reason) && weight_only_allowed(g, target, options.dynamic, *n)
    };
    let vetoed = vetoes.iter().map(|(n, reason)| (*n, *reason));
    modes.extend(vetoed.filter(kept).map(|(n, _)| (n, Mode::Weights)));
    Plan { modes, vetoes, ranges: own, storage }
}

/// True if a node that is not fully quantized may have a quantized weight. For contractions that depends on the reason.
/// Tables and recurrent layers lose little accuracy, so only an explicit request excludes them.
fn keeps_weights(g: &Graph, n: NodeId, reason: Reason) -> bool {
    if g.op(n).is_contraction() { reason.keeps_weights() } else { !reason.is_wish() }
}

/// Like [`weights_only`], subject to the option for dynamic quantization.
fn weight_only_allowed(g: &Graph, target: &Target, dynamic: Dynamic, n: NodeId) -> bool {
    weights_only(g, target, n) && (dynamic != Dynamic::Never || !quantizes_dynamically(g, target, n))
}

/// True if the target would dynamically quantize the activations of a contraction with a quantized weight.
pub fn may_be_dynamic(g: &Graph, target: &Target) -> bool {
    g.order().into_iter().any(|n| weights_only(g, target, n) && quantizes_dynamically(g, target, n))
}
