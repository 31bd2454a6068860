//! Models with parts in higher precision by cost: the best within a budget, and points between all and none.

use qcc_passes::quality::Fidelity;
use qcc_passes::quantize::Raised;

use super::{Best, KINDS, Kept, Repairer, at, told};
use crate::compiler::narrow::Narrowed;
use crate::cost;
use crate::data::Samples;
use crate::options::Budget;
use crate::outcome::Failure;
use crate::quality::{Found, Goal, OutputReport, ParetoPoint, by_gain};

/// The share of the noise that the last point removes: 20 dB.
const LEAST_LEFT: f64 = 0.01;

impl Repairer<'_> {
    /// True if a model was found whose cost is within the budget.
    pub(super) fn is_within(&self, budget: Budget) -> Result<bool, Failure> {
        match &self.best {
            Some(best) => self.fits(&best.found.chosen, best.kept, budget, self.cost_of(self.narrowed)),
            // Without a requirement the budget is used.
            None => Ok(!self.narrowing.options.gate.is_open()),
        }
    }

    /// The best model within the budget, if it is better than the one that is quantized throughout.
    pub(super) fn affordable(
        &mut self,
        budget: Budget,
        goal: &Goal,
        compared: &Samples,
    ) -> Result<Option<Best>, Failure> {
        let mut least = self.noise(goal, &[], self.kept(Raised::Activations))?;
        let (gate, mut best) = (self.narrowing.options.gate, None);
        for kept in KINDS.map(|raised| self.kept(raised)) {
            let mut chosen = by_gain(&self.parts(kept), &self.shares);
            chosen.truncate(self.largest(&chosen, budget, kept)?);
            if chosen.is_empty() {
                continue;
            }
            let noise = self.noise(goal, &chosen, kept)?;
            if noise < least {
                let quality = self.quality(&chosen, kept, compared)?;
                let reached = !Goal::is_missed(gate, &quality) || gate.is_open();
                (least, best) = (noise, Some(Best { found: Found { chosen, reached }, kept, quality }));
            }
        }
        Ok(best)
    }

    /// The noise of the outputs on the samples of the search, which tell more than those that are compared.
    pub(super) fn noise(&mut self, goal: &Goal, set: &[usize], kept: Kept) -> Result<f64, Failure> {
        let found = self.measured(&[set.to_vec()], kept, usize::MAX)?;
        Ok(found.iter().map(|found| goal.noise(found)).sum())
    }

    /// The number of the first parts in an order that are within the budget. The cost of a model is that of its graph: those of
    /// its parts are estimates.
    pub(super) fn largest(&self, order: &[usize], budget: Budget, kept: Kept) -> Result<usize, Failure> {
        let own = self.cost_of(self.narrowed);
        let (mut low, mut high) = (0, order.len() + 1);
        while high - low > 1 {
            let middle = usize::midpoint(low, high);
            match self.fits(&order[..middle], kept, budget, own)? {
                true => low = middle,
                false => high = middle,
            }
        }
        Ok(low)
    }

    /// True if a model is within the budget, where `own` is the cost of the one that is quantized throughout.
    pub(super) fn fits(&self, set: &[usize], kept: Kept, budget: Budget, own: (f64, u64)) -> Result<bool, Failure> {
        let new = self.cost_of(&self.with(set, kept)?);
        let within = |factor: Option<f64>, new: f64, own: f64| factor.is_none_or(|factor| new <= factor * own);
        Ok(within(budget.latency, new.0, own.0) && within(budget.size, new.1 as f64, own.1 as f64))
    }

    /// The latency proxy in milliseconds and the bytes of constants of a model.
    pub(super) fn cost_of(&self, narrowed: &Narrowed) -> (f64, u64) {
        let (graph, target) = (&narrowed.quantized.graph, self.narrowing.targets[narrowed.place]);
        (cost::latency(&at(graph, &self.extents), target), cost::weight_bytes(graph))
    }

    /// At most `most` models with more and more parts in higher precision, by latency, none of which is worse and slower than
    /// another.
    pub(super) fn points(
        &mut self,
        most: usize,
        goal: &Goal,
        own: &Fidelity,
        compared: &Samples,
    ) -> Result<Vec<ParetoPoint>, Failure> {
        let throughout = self.kept(Raised::Activations);
        let mut all = vec![(self.noise(goal, &[], throughout)?, self.point(&[], throughout, self.narrowed, own))];
        for kept in KINDS.map(|raised| self.kept(raised)) {
            let order = by_gain(&self.parts(kept), &self.shares);
            for count in counts(&order, &self.shares, most) {
                let set = &order[..count];
                let narrowed = self.with(set, kept)?;
                let quality = self.compared(&narrowed, compared)?;
                all.push((self.noise(goal, set, kept)?, self.point(set, kept, &narrowed, &quality)));
            }
        }
        Ok(spread(undominated(all), most))
    }

    fn point(&self, set: &[usize], kept: Kept, narrowed: &Narrowed, quality: &Fidelity) -> ParetoPoint {
        let (latency_ms, weight_bytes) = self.cost_of(narrowed);
        let outputs = quality.outputs.iter().map(OutputReport::of).collect();
        ParetoPoint { parts: set.len(), raised: told(kept.raised), latency_ms, weight_bytes, outputs }
    }
}

/// The numbers of parts that leave less and less of the noise, in equal steps of decibels down to [`LEAST_LEFT`].
fn counts(order: &[usize], shares: &[f64], points: usize) -> Vec<usize> {
    let steps = points.saturating_sub(1).max(1);
    let mut counts = Vec::new();
    for step in 1..=steps {
        let left = libm::pow(LEAST_LEFT, step as f64 / steps as f64);
        let mut removed = 0.0;
        let enough = order.iter().position(|&i| {
            removed += shares[i];
            removed >= 1.0 - left
        });
        counts.push(enough.map_or(order.len(), |last| last + 1));
    }
    counts.dedup();
    counts
}

/// The points by latency without those that are as slow as another with less noise, or slower.
fn undominated(mut all: Vec<(f64, ParetoPoint)>) -> Vec<ParetoPoint> {
    all.sort_by(|(a, x), (b, y)| x.latency_ms.total_cmp(&y.latency_ms).then(a.total_cmp(b)));
    let mut least = f64::INFINITY;
    all.retain(|(noise, _)| {
        let better = *noise < least;
        least = least.min(*noise);
        better
    });
    all.into_iter().map(|(_, point)| point).collect()
}

/// At most `most` of the points, spread evenly, the first and the last among them.
fn spread(mut points: Vec<ParetoPoint>, most: usize) -> Vec<ParetoPoint> {
    let (n, gaps) = (points.len(), most.saturating_sub(1).max(1));
    if n > most.max(1) {
        let wanted: Vec<usize> = (0..most.max(1)).map(|i| i * (n - 1) / gaps).collect();
        let mut i = 0;
        points.retain(|_| {
            i += 1;
            wanted.contains(&(i - 1))
        });
    }
    points
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(noise: f64, latency_ms: f64) -> (f64, ParetoPoint) {
        let raised = told(Raised::Activations);
        (noise, ParetoPoint { parts: 0, raised, latency_ms, weight_bytes: 1, outputs: Vec::new() })
    }

    fn latencies(points: &[ParetoPoint]) -> Vec<f64> {
        points.iter().map(|p| p.latency_ms).collect()
    }

    #[test]
    fn points_that_are_worse_and_slower_are_left_out() {
        let all =
            vec![point(1.0, 1.0), point(0.2, 3.0), point(0.5, 2.0), point(0.6, 2.5), point(0.4, 2.0), point(0.2, 4.0)];
        assert_eq!(latencies(&undominated(all)), [1.0, 2.0, 3.0]);
    }

    #[test]
    fn the_first_and_the_last_point_stay() {
        let all = || (0..7).map(|i| point(1.0, f64::from(i)).1).collect::<Vec<_>>();
        assert_eq!(latencies(&spread(all(), 3)), [0.0, 3.0, 6.0]);
        assert_eq!(latencies(&spread(all(), 9)).len(), 7);
        assert_eq!(latencies(&spread(all(), 1)), [0.0]);
    }

    #[test]
    fn counts_are_steps_of_decibels() {
        let shares = [0.5, 0.25, 0.15, 0.06, 0.03, 0.01];
        // 90 and 99 % of the noise are removed.
        assert_eq!(counts(&[0, 1, 2, 3, 4, 5], &shares, 3), [3, 5]);
        assert_eq!(counts(&[0, 1, 2, 3, 4, 5], &shares, 1), [5]);
        assert_eq!(counts(&[0, 1], &shares[..2], 3), [2]);
    }
}
