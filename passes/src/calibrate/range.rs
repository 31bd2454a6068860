//! Range selection from statistics.

use super::Stats;

/// The interval that quantization parameters must cover.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Range {
    /// Lower end.
    pub lo: f32,
    /// Upper end.
    pub hi: f32,
}

impl Range {
    /// The smallest range that contains both.
    pub fn union(self, other: Range) -> Range {
        Range { lo: self.lo.min(other.lo), hi: self.hi.max(other.hi) }
    }

    /// The same range, extended to contain 0, which must be representable exactly.
    pub fn with_zero(self) -> Range {
        Range { lo: self.lo.min(0.0), hi: self.hi.max(0.0) }
    }

    /// Length.
    pub fn span(self) -> f32 {
        self.hi - self.lo
    }
}

/// How a range is selected.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Method {
    /// The minimum and the maximum of all samples.
    MinMax,
    /// The minimum and the maximum of all samples, times a factor.
    Widened(f64),
    /// The mean over samples of the minimum and of the maximum.
    MovingAverage,
    /// Percentiles: the given share of the numbers is clipped at either end.
    Percentile(f64),
    /// The least squared quantization error.
    Mse,
    /// The least Kullback-Leibler divergence, with a bound on the share of clipped numbers.
    Entropy,
}

/// Selects the range for `levels` quantization levels. `after` applies the activation function that follows the value,
/// so that `Mse` measures the error after it.
pub(super) fn search(stats: &Stats, method: Method, levels: usize, after: &dyn Fn(Vec<f32>) -> Vec<f32>) -> Range {
    let all = Range { lo: stats.min, hi: stats.max }.with_zero();
    if all.span() <= 0.0 {
        return all;
    }
    match method {
        Method::MinMax => all,
        Method::Widened(factor) => {
            let [lo, hi] = [all.lo, all.hi].map(|end| (f64::from(end) * factor) as f32);
            if lo.is_finite() && hi.is_finite() { Range { lo, hi } } else { all }
        }
        Method::MovingAverage => {
            let [lo, hi] = stats.typical();
            Range { lo: lo as f32, hi: hi as f32 }.with_zero()
        }
        Method::Percentile(share) => percentile(stats, share, &|_| true).with_zero(),
        Method::Mse => {
            let (centres, counts): (Vec<f32>, Vec<u64>) = stats.histogram.bins().unzip();
            let truth = after(centres.clone());
            let seen: Vec<_> = centres.into_iter().zip(truth).zip(counts).map(|((x, y), n)| (x, y, n as f32)).collect();
            descend(all, &|r, least| squared_error(&seen, r, levels, after, least))
        }
        // With few numbers in each bin, or most of them at 0, minimizing the divergence alone would clip nearly all
        // numbers.
        Method::Entropy => {
            let zero = stats.histogram.width();
            let least = percentile(stats, MOST_CLIPPED, &|x| x.abs() > zero).with_zero();
            descend(all, &|r, _| divergence(stats, r, levels)).union(least)
        }
    }
}

/// The share of the nonzero numbers at either end that entropy calibration may clip.
const MOST_CLIPPED: f64 = 1e-3;

/// The percentile range of the bins for which `counts` holds.
fn percentile(stats: &Stats, share: f64, counts: &dyn Fn(f32) -> bool) -> Range {
    let bins: Vec<_> = stats.histogram.bins().filter(|b| counts(b.0)).collect();
    let total: u64 = bins.iter().map(|b| b.1).sum();
    let cut = (total as f64 * share) as u64;
    Range {
        lo: first_past(bins.iter(), cut).unwrap_or(stats.min),
        hi: first_past(bins.iter().rev(), cut).unwrap_or(stats.max),
    }
}

/// The first bin at which the cumulative count exceeds `cut`.
fn first_past<'b>(bins: impl Iterator<Item = &'b (f32, u64)>, cut: u64) -> Option<f32> {
    let mut passed = 0;
    for (x, n) in bins {
        passed += n;
        if passed > cut {
            return Some(*x);
        }
    }
    None
}

/// The ratio of two successive candidates of the search: 0.9 in single precision.
const RATIO: f64 = 0.9f32 as f64;

/// The powers of a number, by multiplication. The last bit of a library's power function depends on the build.
fn powers(x: f64) -> impl Iterator<Item = f32> {
    std::iter::successors(Some(x), move |power| Some(power * x)).map(|power| power as f32)
}

/// Minimizes `loss` by coordinate descent over the two ends of the range. The first rounds use steps of equal ratio
/// from the full range, because an outlier may make it a hundred times too wide. The last round refines the result.
/// `loss` gets the least loss so far, and may return early with any larger value.
fn descend(all: Range, loss: &dyn Fn(Range, f64) -> f64) -> Range {
    let quarter = RATIO.sqrt().sqrt();
    let wide: Vec<f32> = powers(RATIO).take(24).collect();
    let mut near: Vec<f32> = powers(1.0 / quarter).take(3).collect();
    near.reverse();
    near.extend(powers(quarter).take(3));
    let mut best = (loss(all, f64::INFINITY), all);
    for (ratios, around) in [(&wide, false), (&wide, false), (&near, true)] {
        for end in 0..2 {
            let (current, from) = (best.1, if around { best.1 } else { all });
            for ratio in ratios {
                let r = match end {
                    0 => Range { lo: (from.lo * ratio).max(all.lo), hi: current.hi },
                    _ => Range { lo: current.lo, hi: (from.hi * ratio).min(all.hi) },
                };
                if r.span() <= 0.0 || r == best.1 {
                    continue;
                }
                let l = loss(r, best.0);
                if l < best.0 {
                    best = (l, r);
                }
            }
        }
    }
    best.1
}

/// The weight of clipping errors relative to rounding errors. Rounding errors cancel in sums; clipping errors all have
/// one sign.
const CLIPPED: f32 = 30.0;

/// The weighted squared error. `seen` holds numbers, their value after the activation function, and their count. The
/// sum stops early at `least`.
fn squared_error(
    seen: &[(f32, f32, f32)],
    r: Range,
    levels: usize,
    after: &dyn Fn(Vec<f32>) -> Vec<f32>,
    least: f64,
) -> f64 {
    const AT_ONCE: usize = 128;
    let steps = (levels - 1) as f32;
    let scale = r.span() / steps;
    let zero = (-r.lo / scale).round();
    let table = after((0..levels).map(|q| (q as f32 - zero) * scale).collect());
    let inverse = 1.0 / scale;
    let error = |&(x, y, n): &(f32, f32, f32)| {
        let q = x * inverse + zero + 0.5;
        let error = table[q.clamp(0.0, steps) as usize] - y;
        let weight = if (0.0..=steps + 1.0).contains(&q) { 1.0 } else { CLIPPED };
        f64::from(weight * n * error * error)
    };
    let mut sum = 0.0;
    for some in seen.chunks(AT_ONCE) {
        sum = some.iter().map(error).fold(sum, |sum, e| sum + e);
        if sum >= least {
            break;
        }
    }
    sum
}

/// The Kullback-Leibler divergence between the observed distribution, clipped to the range, and its quantized version.
fn divergence(stats: &Stats, r: Range, levels: usize) -> f64 {
    let scale = r.span() / levels as f32;
    let inside = |x: f32| (r.lo..=r.hi).contains(&x);
    let level = |x: f32| (((x - r.lo) / scale) as isize).clamp(0, levels as isize - 1) as usize;
    let (mut mass, mut bins) = (vec![0.0f64; levels], vec![0.0f64; levels]);
    for (x, n) in stats.histogram.bins().filter(|b| inside(b.0)) {
        mass[level(x)] += n as f64;
        bins[level(x)] += 1.0;
    }
    let kept: f64 = mass.iter().sum();
    let outside = |side: &dyn Fn(f32) -> bool| stats.histogram.bins().filter(|b| side(b.0)).map(|b| b.1 as f64).sum();
    let (below, above): (f64, f64) = (outside(&|x| x < r.lo), outside(&|x| x > r.hi));
    let total = kept + below + above;
    let seen: Vec<(f32, u64)> = stats.histogram.bins().filter(|b| inside(b.0)).collect();
    if seen.is_empty() {
        return f64::INFINITY;
    }
    let term = |(i, &(x, n)): (usize, &(f32, u64))| {
        let first = if i == 0 { below } else { 0.0 };
        let last = if i + 1 == seen.len() { above } else { 0.0 };
        let p = (n as f64 + first + last) / total;
        let q = mass[level(x)] / bins[level(x)] / kept;
        p * libm::log(p / q)
    };
    seen.iter().enumerate().map(term).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(x: Vec<f32>) -> Vec<f32> {
        x
    }

    /// Thousands of numbers around 0 and one outlier.
    fn outlier() -> Stats {
        let mut values: Vec<f32> = (0..8000).map(|i| (i as f32 / 4000.0 - 1.0).powi(3)).collect();
        values.push(50.0);
        Stats::of(&values)
    }

    #[test]
    fn min_max_holds_everything_and_zero() {
        let r = search(&Stats::of(&[2.0, 3.0]), Method::MinMax, 256, &identity);
        assert_eq!(r, Range { lo: 0.0, hi: 3.0 });
    }

    #[test]
    fn widened_ranges_stay_finite() {
        let widened = |values: &[f32]| search(&Stats::of(values), Method::Widened(2.0), 1 << 16, &identity);
        assert_eq!(widened(&[-1.0, 3.0]), Range { lo: -2.0, hi: 6.0 });
        assert_eq!(widened(&[0.0, 3e38]), Range { lo: 0.0, hi: 3e38 });
    }

    #[test]
    fn outliers_are_clipped_if_that_reduces_the_error() {
        for method in [Method::Percentile(0.01), Method::Entropy] {
            assert!(search(&outlier(), method, 256, &identity).hi < 25.0, "{method:?}");
        }
    }

    /// The output of a Relu is mostly 0, and few samples fill few bins.
    #[test]
    fn entropy_clips_few_numbers() {
        for count in [20, 300, 5000] {
            let number = |i: usize| if i.is_multiple_of(4) { -libm::logf(1.0 - i as f32 / count as f32) } else { 0.0 };
            let values: Vec<f32> = (0..count).map(number).collect();
            let r = search(&Stats::of(&values), Method::Entropy, 256, &identity);
            let outside = values.iter().filter(|&&x| x > r.hi * 1.01 || x < r.lo).count();
            assert!(outside <= count / 1000, "{count}: {outside} beyond {r:?}");
        }
    }

    #[test]
    fn squared_error_is_measured_after_the_activation() {
        let relu = |x: Vec<f32>| x.into_iter().map(|x| x.max(0.0)).collect();
        let stats = Stats::of(&(0..2000).map(|i| i as f32 / 100.0 - 19.0).collect::<Vec<_>>());
        let (plain, after_relu) =
            (search(&stats, Method::Mse, 256, &identity), search(&stats, Method::Mse, 256, &relu));
        assert!(after_relu.lo > -2.5 && plain.lo < -15.0, "{plain:?} {after_relu:?}");
        assert!(after_relu.hi > 0.9);
    }
}
