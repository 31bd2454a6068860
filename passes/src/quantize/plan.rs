//! Which nodes work on integers.

use qcc_ir::target::Target;
use qcc_ir::{Graph, NodeId};
use rustc_hash::{FxHashMap, FxHashSet};

use super::candidates::few_steps::{self, FewSteps};
use super::candidates::{self, Candidates, Case, last, partition, puts_on_integers, read_real, weights_only};
use super::{Dynamic, Interface, Options};
use crate::calibrate::{CalibrationTable, OwnRanges};
use crate::decisions::Reason;

/// What a node works on that does not work on real numbers alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// A constant weight on a grid, everything else real.
    Weights,
    /// Integers on grids, whose products sum up to real numbers.
    Sums,
    /// Integers on grids.
    Integer,
}

/// What works on integers, and the ranges of the values that may lie on grids there.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// Nodes that are not in it work on real numbers.
    modes: FxHashMap<NodeId, Mode>,
    /// Why nodes do not work on integers.
    vetoes: FxHashMap<NodeId, Reason>,
    pub(super) ranges: OwnRanges,
}

impl Plan {
    /// What a node works on, where that is not real numbers alone.
    pub(super) fn mode(&self, n: NodeId) -> Option<Mode> {
        self.modes.get(&n).copied()
    }

    /// Why a node does not work on integers.
    pub(super) fn veto(&self, n: NodeId) -> Option<Reason> {
        self.vetoes.get(&n).copied()
    }

    /// The nodes that work on integers alone.
    pub(super) fn integers(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.modes.iter().filter(|(_, mode)| **mode == Mode::Integer).map(|(n, _)| *n)
    }

    /// Takes nodes off integers. Contractions with a constant weight keep that on a grid, where the reason lets them.
    pub(super) fn release(&mut self, g: &Graph, target: &Target, dynamic: Dynamic, vetoes: &[(NodeId, Reason)]) {
        for &(n, reason) in vetoes {
            self.vetoes.insert(n, reason);
            match keeps_weights(g, n, reason) && weights_alone(g, target, dynamic, n) {
                true => drop(self.modes.insert(n, Mode::Weights)),
                false => drop(self.modes.remove(&n)),
            }
        }
    }
}

/// The plan that leaves the nodes of `given_real` on real numbers.
pub(super) fn plan(
    g: &Graph,
    target: &Target,
    ranges: &CalibrationTable,
    options: &Options,
    given_real: &FxHashSet<NodeId>,
) -> Plan {
    let order = g.order();
    let case = Case { g, order: &order, target, ranges, options, given_real };
    if !options.activations {
        let (able, vetoes) = Candidates::of(&case, candidates::WEIGHTS).into_parts();
        let modes = able.into_iter().map(|n| (n, Mode::Weights)).collect();
        return Plan { modes, vetoes, ranges: OwnRanges::default() };
    }
    let mut candidates = Candidates::of(&case, candidates::ACTIVATIONS);
    let own = ranges.own(g, candidates.able());
    let few = FewSteps::of(&case, &own);
    candidates.ask(|case, able| few_steps::vetoes(case, able, &few));
    candidates.ask(|case, able| last::vetoes(case, able, &few));
    candidates.ask(partition::vetoes);
    let (integer, vetoes) = candidates.into_parts();
    let mode = |n: NodeId| match case.kernel(n).filter(|kernel| kernel.gives_real) {
        Some(kernel) if !kernel.gives_quantized => Mode::Sums,
        Some(_) if options.interface == Interface::Float && read_real(g, n, &integer) => Mode::Sums,
        _ => Mode::Integer,
    };
    let mut modes: FxHashMap<NodeId, Mode> = integer.iter().map(|&n| (n, mode(n))).collect();
    let kept =
        |(n, reason): &(NodeId, Reason)| keeps_weights(g, *n, *reason) && weights_alone(g, target, options.dynamic, *n);
    let vetoed = vetoes.iter().map(|(n, reason)| (*n, *reason));
    modes.extend(vetoed.filter(kept).map(|(n, _)| (n, Mode::Weights)));
    Plan { modes, vetoes, ranges: own }
}

/// True where a node that does not work on integers may have its weight on a grid. Contractions have it real where nothing
/// speaks for integers; tables and recurrent layers lose little by it.
fn keeps_weights(g: &Graph, n: NodeId, reason: Reason) -> bool {
    if g.op(n).is_contraction() { reason.keeps_weights() } else { !reason.is_wish() }
}

/// As [`weights_only`], where that may be in a graph of integers.
fn weights_alone(g: &Graph, target: &Target, dynamic: Dynamic, n: NodeId) -> bool {
    weights_only(g, target, n) && (dynamic != Dynamic::Never || !puts_on_integers(g, target, n))
}

/// True where the target quantizes the real activations of some contraction when the model runs, if its weight is on a grid.
pub fn may_be_dynamic(g: &Graph, target: &Target) -> bool {
    g.order().into_iter().any(|n| weights_only(g, target, n) && puts_on_integers(g, target, n))
}
