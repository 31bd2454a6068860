//! From statistics to a range.

use super::Stats;

/// The real numbers a grid spans.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Range {
    /// Lower end.
    pub lo: f32,
    /// Upper end.
    pub hi: f32,
}

impl Range {
    /// The smallest range that holds both.
    pub fn union(self, other: Range) -> Range {
        Range { lo: self.lo.min(other.lo), hi: self.hi.max(other.hi) }
    }

    /// The same range, widened to hold 0, which every grid holds.
    pub fn with_zero(self) -> Range {
        Range { lo: self.lo.min(0.0), hi: self.hi.max(0.0) }
    }

    /// Length.
    pub fn span(self) -> f32 {
        self.hi - self.lo
    }
}

/// How a range is chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Method {
    /// All that was seen.
    MinMax,
    /// The mean over samples of the smallest and of the largest number.
    MovingAverage,
    /// All but this share of the numbers at either end.
    Percentile(f64),
    /// The least squared error.
    Mse,
    /// The least loss of information (Kullback-Leibler divergence), as long as hardly any number is cut off.
    Entropy,
}

/// The range for a grid of `levels` steps. `after` makes of numbers what the readers of the value make of them: `Mse`
/// counts the error behind it.
pub(super) fn search(stats: &Stats, method: Method, levels: usize, after: &dyn Fn(Vec<f32>) -> Vec<f32>) -> Range {
    let all = Range { lo: stats.min, hi: stats.max }.with_zero();
    if all.span() <= 0.0 {
        return all;
    }
    match method {
        Method::MinMax => all,
        Method::MovingAverage => {
            let n = stats.samples.max(1) as f64;
            Range { lo: (stats.sum_min / n) as f32, hi: (stats.sum_max / n) as f32 }.with_zero()
        }
        Method::Percentile(share) => percentile(stats, share, &|_| true).with_zero(),
        Method::Mse => {
            let (centres, counts): (Vec<f32>, Vec<u64>) = stats.histogram.bins().unzip();
            let truth = after(centres.clone());
            let seen: Vec<_> = centres.into_iter().zip(truth).zip(counts).map(|((x, y), n)| (x, y, n as f32)).collect();
            descend(all, &|r, least| squared_error(&seen, r, levels, after, least))
        }
        // With few numbers in each bin, or most of them at 0, the divergence would cut off nearly all.
        Method::Entropy => {
            let zero = stats.histogram.width();
            let least = percentile(stats, MOST_CUT, &|x| x.abs() > zero).with_zero();
            descend(all, &|r, _| divergence(stats, r, levels)).union(least)
        }
    }
}

/// The share of numbers at either end, zeros not counted, that the least divergence may cut off.
const MOST_CUT: f64 = 1e-3;

/// All but this share at either end of the numbers that count.
fn percentile(stats: &Stats, share: f64, counts: &dyn Fn(f32) -> bool) -> Range {
    let bins: Vec<_> = stats.histogram.bins().filter(|b| counts(b.0)).collect();
    let total: u64 = bins.iter().map(|b| b.1).sum();
    let cut = (total as f64 * share) as u64;
    Range {
        lo: first_past(bins.iter(), cut).unwrap_or(stats.min),
        hi: first_past(bins.iter().rev(), cut).unwrap_or(stats.max),
    }
}

/// The first bin by which more than `cut` numbers have passed.
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

/// The ratio of two ranges that are tried one after the other: 0.9 in single precision.
const RATIO: f64 = 0.9f32 as f64;

/// A number and its powers, by products: the last bit of what a library's power function gives depends on how it is built.
fn powers(x: f64) -> impl Iterator<Item = f32> {
    std::iter::successors(Some(x), move |power| Some(power * x)).map(|power| power as f32)
}

/// Shrinks the ends one after the other, each to where `loss` is least, first by steps of equal ratio, since an outlier may
/// make a range a hundred times too wide, and then around what was found. A loss that is not below the least so far, which
/// `loss` is told, need not be exact.
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

/// How much more the error of a number outside the range counts than one that is rounded: rounding errors cancel out
/// where they are summed, those of numbers cut off all have one sign.
const CUT_OFF: f32 = 30.0;

/// `seen` holds numbers, what their readers make of them, and how often they occur. Summing ends where the error is not
/// below `least`.
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
        let weight = if (0.0..=steps + 1.0).contains(&q) { 1.0 } else { CUT_OFF };
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

/// Kullback-Leibler divergence of the spread over levels from the spread that was seen, whose outside is moved to the
/// ends.
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
        p * (p / q).ln()
    };
    seen.iter().enumerate().map(term).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(x: Vec<f32>) -> Vec<f32> {
        x
    }

    /// Thousands of numbers around 0 and one far away.
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
    fn an_outlier_is_given_up_where_that_pays() {
        for method in [Method::Percentile(0.01), Method::Entropy] {
            assert!(search(&outlier(), method, 256, &identity).hi < 25.0, "{method:?}");
        }
    }

    /// What follows a Relu is 0 for the most part, and few samples fill few bins.
    #[test]
    fn entropy_cuts_off_hardly_any_number() {
        for count in [20, 300, 5000] {
            let number = |i: usize| if i.is_multiple_of(4) { -(1.0 - i as f32 / count as f32).ln() } else { 0.0 };
            let values: Vec<f32> = (0..count).map(number).collect();
            let r = search(&Stats::of(&values), Method::Entropy, 256, &identity);
            let outside = values.iter().filter(|&&x| x > r.hi * 1.01 || x < r.lo).count();
            assert!(outside <= count / 1000, "{count}: {outside} beyond {r:?}");
        }
    }

    #[test]
    fn squared_error_counts_behind_the_reader() {
        let relu = |x: Vec<f32>| x.into_iter().map(|x| x.max(0.0)).collect();
        let stats = Stats::of(&(0..2000).map(|i| i as f32 / 100.0 - 19.0).collect::<Vec<_>>());
        let (plain, behind) = (search(&stats, Method::Mse, 256, &identity), search(&stats, Method::Mse, 256, &relu));
        assert!(behind.lo > -2.5 && plain.lo < -15.0, "{plain:?} {behind:?}");
        assert!(behind.hi > 0.9);
    }
}
