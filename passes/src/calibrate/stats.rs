//! The statistics of one value. They can be merged, and the result depends neither on the order of the samples nor on
//! the grouping of the merges: extremes, integer counts, exact sums, and a histogram with fixed edges.

use qcc_ir::vector::summary;
use serde::{Deserialize, Serialize};

use super::exact::ExactSum;
use super::histogram::Histogram;
use super::products::Products;
use super::spread::Spread;

/// The maximum number of elements of one tensor that the histogram counts. Minimum and maximum use all elements.
const SEEN: usize = 1 << 15;

/// The maximum of a count: sums of many do not overflow.
const MOST: u64 = 1 << 48;

/// The extremes of unseen samples lie beyond those of the seen ones by up to so many times the difference between the extremes
/// of both halves, and by up to such a share. The maxima of two sets of numbers with an exponential tail differ by 1.4
/// times the scale of the tail in the mean, and one number in 250 exceeds another maximum by 5.5 times that scale.
const BEYOND: f32 = 4.0;
const MOST_BEYOND: f32 = 0.5;

/// The statistics of one value over all samples.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Stats {
    /// The minimum.
    pub min: f32,
    /// The maximum.
    pub max: f32,
    /// The sums over samples of the minimum and of the maximum.
    extremes: [ExactSum; 2],
    /// The minimum and the maximum of either half of the samples; `None` if a half is empty. The digest of a sample
    /// decides its half. They are alike if there are enough samples.
    pub halves: [Option<[f32; 2]>; 2],
    /// The number of samples with finite numbers.
    pub samples: u64,
    /// The number of infinities and NaNs. They are excluded from all other statistics.
    pub not_finite: u64,
    /// The distribution of the numbers.
    pub histogram: Histogram,
    /// The statistics of each channel along the axes for which they were requested, in ascending order of axes.
    pub channels: Vec<Channels>,
    /// The second moments of the innermost axis, where they were requested.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) products: Option<Products>,
}

/// The statistics of the channels of a value along one axis.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Channels {
    /// The axis.
    pub axis: usize,
    /// The sum over samples of the mean of each channel.
    means: Vec<ExactSum>,
    /// The maximum of each channel, 0 if all numbers are negative.
    pub largest: Vec<f32>,
    /// The distribution of each channel, where it was requested.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) spread: Option<Spread>,
}

impl Stats {
    /// The statistics of the channels along `axis`, if available.
    pub fn along(&self, axis: usize) -> Option<&Channels> {
        self.channels.iter().find(|channels| channels.axis == axis)
    }

    /// The mean over samples of the minimum and of the maximum.
    pub fn typical(&self) -> [f64; 2] {
        self.extremes.map(|sum| sum.value() / self.samples.max(1) as f64)
    }

    /// The mean of each channel along `axis` over all samples.
    pub fn channel_means(&self, axis: usize) -> Option<Vec<f64>> {
        Some(self.along(axis)?.means.iter().map(|sum| sum.value() / self.samples.max(1) as f64).collect())
    }

    /// The mean and the standard deviation of the histogram.
    pub fn moments(&self) -> (f64, f64) {
        let bins: Vec<(f64, f64)> = self.histogram.bins().map(|(x, n)| (f64::from(x), n as f64)).collect();
        let sum = |f: &dyn Fn(f64) -> f64| bins.iter().map(|&(x, n)| f(x) * n).sum::<f64>();
        let count = sum(&|_| 1.0).max(1.0);
        let mean = sum(&|x| x) / count;
        (mean, (sum(&|x| (x - mean).powi(2)) / count).sqrt())
    }

    /// The extremes of unseen samples, as far as the difference between both halves of the seen ones tells it.
    pub(crate) fn expected(&self) -> [f32; 2] {
        let [Some(one), Some(other)] = self.halves else { return [self.min, self.max] };
        let beyond = |i: usize, end: f32| (BEYOND * (one[i] - other[i]).abs()).min(MOST_BEYOND * end.abs());
        [self.min - beyond(0, self.min), self.max + beyond(1, self.max)]
    }

    /// The statistics of one tensor.
    pub fn of(values: &[f32]) -> Self {
        let mut seen = Seen::of(values.len());
        let extremes = extremes(values, &mut seen);
        Stats::spread(values, extremes, &seen)
    }

    /// The statistics of one tensor of shape `extents` and of its channels along each of `axes`, which ascend.
    pub fn with_channels(values: &[f32], extents: &[usize], axes: &[usize]) -> Self {
        let (mut channels, mut found) = (Vec::new(), None);
        for &axis in axes {
            let mut seen = Seen::of(values.len());
            let (along, extremes) = Channels::of(values, extents, axis, &mut seen);
            channels.push(along);
            found = Some((extremes, seen));
        }
        match found {
            None => Stats::of(values),
            Some((extremes, seen)) => Stats { channels, ..Stats::spread(values, extremes, &seen) },
        }
    }

    /// The statistics of a value whose numbers are in a range, and are not known otherwise.
    pub(super) fn within(min: f32, max: f32) -> Self {
        Stats { min, max, ..Stats::default() }
    }

    /// The statistics of a sample that belongs to the given half of the samples.
    pub fn in_half(mut self, second: bool) -> Self {
        if second {
            self.halves.swap(0, 1);
        }
        for channels in &mut self.channels {
            channels.spread = channels.spread.take().map(|spread| spread.in_half(second));
        }
        self
    }

    /// The statistics of numbers whose `extremes` are known, and some of which the histogram counts.
    fn spread(values: &[f32], extremes: Option<Extremes>, seen: &Seen) -> Self {
        let Some(Extremes { min, max }) = extremes else {
            let finite: Vec<f32> = values.iter().copied().filter(|x| x.is_finite()).collect();
            let not_finite = (values.len() - finite.len()) as u64;
            return Stats { not_finite, ..Stats::of(&finite) };
        };
        if min > max {
            return Stats::default();
        }
        let mut histogram = Histogram::covering(min, max);
        histogram.count(&seen.numbers);
        // Which zero is the minimum of both zeros depends on their order.
        let (min, max) = (min + 0.0, max + 0.0);
        let extremes = [min, max].map(|x| ExactSum::of(x.into()));
        let halves = [Some([min, max]), None];
        Stats { min, max, extremes, halves, samples: 1, not_finite: 0, histogram, ..Stats::default() }
    }

    /// True if no number was seen: a model that finds nothing in a sample has empty values.
    pub(crate) fn is_empty(&self) -> bool {
        self.samples == 0 && [self.min, self.max] == [0.0; 2]
    }

    /// Merges the statistics of other samples.
    pub fn merge(&mut self, other: Stats) {
        if self.is_empty() || other.is_empty() {
            let not_finite = self.not_finite + other.not_finite;
            let seen = if self.is_empty() { other } else { std::mem::take(self) };
            *self = Stats { not_finite, ..seen };
            return;
        }
        for (own, theirs) in self.halves.iter_mut().zip(other.halves) {
            *own = match (*own, theirs) {
                (Some([a, b]), Some([c, d])) => Some([a.min(c), b.max(d)]),
                (own, theirs) => own.or(theirs),
            };
        }
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
        self.extremes.iter_mut().zip(&other.extremes).for_each(|(own, theirs)| own.add(theirs));
        self.samples += other.samples;
        self.not_finite += other.not_finite;
        self.histogram.merge(other.histogram);
        for theirs in other.channels {
            match self.channels.iter_mut().find(|own| own.axis == theirs.axis) {
                Some(own) => own.merge(&theirs),
                None => self.add_channels(theirs),
            }
        }
        match (&mut self.products, other.products) {
            (Some(own), Some(theirs)) => own.merge(&theirs),
            (own, theirs) => *own = theirs.or(own.take()),
        }
    }

    /// The same with second moments.
    pub(super) fn with_products(self, products: Option<Products>) -> Self {
        Stats { products, ..self }
    }

    /// The same with the distributions of the channels along `axes`, of one tensor of shape `extents`. Those have statistics
    /// of channels already.
    pub(super) fn with_spread(mut self, values: &[f32], extents: &[usize], axes: &[usize]) -> Self {
        for channels in self.channels.iter_mut().filter(|channels| axes.contains(&channels.axis)) {
            channels.spread = Some(Spread::of(values, extents, channels.axis));
        }
        self
    }

    /// The number of channels along `axis` whose distributions are known.
    pub fn distributions(&self, axis: usize) -> Option<usize> {
        self.along(axis)?.spread.as_ref().map(Spread::channels)
    }

    /// The statistics of the value with each channel along `axis` times a factor, if the distributions of these channels are
    /// known. Those of other axes are not.
    pub(crate) fn scaled(&self, axis: usize, factors: &[f32]) -> Option<Self> {
        let channels = self.along(axis)?;
        let spread = channels.spread.as_ref().filter(|spread| spread.channels() == factors.len())?;
        let (histogram, [min, max]) = (spread.histogram(factors), spread.extremes(factors));
        let means = self.channel_means(axis)?.into_iter().zip(factors);
        let samples = self.samples.max(1) as f64;
        let means = means.map(|(mean, &factor)| ExactSum::of(mean * f64::from(factor) * samples)).collect();
        let largest = channels.largest.iter().zip(factors).map(|(x, factor)| x * factor).collect();
        Some(Stats {
            min,
            max,
            // The extremes of single samples are not known.
            extremes: [min, max].map(|x| ExactSum::of(f64::from(x) * samples)),
            halves: self.halves.map(|half| half.map(|_| [min, max])),
            samples: self.samples,
            not_finite: self.not_finite,
            histogram,
            channels: vec![Channels { axis, means, largest, spread: None }],
            products: None,
        })
    }

    /// The number of channels of the second moments, if they were requested.
    pub fn products(&self) -> Option<usize> {
        self.products.as_ref().map(Products::extent)
    }

    /// Adds what other statistics of the same samples have: those of channels along other axes, and second moments.
    pub fn complete(&mut self, other: &Stats) {
        other.channels.iter().for_each(|channels| self.add_channels(channels.clone()));
        self.products = self.products.take().or_else(|| other.products.clone());
    }

    /// Adds the statistics of the channels along another axis for the same samples.
    fn add_channels(&mut self, channels: Channels) {
        let place = self.channels.partition_point(|own| own.axis < channels.axis);
        match self.channels.get_mut(place).filter(|own| own.axis == channels.axis) {
            Some(own) => own.spread = own.spread.take().or(channels.spread),
            None => self.channels.insert(place, channels),
        }
    }

    /// True if numbers are finite and in order, and counts and sizes are within their limits: what holds for statistics
    /// of samples, and may not for others that are read from a file.
    pub fn is_valid(&self) -> bool {
        let ordered = |&[lo, hi]: &[f32; 2]| lo.is_finite() && hi.is_finite() && lo <= hi;
        let ascends = self.channels.windows(2).all(|pair| pair[0].axis < pair[1].axis);
        let spread = |c: &Channels| c.spread.as_ref().is_none_or(|s| s.channels() == c.means.len() && s.is_valid());
        let channels =
            |c: &Channels| c.means.len() == c.largest.len() && c.largest.iter().all(|x| x.is_finite()) && spread(c);
        let counts = self.histogram.counts.iter().fold(0u64, |sum, &n| sum.saturating_add(n));
        counts.max(self.samples).max(self.not_finite) <= MOST
            && ordered(&[self.min, self.max])
            && self.halves.iter().flatten().all(ordered)
            && self.histogram.is_valid()
            && ascends
            && self.channels.iter().all(channels)
            && self.products.as_ref().is_none_or(|products| products.is_valid(self.samples))
    }
}

impl Channels {
    /// The statistics of the channels along `axis`, and the extremes of all numbers, `None` if one is not finite.
    fn of(values: &[f32], extents: &[usize], axis: usize, seen: &mut Seen) -> (Self, Option<Extremes>) {
        let (channels, inner) = (extents[axis], extents[axis + 1..].iter().product::<usize>().max(1));
        let (mut sums, mut largest) = (vec![0.0f64; channels], vec![0.0f32; channels]);
        let mut all = Some(Extremes::NONE);
        if inner == 1 {
            for row in values.chunks(channels.max(1)) {
                sums.iter_mut().zip(row).for_each(|(sum, &x)| *sum += f64::from(x));
                largest.iter_mut().zip(row).for_each(|(most, &x)| *most = greater(*most, x));
            }
            all = extremes(values, seen);
        } else {
            for (i, run) in values.chunks(inner).enumerate() {
                let channel = i % channels;
                let (sum, extremes) = summed(run);
                seen.add(run);
                sums[channel] += f64::from(sum);
                largest[channel] = greater(largest[channel], extremes.max);
                all = all.filter(|_| finite(run, sum)).map(|all| all.union(extremes));
            }
        }
        let each = values.len().max(channels).max(1) as f64 / channels.max(1) as f64;
        let means = sums.into_iter().map(|sum| ExactSum::of(sum / each)).collect();
        (Channels { axis, means, largest, spread: None }, all)
    }

    /// Merges the statistics of other samples along the same axis.
    fn merge(&mut self, other: &Channels) {
        self.means.iter_mut().zip(&other.means).for_each(|(own, theirs)| own.add(theirs));
        self.largest.iter_mut().zip(&other.largest).for_each(|(a, b)| *a = a.max(*b));
        match (&mut self.spread, &other.spread) {
            (Some(own), Some(theirs)) => own.merge(theirs),
            (own, theirs) => *own = theirs.clone().or(own.take()),
        }
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

/// The numbers of a tensor that the histogram counts: one of every `stride`.
struct Seen {
    stride: usize,
    numbers: Vec<f32>,
    /// The place of the next number in the next part of the tensor.
    next: usize,
}

impl Seen {
    /// None yet of a tensor of this length. An odd stride samples all rows and channels equally.
    fn of(length: usize) -> Self {
        let stride = length.div_ceil(SEEN) | 1;
        Seen { stride, numbers: Vec::with_capacity(length.div_ceil(stride)), next: 0 }
    }

    /// Adds those of the next part of the tensor, while it is in the cache.
    fn add(&mut self, part: &[f32]) {
        self.numbers.extend((self.next..part.len()).step_by(self.stride).map(|i| part[i]));
        let rest = part.len().saturating_sub(self.next).next_multiple_of(self.stride);
        self.next = self.next + rest - part.len();
    }
}

/// The extremes of numbers, or `None` if one is not finite. Counts them as `seen`.
fn extremes(values: &[f32], seen: &mut Seen) -> Option<Extremes> {
    /// A block that stays in the L1 or L2 cache between two reads.
    const BLOCK: usize = 1 << 13;
    values.chunks(BLOCK).try_fold(Extremes::NONE, |all, block| {
        let (sum, extremes) = summed(block);
        seen.add(block);
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
    use super::super::histogram::BINS;
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn parts_have_the_numbers_of_the_whole() {
        let all: Vec<f32> = (0..100_000).map(|i| i as f32).collect();
        for size in [1, 2, 3, 4, 7, 1000, 99_999, 100_000] {
            let mut seen = Seen::of(all.len());
            all.chunks(size).for_each(|part| seen.add(part));
            assert!(seen.numbers.iter().eq(all.iter().step_by(seen.stride)), "{size}");
        }
    }

    /// What both halves have is taken to be a bound; where they differ, other samples may go beyond.
    #[test]
    fn unseen_samples_go_beyond_where_halves_differ() {
        let of = |one: &[f32], other: &[f32]| {
            let mut stats = Stats::of(one).in_half(false);
            stats.merge(Stats::of(other).in_half(true));
            stats.expected()
        };
        assert_eq!(of(&[0.0, 6.0], &[0.0, 6.0]), [0.0, 6.0]);
        assert_eq!(of(&[-10.0, 20.0], &[-9.0, 19.0]), [-14.0, 24.0]);
        assert_eq!(of(&[-10.0, 20.0], &[-1.0, 1.0]), [-15.0, 30.0]);
        assert_eq!(Stats::of(&[1.0, 2.0]).expected(), [1.0, 2.0]);
    }

    /// The statistics of samples, with channels of pairs where there are pairs. The first number decides the half.
    fn merged<S: AsRef<[f32]>>(parts: &[S]) -> Stats {
        let mut each = parts.iter().map(|p| {
            let p = p.as_ref();
            let second = p.first().is_some_and(|x| x.to_bits() % 2 == 1);
            Stats::with_channels(p, &[p.len(), 1], &[1]).in_half(second)
        });
        let mut all = each.next().unwrap();
        each.for_each(|s| all.merge(s));
        all
    }

    /// The statistics with all bits of their numbers: `-0.0 == 0.0`, and a NaN is not equal to itself.
    fn bits(s: &Stats) -> (Stats, Vec<u32>, Vec<u64>) {
        let largest = s.channels.iter().flat_map(|c| c.largest.iter().map(|x| x.to_bits()));
        let halves = s.halves.iter().flatten().flatten().map(|x| x.to_bits());
        let extremes = [s.min.to_bits(), s.max.to_bits()];
        let means = s.channel_means(1).unwrap_or_default().into_iter().chain(s.typical()).map(f64::to_bits);
        (s.clone(), extremes.into_iter().chain(halves).chain(largest).collect(), means.collect())
    }

    /// Samples of very different magnitudes, with zeros of both signs and numbers that are not finite.
    fn sample() -> impl Strategy<Value = Vec<f32>> {
        let number = prop_oneof![
            8 => (-1.0f32..1.0, -30i32..30).prop_map(|(x, e)| x * 2f32.powi(e)),
            1 => Just(0.0f32),
            1 => Just(-0.0f32),
            1 => any::<f32>(),
        ];
        prop::collection::vec(number, 0..50)
    }

    proptest! {
        /// Statistics depend neither on the order of the samples nor on the grouping of the merges.
        #[test]
        fn order_and_grouping_do_not_matter(
            samples in prop::collection::vec(sample(), 2..12),
            seed in any::<u64>(),
            cuts in prop::collection::vec(0usize..12, 0..4),
        ) {
            let all = merged(&samples);
            let mut shuffled = samples.clone();
            shuffled.sort_by_cached_key(|s| (s.len() as u64 + s.first().map_or(7, |x| x.to_bits()) as u64).wrapping_mul(seed | 1));
            // Groups of consecutive samples, merged first within themselves, then with each other from the last.
            let mut cuts: Vec<usize> = cuts.into_iter().map(|c| c % (samples.len() + 1)).collect();
            cuts.extend([0, samples.len()]);
            cuts.sort_unstable();
            cuts.dedup();
            let groups = cuts.windows(2).map(|c| merged(&shuffled[c[0]..c[1]]));
            let mut groups: Vec<Stats> = groups.collect();
            let mut grouped = groups.pop().unwrap();
            groups.into_iter().rev().for_each(|g| grouped.merge(g));
            prop_assert_eq!(bits(&all), bits(&grouped));
            prop_assert!(all.is_valid());
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
        let s = merged(&[[1e-30], [-5.0], [7.0], [7.0]]);
        assert!(s.histogram.counts.capacity() <= BINS);
        let counts: Vec<u64> = s.histogram.bins().map(|b| b.1).collect();
        assert_eq!(counts, [1, 1, 2]);
    }

    #[test]
    fn halves_are_kept_apart() {
        let parts: [(&[f32], bool); 4] = [(&[0.0, 1.0], false), (&[-9.0, 0.5], true), (&[2.0], false), (&[4.0], true)];
        let mut each = parts.iter().map(|(p, second)| Stats::of(p).in_half(*second));
        let mut s = each.next().unwrap();
        assert_eq!(s.halves, [Some([0.0, 1.0]), None]);
        each.for_each(|one| s.merge(one));
        assert_eq!(s.halves, [Some([0.0, 2.0]), Some([-9.0, 4.0])]);
    }

    #[test]
    fn channels_along_several_axes_are_separate() {
        let s = Stats::with_channels(&[1.0, 2.0, 3.0, 4.0], &[2, 2], &[0, 1]);
        assert_eq!((s.channel_means(0), s.channel_means(1)), (Some(vec![1.5, 3.5]), Some(vec![2.0, 3.0])));
        assert_eq!(s.channel_means(2), None);
    }

    /// A model that finds nothing in a sample has values without numbers.
    #[test]
    fn samples_without_numbers_change_nothing() {
        let one = Stats::with_channels(&[1.0, 2.0, 3.0, 4.0], &[2, 2], &[0, 1]);
        let none = || Stats::with_channels(&[], &[0, 2], &[0, 1]);
        assert!(none().is_empty() && !one.is_empty() && !Stats::of(&[0.0]).is_empty());
        let (mut before, mut behind) = (none(), one.clone());
        before.merge(none());
        before.merge(one.clone());
        behind.merge(none());
        assert_eq!((&before, &behind), (&one, &one));
        assert_eq!((one.samples, one.channel_means(1)), (1, Some(vec![2.0, 3.0])));
    }

    #[test]
    fn non_finite_numbers_are_counted_separately() {
        let s = Stats::of(&[1.0, f32::INFINITY, f32::NAN, -2.0]);
        assert_eq!((s.min, s.max, s.not_finite), (-2.0, 1.0, 2));
        let s = Stats::of(&[f32::NAN]);
        assert_eq!((s.min, s.max, s.not_finite), (0.0, 0.0, 1));
    }
}
