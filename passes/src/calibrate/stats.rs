//! The statistics of one value. They can be merged, and the result does not depend on the order of the samples, except
//! for the halves.

use qcc_ir::vector::summary;
use serde::{Deserialize, Serialize};

/// The maximum number of bins of a histogram.
const BINS: usize = 2048;
/// The maximum size of a histogram in bytes.
pub(super) const LARGEST_BYTES: u64 = (BINS * size_of::<u64>()) as u64;

/// The maximum number of elements of one tensor that the histogram counts. Minimum and maximum use all elements.
const SEEN: usize = 1 << 15;

/// A histogram whose bin width is a power of two. Bins are aligned to multiples of the width, so merging neighbouring
/// bins is exact.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Histogram {
    /// The width of a bin is `2^exponent`.
    exponent: i32,
    /// Bin 0 covers `[first, first + 1)` widths.
    first: i64,
    counts: Vec<u64>,
}

impl Histogram {
    /// Empty bins for numbers in `min..=max`.
    fn covering(min: f32, max: f32) -> Self {
        let span = (f64::from(max) - f64::from(min)).max(f64::from(max.abs().max(min.abs())) * 1e-6).max(1e-30);
        let exponent = libm::log2(span / (BINS as f64 - 2.0)).ceil() as i32;
        let index = |x: f32| libm::scalbn(f64::from(x), -exponent).floor() as i64;
        let (first, last) = (index(min), index(max));
        Histogram { exponent, first, counts: vec![0; (last - first + 1) as usize] }
    }

    fn count(&mut self, values: impl Iterator<Item = f32>) {
        // Scaling by a power of two is exact, and the difference is not negative, so truncation rounds down.
        let (scale, first) = (libm::scalbnf(1.0, -self.exponent), self.first as f32);
        let last = self.counts.len() - 1;
        // Two counters for each bin: neighbouring numbers are often equal, and a single counter would stall on its own
        // update.
        let mut counts = vec![[0u64; 2]; self.counts.len()];
        for (k, x) in values.enumerate() {
            let i = (x * scale - first) as i32 as usize;
            counts[i.min(last)][k % 2] += 1;
        }
        self.counts.iter_mut().zip(counts).for_each(|(all, [a, b])| *all += a + b);
    }

    /// Merges pairs of bins until the width is `2^exponent`.
    fn widen(&mut self, exponent: i32) {
        while self.exponent < exponent {
            let first = self.first.div_euclid(2);
            let last = (self.first + self.counts.len() as i64 - 1).div_euclid(2);
            let mut counts = vec![0; (last - first + 1) as usize];
            for (i, c) in self.counts.iter().enumerate() {
                counts[((self.first + i as i64).div_euclid(2) - first) as usize] += c;
            }
            *self = Histogram { exponent: self.exponent + 1, first, counts };
        }
    }

    /// Adds the counts of another histogram.
    pub fn merge(&mut self, mut other: Histogram) {
        if other.counts.is_empty() {
            return;
        }
        if self.counts.is_empty() {
            *self = other;
            return;
        }
        self.widen(other.exponent);
        other.widen(self.exponent);
        let end = |h: &Histogram| h.first + h.counts.len() as i64;
        let ends = |a: &Histogram, b: &Histogram| (a.first.min(b.first), end(a).max(end(b)));
        let (mut first, mut last) = ends(self, &other);
        // Widening comes first: two narrow histograms that are far apart would need too many bins.
        while last - first > BINS as i64 {
            self.widen(self.exponent + 1);
            other.widen(self.exponent);
            (first, last) = ends(self, &other);
        }
        let mut counts = vec![0; (last - first) as usize];
        for h in [&*self, &other] {
            for (i, c) in h.counts.iter().enumerate() {
                counts[(h.first - first) as usize + i] += c;
            }
        }
        *self = Histogram { exponent: self.exponent, first, counts };
    }

    /// The centre and the count of each bin that is not empty, in ascending order.
    pub fn bins(&self) -> impl Iterator<Item = (f32, u64)> + '_ {
        let width = libm::scalbn(1.0, self.exponent);
        let centre = move |i: usize| (((self.first + i as i64) as f64 + 0.5) * width) as f32;
        self.counts.iter().enumerate().filter(|(_, c)| **c > 0).map(move |(i, c)| (centre(i), *c))
    }

    /// Width of a bin.
    pub fn width(&self) -> f32 {
        libm::scalbnf(1.0, self.exponent)
    }
}

/// The statistics of one value over all samples.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Stats {
    /// The minimum.
    pub min: f32,
    /// The maximum.
    pub max: f32,
    /// The sum over samples of the minimum.
    pub sum_min: f64,
    /// The sum over samples of the maximum.
    pub sum_max: f64,
    /// The minimum and the maximum of every other sample, beginning with the first, and of the samples between them, if
    /// there are any. They are alike if there are enough samples.
    pub halves: [Option<[f32; 2]>; 2],
    /// The number of samples.
    pub samples: u64,
    /// The number of infinities and NaNs. They are excluded from all other statistics.
    pub not_finite: u64,
    /// The distribution of the numbers.
    pub histogram: Histogram,
    /// The statistics of each channel, if they were requested.
    pub channels: Option<Channels>,
}

/// The statistics of the channels of a value along one axis.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Channels {
    /// The axis.
    pub axis: usize,
    /// The sum over samples of the mean of each channel.
    means: Vec<f64>,
    /// The maximum of each channel, 0 if all numbers are negative.
    pub largest: Vec<f32>,
}

impl Stats {
    /// The statistics of the channels along `axis`, if available.
    pub fn along(&self, axis: usize) -> Option<&Channels> {
        self.channels.as_ref().filter(|channels| channels.axis == axis)
    }

    /// The mean of each channel along `axis` over all samples.
    pub fn channel_means(&self, axis: usize) -> Option<Vec<f64>> {
        Some(self.along(axis)?.means.iter().map(|sum| sum / self.samples.max(1) as f64).collect())
    }

    /// The mean and the standard deviation of the histogram.
    pub fn moments(&self) -> (f64, f64) {
        let sum = |f: &dyn Fn(f64) -> f64| self.histogram.bins().map(|(x, n)| f(f64::from(x)) * n as f64).sum::<f64>();
        let count = sum(&|_| 1.0).max(1.0);
        let mean = sum(&|x| x) / count;
        (mean, (sum(&|x| (x - mean).powi(2)) / count).sqrt())
    }

    /// The statistics of one tensor.
    pub fn of(values: &[f32]) -> Self {
        Stats::spread(values, extremes(values))
    }

    /// The statistics of one tensor of shape `extents` and of its channels along `axis`.
    pub fn with_channels(values: &[f32], extents: &[usize], axis: usize) -> Self {
        let (channels, extremes) = Channels::of(values, extents, axis);
        Stats { channels: Some(channels), ..Stats::spread(values, extremes) }
    }

    /// The statistics of numbers whose `extremes` are known.
    fn spread(values: &[f32], extremes: Option<Extremes>) -> Self {
        let Some(Extremes { min, max }) = extremes else {
            let finite: Vec<f32> = values.iter().copied().filter(|x| x.is_finite()).collect();
            let not_finite = (values.len() - finite.len()) as u64;
            return Stats { not_finite, ..Stats::of(&finite) };
        };
        if min > max {
            return Stats { samples: 1, ..Stats::default() };
        }
        let mut histogram = Histogram::covering(min, max);
        // An odd stride samples all rows and channels equally.
        let stride = values.len().div_ceil(SEEN) | 1;
        histogram.count(values.iter().step_by(stride).copied());
        let (sum_min, sum_max) = (min.into(), max.into());
        let halves = [Some([min, max]), None];
        Stats { min, max, sum_min, sum_max, halves, samples: 1, not_finite: 0, histogram, channels: None }
    }

    /// Merges the statistics of the samples that follow.
    pub fn merge(&mut self, other: Stats) {
        for (i, theirs) in other.halves.into_iter().enumerate() {
            let own = &mut self.halves[(self.samples as usize + i) % 2];
            *own = match (*own, theirs) {
                (Some([a, b]), Some([c, d])) => Some([a.min(c), b.max(d)]),
                (own, theirs) => own.or(theirs),
            };
        }
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
        self.sum_min += other.sum_min;
        self.sum_max += other.sum_max;
        self.samples += other.samples;
        self.not_finite += other.not_finite;
        self.histogram.merge(other.histogram);
        match (&mut self.channels, other.channels) {
            (Some(own), Some(other)) => {
                own.means.iter_mut().zip(other.means).for_each(|(a, b)| *a += b);
                own.largest.iter_mut().zip(other.largest).for_each(|(a, b)| *a = a.max(b));
            }
            (own, other) => *own = own.take().or(other),
        }
    }
}

impl Channels {
    /// The statistics of the channels along `axis`, and the extremes of all numbers, `None` if one is not finite.
    fn of(values: &[f32], extents: &[usize], axis: usize) -> (Self, Option<Extremes>) {
        let (channels, inner) = (extents[axis], extents[axis + 1..].iter().product::<usize>().max(1));
        let (mut sums, mut largest) = (vec![0.0f64; channels], vec![0.0f32; channels]);
        let mut all = Some(Extremes::NONE);
        if inner == 1 {
            for row in values.chunks(channels.max(1)) {
                sums.iter_mut().zip(row).for_each(|(sum, &x)| *sum += f64::from(x));
                largest.iter_mut().zip(row).for_each(|(most, &x)| *most = greater(*most, x));
            }
            all = extremes(values);
        } else {
            for (i, run) in values.chunks(inner).enumerate() {
                let channel = i % channels;
                let (sum, extremes) = summed(run);
                sums[channel] += f64::from(sum);
                largest[channel] = greater(largest[channel], extremes.max);
                all = all.filter(|_| finite(run, sum)).map(|all| all.union(extremes));
            }
        }
        let each = values.len() as f64 / channels.max(1) as f64;
        let means = sums.into_iter().map(|sum| sum / each).collect();
        (Channels { axis, means, largest }, all)
    }
}

/// The greater number, or `a` if they cannot be compared.
fn greater(a: f32, b: f32) -> f32 {
    if b > a { b } else { a }
}

/// The minimum and the maximum. The minimum is the larger one if there are no numbers.
#[derive(Clone, Copy)]
struct Extremes {
    min: f32,
    max: f32,
}

impl Extremes {
    const NONE: Extremes = Extremes { min: f32::INFINITY, max: f32::NEG_INFINITY };

    fn union(self, other: Extremes) -> Extremes {
        Extremes { min: self.min.min(other.min), max: self.max.max(other.max) }
    }
}

/// The extremes of numbers, or `None` if one is not finite.
fn extremes(values: &[f32]) -> Option<Extremes> {
    /// A block that stays in the L1 or L2 cache between two reads.
    const BLOCK: usize = 1 << 13;
    values.chunks(BLOCK).try_fold(Extremes::NONE, |all, block| {
        let (sum, extremes) = summed(block);
        finite(block, sum).then(|| all.union(extremes))
    })
}

/// The sum of numbers and their extremes. The extremes are valid only if all numbers are finite.
fn summed(values: &[f32]) -> (f32, Extremes) {
    let (sum, min, max) = summary(values);
    (sum, Extremes { min, max })
}

/// True if all numbers are finite. `sum` is their sum: it may overflow to infinity, but it is never finite if a number
/// is not.
fn finite(values: &[f32], sum: f32) -> bool {
    sum.is_finite() || values.iter().all(|x| x.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn merged(parts: &[&[f32]]) -> Stats {
        let mut all = Stats::of(parts[0]);
        parts[1..].iter().for_each(|p| all.merge(Stats::of(p)));
        all
    }

    proptest! {
        /// Statistics do not depend on the order of the samples.
        #[test]
        fn merging_commutes(
            a in prop::collection::vec(-1e3f32..1e3, 1..50),
            b in prop::collection::vec(-1.0f32..1.0, 1..50),
            c in prop::collection::vec(-1e-3f32..1e4, 1..50),
        ) {
            let (x, y) = (merged(&[&a, &b, &c]), merged(&[&c, &a, &b]));
            prop_assert_eq!(&x.histogram, &y.histogram);
            prop_assert_eq!((x.min, x.max, x.samples), (y.min, y.max, y.samples));
        }

        /// The histogram counts every number, in the right bin.
        #[test]
        fn bins_count_all_numbers(a in prop::collection::vec(-1e6f32..1e6, 1..200)) {
            let s = Stats::of(&a);
            prop_assert_eq!(s.histogram.bins().map(|b| b.1).sum::<u64>(), a.len() as u64);
            for x in a {
                let near = s.histogram.bins().any(|(c, _)| (c - x).abs() <= s.histogram.width() * 0.5001);
                prop_assert!(near);
            }
        }
    }

    #[test]
    fn single_numbers_far_apart_share_few_bins() {
        let s = merged(&[&[1e-30], &[-5.0], &[7.0], &[7.0]]);
        assert!(s.histogram.counts.capacity() <= BINS);
        let counts: Vec<u64> = s.histogram.bins().map(|b| b.1).collect();
        assert_eq!(counts, [1, 1, 2]);
    }

    #[test]
    fn halves_are_every_other_sample() {
        let parts: [&[f32]; 5] = [&[0.0, 1.0], &[-9.0, 0.5], &[2.0], &[4.0], &[-1.0]];
        let s = merged(&parts);
        assert_eq!(s.halves, [Some([-1.0, 2.0]), Some([-9.0, 4.0])]);
        let (mut first, rest) = (merged(&parts[..3]), merged(&parts[3..]));
        first.merge(rest);
        assert_eq!(first.halves, s.halves);
        assert_eq!(merged(&parts[..1]).halves, [Some([0.0, 1.0]), None]);
    }

    #[test]
    fn non_finite_numbers_are_counted_separately() {
        let s = Stats::of(&[1.0, f32::INFINITY, f32::NAN, -2.0]);
        assert_eq!((s.min, s.max, s.not_finite), (-2.0, 1.0, 2));
        let s = Stats::of(&[f32::NAN]);
        assert_eq!((s.min, s.max, s.not_finite), (0.0, 0.0, 1));
    }
}
