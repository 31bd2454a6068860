//! Keeps parts of a quantized model in higher precision while its outputs are worse than required.

use std::borrow::Cow;

use qcc_ir::eval::Executor;
use qcc_ir::{Graph, NodeId, Symbols, Tensor};
use qcc_passes::quality::{self as fidelity, Compiled, Fidelity, OutputKind, OutputQuality, Reference, as_inputs};
use qcc_passes::quantize::{Dynamic, Raised, Unit, may_be_dynamic, rounded_alone, units};
use qcc_passes::{PassError, PassId};
use rayon::prelude::*;

use crate::compiler::narrow::{Narrowed, Narrowing, Repaired, failed};
use crate::compiler::pipeline::Variant;
use crate::cost;
use crate::data::Samples;
use crate::options::{Effort, Options};
use crate::outcome::Failure;
use crate::quality::{Choice, Evidence, Found, Goal, Limits, OutputReport, Part, Repair, cost_of_run, search, shares};
use crate::reader::Reader;

mod points;
mod spare;

/// The multiplications of evaluated models that the efforts allow.
const NORMAL: u64 = 50_000_000_000;
const HIGH: u64 = 500_000_000_000;

/// The largest and the smallest number of checks of a set of parts.
const MOST_CHECKS: usize = 24;
const LEAST_CHECKS: usize = 6;

/// The difference in cost below which a search is near enough.
const CLOSE: f64 = 0.01;

/// The factor by which parts in higher precision without dynamic quantization may slow down the model, while parts with
/// dynamic quantization are not looked for.
const STATIC_COST: f64 = 1.5;

/// The fewest and the most groups of parts that are measured.
const LEAST_GROUPS: usize = 4;
const MOST_GROUPS: usize = 128;

/// The cost of quantizing and evaluating a node, in multiplications. All evaluations together then cost about the same for
/// models of any length.
const PER_NODE: u64 = 200_000;

/// What may be kept in higher precision of a part.
const KINDS: [Raised; 2] = [Raised::Activations, Raised::Weights];

/// The largest number of models in memory.
const AT_ONCE: usize = 16;

/// The evaluations that an effort allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Plan {
    /// The number of groups of parts whose share of the noise is measured, each on `few` samples.
    groups: usize,
    few: usize,
    /// The number of checks of a set of parts, each on `samples` samples.
    checks: usize,
    samples: usize,
}

impl Plan {
    /// The plan for a model with `parts` and `samples`, if one run takes `run` multiplications.
    fn of(effort: Effort, run: u64, parts: usize, samples: usize) -> Self {
        let all = match effort {
            Effort::Fast => 0,
            Effort::Normal => NORMAL,
            Effort::High => HIGH,
        };
        let runs = usize::try_from(all / run.max(1)).unwrap_or(usize::MAX);
        let samples = samples.min(runs / LEAST_CHECKS).max(1);
        let checks = (runs / 2 / samples).clamp(LEAST_CHECKS, MOST_CHECKS);
        let rest = runs.saturating_sub(checks * samples);
        let groups = rest.clamp(LEAST_GROUPS, parts.clamp(LEAST_GROUPS, MOST_GROUPS));
        Plan { groups, few: (rest / groups).clamp(1, samples), checks, samples }
    }
}

/// The largest number of samples with objects that a search evaluates.
const MOST_TELLING: usize = 8;

/// The largest number of samples among which those with the most objects are looked for.
const MOST_CANDIDATES: usize = 8;

impl Narrowing<'_> {
    /// The quantized model with some parts in higher precision and its quality on the compared samples, if an output of
    /// `own` is worse than required, there is a budget, or parts [cost next to nothing](spare), and the models that are asked
    /// for. What is chosen depends on the model, the samples and the options alone.
    pub(super) fn repair(
        &self,
        narrowed: &Narrowed,
        own: &Fidelity,
        evidence: &Evidence,
        shown: &[PassId],
    ) -> Result<Repaired, Failure> {
        let Options { gate, pareto, .. } = *self.options;
        let place = narrowed.place;
        let missed = Goal::is_missed(gate, own);
        let spare = !missed && self.has_spare(narrowed, own);
        let budget = if spare { spare::BUDGET } else { self.options.budget };
        let asked = missed || !budget.is_open() || pareto.is_some();
        let Some(compared) = evidence.validation.as_ref().filter(|_| asked) else {
            return Ok(Repaired::default());
        };
        let float = &self.floats[place];
        let units = units(float, &self.ranges[place], &narrowed.quantized);
        if units.is_empty() {
            return Ok(Repaired::default());
        }
        let extents = float.typical_extents_beside(&evidence.extents(self.source));
        let typical = at(float, &extents);
        let run = cost_of_run(&typical) + float.order().len() as u64 * PER_NODE;
        let plan = match spare {
            true => Plan::of_spare(self.options.effort, run, units.len(), compared.len()),
            false => Some(Plan::of(self.options.effort, run, units.len(), compared.len())),
        };
        let Some(plan) = plan else { return Ok(Repaired::default()) };
        let samples = self.telling_samples(own, evidence, plan.samples);
        let read = |i: usize| samples.get(i).cloned();
        let taken = fidelity::Samples { count: samples.len(), read: &read };
        let reference = Reference::new(&self.joint, self.source, (place, float), self.hints, &taken).map_err(failed)?;
        let mut repairer = Repairer {
            narrowing: self,
            narrowed,
            whole: (cost::latency(&typical, self.targets[place]), cost::weight_bytes(float)),
            float: typical,
            extents,
            units,
            spare,
            long: spare::is_long(run),
            grouped: false,
            reference,
            shares: Vec::new(),
            evaluated: 0,
            best: None,
        };
        let Some(goal) = repairer.measure(&plan)? else { return Ok(Repaired::default()) };
        if missed && (budget.is_open() || !gate.is_open()) {
            repairer.search(&plan, &goal, compared)?;
        }
        if spare {
            repairer.best = repairer.of_spare(&goal, own, compared)?;
        } else if !budget.is_open() && !repairer.is_within(budget)? {
            repairer.best = repairer.affordable(budget, &goal, compared)?;
        }
        let points = pareto.map_or_else(|| Ok(Vec::new()), |most| repairer.points(most, &goal, own, compared))?;
        let Repairer { shares, evaluated, best, .. } = &mut repairer;
        let (shares, evaluated) = (std::mem::take(shares), *evaluated);
        let Some(Best { found, kept, quality }) = best.take().filter(|b| b.found.reached || !gate.is_open()) else {
            return Ok(Repaired { better: None, points });
        };
        let better = self.narrow(place, &repairer.variant(&found.chosen, kept), shown)?;
        let latency = |n: &Narrowed| cost::latency(&n.quantized.graph, self.targets[place]);
        let repair = Repair {
            reached: found.reached,
            before: own.outputs.iter().map(OutputReport::of).collect(),
            latency_ms: self.targets[place].latency.map(|_| [latency(narrowed), latency(&better)]),
            evaluated,
            choices: found.chosen.iter().map(|&i| repairer.choice(i, kept, shares[i])).collect(),
        };
        Ok(Repaired { better: Some((better, quality, repair)), points })
    }

    /// The samples that a search evaluates: of those that are compared, `count` at even distances. For boxes, those with
    /// the most objects among all samples: others do not tell what boxes lose.
    fn telling_samples(&self, own: &Fidelity, evidence: &Evidence, count: usize) -> Vec<Vec<Tensor>> {
        let read = |samples: &Option<Samples>, most: usize| -> Vec<Vec<Tensor>> {
            let Some(samples) = samples.as_ref().map(|samples| samples.thinned(most)) else { return Vec::new() };
            let reader = Reader::new(&samples);
            (0..samples.len()).into_par_iter().filter_map(|i| reader.read(i)).collect()
        };
        if !own.outputs.iter().any(|o| matches!(o.kind, Some(OutputKind::Boxes(_)))) {
            return read(&evidence.validation, count);
        }
        let chosen = self.telling.get_or_init(|| {
            // With few samples, those that are compared are calibration samples too.
            let others = evidence.calibration.as_ref().filter(|_| evidence.seen != Some(true)).cloned();
            let mut all = read(&evidence.validation, MOST_CANDIDATES);
            all.extend(read(&others, MOST_CANDIDATES));
            let weights: Vec<f64> = all.par_iter().map(|sample| self.objects(sample)).collect();
            let mut order: Vec<usize> = (0..all.len()).collect();
            order.sort_by(|&a, &b| weights[b].total_cmp(&weights[a]).then(a.cmp(&b)));
            order.into_iter().take(MOST_TELLING).map(|i| all[i].clone()).collect()
        });
        chosen.iter().take(count).cloned().collect()
    }

    /// How much a sample shows of objects, by the float model; 0 if it cannot be evaluated.
    fn objects(&self, sample: &[Tensor]) -> f64 {
        let inputs = as_inputs(self.source, sample);
        let outputs = Executor::new(self.source).run_known(&inputs, &mut |_, _| {}).unwrap_or_default();
        let outputs: Vec<Option<&Tensor>> = outputs.iter().map(Option::as_ref).collect();
        let weight = |i: usize| {
            let mut quality = OutputQuality::new("");
            quality.add(self.source, i, self.hints, &outputs, &outputs);
            quality.box_weight()
        };
        (0..outputs.len()).map(weight).sum()
    }
}

/// The search for the parts of one quantized model to keep in higher precision.
struct Repairer<'a> {
    narrowing: &'a Narrowing<'a>,
    narrowed: &'a Narrowed,
    /// The float graph at the extents of the data, or typical ones.
    float: Cow<'a, Graph>,
    /// These extents.
    extents: Symbols,
    /// The latency of the float graph in milliseconds, and the bytes of its constants.
    whole: (f64, u64),
    units: Vec<Unit>,
    /// Only parts that [cost next to nothing](spare) are kept.
    spare: bool,
    /// A run of the model takes long.
    long: bool,
    /// Groups of parts are measured, not each.
    grouped: bool,
    reference: Reference<'a>,
    /// The share of the noise that each part adds, once it is measured.
    shares: Vec<f64>,
    /// The number of models that were evaluated.
    evaluated: usize,
    best: Option<Best>,
}

/// What is kept in higher precision of the chosen parts.
#[derive(Clone, Copy, Debug)]
struct Kept {
    raised: Raised,
    /// When the runtime may quantize the activations.
    dynamic: Dynamic,
}

/// The best model that was found.
struct Best {
    found: Found,
    kept: Kept,
    /// Its quality on the samples that are compared.
    quality: Fidelity,
}

impl Repairer<'_> {
    /// Measures the share of the noise that each part adds. Returns the goal for the outputs on the samples of the search.
    fn measure(&mut self, plan: &Plan) -> Result<Option<Goal>, Failure> {
        let own = self.measured(&[Vec::new()], self.kept(Raised::Activations), usize::MAX)?;
        let Some(own) = own.first() else { return Ok(None) };
        let goal = Goal::of(self.narrowing.options.gate, own);
        let parts = self.units.len();
        if self.spare {
            self.measure_cheapest(plan, &goal)?;
            return Ok(Some(goal));
        }
        self.shares = shares(&self.parts(self.kept(Raised::Weights)), plan.groups, &mut |groups| {
            // Groups are neighbours.
            let others = |group: &Vec<usize>| match (group.first(), group.last()) {
                (Some(&first), Some(&last)) => (0..first).chain(last + 1..parts).collect(),
                _ => (0..parts).collect(),
            };
            let sets: Vec<Vec<usize>> = groups.iter().map(others).collect();
            let found = self.measured(&sets, self.kept(Raised::Weights), plan.few)?;
            Ok::<_, Failure>(found.iter().map(|f| goal.noise(f)).collect())
        })?;
        Ok(Some(goal))
    }

    /// What may be kept in higher precision of chosen parts. A model without dynamic quantization, which not every runtime
    /// supports, stays so if that is enough; then weights stay quantized if that is enough.
    fn kinds(&self) -> Vec<Kept> {
        let others = KINDS.map(|raised| self.kept(raised));
        self.without_dynamic().into_iter().chain(others).collect()
    }

    /// What may be kept of a model without dynamic quantization, where the target has it, so that it stays without.
    fn without_dynamic(&self) -> Option<Kept> {
        let (narrowing, place) = (self.narrowing, self.narrowed.place);
        let is_static = self.narrowed.dynamic != Dynamic::Never
            && may_be_dynamic(&narrowing.floats[place], narrowing.targets[place])
            && fidelity::dynamic(&self.narrowed.quantized.graph).is_empty();
        is_static.then_some(Kept { raised: Raised::Activations, dynamic: Dynamic::Never })
    }

    /// What is kept of a part if activations are quantized dynamically where the options allow it.
    fn kept(&self, raised: Raised) -> Kept {
        Kept { raised, dynamic: self.narrowed.dynamic }
    }

    /// Finds the parts to choose, and what is kept of each.
    fn search(&mut self, plan: &Plan, goal: &Goal, compared: &Samples) -> Result<(), Failure> {
        let latency = self.cost_of(self.narrowed).0;
        for kept in self.kinds() {
            let best = self.search_among(kept, plan, goal, compared)?;
            let reached = best.found.reached;
            let done = reached
                && (kept.dynamic == self.narrowed.dynamic
                    || self.cost_of(&self.with(&best.found.chosen, kept)?).0 <= STATIC_COST * latency);
            let known = self.best.as_ref().is_some_and(|best| best.found.reached);
            if reached || !known {
                self.best = Some(best);
            }
            if done || (known && !reached) {
                break;
            }
        }
        Ok(())
    }

    /// The cheapest parts found with which the outputs are good enough.
    fn search_among(&mut self, kept: Kept, plan: &Plan, goal: &Goal, compared: &Samples) -> Result<Best, Failure> {
        let gate = self.narrowing.options.gate;
        let shares = self.shares.clone();
        let limits = Limits { checks: plan.checks, close: CLOSE };
        let left = goal.left().unwrap_or(0.5);
        let mut last: Option<(Vec<usize>, Fidelity)> = None;
        let found = search(&self.parts(kept), &shares, left, limits, &mut |set| {
            let found = self.measured(&[set.to_vec()], kept, usize::MAX)?;
            if !found.iter().all(|f| goal.is_met(f)) {
                return Ok::<_, Failure>(false);
            }
            let quality = match found.into_iter().next().filter(|f| f.samples == compared.len() && !goal.is_of_boxes())
            {
                Some(found) => found,
                None => self.quality(set, kept, compared)?,
            };
            let enough = !quality.outputs.iter().any(|o| gate.misses(&OutputReport::of(o)));
            if enough {
                last = Some((set.to_vec(), quality));
            }
            Ok(enough)
        })?;
        let quality = match last {
            Some((set, quality)) if set == found.chosen => quality,
            _ => self.quality(&found.chosen, kept, compared)?,
        };
        Ok(Best { found, kept, quality })
    }

    /// The quality of the model with a set of parts in higher precision, on the samples that are compared.
    fn quality(&mut self, set: &[usize], kept: Kept, compared: &Samples) -> Result<Fidelity, Failure> {
        let narrowed = self.with(set, kept)?;
        self.compared(&narrowed, compared)
    }

    /// The quality of a model on the samples that are compared.
    fn compared(&mut self, narrowed: &Narrowed, compared: &Samples) -> Result<Fidelity, Failure> {
        self.evaluated += 1;
        let quality = self.narrowing.compare(&[narrowed], &Reader::new(compared)).map_err(failed)?;
        Ok(quality.into_iter().next().unwrap_or_default())
    }

    /// The model with a set of parts in higher precision.
    fn with(&self, set: &[usize], kept: Kept) -> Result<Narrowed, Failure> {
        self.narrowing.narrow(self.narrowed.place, &self.variant(set, kept), &[])
    }

    /// The parts with their costs: the share of the float model's latency, and that of its size.
    fn parts(&self, kept: Kept) -> Vec<Part> {
        let (latency, bytes) = (self.whole.0.max(f64::MIN_POSITIVE), self.whole.1.max(1) as f64);
        let cost = |unit: &Unit| self.latency(unit, kept) / latency + self.size(unit, kept) as f64 / bytes;
        self.units.iter().map(|unit| Part { noise: unit.noise, cost: cost(unit) }).collect()
    }

    /// The milliseconds that keeping a part in higher precision takes.
    fn latency(&self, unit: &Unit, kept: Kept) -> f64 {
        let (float, target) = (&*self.float, self.narrowing.targets[self.narrowed.place]);
        let Some(&main) = unit.nodes.first() else { return 0.0 };
        let dynamic = self.may_be_dynamic(unit) && self.raised(unit, kept) == Raised::Activations;
        cost::of_raising(float, main, target, dynamic)
    }

    /// The bytes by which the weights of a part grow.
    fn size(&self, unit: &Unit, kept: Kept) -> usize {
        let constants = unit.nodes.iter().flat_map(|&n| self.float.operands(n)).filter_map(|v| self.float.constant(v));
        match self.raised(unit, kept) {
            // A quarter is left of 8-bit weights.
            Raised::Weights => constants.map(|c| c.len() * 3).sum(),
            Raised::Activations => 0,
        }
    }

    /// What is in floating point of a part: its weights too, if the kernel for quantized ones is not allowed.
    fn raised(&self, unit: &Unit, kept: Kept) -> Raised {
        match kept.dynamic {
            Dynamic::Never if self.may_be_dynamic(unit) => Raised::Weights,
            _ => kept.raised,
        }
    }

    /// True if the target would quantize the floating-point activations of a part.
    fn may_be_dynamic(&self, unit: &Unit) -> bool {
        let target = self.narrowing.targets[self.narrowed.place];
        let kernel = unit.nodes.first().and_then(|&main| target.kernel_of(&self.float, main));
        kernel.and_then(|kernel| kernel.weights).is_some_and(|weights| weights.dynamic.is_some())
    }

    fn variant(&self, chosen: &[usize], kept: Kept) -> Variant {
        let mut nodes: Vec<(NodeId, Raised)> =
            chosen.iter().flat_map(|&i| &self.units[i].nodes).map(|&n| (n, kept.raised)).collect();
        nodes.sort_unstable();
        let Narrowed { compensate, smooth, .. } = *self.narrowed;
        Variant { dynamic: kept.dynamic, raised: nodes, compensate, smooth, ..Variant::asked(self.narrowing.options) }
    }

    /// The quality of the models with each set of parts in higher precision, on the first `count` samples of the search.
    fn measured(&mut self, sets: &[Vec<usize>], kept: Kept, count: usize) -> Result<Vec<Fidelity>, Failure> {
        self.evaluated += sets.len();
        let mut all = Vec::new();
        // Some models at a time are in memory.
        for sets in sets.chunks(AT_ONCE) {
            let narrowed = sets.par_iter().map(|set| self.with(set, kept)).collect::<Result<Vec<_>, _>>()?;
            let compiled: Vec<_> = narrowed.iter().map(|n| self.narrowing.compiled(n)).collect();
            all.extend(self.reference.compare(&compiled, count).map_err(failed)?);
        }
        Ok(all)
    }

    /// The quality of the float model with each set of parts rounded, and nothing else, on the first `count` samples of the
    /// search.
    fn alone(&mut self, sets: &[Vec<usize>], count: usize) -> Result<Vec<Fidelity>, Failure> {
        let (place, narrowed) = (self.narrowed.place, self.narrowed);
        self.evaluated += sets.len();
        let float = &self.narrowing.floats[place];
        let mut all = Vec::new();
        for sets in sets.chunks(AT_ONCE) {
            let nodes = |set: &Vec<usize>| -> Vec<NodeId> {
                set.iter().flat_map(|&i| self.units[i].nodes.iter().copied()).collect()
            };
            let rounded = sets.par_iter().map(|set| rounded_alone(float, &narrowed.quantized, &nodes(set)));
            let rounded = rounded.collect::<Result<Vec<_>, _>>().map_err(PassError::from)?;
            let compiled = rounded.iter().map(|r| Compiled { place, float, graph: &r.graph, values: &r.values });
            all.extend(self.reference.compare(&compiled.collect::<Vec<_>>(), count).map_err(failed)?);
        }
        Ok(all)
    }

    fn choice(&self, part: usize, kept: Kept, noise_share: f64) -> Choice {
        let unit = &self.units[part];
        Choice {
            name: unit.nodes.first().map_or_else(String::new, |&n| self.float.origin(n).path().to_owned()),
            raised: told(self.raised(unit, kept)),
            noise_share,
            cost_ms: self.latency(unit, kept),
        }
    }
}

/// The graph at these extents.
fn at<'g>(g: &'g Graph, extents: &Symbols) -> Cow<'g, Graph> {
    if g.is_open() { Cow::Owned(g.bound(extents)) } else { Cow::Borrowed(g) }
}

/// What is not quantized.
fn told(raised: Raised) -> &'static str {
    match raised {
        Raised::Weights => "weights and activations",
        Raised::Activations => "activations",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The evaluations of a plan, counted in runs on one sample.
    fn runs(p: &Plan) -> usize {
        p.groups * p.few + p.checks * p.samples
    }

    #[test]
    fn plans_fit_the_effort() {
        let detector = 2_800_000_000;
        for (effort, allowed) in [(Effort::Normal, NORMAL), (Effort::High, HIGH)] {
            let plan = Plan::of(effort, detector, 140, 3);
            assert!(runs(&plan) as u64 * detector <= allowed, "{plan:?}");
            assert!(plan.samples > 1, "{plan:?}");
        }
        // All parts of a small model are measured on all samples.
        let small = Plan::of(Effort::Normal, 100_000, 40, 16);
        assert_eq!(small, Plan { groups: 40, few: 16, checks: MOST_CHECKS, samples: 16 });
        // A model that is too large for the budget is evaluated a few times.
        assert_eq!(
            Plan::of(Effort::Normal, NORMAL, 40, 16),
            Plan { groups: 4, few: 1, checks: LEAST_CHECKS, samples: 1 }
        );
    }
}
