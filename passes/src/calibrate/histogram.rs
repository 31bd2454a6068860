//! A distribution of numbers.

// Not a branch, so that loops are vectorised.
use std::hint::select_unpredictable;

use qcc_ir::vector::vectorized;
use serde::{Deserialize, Serialize};

/// The maximum number of bins of a histogram.
pub(super) const BINS: usize = 2048;
/// The maximum size of a histogram in bytes.
pub(super) const LARGEST_BYTES: u64 = (BINS * size_of::<u64>()) as u64;

/// A histogram with fixed edges: the width of a bin is a power of two, and its edges are multiples of the width. Bins
/// of one width consist of whole bins of any smaller width, so that merging is exact. The width of a merged histogram is
/// the smallest one, not below that of any part, with which all numbers are in at most `MOST` bins. That follows from
/// the numbers alone: neither the order of merges nor their grouping affects it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Histogram<const MOST: usize = BINS> {
    /// The width of a bin is `2^exponent`.
    exponent: i32,
    /// Bin 0 covers `[first, first + 1)` widths.
    first: i64,
    pub(super) counts: Vec<u64>,
}

impl<const MOST: usize> Histogram<MOST> {
    /// Empty bins for numbers in `min..=max`.
    pub(super) fn covering(min: f32, max: f32) -> Self {
        let span = (f64::from(max) - f64::from(min)).max(f64::from(max.abs().max(min.abs())) * 1e-6).max(1e-30);
        let exponent = libm::log2(span / (MOST as f64 - 2.0)).ceil() as i32;
        let index = |x: f32| libm::scalbn(f64::from(x), -exponent).floor() as i64;
        let (first, last) = (index(min), index(max));
        Histogram { exponent, first, counts: vec![0; (last - first + 1) as usize] }
    }

    /// Counts numbers, all of which are in the range that the histogram covers.
    pub(super) fn count(&mut self, values: &[f32]) {
        /// Numbers whose bins are computed at once.
        const BLOCK: usize = 1 << 12;
        // Scaling by a power of two is exact, and the difference is not negative, so truncation rounds down.
        let (scale, first) = (libm::scalbnf(1.0, -self.exponent), self.first as f32);
        let last = self.counts.len() as u32 - 1;
        // Two counters for each bin: neighbouring numbers are often equal, and a single counter would stall on its own
        // update.
        let mut counts = vec![[0u32; 2]; self.counts.len()];
        let mut bins = [0u32; BLOCK];
        for values in values.chunks(BLOCK) {
            vectorized(
                #[inline(always)]
                || {
                    for (bin, &x) in bins.iter_mut().zip(values) {
                        *bin = whole(x * scale - first).min(last);
                    }
                },
            );
            for (k, &bin) in bins[..values.len()].iter().enumerate() {
                counts[bin as usize][k % 2] += 1;
            }
        }
        self.counts.iter_mut().zip(counts).for_each(|(all, [a, b])| *all += u64::from(a) + u64::from(b));
    }

    /// Counts a number in the range that the histogram covers.
    pub(super) fn add(&mut self, x: f32) {
        self.add_times(x, 1);
    }

    /// Counts a number in the range that the histogram covers so many times.
    pub(super) fn add_times(&mut self, x: f32, times: u64) {
        let bin = libm::scalbn(f64::from(x), -self.exponent).floor() as i64 - self.first;
        let last = self.counts.len().saturating_sub(1);
        if let Some(count) = self.counts.get_mut((bin.max(0) as usize).min(last)) {
            *count += times;
        }
    }

    /// True if it covers no number.
    pub(super) fn is_empty(&self) -> bool {
        self.counts.is_empty()
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
    pub fn merge(&mut self, mut other: Self) {
        if other.counts.is_empty() {
            return;
        }
        if self.counts.is_empty() {
            *self = other;
            return;
        }
        self.widen(other.exponent);
        other.widen(self.exponent);
        let end = |h: &Self| h.first + h.counts.len() as i64;
        let ends = |a: &Self, b: &Self| (a.first.min(b.first), end(a).max(end(b)));
        let (mut first, mut last) = ends(self, &other);
        // Widening comes first: two narrow histograms that are far apart would need too many bins.
        while last - first > MOST as i64 {
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

    /// True if sizes and positions are those of a histogram of single-precision numbers.
    pub(super) fn is_valid(&self) -> bool {
        self.counts.len() <= MOST && self.exponent.abs() < 256 && self.first.abs() < 1 << 40
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

/// The whole part of a number below 2^22 in magnitude, wrapped if it is negative. Unlike `as`, which saturates, it is
/// vectorized.
#[inline(always)]
fn whole(x: f32) -> u32 {
    // Added to it, a number has no fraction: it is rounded to the nearest integer.
    const SHIFT: f32 = 8_388_608.0;
    let size = x.abs();
    let shifted = size + SHIFT;
    let rounded_up = u32::from(shifted - SHIFT > size);
    let whole = shifted.to_bits().wrapping_sub(SHIFT.to_bits()).wrapping_sub(rounded_up);
    select_unpredictable(x < 0.0, whole.wrapping_neg(), whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_parts_are_those_of_conversions() {
        let sizes = (0..4000).map(|i| i as f32 * 0.25).chain([0.999_999_94, 2_047.999_9, 1e6 + 0.5, 4_000_000.5]);
        for x in sizes.flat_map(|x| [x, -x]) {
            assert_eq!(whole(x), x as i32 as u32, "{x}");
        }
    }
}
