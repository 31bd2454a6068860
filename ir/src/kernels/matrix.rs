//! Operands of matrix products.

use std::ops::Range;

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

    pub(super) fn cols(&self) -> usize {
        self.cols
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

/// Bias of a product: one number for each row or for each column of the result.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Bias<'a> {
    None,
    Rows(&'a [f32]),
    Cols(&'a [f32]),
}
