//! The search for the parts of a model to keep in higher precision.

/// A part of a model that may be kept in higher precision.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Part {
    /// An estimate of the noise that it adds; only the ratios of neighbours matter.
    pub(crate) noise: f64,
    /// What keeping it in higher precision costs. It is above 0.
    pub(crate) cost: f64,
}

/// The result of a search.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Found {
    /// The chosen parts, by gain per cost.
    pub(crate) chosen: Vec<usize>,
    /// True if the chosen parts are enough.
    pub(crate) reached: bool,
}

/// Measures the noise that each group of parts alone adds.
pub(crate) type Measure<'a, E> = dyn FnMut(&[Vec<usize>]) -> Result<Vec<f64>, E> + 'a;
/// Checks whether a set of parts is enough.
pub(crate) type Check<'a, E> = dyn FnMut(&[usize]) -> Result<bool, E> + 'a;

/// The share of the noise that each part adds: measured for groups of neighbours, divided by their estimates.
pub(crate) fn shares<E>(parts: &[Part], groups: usize, measure: &mut Measure<'_, E>) -> Result<Vec<f64>, E> {
    let size = parts.len().div_ceil(groups.max(1)).max(1);
    let indices: Vec<usize> = (0..parts.len()).collect();
    let groups: Vec<Vec<usize>> = indices.chunks(size).map(<[usize]>::to_vec).collect();
    let noises = measure(&groups)?;
    let all: f64 = noises.iter().sum();
    let mut shares = vec![0.0; parts.len()];
    for (group, noise) in groups.iter().zip(noises) {
        let estimated: f64 = group.iter().map(|&i| parts[i].noise).sum();
        for &i in group {
            let own = if estimated > 0.0 { parts[i].noise / estimated } else { 1.0 / group.len() as f64 };
            shares[i] = own * if all > 0.0 { noise / all } else { 1.0 / groups.len() as f64 };
        }
    }
    Ok(shares)
}

/// The share of the noise that is removed in addition after a first set that is not enough; the next steps are larger.
const STEP: f64 = 0.08;

/// When a search ends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// The maximum number of checks.
    pub(crate) checks: usize,
    /// The difference in cost that is not worth a check.
    pub(crate) close: f64,
}

/// The parts by gain per cost, the best first.
pub(crate) fn by_gain(parts: &[Part], shares: &[f64]) -> Vec<usize> {
    let gain = |i: usize| shares[i] / parts[i].cost;
    let mut order: Vec<usize> = (0..parts.len()).collect();
    order.sort_by(|&a, &b| gain(b).total_cmp(&gain(a)).then(a.cmp(&b)));
    order
}

/// Finds a cheap set of parts that is enough, where each adds one of `shares` to the noise. Parts are ordered by gain per
/// cost. The search for how many of them it takes begins with those that leave the share `left` of the noise; steps upwards
/// grow, then bisection follows. The remaining checks drop the most expensive parts that are not needed.
pub(crate) fn search<E>(
    parts: &[Part],
    shares: &[f64],
    left: f64,
    limits: Limits,
    check: &mut Check<'_, E>,
) -> Result<Found, E> {
    let order = by_gain(parts, shares);
    let removed: Vec<f64> = std::iter::once(0.0)
        .chain(order.iter().scan(0.0, |sum, &i| {
            *sum += shares[i];
            Some(*sum)
        }))
        .collect();
    // The number of parts, from `low + 1` to `high - 1`, that remove that share of the noise.
    let count = |share: f64, low: usize, high: usize| {
        let enough = removed.iter().position(|r| *r >= share).unwrap_or(high);
        enough.clamp(low + 1, (high - 1).max(low + 1))
    };
    let cost = |from: usize, to: usize| order[from..to].iter().map(|&i| parts[i].cost).sum::<f64>();
    let mut checks = limits.checks;
    // Too few are `low`, enough are `high`, once that is known.
    let (mut low, mut high, mut wanted, mut step) = (0, None, 1.0 - left, STEP);
    while checks > 0
        && high.unwrap_or(order.len() + 1) - low > 1
        && high.is_none_or(|high| cost(low + 1, high) > limits.close)
    {
        let last = high.is_none() && checks == 1;
        let next = if last { order.len() } else { count(wanted, low, high.unwrap_or(order.len() + 1)) };
        checks -= 1;
        match check(&order[..next])? {
            true => high = Some(next),
            false => low = next,
        }
        wanted = match high {
            Some(high) => (removed[low] + removed[high]) / 2.0,
            None => removed[low] + step,
        };
        step *= 2.0;
    }
    let reached = high.is_some();
    let mut chosen = order[..high.unwrap_or(order.len())].to_vec();
    let mut expensive = chosen.clone();
    expensive.sort_by(|&a, &b| parts[b].cost.total_cmp(&parts[a].cost).then(a.cmp(&b)));
    let worth = expensive.into_iter().filter(|&i| reached && parts[i].cost > limits.close);
    for part in worth.take(checks) {
        let without: Vec<usize> = chosen.iter().copied().filter(|&i| i != part).collect();
        if !without.is_empty() && check(&without)? {
            chosen = without;
        }
    }
    Ok(Found { chosen, reached })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A search in a model whose noise is the sum of that of its parts, and the number of evaluations.
    fn found(
        noises: &[f64],
        costs: &[f64],
        estimates: &[f64],
        least: f64,
        groups: usize,
        checks: usize,
    ) -> (Found, usize) {
        let parts: Vec<Part> = estimates.iter().zip(costs).map(|(&noise, &cost)| Part { noise, cost }).collect();
        let all: f64 = noises.iter().sum();
        let own = |set: &[usize]| set.iter().map(|&i| noises[i]).sum::<f64>();
        let mut evaluated = 0;
        let shares = shares(&parts, groups, &mut |sets: &[Vec<usize>]| {
            evaluated += sets.len();
            Ok::<_, ()>(sets.iter().map(|set| own(set)).collect())
        });
        let limits = Limits { checks, close: 0.0 };
        let found = search(&parts, &shares.unwrap(), 0.5, limits, &mut |set: &[usize]| {
            evaluated += 1;
            Ok::<_, ()>(1.0 - own(set) / all <= least + 1e-9)
        });
        (found.unwrap(), evaluated)
    }

    #[test]
    fn the_parts_that_gain_most_for_their_cost_are_chosen() {
        let noises = [1.0, 8.0, 1.0, 1.0, 4.0, 1.0];
        let (all, _) = found(&noises, &[1.0; 6], &[1.0; 6], 0.5, 6, 10);
        assert_eq!(all, Found { chosen: vec![1], reached: true });
        // The second part costs more than it gains.
        let (all, _) = found(&noises, &[1.0, 50.0, 1.0, 1.0, 1.0, 1.0], &[1.0; 6], 0.7, 6, 10);
        assert_eq!(all, Found { chosen: vec![4, 0], reached: true });
    }

    #[test]
    fn groups_are_divided_by_estimates() {
        let noises = [1.0, 1.0, 1.0, 9.0, 2.0, 2.0];
        let (all, evaluated) = found(&noises, &[1.0; 6], &[0.1, 0.1, 0.1, 0.9, 0.3, 0.3], 0.5, 2, 4);
        assert_eq!(all, Found { chosen: vec![3], reached: true });
        assert!(evaluated <= 6, "{evaluated}");
    }

    #[test]
    fn what_cannot_be_reached_is_said() {
        let (all, evaluated) = found(&[1.0; 8], &[1.0; 8], &[1.0; 8], -1.0, 4, 5);
        assert!(!all.reached && all.chosen.len() == 8);
        assert!(evaluated <= 9, "{evaluated}");
        let (all, _) = found(&[1.0; 8], &[1.0; 8], &[1.0; 8], 0.0, 4, 5);
        assert!(all.reached && all.chosen.len() == 8);
    }

    #[test]
    fn checks_that_are_left_drop_what_is_not_needed() {
        // The estimates are wrong: the first part is expensive and adds no noise.
        let (all, _) = found(&[0.0, 5.0, 5.0], &[4.0, 1.0, 1.0], &[90.0, 1.0, 1.0], 0.01, 1, 12);
        assert_eq!(all, Found { chosen: vec![1, 2], reached: true });
    }
}
