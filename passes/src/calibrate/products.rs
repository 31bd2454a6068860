//! Second moments of the channels of an activation that can be merged: neither order nor grouping affects them.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::factor::{Factor, Moments};

/// The sum over samples of the mean over rows of the products of all pairs of channels: the upper triangle of a symmetric
/// matrix, row by row, in fixed point with the unit `2^UNIT`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Products {
    extent: usize,
    sums: Vec<i128>,
}

/// The exponent of the unit. Products of numbers below `2^-24` are lost.
const UNIT: i32 = -48;

/// The largest mean of products of a sample, in units. Larger ones are clipped, so that sums of many samples do not overflow.
const MOST: i128 = 1 << 96;

impl Products {
    /// Those of a sample with these rows of `extent` numbers.
    pub(super) fn of(rows: &[f32], extent: usize) -> Self {
        let count = (rows.len() / extent.max(1)).max(1);
        let mut moments = Moments::new(extent);
        moments.add(rows);
        let scale = libm::scalbn(1.0, -UNIT) / count as f64;
        let fixed = |sum: f32| ((f64::from(sum) * scale) as i128).clamp(-MOST, MOST);
        let sums = moments.sums();
        Products { extent, sums: upper(&sums, extent).map(fixed).collect() }
    }

    /// The number of channels.
    pub(crate) fn extent(&self) -> usize {
        self.extent
    }

    /// Adds those of other samples.
    pub(super) fn merge(&mut self, other: &Products) {
        self.sums.iter_mut().zip(&other.sums).for_each(|(own, theirs)| *own += theirs);
    }

    /// True if sizes fit together, and sums are within the limits for this number of samples.
    pub(super) fn is_valid(&self, samples: u64) -> bool {
        let limit = MOST.saturating_mul(samples.into());
        self.extent.checked_mul(self.extent + 1).is_some_and(|twice| twice / 2 == self.sums.len())
            && self.sums.iter().all(|sum| (-limit..=limit).contains(sum))
    }

    /// The factor, or `None` if all products are 0. Those that are not numbers count as 0.
    pub(super) fn factor(&self) -> Option<Factor> {
        let (n, scale) = (self.extent, libm::scalbn(1.0, UNIT));
        let mut sums = vec![0.0f32; n * n];
        sums.par_chunks_mut(n.max(1)).enumerate().for_each(|(i, row)| {
            // The rows before this one have n, n - 1, .. elements.
            let first = i * n - i * i.saturating_sub(1) / 2;
            let own = &self.sums[first..][..n - i];
            row[i..].iter_mut().zip(own).for_each(|(sum, &fixed)| *sum = (fixed as f64 * scale) as f32);
        });
        Moments::with_sums(n, sums).factor()
    }
}

/// The upper triangle of a matrix, row by row.
fn upper(matrix: &[f32], n: usize) -> impl Iterator<Item = f32> + '_ {
    matrix.chunks_exact(n.max(1)).enumerate().flat_map(|(i, row)| row[i..].iter().copied())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use qcc_ir::Shape;
    use qcc_ir::testing::numbers;

    const EXTENT: usize = 5;

    fn sample(rows: usize, seed: usize) -> Vec<f32> {
        numbers(Shape::known(&[rows, EXTENT]), seed as u64).floats().to_vec()
    }

    fn merged(samples: &[Vec<f32>]) -> Products {
        let mut each = samples.iter().map(|rows| Products::of(rows, EXTENT));
        let mut all = each.next().unwrap();
        each.for_each(|other| all.merge(&other));
        all
    }

    proptest! {
        #[test]
        fn order_and_grouping_do_not_matter(rows in prop::collection::vec(1usize..100, 2..9), cut in 1usize..8) {
            let samples: Vec<Vec<f32>> = rows.iter().enumerate().map(|(i, &n)| sample(n, i)).collect();
            let cut = cut.min(samples.len() - 1);
            let (all, mut last) = (merged(&samples), merged(&samples[cut..]));
            last.merge(&merged(&samples[..cut]));
            prop_assert_eq!(&all, &last);
            prop_assert!(all.is_valid(samples.len() as u64));
        }
    }

    /// The factor of one sample is that of its moments, but for a common factor.
    #[test]
    fn the_factor_is_that_of_the_rows() {
        let rows = sample(40, 3);
        let mut moments = Moments::new(EXTENT);
        moments.add(&rows);
        let (found, expected) = (Products::of(&rows, EXTENT).factor().unwrap(), moments.factor().unwrap());
        let near = |a: &[f32], b: &[f32], times: f32| {
            a.iter().zip(b).all(|(a, b)| (a * times - b).abs() <= 1e-4 * b.abs().max(1e-3))
        };
        assert!(near(found.variances(), expected.variances(), 40.0));
        assert!(near(&found.upper(), &expected.upper(), 1.0));
    }

    #[test]
    fn numbers_that_are_not_finite_or_large_are_limited() {
        assert!(Products::of(&[f32::NAN, f32::NAN], 2).factor().is_none());
        let mut all = Products::of(&[f32::MAX, -f32::MAX], 2);
        assert!(all.is_valid(1));
        all.merge(&all.clone());
        assert!(all.is_valid(2) && !all.is_valid(1));
    }
}
