//! Second moments of the channels of an activation, and the factor of them that rounding needs.

use qcc_ir::matrix::{View, multiply};
use qcc_ir::vector::vectorized;
use qcc_ir::{Shape, Tensor};
use rayon::prelude::*;

/// Rows whose products are summed before they are added to the moments.
const ROWS: usize = 64;

/// The columns of the matrix that are computed or factorized at once.
const BLOCK: usize = 64;

/// Columns that are subtracted in one pass over a row.
const AT_ONCE: usize = 4;

/// The share of each element of the diagonal that is added to it: moments of few rows fit these rows alone.
const DAMPING: f64 = 0.1;

/// The share of the mean of the diagonal that is added to it: channels may be 0 in all rows.
const FLOOR: f64 = 0.001;

/// The sums of the products of all pairs of channels over the rows of an activation: the upper triangle of a symmetric
/// matrix.
#[derive(Clone, Debug)]
pub(crate) struct Moments {
    extent: usize,
    /// Empty before the first rows.
    sums: Vec<f32>,
    /// Rows that are not in the sums yet.
    rows: Vec<f32>,
}

impl Moments {
    pub(crate) fn new(extent: usize) -> Self {
        Moments { extent, sums: Vec::new(), rows: Vec::new() }
    }

    /// Those with these sums: a matrix of which the upper triangle is read.
    pub(super) fn with_sums(extent: usize, sums: Vec<f32>) -> Self {
        Moments { extent, sums, rows: Vec::new() }
    }

    /// The sums of all rows: a matrix of which the upper triangle is written.
    pub(super) fn sums(mut self) -> Vec<f32> {
        let rest = std::mem::take(&mut self.rows);
        self.add_products(&rest);
        self.sums
    }

    /// Adds the rows of `x`. The result depends on the rows and their order alone, not on how they are divided.
    pub(crate) fn add(&mut self, x: &[f32]) {
        let full = ROWS * self.extent;
        let first = (full - self.rows.len()).min(x.len());
        self.rows.extend_from_slice(&x[..first]);
        if self.rows.len() < full {
            return;
        }
        let rows = std::mem::take(&mut self.rows);
        self.add_products(&rows);
        let parts = x[first..].chunks_exact(full);
        self.rows.extend_from_slice(parts.remainder());
        parts.for_each(|rows| self.add_products(rows));
    }

    fn add_products(&mut self, rows: &[f32]) {
        let n = self.extent;
        self.sums.resize(n * n, 0.0);
        let rows = View::new(rows, rows.len() / n, n);
        self.sums.par_chunks_mut(BLOCK * n).enumerate().for_each(|(block, sums)| {
            let start = block * BLOCK;
            let (height, width) = (sums.len() / n, n - start);
            let mut products = vec![0.0f32; height * width];
            let left = rows.block(0..rows.rows(), start..start + height).transposed();
            multiply(&mut products, left, rows.block(0..rows.rows(), start..n));
            for (sums, products) in sums.chunks_exact_mut(n).zip(products.chunks_exact(width)) {
                sums[start..].iter_mut().zip(products).for_each(|(sum, product)| *sum += product);
            }
        });
    }

    /// The factor, or `None` if no number is finite and different from 0.
    pub(crate) fn factor(self) -> Option<Factor> {
        let n = self.extent;
        let sums = self.sums();
        let mean = (0..n).map(|i| f64::from(sums[i * n + i])).sum::<f64>() / n as f64;
        if !mean.is_normal() {
            return None;
        }
        // Channels in reverse order, so that the lower factor of this matrix is the upper factor of the moments.
        let mut matrix = vec![0.0f64; n * n];
        matrix.par_chunks_mut(n).enumerate().for_each(|(i, row)| {
            for (j, x) in row.iter_mut().enumerate().take(i + 1) {
                *x = f64::from(sums[(n - 1 - i) * n + (n - 1 - j)]);
            }
            row[i] += DAMPING * row[i] + FLOOR * mean;
        });
        drop(sums);
        let diagonal = factorize(&mut matrix, n)?;
        Some(Factor::of(&matrix, &diagonal, n))
    }
}

/// Replaces the lower triangle of a symmetric matrix by its factor `L` of `L D L'`, with a unit diagonal, by blocks of
/// columns. Returns `D`; `None` if the matrix is not positive definite.
fn factorize(matrix: &mut [f64], n: usize) -> Option<Vec<f64>> {
    let mut diagonal = vec![0.0f64; n];
    for start in (0..n).step_by(BLOCK) {
        let end = n.min(start + BLOCK);
        let width = end - start;
        // The rows of the block itself.
        for j in start..end {
            let pivot = matrix[j * n + j];
            if !(pivot.is_normal() && pivot > 0.0) {
                return None;
            }
            diagonal[j] = pivot;
            for i in j + 1..end {
                let by = matrix[i * n + j] / pivot;
                for k in j + 1..=i {
                    matrix[i * n + k] -= by * matrix[k * n + j];
                }
            }
            (j + 1..end).for_each(|i| matrix[i * n + j] /= pivot);
        }
        let (done, below) = matrix.split_at_mut(end * n);
        let own = |k: usize, j: usize| done[(start + k) * n + start + j];
        // The rows below: first their factors, which the update of the rest needs of all rows.
        below.par_chunks_mut(n).for_each(|row| {
            let row = &mut row[start..end];
            for j in 0..width {
                let solved = (0..j).fold(row[j], |sum, k| sum - row[k] * own(j, k));
                row[j] = solved;
            }
        });
        // Column-major copies of the scaled rows.
        let rows = n - end;
        let mut scaled = vec![0.0f64; width * rows];
        scaled.par_chunks_mut(rows.max(1)).enumerate().for_each(|(k, column)| {
            column.iter_mut().enumerate().for_each(|(i, x)| *x = below[i * n + start + k]);
        });
        below.par_chunks_mut(n).enumerate().for_each(|(i, row)| {
            let (factors, rest) = row[start..].split_at_mut(width);
            factors.iter_mut().zip(&diagonal[start..]).for_each(|(x, pivot)| *x /= pivot);
            let rest = &mut rest[..=i];
            let mut k = 0;
            while k < width {
                let by = |k: usize| factors.get(k).copied().unwrap_or(0.0);
                let column = |k: usize| &scaled[k.min(width - 1) * rows..][..=i];
                let (a, b, c, d) = (by(k), by(k + 1), by(k + 2), by(k + 3));
                let (xa, xb, xc, xd) = (column(k), column(k + 1), column(k + 2), column(k + 3));
                vectorized(
                    #[inline(always)]
                    || {
                        for j in 0..rest.len().min(xa.len()).min(xb.len()).min(xc.len()).min(xd.len()) {
                            rest[j] -= (a * xa[j] + b * xb[j]) + (c * xc[j] + d * xd[j]);
                        }
                    },
                );
                k += AT_ONCE;
            }
        });
    }
    Some(diagonal)
}

/// The factor `U` of the second moments `(I + U) D (I + U)'` of the channels of an activation: strictly upper triangular.
/// The error of a product of the activation and the weights of an output is the sum of `D_k (e_k + sum_{j<k} e_j U_jk)^2`
/// over the channels `k`, where `e` are the errors of the weights.
#[derive(Clone, Debug)]
pub(crate) struct Factor {
    extent: usize,
    /// The diagonal of `D`.
    variances: Vec<f32>,
    upper: Tensor,
}

impl Factor {
    fn of(lower: &[f64], diagonal: &[f64], n: usize) -> Self {
        let mut upper = vec![0.0f32; n * n];
        upper.par_chunks_mut(n).enumerate().for_each(|(row, numbers)| {
            for (column, x) in numbers.iter_mut().enumerate().skip(row + 1) {
                *x = lower[(n - 1 - row) * n + (n - 1 - column)] as f32;
            }
        });
        let variances = diagonal.iter().rev().map(|&d| d as f32).collect();
        Factor { extent: n, variances, upper: Tensor::from_vec(Shape::known(&[n, n]), upper).kept() }
    }

    /// The number of channels.
    pub(crate) fn extent(&self) -> usize {
        self.extent
    }

    /// The diagonal of `D`: the variance of each channel that the channels behind it do not explain.
    pub(crate) fn variances(&self) -> &[f32] {
        &self.variances
    }

    /// The factor, row-major.
    pub(crate) fn upper(&self) -> std::borrow::Cow<'_, [f32]> {
        self.upper.view::<f32>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use qcc_ir::testing::numbers;

    /// The factor reproduces the moments, also with more channels than a block.
    #[test]
    fn the_factor_is_that_of_the_moments() {
        for n in [1, 5, 16, 150] {
            let rows = 2 * n + 3;
            let x = numbers(Shape::known(&[rows, n]), 1);
            let x = x.floats();
            let mut moments = Moments::new(n);
            moments.add(&x[..n * (n + 1)]);
            moments.add(&x[n * (n + 1)..]);
            let sum =
                |i: usize, j: usize| (0..rows).map(|r| f64::from(x[r * n + i]) * f64::from(x[r * n + j])).sum::<f64>();
            let mean = (0..n).map(|i| sum(i, i)).sum::<f64>() / n as f64;
            let factor = moments.factor().unwrap();
            let upper = factor.upper();
            let u = |i: usize, j: usize| if i == j { 1.0 } else { f64::from(upper[i * n + j]) };
            // The error of a row of weights, by the moments and by the factor, whose diagonal follows from them.
            let h = |i: usize, j: usize| sum(i, j) + if i == j { DAMPING * sum(i, i) + FLOOR * mean } else { 0.0 };
            let mut d = vec![0.0; n];
            for k in (0..n).rev() {
                d[k] = h(k, k) - (k + 1..n).map(|j| u(k, j) * u(k, j) * d[j]).sum::<f64>();
            }
            for (i, j) in [(0, 0), (0, n - 1), (n / 2, n - 1), (n / 3, n / 2)] {
                let made: f64 = (i.max(j)..n).map(|k| u(i, k) * d[k] * u(j, k)).sum();
                assert!((made - h(i, j)).abs() < 1e-4 * mean, "{n}: {i} {j} {made} {}", h(i, j));
            }
        }
    }

    /// How rows are divided does not count, not even for the last bit.
    #[test]
    fn parts_give_the_moments_of_all_rows() {
        const EXTENT: usize = 70;
        let numbers = numbers(Shape::known(&[300, EXTENT]), 1);
        let x = numbers.floats();
        let of = |parts: &[usize]| {
            let (mut moments, mut at) = (Moments::new(EXTENT), 0);
            for rows in parts {
                moments.add(&x[at..at + rows * EXTENT]);
                at += rows * EXTENT;
            }
            let factor = moments.factor().unwrap();
            (factor.variances().to_vec(), factor.upper().to_vec())
        };
        let all = of(&[300]);
        assert_eq!(of(&[1, 63, 64, 130, 42]), all);
        assert_eq!(of(&[20; 15]), all);
    }

    #[test]
    fn moments_without_numbers_have_no_factor() {
        assert!(Moments::new(3).factor().is_none());
        let mut moments = Moments::new(2);
        moments.add(&[f32::NAN, 1.0]);
        assert!(moments.factor().is_none());
    }
}
