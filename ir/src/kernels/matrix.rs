//! Operands of matrix products.

use std::ops::Range;

use rten_simd::Isa;
use rten_simd::ops::BitOps;

/// A view of a matrix inside a slice.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    data: &'a [f32],
    rows: usize,
    cols: usize,
    row_stride: usize,
    col_stride: usize,
}

impl<'a> View<'a> {
    /// All of `data` as a row-major matrix.
    pub fn new(data: &'a [f32], rows: usize, cols: usize) -> Self {
        View { data, rows, cols, row_stride: cols, col_stride: 1 }
    }

    /// The number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The number of columns.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// The transposed matrix.
    pub fn transposed(self) -> Self {
        View { rows: self.cols, cols: self.rows, row_stride: self.col_stride, col_stride: self.row_stride, ..self }
    }

    /// Some rows and columns of the matrix.
    pub fn block(self, rows: Range<usize>, cols: Range<usize>) -> Self {
        let start = rows.start * self.row_stride + cols.start * self.col_stride;
        let data = self.data.get(start..).unwrap_or(&[]);
        View { data, rows: rows.len(), cols: cols.len(), ..self }
    }

    /// True if the elements of each row are contiguous.
    #[inline(always)]
    pub(super) fn is_row_major(&self) -> bool {
        self.col_stride == 1
    }

    /// Some elements of a row of a row-major matrix.
    #[inline(always)]
    pub(super) fn row(&self, row: usize, cols: Range<usize>) -> &'a [f32] {
        &self.data[row * self.row_stride..][cols]
    }

    /// Some elements of a column.
    #[inline(always)]
    pub(super) fn column(self, col: usize, rows: Range<usize>) -> impl Iterator<Item = &'a f32> {
        let from = &self.data[col * self.col_stride + rows.start * self.row_stride..];
        from.iter().step_by(self.row_stride).take(rows.len())
    }

    /// The elements from one on, and the distance of rows.
    #[inline(always)]
    pub(super) fn from(&self, row: usize, col: usize) -> (&'a [f32], usize) {
        (&self.data[row * self.row_stride + col * self.col_stride..], self.row_stride)
    }

    /// The elements, row by row.
    pub(super) fn dense(&self) -> Vec<f32> {
        (0..self.rows).flat_map(move |i| self.transposed().column(i, 0..self.cols)).copied().collect()
    }
}

/// The right-hand side of a product. It need not be in memory.
pub(crate) trait Right: Copy + Sync {
    fn rows(&self) -> usize;

    fn cols(&self) -> usize;

    /// Some rows and columns of the matrix.
    fn block(self, rows: Range<usize>, cols: Range<usize>) -> Self;

    /// The matrix in memory, if it is there.
    fn view(&self) -> Option<View<'_>>;

    /// Copies a block, row by row, to a panel whose rows have `width` elements. Columns that the block does not have are
    /// not read by anyone.
    fn pack<I: Isa>(&self, isa: I, panel: &mut [f32], width: usize, rows: Range<usize>, cols: Range<usize>);
}

impl Right for View<'_> {
    fn rows(&self) -> usize {
        self.rows
    }

    fn cols(&self) -> usize {
        self.cols
    }

    fn block(self, rows: Range<usize>, cols: Range<usize>) -> Self {
        View::block(self, rows, cols)
    }

    #[inline(always)]
    fn view(&self) -> Option<View<'_>> {
        Some(*self)
    }

    #[inline(always)]
    fn pack<I: Isa>(&self, isa: I, panel: &mut [f32], width: usize, rows: Range<usize>, cols: Range<usize>) {
        let lines = panel.chunks_exact_mut(width).zip(rows.clone());
        if self.is_row_major() {
            lines.for_each(|(to, k)| copy(isa, &mut to[..cols.len()], self.row(k, cols.clone())));
        } else {
            /// Rows at a time, so that the columns' cache lines are used whole.
            const ROWS: usize = 16;
            for (to, first) in panel.chunks_mut(ROWS * width).zip(rows.clone().step_by(ROWS)) {
                for (j, col) in cols.clone().enumerate() {
                    let elements = self.column(col, first..rows.end);
                    to.iter_mut().skip(j).step_by(width).zip(elements).for_each(|(to, &v)| *to = v);
                }
            }
        }
    }
}

/// As `copy_from_slice`, faster for few elements. The last vector overlaps the one before.
#[inline(always)]
pub(super) fn copy<I: Isa>(isa: I, to: &mut [f32], from: &[f32]) {
    let (ops, len) = (isa.f32(), to.len());
    if len < ops.len() {
        for (to, &from) in to.iter_mut().zip(from) {
            *to = from;
        }
        return;
    }
    for (to, from) in to.chunks_exact_mut(ops.len()).zip(from.chunks_exact(ops.len())) {
        ops.store(ops.load(from), to);
    }
    if len % ops.len() > 0 {
        ops.store(ops.load(&from[len - ops.len()..]), &mut to[len - ops.len()..]);
    }
}

/// Bias of a product: one number for each row or for each column of the result.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Bias<'a> {
    None,
    Rows(&'a [f32]),
    Cols(&'a [f32]),
    /// One number for each row, added to the sum of all blocks.
    After(&'a [f32]),
}
