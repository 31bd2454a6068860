//! Parts that a model keeps in higher precision although nothing is required of its outputs, since they cost next to nothing.

use qcc_ir::Graph;
use qcc_ir::ops::{Op, QuantRule};
use qcc_passes::quality::Fidelity;
use qcc_passes::quantize::Raised;

use super::{Best, KINDS, MOST_GROUPS, Narrowing, Plan, Repairer};
use crate::compiler::narrow::Narrowed;
use crate::data::Samples;
use crate::options::Budget;
use crate::outcome::Failure;
use crate::precision::Precision;
use crate::quality::{Goal, OutputReport, agree_as_often};

/// What these parts may cost. The latency of the graph does not tell what some kernels lose between others, and the costs of
/// the parts do not tell what conversions they save: neither may exceed it.
pub(super) const BUDGET: Budget = Budget { latency: Some(1.06), size: Some(1.05) };

/// The noise of the outputs that may be left: a decibel less.
const LEFT: f64 = 0.8;

/// The same if they quantize activations at run time in a model that does not, which not every runtime supports: half.
const LEFT_BY_DYNAMIC: f64 = 0.5;

/// The agreement in percent, and the SQNR in dB of other outputs, that need not be better.
const ENOUGH_AGREEMENT: f64 = 99.8;
const ENOUGH: f64 = 30.0;

/// The multiplications of evaluated models that the search may take, and the fewest runs on one sample that tell enough.
const ALLOWED: u64 = 20_000_000_000;
const FEWEST_RUNS: usize = 60;

/// The most models that are evaluated on all samples of the search: the own one twice, and one for each kind of what is kept.
const CHECKS: usize = 3 + KINDS.len();

/// The most samples of the search. One is enough for a part.
const MOST_SAMPLES: usize = 8;

impl Plan {
    /// The plan for the search for such parts; `None` if the model is too large for it.
    pub(super) fn of_spare(run: u64, parts: usize, samples: usize) -> Option<Self> {
        let runs = usize::try_from(ALLOWED / run.max(1)).unwrap_or(usize::MAX);
        if runs < FEWEST_RUNS {
            return None;
        }
        let samples = samples.min(runs / 2 / CHECKS).clamp(1, MOST_SAMPLES);
        let groups = (runs - CHECKS * samples).min(parts.min(MOST_GROUPS)).max(1);
        Some(Plan { groups, few: 1, checks: CHECKS, samples })
    }
}

impl Narrowing<'_> {
    /// True if a model may keep such parts: one for processors, with floating-point numbers inside, and outputs that may
    /// gain. A model that is integer between its inputs and outputs stays so: accelerators may depend on that.
    pub(super) fn has_spare(&self, narrowed: &Narrowed, own: &Fidelity) -> bool {
        let options = self.options;
        let gains = own.outputs.iter().map(OutputReport::of).any(|o| !is_enough(&o));
        gains
            && options.precision == Precision::Int8
            && options.gate.is_open()
            && options.budget.is_open()
            && options.pareto.is_none()
            && options.interface.is_float()
            && !options.only_static
            && options.targets[narrowed.place].device().is_none()
            && self.targets[narrowed.place].latency.is_some()
            && has_floats_inside(&narrowed.quantized.graph)
    }
}

impl Repairer<'_> {
    /// Measures the share of the noise that each of the cheapest parts adds, alone quantized. Others are not kept.
    pub(super) fn measure_cheapest(&mut self, plan: &Plan, goal: &Goal) -> Result<(), Failure> {
        let kept = self.kept(Raised::Weights);
        let costs: Vec<f64> = self.parts(kept).iter().map(|part| part.cost).collect();
        let mut order: Vec<usize> = (0..costs.len()).collect();
        order.sort_by(|&a, &b| costs[a].total_cmp(&costs[b]).then(a.cmp(&b)));
        order.truncate(plan.groups);
        let others = |&part: &usize| (0..costs.len()).filter(|&i| i != part).collect();
        let found = self.measured(&order.iter().map(others).collect::<Vec<Vec<usize>>>(), kept, plan.few)?;
        self.shares = vec![0.0; costs.len()];
        for (part, alone) in order.into_iter().zip(found) {
            self.shares[part] = goal.noise(&alone) / alone.outputs.len().max(1) as f64;
        }
        Ok(())
    }

    /// The model with such parts in higher precision, if its outputs gain by them.
    pub(super) fn of_spare(
        &mut self,
        goal: &Goal,
        own: &Fidelity,
        compared: &Samples,
    ) -> Result<Option<Best>, Failure> {
        let own_noise = self.noise(goal, &[], self.kept(KINDS[0]))?;
        let all = KINDS.map(|raised| self.kept(raised));
        let (mut least, mut best) = (LEFT * own_noise, None);
        let without = self.without_dynamic();
        if let Some(kept) = without {
            best = self.least_noise(BUDGET, &[kept], &mut least, goal, compared)?;
            least = LEFT_BY_DYNAMIC * if best.is_some() { least } else { own_noise };
        }
        best = self.least_noise(BUDGET, &all, &mut least, goal, compared)?.or(best);
        let reports = |found: &Fidelity| found.outputs.iter().map(OutputReport::of).collect::<Vec<_>>();
        Ok(best.filter(|best| agree_as_often(&reports(&best.quality), &reports(own))))
    }
}

/// True if an output need not be better.
fn is_enough(o: &OutputReport) -> bool {
    match (&o.agreement, o.deviation.sqnr) {
        (Some(agreement), _) => agreement.percent >= ENOUGH_AGREEMENT,
        (None, sqnr) => sqnr.is_none_or(|sqnr| sqnr >= ENOUGH),
    }
}

/// True if a number that is computed in floating point is quantized.
fn has_floats_inside(g: &Graph) -> bool {
    let mut computed = std::collections::HashSet::new();
    for n in g.order() {
        let from_computed = g.operands(n).iter().any(|v| computed.contains(v));
        match g.op(n) {
            Op::Quantize(_) if from_computed => return true,
            Op::Input(_) | Op::Const(_) | Op::Quantize(_) => {}
            op => {
                let moves = matches!(op.quant_rule(), QuantRule::SameAsInput);
                let is_float = |v: &qcc_ir::ValueId| g.ty(*v).elem == qcc_ir::Elem::F32;
                if from_computed || !moves {
                    computed.extend(g.results(n).filter(is_float));
                }
            }
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plans_take_what_is_allowed() {
        assert_eq!(Plan::of_spare(500_000_000, 100, 8), None);
        let plan = Plan::of_spare(200_000_000, 60, 16).unwrap();
        assert!(plan.groups * plan.few + plan.checks * plan.samples <= 100, "{plan:?}");
        assert_eq!(Plan::of_spare(1_000, 60, 16), Some(Plan { groups: 60, few: 1, checks: CHECKS, samples: 8 }));
    }
}
