//! What calibration remembers of a value: mergeable, and the same whatever the order of the samples.

use rten_simd::SimdOp;
use rten_vecmath::{MinMax, Sum};
use serde::{Deserialize, Serialize};

/// Bins a histogram has at most.
const BINS: usize = 2048;
/// Bytes of a histogram at most.
pub(super) const LARGEST_BYTES: u64 = (BINS * size_of::<u64>()) as u64;

/// Elements of one tensor that the histogram sees at most; minimum and maximum see all.
const SEEN: usize = 1 << 15;

/// Counts of numbers in bins of equal width, a power of two, aligned to multiples of it: merging neighbours gives
/// just the histogram that the wider bins would have counted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Histogram {
    /// The width of a bin is `2^exponent`.
    exponent: i32,
    /// Bin 0 covers `[first, first + 1)` widths.
    first: i64,
    counts: Vec<u64>,
}

impl Histogram {
    /// Bins for numbers in `min..=max`.
    fn covering(min: f32, max: f32) -> Self {
        let span = (f64::from(max) - f64::from(min)).max(f64::from(max.abs().max(min.abs())) * 1e-6).max(1e-30);
        let exponent = (span / (BINS as f64 - 2.0)).log2().ceil() as i32;
        let index = |x: f32| (f64::from(x) * (-exponent as f64).exp2()).floor() as i64;
        let (first, last) = (index(min), index(max));
        Histogram { exponent, first, counts: vec![0; (last - first + 1) as usize] }
    }

    fn count(&mut self, values: impl Iterator<Item = f32>) {
        // A power of two scales exactly, and the difference is not negative: truncation is the floor.
        let (scale, first) = ((-self.exponent as f64).exp2() as f32, self.first as f32);
        let last = self.counts.len() - 1;
        // Two counts for each bin: numbers beside each other are often alike, and one count would wait for itself.
        let mut counts = vec![[0u64; 2]; self.counts.len()];
        for (k, x) in values.enumerate() {
            let i = (x * scale - first) as i32 as usize;
            counts[i.min(last)][k % 2] += 1;
        }
        self.counts.iter_mut().zip(counts).for_each(|(all, [a, b])| *all += a + b);
    }

    /// The same counts in bins twice as wide, until the width is `2^exponent`.
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
        // Before there are bins for all that lies between two narrow histograms.
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

    /// The centre of each bin that is not empty and its count, ascending.
    pub fn bins(&self) -> impl Iterator<Item = (f32, u64)> + '_ {
        let width = (self.exponent as f64).exp2();
        let centre = move |i: usize| (((self.first + i as i64) as f64 + 0.5) * width) as f32;
        self.counts.iter().enumerate().filter(|(_, c)| **c > 0).map(move |(i, c)| (centre(i), *c))
    }

    /// Width of a bin.
    pub fn width(&self) -> f32 {
        (self.exponent as f64).exp2() as f32
    }
}

/// What was seen of one value over all samples.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Stats {
    /// Smallest number.
    pub min: f32,
    /// Largest number.
    pub max: f32,
    /// Sum over samples of each sample's smallest number.
    pub sum_min: f64,
    /// Sum over samples of each sample's largest number.
    pub sum_max: f64,
    /// Number of samples.
    pub samples: u64,
    /// Numbers that are neither finite; they are left out of everything else.
    pub not_finite: u64,
    /// How the numbers are spread.
    pub histogram: Histogram,
    /// What was seen of its channels, where they were named.
    pub channels: Option<Channels>,
}

/// What was seen of the channels of a value, those along one of its axes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Channels {
    /// The axis.
    pub axis: usize,
    /// Sum over samples of the mean of each channel.
    means: Vec<f64>,
    /// Largest number of each channel, 0 where all are negative.
    pub largest: Vec<f32>,
}

impl Stats {
    /// The channels along `axis`, where those are known.
    pub fn along(&self, axis: usize) -> Option<&Channels> {
        self.channels.as_ref().filter(|channels| channels.axis == axis)
    }

    /// The mean of each channel along `axis` over all samples.
    pub fn channel_means(&self, axis: usize) -> Option<Vec<f64>> {
        Some(self.along(axis)?.means.iter().map(|sum| sum / self.samples.max(1) as f64).collect())
    }

    /// Mean and standard deviation of the numbers, as the histogram shows them.
    pub fn moments(&self) -> (f64, f64) {
        let sum = |f: &dyn Fn(f64) -> f64| self.histogram.bins().map(|(x, n)| f(f64::from(x)) * n as f64).sum::<f64>();
        let count = sum(&|_| 1.0).max(1.0);
        let mean = sum(&|x| x) / count;
        (mean, (sum(&|x| (x - mean).powi(2)) / count).sqrt())
    }

    /// What one tensor shows.
    pub fn of(values: &[f32]) -> Self {
        Stats::spread(values, extremes(values))
    }

    /// What one tensor and its channels show: those along `axis` of its extents.
    pub fn with_channels(values: &[f32], extents: &[usize], axis: usize) -> Self {
        let (channels, extremes) = Channels::of(values, extents, axis);
        Stats { channels: Some(channels), ..Stats::spread(values, extremes) }
    }

    /// What numbers with these `extremes` show.
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
        // An odd stride visits rows and channels alike.
        let stride = values.len().div_ceil(SEEN) | 1;
        histogram.count(values.iter().step_by(stride).copied());
        let (sum_min, sum_max) = (min.into(), max.into());
        Stats { min, max, sum_min, sum_max, samples: 1, not_finite: 0, histogram, channels: None }
    }

    /// Adds what other samples showed.
    pub fn merge(&mut self, other: Stats) {
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
    /// Those along `axis` of a tensor, and the extremes of all its numbers, `None` where one is not finite.
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

/// The greater number; the first where they cannot be compared.
fn greater(a: f32, b: f32) -> f32 {
    if b > a { b } else { a }
}

/// Smallest and largest number, the first above the second where there is none.
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

/// The extremes of numbers, or `None` where one is not finite.
fn extremes(values: &[f32]) -> Option<Extremes> {
    /// Few enough numbers to be read twice from a near cache.
    const BLOCK: usize = 1 << 13;
    values.chunks(BLOCK).try_fold(Extremes::NONE, |all, block| {
        let (sum, extremes) = summed(block);
        finite(block, sum).then(|| all.union(extremes))
    })
}

/// The sum of numbers and their extremes, which mean something where all are finite.
fn summed(values: &[f32]) -> (f32, Extremes) {
    let sum = Sum::new(values).dispatch();
    let (min, max) = MinMax::new(values).dispatch();
    (sum, Extremes { min, max })
}

/// True where all numbers are finite; `sum` is theirs. It may be infinite then, but is never finite where one is not.
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
        /// What is known does not depend on the order of the samples.
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

        /// No number is lost, and each lies in its bin.
        #[test]
        fn bins_hold_all(a in prop::collection::vec(-1e6f32..1e6, 1..200)) {
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
    fn what_is_not_finite_is_counted_apart() {
        let s = Stats::of(&[1.0, f32::INFINITY, f32::NAN, -2.0]);
        assert_eq!((s.min, s.max, s.not_finite), (-2.0, 1.0, 2));
        let s = Stats::of(&[f32::NAN]);
        assert_eq!((s.min, s.max, s.not_finite), (0.0, 0.0, 1));
    }
}
