//! Parts that a model keeps in higher precision although nothing is required of its outputs, since they cost next to nothing or
//! gain much.

use qcc_ir::Graph;
use qcc_ir::ops::{Op, QuantRule};
use qcc_passes::quality::Fidelity;
use qcc_passes::quantize::Raised;

use super::{Best, KINDS, Kept, MOST_GROUPS, Narrowing, Plan, Repairer};
use crate::compiler::narrow::Narrowed;
use crate::data::Samples;
use crate::options::{Budget, Effort};
use crate::outcome::Failure;
use crate::precision::Precision;
use crate::quality::{Found, Goal, OutputReport, agree_as_often, by_gain, shares};

/// What these parts may cost. The latency of the graph does not tell what some kernels lose between others, and the costs of
/// the parts do not tell what conversions they save: neither may exceed it.
pub(super) const BUDGET: Budget = Budget { latency: Some(1.06), size: Some(1.05) };

/// The same for models of which groups of parts are measured, which tells less. Others may be better with fewer parts as well.
const SMALL: Budget = Budget { latency: Some(1.03), ..BUDGET };

/// What they may cost where outputs gain much. Models stay faster than the float one, by this factor.
const WIDE: Budget = Budget { latency: Some(1.3), size: Some(1.1) };
const OF_FLOAT: f64 = 0.9;

/// The noise of the outputs that may be left: a decibel less.
const LEFT: f64 = 0.8;

/// The same for parts that cost more than next to nothing: two decibels less than with cheaper ones.
const LEFT_OF_WIDE: f64 = 0.63;

/// The same if they quantize activations at run time in a model that does not, which not every runtime supports: half.
const LEFT_BY_DYNAMIC: f64 = 0.5;

/// The agreement in percent, where so small a difference shows, and the SQNR in dB of other outputs, that need not be better.
const ENOUGH_AGREEMENT: f64 = 99.8;
const ENOUGH: f64 = 40.0;

/// The noise that may be left of a model that takes long to evaluate, which is measured on less: two decibels less.
const LEFT_OF_LONG: f64 = 0.63;

/// The multiplications of evaluated models that the search may take, and the fewest runs on one sample with which each part is
/// measured in a model whose other parts are in higher precision.
const ALLOWED: u64 = 20_000_000_000;
const FEWEST_RUNS: usize = 60;

/// The multiplications for models that take longer: those of groups of parts, and those where each part can be measured on
/// `FEW` samples. Float models in which a part is rounded have much in common, which is evaluated once.
const ALLOWED_FOR_GROUPS: u64 = 40_000_000_000;
const ALLOWED_FOR_EACH: u64 = 80_000_000_000;
const FEW: usize = 2;

/// The fewest groups of parts that tell enough.
const FEWEST_GROUPS: usize = 6;

/// The most sets of parts that are checked on all samples of the search, and the model without any.
const CHECKS: usize = 3 + 2 * KINDS.len();

/// The most samples of the search.
const MOST_SAMPLES: usize = 8;

/// The sum of the noises that parts add alone, as a share of what they add together, below which they amplify each other:
/// then what each adds is measured among the others.
const ADDITIVE: f64 = 0.5;

/// The share of the noise that a part must add.
const LEAST_SHARE: f64 = 0.01;

/// The most parts that are tried behind those that are too expensive.
const MOST_TRIALS: usize = 3;

/// The number of runs of this cost.
fn runs(allowed: u64, run: u64) -> usize {
    usize::try_from(allowed / run.max(1)).unwrap_or(usize::MAX)
}

/// True if a run of the model is so long that its parts are rounded alone to measure them.
pub(super) fn is_long(run: u64) -> bool {
    runs(ALLOWED, run) < FEWEST_RUNS
}

impl Plan {
    /// The plan for the search for such parts; `None` if the model is too large for it. Groups of parts are measured with high
    /// effort only.
    pub(super) fn of_spare(effort: Effort, run: u64, parts: usize, samples: usize) -> Option<Self> {
        let each = parts.clamp(1, MOST_GROUPS);
        let (allowed, few) = match is_long(run) {
            false => (ALLOWED, 1),
            true if runs(ALLOWED_FOR_EACH, run) / each >= FEW => {
                let samples = samples.clamp(1, MOST_SAMPLES);
                return Some(Plan { groups: each, few: FEW.min(samples), checks: CHECKS, samples });
            }
            true if effort != Effort::High => return None,
            true => (ALLOWED_FOR_GROUPS, 1),
        };
        let samples = samples.min(runs(allowed, run) / 2 / CHECKS).clamp(1, MOST_SAMPLES);
        let groups = runs(allowed, run).saturating_sub(CHECKS * samples);
        (groups >= FEWEST_GROUPS).then_some(Plan { groups: groups.min(each), few, checks: CHECKS, samples })
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
    /// Measures the share of the noise that each of the cheapest parts adds. Others are not kept.
    pub(super) fn measure_cheapest(&mut self, plan: &Plan, goal: &Goal) -> Result<(), Failure> {
        let parts = self.parts(self.kept(Raised::Weights));
        self.grouped = self.long && plan.groups < parts.len().min(MOST_GROUPS);
        if self.grouped {
            self.shares = shares(&parts, plan.groups, &mut |groups| {
                let found = self.alone(groups, plan.few)?;
                Ok::<_, Failure>(found.iter().map(|f| goal.noise(f)).collect())
            })?;
            return Ok(());
        }
        let mut cheap: Vec<usize> = (0..parts.len()).collect();
        cheap.sort_by(|&a, &b| parts[a].cost.total_cmp(&parts[b].cost).then(a.cmp(&b)));
        cheap.truncate(plan.groups);
        let found = if self.long { self.amplified(&mut cheap, plan, goal)? } else { self.others(&cheap, plan, goal)? };
        self.shares = vec![0.0; parts.len()];
        for (part, share) in cheap.into_iter().zip(found) {
            self.shares[part] = share;
        }
        Ok(())
    }

    /// The noise that each part adds in a model whose other parts are in higher precision.
    fn others(&mut self, cheap: &[usize], plan: &Plan, goal: &Goal) -> Result<Vec<f64>, Failure> {
        let others = |&part: &usize| (0..self.units.len()).filter(|&i| i != part).collect();
        let sets: Vec<Vec<usize>> = cheap.iter().map(others).collect();
        let found = self.measured(&sets, self.kept(Raised::Weights), plan.few)?;
        Ok(found.iter().map(|f| goal.noise(f) / f.outputs.len().max(1) as f64).collect())
    }

    /// The noise that each affordable part adds to the float model, or removes from the quantized one where parts amplify each
    /// other.
    fn amplified(&mut self, cheap: &mut Vec<usize>, plan: &Plan, goal: &Goal) -> Result<Vec<f64>, Failure> {
        let kept = self.kept(Raised::Weights);
        let most = self.most_milliseconds(BUDGET);
        cheap.retain(|&i| self.latency(&self.units[i], kept) <= most);
        // Neighbours have more in common.
        cheap.sort_unstable();
        let sets: Vec<Vec<usize>> = cheap.iter().map(|&part| vec![part]).collect();
        let found = self.measured(&[Vec::new()], self.kept(KINDS[0]), plan.few)?;
        let own = found.iter().map(|f| goal.noise(f)).sum::<f64>().max(f64::MIN_POSITIVE);
        let alone: Vec<f64> = self.alone(&sets, plan.few)?.iter().map(|f| goal.noise(f) / own).collect();
        if alone.iter().sum::<f64>() >= ADDITIVE {
            return Ok(alone);
        }
        let without = self.measured(&sets, kept, plan.few)?;
        Ok(without.iter().map(|f| (1.0 - goal.noise(f) / own).max(0.0)).collect())
    }

    /// What parts may cost together.
    fn most_milliseconds(&self, budget: Budget) -> f64 {
        budget.latency.map_or(f64::INFINITY, |factor| (factor - 1.0) * self.cost_of(self.narrowed).0)
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
        let left = if self.long { LEFT_OF_LONG } else { LEFT };
        let (mut bar, mut best) = (Bar { noise: own_noise, left }, None);
        if let Some(kept) = self.without_dynamic() {
            best = self.least_noise(&[kept], &mut bar, goal)?;
            bar.left = LEFT_BY_DYNAMIC;
        }
        let Some((chosen, kept)) = self.least_noise(&all, &mut bar, goal)?.or(best) else { return Ok(None) };
        let quality = self.quality(&chosen, kept, compared)?;
        let reports = |found: &Fidelity| found.outputs.iter().map(OutputReport::of).collect::<Vec<_>>();
        let (better, before) = (reports(&quality), reports(own));
        let pairs = better.iter().zip(&before).filter_map(|(a, b)| Some(a.deviation.sqnr? - b.deviation.sqnr?));
        // Those samples are others than these of the search.
        let as_good = agree_as_often(&better, &before) && pairs.sum::<f64>() >= 0.0;
        Ok(as_good.then_some(Best { found: Found { chosen, reached: true }, kept, quality }))
    }

    /// The cheap parts, with what may be kept of them, with which the model has less noise than `bar` allows, which it becomes:
    /// all that are within the budget, or fewer where parts amplify each other's noise; and more expensive ones that gain more.
    fn least_noise(
        &mut self,
        kinds: &[Kept],
        bar: &mut Bar,
        goal: &Goal,
    ) -> Result<Option<(Vec<usize>, Kept)>, Failure> {
        let mut best = None;
        for &kept in if self.grouped { &kinds[..1] } else { kinds } {
            let mut sets = Vec::new();
            if !self.grouped {
                sets.push((self.within(BUDGET, kept)?, 1.0));
            }
            if self.long {
                sets.push((self.within(SMALL, kept)?, 1.0));
                let half = sets[0].0.len() / 2;
                sets.push((sets[0].0[..half].to_vec(), 1.0));
            } else {
                sets.push((self.within(self.wide(), kept)?, LEFT_OF_WIDE));
            }
            sets.dedup_by(|later, earlier| later.0 == earlier.0);
            // Some part stays quantized: that is what was asked for.
            let is_partial = |(set, _): &(Vec<usize>, f64)| !set.is_empty() && set.len() < self.units.len();
            for (chosen, left) in sets.into_iter().filter(is_partial).collect::<Vec<_>>() {
                let noise = self.noise(goal, &chosen, kept)?;
                if noise < bar.noise * bar.left.min(left) {
                    (*bar, best) = (Bar { noise, left: 1.0 }, Some((chosen, kept)));
                }
            }
        }
        Ok(best)
    }

    /// What parts may cost where outputs gain much.
    fn wide(&self) -> Budget {
        let own = self.cost_of(self.narrowed).0;
        let most = OF_FLOAT * self.whole.0 / own.max(f64::MIN_POSITIVE);
        Budget { latency: WIDE.latency.map(|factor| factor.min(most)), ..WIDE }
    }

    /// Parts by gain per cost that are together within the budget. The costs of parts do not tell what conversions neighbours
    /// save, and that of the model does not tell what kernels lose between others: both are counted.
    fn within(&self, budget: Budget, kept: Kept) -> Result<Vec<usize>, Failure> {
        let (own, most, mut cost) = (self.cost_of(self.narrowed), self.most_milliseconds(budget), 0.0);
        let mut order = by_gain(&self.parts(kept), &self.shares);
        order.retain(|&i| self.shares[i] >= LEAST_SHARE);
        let mut full = false;
        order.retain(|&i| {
            let more = self.latency(&self.units[i], kept);
            let is = cost + more <= most && !full;
            cost += if is { more } else { 0.0 };
            full |= !is && !self.long;
            is
        });
        let rest = order.split_off(self.largest(&order, budget, kept)?);
        let trials = if self.long { MOST_TRIALS } else { 0 };
        for i in rest.into_iter().skip(1).take(trials) {
            order.push(i);
            if !self.fits(&order, kept, budget, own)? {
                order.pop();
            }
        }
        Ok(order)
    }
}

/// The noise of the best model so far, and the share of it that a better one may leave.
struct Bar {
    noise: f64,
    left: f64,
}

/// True if an output need not be better.
fn is_enough(o: &OutputReport) -> bool {
    match &o.agreement {
        Some(agreement) if agreement.shows(100.0 - ENOUGH_AGREEMENT) => agreement.percent >= ENOUGH_AGREEMENT,
        _ => o.deviation.sqnr.is_none_or(|sqnr| sqnr >= ENOUGH),
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
    use crate::quality::{Agreement, Deviation};

    #[test]
    fn agreement_of_few_items_is_not_enough() {
        let output = |sqnr, measure, percent, of| {
            let deviation = Deviation { name: "y".into(), sqnr: Some(sqnr), cosine: 1.0, max_error: 0.0 };
            let agreement = Some(Agreement { measure, percent, of });
            is_enough(&OutputReport { deviation, parts: Vec::new(), agreement, uncounted: false })
        };
        assert!(output(20.0, "top-1", 99.9, 1000) && !output(50.0, "top-1", 99.0, 1000));
        assert!(output(41.0, "top-1", 100.0, 6) && !output(39.0, "top-1", 100.0, 6));
        assert!(output(20.0, "cosine", 99.9, 6));
    }

    #[test]
    fn plans_take_what_is_allowed() {
        let cost = |p: &Plan, run: u64| (p.groups * p.few + p.checks * p.samples) as u64 * run;
        assert_eq!(Plan::of_spare(Effort::High, 5_000_000_000, 100, 8), None);
        assert_eq!(Plan::of_spare(Effort::Normal, 2_800_000_000, 140, 3), None);
        let large = Plan::of_spare(Effort::High, 2_800_000_000, 140, 3).unwrap();
        assert!(large.groups >= FEWEST_GROUPS && cost(&large, 2_800_000_000) <= ALLOWED_FOR_GROUPS, "{large:?}");
        let each = Plan::of_spare(Effort::High, 500_000_000, 70, 8).unwrap();
        assert_eq!((each.groups, each.few), (70, FEW));
        let plan = Plan::of_spare(Effort::High, 200_000_000, 60, 16).unwrap();
        assert!(plan.few == 1 && cost(&plan, 200_000_000) <= ALLOWED, "{plan:?}");
        assert_eq!(
            Plan::of_spare(Effort::High, 1_000, 60, 16),
            Some(Plan { groups: 60, few: 1, checks: CHECKS, samples: 8 })
        );
    }
}
