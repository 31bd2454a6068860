//! Operands of matrix products.

use std::ops::Range;

use rten_simd::Isa;
use rten_simd::ops::BitOps;
use smallvec::{SmallVec, smallvec};

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

    /// The elements, row by row.
    pub(super) fn dense(&self) -> Vec<f32> {
        (0..self.rows).flat_map(move |i| self.transposed().column(i, 0..self.cols)).copied().collect()
    }
}

/// The right-hand side of a product, as it is read by tiles.
pub(crate) trait Right: Copy + Sync {
    /// The number of columns. Some may have no place in the result.
    fn cols(&self) -> usize;

    /// True if [`Right::from`] has `width` elements from the first of `cols` columns on.
    fn is_direct(&self, cols: usize, width: usize) -> bool;

    /// True if the rows of each panel follow each other, so that copying them to a panel gains nothing.
    #[inline(always)]
    fn is_packed(&self) -> bool {
        false
    }

    /// True if some columns have no place in the result. Then there is no bias for each column.
    #[inline(always)]
    fn has_gaps(&self) -> bool {
        false
    }

    /// The elements of a row from a column on. They are contiguous.
    fn from(&self, row: usize, col: usize) -> &[f32];

    /// Copies a block that is not read directly, row by row, to a panel whose rows have `width` elements. Columns that the
    /// block does not have are not read by anyone.
    #[inline(always)]
    fn pack<I: Isa>(&self, isa: I, panel: &mut [f32], width: usize, rows: Range<usize>, cols: Range<usize>) {
        for (to, k) in panel.chunks_exact_mut(width).zip(rows) {
            copy(isa, &mut to[..cols.len()], &self.from(k, cols.start)[..cols.len()]);
        }
    }

    /// The number of columns before a column that have a place in the result.
    #[inline(always)]
    fn place(&self, col: usize) -> usize {
        col
    }

    /// Where columns are in a row of the result.
    #[inline(always)]
    fn places(&self, cols: Range<usize>) -> Places {
        smallvec![Place { from: 0, to: cols.start, len: cols.len() }]
    }
}

/// Consecutive columns of the right-hand side of a product that are consecutive in the result.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    /// The first column, counted from the first of those asked for.
    pub(crate) from: usize,
    /// The first column of the result.
    pub(crate) to: usize,
    pub(crate) len: usize,
}

pub(crate) type Places = SmallVec<[Place; 4]>;

impl Right for View<'_> {
    #[inline(always)]
    fn cols(&self) -> usize {
        self.cols
    }

    #[inline(always)]
    fn is_direct(&self, cols: usize, width: usize) -> bool {
        self.is_row_major() && cols == width
    }

    #[inline(always)]
    fn from(&self, row: usize, col: usize) -> &[f32] {
        &self.data[row * self.row_stride + col..]
    }

    #[inline(always)]
    fn pack<I: Isa>(&self, isa: I, panel: &mut [f32], width: usize, rows: Range<usize>, cols: Range<usize>) {
        if self.is_row_major() {
            for (to, k) in panel.chunks_exact_mut(width).zip(rows) {
                copy(isa, &mut to[..cols.len()], self.row(k, cols.clone()));
            }
            return;
        }
        // Squares of two rows and two columns, so that pairs are read and written. Columns are read from end to end.
        let whole = |extent: usize| if self.row_stride == 1 { extent / 2 * 2 } else { 0 };
        let (height, wide) = (whole(rows.len()), whole(cols.len()));
        for first in (0..wide).step_by(2) {
            let column = |j: usize| {
                let column = &self.data[(cols.start + first + j) * self.col_stride + rows.start..];
                column[..height].as_chunks::<2>().0
            };
            for ((to, a), b) in panel.chunks_exact_mut(2 * width).zip(column(0)).zip(column(1)) {
                (to[first], to[first + 1]) = (a[0], b[0]);
                (to[width + first], to[width + first + 1]) = (a[1], b[1]);
            }
        }
        for (j, col) in cols.enumerate() {
            let done = if j < wide { height } else { 0 };
            let elements = self.column(col, rows.start + done..rows.end);
            let to = panel.iter_mut().skip(done * width + j).step_by(width);
            to.zip(elements).for_each(|(to, &v)| *to = v);
        }
    }
}

/// A matrix whose columns are divided into panels of `width` columns, one after another, each row by row. The last one is
/// filled up.
#[derive(Debug)]
pub(crate) struct Panels {
    pub(super) elements: Vec<f32>,
    pub(super) rows: usize,
    pub(super) cols: usize,
    pub(super) width: usize,
}

impl Right for &Panels {
    #[inline(always)]
    fn cols(&self) -> usize {
        self.cols
    }

    #[inline(always)]
    fn is_direct(&self, _cols: usize, _width: usize) -> bool {
        true
    }

    #[inline(always)]
    fn is_packed(&self) -> bool {
        true
    }

    /// `col` is the first column of a panel.
    #[inline(always)]
    fn from(&self, row: usize, col: usize) -> &[f32] {
        &self.elements[(col / self.width * self.rows + row) * self.width..]
    }
}

/// As `copy_from_slice`, faster for few elements. The last vector overlaps the one before.
#[inline(always)]
pub(super) fn copy<I: Isa>(isa: I, to: &mut [f32], from: &[f32]) {
    let (ops, len) = (isa.f32(), to.len());
    if len < ops.len() {
        return copy_few(to, from);
    }
    for (to, from) in to.chunks_exact_mut(ops.len()).zip(from.chunks_exact(ops.len())) {
        ops.store(ops.load(from), to);
    }
    if len % ops.len() > 0 {
        ops.store(ops.load(&from[len - ops.len()..]), &mut to[len - ops.len()..]);
    }
}

/// As [`copy`], for less than a vector.
#[inline(always)]
fn copy_few(to: &mut [f32], from: &[f32]) {
    #[inline(always)]
    fn whole<const N: usize>(to: &mut [f32], from: &[f32]) -> bool {
        let (Some((head, _)), Some((_, tail))) = (from.split_first_chunk::<N>(), from.split_last_chunk::<N>()) else {
            return false;
        };
        let (head, tail) = (*head, *tail);
        if let Some(to) = to.first_chunk_mut::<N>() {
            *to = head;
        }
        if let Some(to) = to.last_chunk_mut::<N>() {
            *to = tail;
        }
        true
    }
    if !whole::<8>(to, from) && !whole::<4>(to, from) && !whole::<2>(to, from) {
        to.copy_from_slice(from);
    }
}

/// `out[i] = x[i * stride]`
#[inline(always)]
pub(super) fn gather<I: Isa>(isa: I, out: &mut [f32], x: &[f32], stride: usize) {
    match stride {
        1 => copy(isa, out, &x[..out.len()]),
        _ => pick(out, x, stride),
    }
}

/// As [`gather`], for elements of any type.
#[inline(always)]
pub(super) fn pick<T: Copy>(out: &mut [T], x: &[T], stride: usize) {
    match stride {
        1 => out.copy_from_slice(&x[..out.len()]),
        2 => {
            let pairs = x.as_chunks::<2>().0;
            out.iter_mut().zip(pairs).for_each(|(o, pair)| *o = pair[0]);
            // The last may be followed by nothing.
            if let Some(last) = out.get_mut(pairs.len()) {
                *last = x[2 * pairs.len()];
            }
        }
        _ => out.iter_mut().zip(x.iter().step_by(stride)).for_each(|(o, &v)| *o = v),
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
