//! Matrix products, and how other contractions are expressed as matrix products.

use std::ops::Range;

use rten_gemm::{BiasVector, GemmExecutor, GemmInputA, GemmInputB, GemmOptions};
use rten_tensor::Matrix;
use rten_tensor::layout::{MutLayout, NdLayout, OverlapPolicy};

use crate::error::EvalError;

thread_local! {
    static GEMM: GemmExecutor = GemmExecutor::default();
}

/// A view of a matrix inside a slice.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View<'a> {
    data: &'a [f32],
    rows: usize,
    cols: usize,
    row_stride: usize,
    col_stride: usize,
}

impl<'a> View<'a> {
    /// All of `data` as a row-major matrix.
    pub(crate) fn new(data: &'a [f32], rows: usize, cols: usize) -> Self {
        View { data, rows, cols, row_stride: cols, col_stride: 1 }
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// The transposed matrix.
    pub(crate) fn transposed(self) -> Self {
        View { rows: self.cols, cols: self.rows, row_stride: self.col_stride, col_stride: self.row_stride, ..self }
    }

    /// Some rows and columns of the matrix.
    pub(crate) fn block(self, rows: Range<usize>, cols: Range<usize>) -> Self {
        let start = rows.start * self.row_stride + cols.start * self.col_stride;
        let data = self.data.get(start..).unwrap_or(&[]);
        View { data, rows: rows.len(), cols: cols.len(), ..self }
    }

    fn matrix(&self) -> Result<Matrix<'a, f32>, EvalError> {
        let strides = [self.row_stride, self.col_stride];
        let layout = NdLayout::from_shape_and_strides([self.rows, self.cols], strides, OverlapPolicy::AllowOverlap)
            .map_err(|e| EvalError::Kernel(e.to_string()))?;
        let storage = self.data.get(..rten_tensor::Layout::min_data_len(&layout));
        let storage = storage.ok_or_else(|| EvalError::Kernel("a matrix leaves its buffer".into()))?;
        Ok(Matrix::from_storage_and_layout(rten_tensor::storage::IntoStorage::into_storage(storage), layout))
    }
}

/// Bias of a product: one number for each row or for each column of the result.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Bias<'a> {
    None,
    Rows(&'a [f32]),
    Cols(&'a [f32]),
}

/// `out = a * b + bias`, row-major. All of `out` is written.
pub(crate) fn gemm(out: &mut [f32], a: View<'_>, b: View<'_>, bias: Bias<'_>) -> Result<(), EvalError> {
    let bias = match bias {
        Bias::None => None,
        Bias::Rows(b) => Some(BiasVector::Column(b)),
        Bias::Cols(b) => Some(BiasVector::Row(b)),
    };
    let (a, b) = (GemmInputA::Unpacked(a.matrix()?), GemmInputB::Unpacked(b.matrix()?));
    let options = GemmOptions { bias, ..GemmOptions::default() };
    GEMM.with(|g| g.gemm(out, a, b, options)).map_err(|e| EvalError::Kernel(e.to_string()))
}

/// The right-hand side of a product, generated block by block.
pub(crate) trait Columns {
    /// Number of columns.
    fn cols(&self) -> usize;
    /// A block of rows and columns, which may be written into `scratch`.
    fn block<'s>(&'s self, rows: Range<usize>, cols: Range<usize>, scratch: &'s mut Vec<f32>) -> View<'s>;
}

impl Columns for View<'_> {
    fn cols(&self) -> usize {
        self.cols
    }

    fn block<'s>(&'s self, rows: Range<usize>, cols: Range<usize>, _scratch: &'s mut Vec<f32>) -> View<'s> {
        View::block(*self, rows, cols)
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
    b: &[impl Columns],
    terms: &[Term],
    mut emit: impl FnMut(usize, Range<usize>, &[f32]),
) -> Result<(), EvalError> {
    let total = b.first().map_or(0, Columns::cols);
    let deepest = terms.iter().map(|t| t.inner.len()).max().unwrap_or(0).max(1);
    // Fewer columns where the number of rows is large.
    let least = (LARGEST / deepest).clamp(1, 128);
    let width = (BLOCK / deepest).next_multiple_of(32).clamp(least, 4096);
    let (mut scratch, mut product) = (Vec::new(), vec![0.0; a.rows() * width.min(total)]);
    for start in (0..total).step_by(width) {
        let cols = start..(start + width).min(total);
        let product = &mut product[..a.rows() * cols.len()];
        for (i, term) in terms.iter().enumerate() {
            let right = b[term.plane].block(term.inner.clone(), cols.clone(), &mut scratch);
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
