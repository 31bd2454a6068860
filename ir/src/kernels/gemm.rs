//! Matrix products, and how other contractions are expressed as matrix products.

use std::ops::Range;
use std::sync::OnceLock;

use super::matrix::{Bias, Panels, View};
use super::product::{Best, multiply, multiply_panels, panels};
use super::then::Then;
use crate::error::EvalError;

/// `out = a * b + bias`, row-major. All of `out` is written.
pub(crate) fn gemm(out: &mut [f32], a: View<'_>, b: View<'_>, bias: Bias<'_>) -> Result<(), EvalError> {
    gemm_then(out, a, b, bias, None)
}

/// As [`gemm`], and a function of each element.
pub(crate) fn gemm_then(
    out: &mut [f32],
    a: View<'_>,
    b: View<'_>,
    bias: Bias<'_>,
    then: Option<Then>,
) -> Result<(), EvalError> {
    check(out, a, b, bias)?;
    if !out.is_empty() {
        multiply(Best, out, a, b, bias, then);
    }
    Ok(())
}

/// Fails unless the sizes of the operands match.
fn check(out: &[f32], a: View<'_>, b: View<'_>, bias: Bias<'_>) -> Result<(), EvalError> {
    let biases = match bias {
        Bias::None => true,
        Bias::Rows(bias) | Bias::After(bias) => bias.len() == a.rows(),
        Bias::Cols(bias) => bias.len() == b.cols(),
    };
    if a.cols() != b.rows() || out.len() != a.rows() * b.cols() || !biases {
        return Err(EvalError::Kernel("the sizes of a product's operands differ".into()));
    }
    Ok(())
}

/// A right-hand side that is used many times. It is copied to panels for the first product with several rows.
#[derive(Debug, Default)]
pub(crate) struct Packed(OnceLock<Panels>);

impl Packed {
    /// As [`gemm_then`], for the same right-hand side each time.
    pub(crate) fn gemm_then(
        &self,
        out: &mut [f32],
        a: View<'_>,
        b: View<'_>,
        bias: Bias<'_>,
        then: Option<Then>,
    ) -> Result<(), EvalError> {
        // Products of vectors have another order of sums.
        if a.rows() < 2 || b.cols() < 2 || a.cols() == 0 {
            return gemm_then(out, a, b, bias, then);
        }
        check(out, a, b, bias)?;
        multiply_panels(Best, out, a, self.0.get_or_init(|| panels(Best, b)), bias, then);
        Ok(())
    }
}

/// Elements of a block of the right-hand side, so that it fits into the L2 cache.
const BLOCK: usize = 128 * 1024;

/// Maximum number of elements of a block where the right-hand side has many rows; fewer columns would be slow.
const LARGEST: usize = 1 << 24;

/// A part of a product: a range of the reduction axis of one of several right-hand sides.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Term {
    /// Index of the right-hand side.
    pub(crate) plane: usize,
    /// Indices of the reduction axis.
    pub(crate) inner: Range<usize>,
}

/// Multiplies `a` by right-hand sides `b` of the same size, in blocks of columns. For each block and each term in turn,
/// `emit` receives the term's index, the columns and their product with all rows of `a`.
pub(crate) fn contract(
    a: View<'_>,
    b: &[View<'_>],
    terms: &[Term],
    mut emit: impl FnMut(usize, Range<usize>, &[f32]),
) -> Result<(), EvalError> {
    let total = b.first().map_or(0, View::cols);
    let deepest = terms.iter().map(|t| t.inner.len()).max().unwrap_or(0).max(1);
    // Fewer columns where the number of rows is large.
    let least = (LARGEST / deepest).clamp(1, 128);
    let width = (BLOCK / deepest).next_multiple_of(96).clamp(least, 4096);
    let mut product = vec![0.0; a.rows() * width.min(total)];
    for start in (0..total).step_by(width) {
        let cols = start..(start + width).min(total);
        let product = &mut product[..a.rows() * cols.len()];
        for (i, term) in terms.iter().enumerate() {
            let right = b[term.plane].block(term.inner.clone(), cols.clone());
            gemm(product, a.block(0..a.rows(), term.inner.clone()), right, Bias::None)?;
            emit(i, cols.clone(), product);
        }
    }
    Ok(())
}

/// Splits the reduction axis of a product of integers so that each part is exact in `f32` in any order of summation: no
/// part reaches 2^24 if no product exceeds `largest`.
pub(crate) fn exact_terms(plane: usize, inner: usize, largest: f32) -> Vec<Term> {
    let longest = ((16_777_215.0 / largest.max(1.0)) as usize).max(1);
    let term = |start: usize| Term { plane, inner: start..(start + longest).min(inner) };
    (0..inner.max(1)).step_by(longest).map(term).collect()
}
