//! The distribution of the numbers of each channel of a value, from which that of the value with scaled channels follows.

use qcc_ir::vector::summary;
use serde::{Deserialize, Serialize};

use super::histogram::Histogram;
use super::reading::spread;

/// The maximum number of bins of a channel.
const BINS: usize = 64;

/// The numbers of one tensor that are counted. Extremes use all.
const COUNTED: usize = 1 << 15;

/// The length below which extremes are found without vectors.
const SHORT: usize = 32;

/// The numbers of one channel.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Channel {
    min: f32,
    max: f32,
    histogram: Histogram<BINS>,
}

/// The numbers of each channel along an axis, for either half of the samples; no channels if a half is empty.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Spread([Vec<Channel>; 2]);

impl Spread {
    /// Those of one tensor of shape `extents`. Infinities and NaNs are left out.
    pub(super) fn of(values: &[f32], extents: &[usize], axis: usize) -> Self {
        let (channels, inner) = (extents[axis], extents[axis + 1..].iter().product::<usize>().max(1));
        let mut extremes = vec![[f32::INFINITY, f32::NEG_INFINITY]; channels];
        let mut add = |channel: usize, lo: f32, hi: f32| {
            let [min, max]: &mut [f32; 2] = &mut extremes[channel];
            (*min, *max) = (min.min(lo), max.max(hi));
        };
        for (i, run) in values.chunks(inner).enumerate() {
            // Vectors are no gain for the few numbers of a channel in a row.
            let whole = (run.len() >= SHORT).then(|| summary(run)).filter(|(sum, ..)| sum.is_finite());
            match whole {
                Some((_, lo, hi)) => add(i % channels, lo, hi),
                None => run.iter().filter(|x| x.is_finite()).for_each(|&x| add(i % channels, x, x)),
            }
        }
        let empty = |[min, max]: [f32; 2]| match min <= max {
            // Which zero is the minimum of both zeros depends on their order.
            true => Channel { min: min + 0.0, max: max + 0.0, histogram: Histogram::covering(min, max) },
            false => Channel { min: 0.0, max: 0.0, histogram: Histogram::default() },
        };
        let mut all: Vec<Channel> = extremes.into_iter().map(empty).collect();
        let positions = values.len() / channels.max(1);
        for at in spread(positions, COUNTED.div_ceil(channels.max(1)), 0) {
            let first = at / inner * channels * inner + at % inner;
            for (channel, own) in all.iter_mut().enumerate() {
                let x = values[first + channel * inner];
                if x.is_finite() {
                    own.histogram.add(x);
                }
            }
        }
        Spread([all, Vec::new()])
    }

    /// The same, of samples that belong to the given half.
    pub(super) fn in_half(mut self, second: bool) -> Self {
        if second {
            self.0.swap(0, 1);
        }
        self
    }

    /// Adds the numbers of other samples.
    pub(super) fn merge(&mut self, other: &Spread) {
        for (own, theirs) in self.0.iter_mut().zip(&other.0) {
            if own.is_empty() {
                own.clone_from(theirs);
                continue;
            }
            merge(own, theirs);
        }
    }

    /// The number of channels.
    pub(crate) fn channels(&self) -> usize {
        self.0[0].len().max(self.0[1].len())
    }

    /// The numbers of one half alone, if it has any.
    pub(crate) fn half(&self, second: bool) -> Option<Spread> {
        let half = &self.0[usize::from(second)];
        (!half.is_empty()).then(|| Spread([half.clone(), Vec::new()]))
    }

    /// The channels of both halves, each with its index.
    fn all(&self) -> impl Iterator<Item = (usize, &Channel)> {
        self.0.iter().flat_map(|half| half.iter().enumerate())
    }

    /// The largest magnitude of each channel.
    pub(crate) fn magnitudes(&self) -> Vec<f32> {
        let mut all = vec![0.0f32; self.channels()];
        self.all().for_each(|(i, channel)| all[i] = all[i].max(channel.max).max(-channel.min));
        all
    }

    /// The minimum and the maximum of all channels times their factors.
    pub(super) fn extremes(&self, factors: &[f32]) -> [f32; 2] {
        let each = self.all().filter(|(_, channel)| !channel.histogram.is_empty());
        let all = each.fold([f32::INFINITY, f32::NEG_INFINITY], |[lo, hi], (i, channel)| {
            [lo.min(channel.min * factors[i]), hi.max(channel.max * factors[i])]
        });
        if all[0] <= all[1] { all } else { [0.0, 0.0] }
    }

    /// The distribution of all channels times their factors.
    pub(super) fn histogram(&self, factors: &[f32]) -> Histogram {
        let [min, max] = self.extremes(factors);
        let mut all = Histogram::covering(min, max);
        for (i, channel) in self.all() {
            for (x, count) in channel.histogram.bins() {
                all.add_times((x.clamp(channel.min, channel.max) * factors[i]).clamp(min, max), count);
            }
        }
        all
    }

    /// For each channel, the mean of a function of the numbers.
    pub(crate) fn means(&self, f: impl Fn(usize, f32) -> f32) -> Vec<f64> {
        let mut sums = vec![(0.0f64, 0.0f64); self.channels()];
        for (i, channel) in self.all() {
            let (sum, count) = &mut sums[i];
            for (x, n) in channel.histogram.bins() {
                *sum += f64::from(f(i, x.clamp(channel.min, channel.max))) * n as f64;
                *count += n as f64;
            }
        }
        sums.into_iter().map(|(sum, count)| if count > 0.0 { sum / count } else { 0.0 }).collect()
    }

    /// True if numbers are finite and in order, and sizes are within their limits.
    pub(super) fn is_valid(&self) -> bool {
        let sizes = self.0.iter().all(|half| half.is_empty() || half.len() == self.channels());
        let valid = |c: &Channel| c.min.is_finite() && c.max.is_finite() && c.min <= c.max && c.histogram.is_valid();
        sizes && self.all().all(|(_, channel)| valid(channel))
    }
}

/// Adds the numbers of other samples to channels.
fn merge(own: &mut [Channel], others: &[Channel]) {
    for (own, theirs) in own.iter_mut().zip(others) {
        if theirs.histogram.is_empty() {
            continue;
        }
        if own.histogram.is_empty() {
            own.clone_from(theirs);
            continue;
        }
        (own.min, own.max) = (own.min.min(theirs.min), own.max.max(theirs.max));
        own.histogram.merge(theirs.histogram.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use qcc_ir::Shape;
    use qcc_ir::testing::numbers;

    fn sample(rows: usize, seed: u64) -> Spread {
        let x = numbers(Shape::known(&[rows, 3, 2]), seed);
        let own: Vec<f32> = x.floats().iter().enumerate().map(|(i, x)| x * [0.01, 1.0, 50.0][i / 2 % 3]).collect();
        Spread::of(&own, &[rows, 3, 2], 1)
    }

    proptest! {
        #[test]
        fn order_and_grouping_do_not_matter(rows in prop::collection::vec(0usize..30, 2..8), cut in 1usize..7) {
            let cut = cut.min(rows.len() - 1);
            let each: Vec<Spread> = rows.iter().enumerate().map(|(i, &n)| sample(n, i as u64).in_half(i % 3 == 1)).collect();
            let merged = |parts: &[Spread]| {
                let mut all = parts[0].clone();
                parts[1..].iter().for_each(|part| all.merge(part));
                all
            };
            let (all, mut last) = (merged(&each), merged(&each[cut..]));
            last.merge(&merged(&each[..cut]));
            prop_assert_eq!(&all, &last);
            prop_assert!(all.is_valid());
        }
    }

    /// Dividing channels by their magnitudes makes them alike, and the histogram counts all numbers.
    #[test]
    fn factors_apply_to_channels() {
        let spread = sample(100, 1);
        let inverse: Vec<f32> = spread.magnitudes().into_iter().map(|m| 1.0 / m).collect();
        assert!(inverse[0] > 50.0 && inverse[2] < 0.05, "{inverse:?}");
        let [lo, hi] = spread.extremes(&inverse);
        assert!((-1.001..-0.9).contains(&lo) && (0.9..1.001).contains(&hi), "{lo} {hi}");
        assert_eq!(spread.histogram(&inverse).bins().map(|b| b.1).sum::<u64>(), 600);
        let squares = spread.means(|i, x| (x * inverse[i]).powi(2));
        assert!(squares.iter().all(|s| (0.2..0.5).contains(s)), "{squares:?}");
    }

    #[test]
    fn numbers_that_are_not_finite_are_left_out() {
        let spread = Spread::of(&[1.0, f32::NAN, -2.0, f32::INFINITY], &[2, 2], 1);
        assert_eq!(spread.extremes(&[1.0, 1.0]), [-2.0, 1.0]);
        assert!(spread.is_valid());
    }
}
