//! Products of tiles: a few rows with the columns of a panel.

use std::ops::Range;

use rten_simd::ops::{BitOps, NumOps};
use rten_simd::{Isa, SimdOp};

use super::super::fused::{Emulated, Fused, Native, fuses};
use super::super::matrix::{Bias, Right, View};

/// Length of a block of the reduction axis. A panel of the right-hand side fits into the L1 cache. It is part of the
/// definition of the result.
pub(super) const DEPTH: usize = 256;

/// Columns between which the rows of a block stay in the L2 cache: a multiple of the panel width of every processor.
const WIDTH: usize = 480;

/// The number of rows of the tallest tile.
pub(super) const FEW_ROWS: usize = 8;

/// The number of columns of the widest panel.
const WIDEST: usize = 32;

/// Columns of a panel: two or three vectors, by the number of registers.
pub(super) struct PanelWidth;

impl SimdOp for PanelWidth {
    type Output = usize;

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) -> usize {
        match isa.f32().len() {
            8 => 24,
            lanes => 2 * lanes,
        }
    }
}

/// Operands of matching sizes; `a` is row-major.
pub(super) struct Product<'a, R> {
    pub(super) a: View<'a>,
    pub(super) b: R,
    pub(super) bias: Bias<'a>,
}

/// Some rows and columns of a product.
pub(super) struct Part<'o, 'a, R> {
    /// The columns of each row.
    pub(super) out: Vec<&'o mut [f32]>,
    /// The row and the column that `out` begins with.
    pub(super) first: [usize; 2],
    pub(super) product: &'a Product<'a, R>,
    /// A buffer.
    pub(super) panel: &'a mut Vec<f32>,
}

impl<R: Right> SimdOp for Part<'_, '_, R> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) {
        match (isa.f32().len(), fuses(isa)) {
            (8, true) => self.run::<I, Native, 4, 3>(isa),
            (8, false) => self.run::<I, Emulated, 4, 3>(isa),
            (_, true) => self.run::<I, Native, FEW_ROWS, 2>(isa),
            (_, false) => self.run::<I, Emulated, FEW_ROWS, 2>(isa),
        }
    }
}

impl<R: Right> Part<'_, '_, R> {
    #[inline(always)]
    fn run<I: Isa, F: Fused, const TALL: usize, const WIDE: usize>(mut self, isa: I) {
        let width = WIDE * isa.f32().len();
        let (cols, depth) = (self.out[0].len(), self.product.a.cols());
        let size = depth.min(DEPTH) * width;
        if self.panel.len() < size {
            self.panel.resize(size, 0.0);
        }
        let mut panel = std::mem::take(self.panel);
        for first in (0..cols).step_by(WIDTH) {
            for start in (0..depth).step_by(DEPTH) {
                let depth = start..(start + DEPTH).min(depth);
                let panel = &mut panel[..depth.len() * width];
                for col in (first..cols.min(first + WIDTH)).step_by(width) {
                    self.panel::<I, F, TALL, WIDE>(isa, panel, &depth, col..(col + width).min(cols));
                }
            }
        }
        *self.panel = panel;
    }

    /// All rows of some columns, which fill at most one panel.
    #[inline(always)]
    fn panel<I: Isa, F: Fused, const TALL: usize, const WIDE: usize>(
        &mut self,
        isa: I,
        panel: &mut [f32],
        depth: &Range<usize>,
        cols: Range<usize>,
    ) {
        let width = WIDE * isa.f32().len();
        let b = &self.product.b;
        let from = cols.start + self.first[1];
        match b.view().filter(|b| b.is_row_major() && cols.len() == width) {
            Some(b) => {
                let (panel_of_b, stride) = b.from(depth.start, from);
                let direct = Tile { depth: depth.clone(), cols: cols.clone(), panel: panel_of_b, stride };
                if self.out.len() <= FEW_ROWS {
                    // Few rows do not repay packing.
                    return self.rows::<I, F, TALL, WIDE>(isa, 0, &direct);
                }
                // The first tile packs what it reads.
                let packed = self.tile::<I, F, TALL, WIDE>(isa, 0, &direct, Some(panel));
                self.rows::<I, F, TALL, WIDE>(isa, packed, &Tile { panel, stride: width, ..direct });
            }
            None => {
                b.pack(isa, panel, width, depth.clone(), from..from + cols.len());
                self.rows::<I, F, TALL, WIDE>(isa, 0, &Tile { depth: depth.clone(), cols, panel, stride: width });
            }
        }
    }

    /// All rows from one on.
    #[inline(always)]
    fn rows<I: Isa, F: Fused, const TALL: usize, const WIDE: usize>(&mut self, isa: I, first: usize, tile: &Tile<'_>) {
        let (mut row, rows) = (first, self.out.len());
        while row < rows {
            row += match rows - row {
                left if left >= TALL => self.tile::<I, F, TALL, WIDE>(isa, row, tile, None),
                4.. => self.tile::<I, F, 4, WIDE>(isa, row, tile, None),
                2.. => self.tile::<I, F, 2, WIDE>(isa, row, tile, None),
                _ => self.tile::<I, F, 1, WIDE>(isa, row, tile, None),
            };
        }
    }

    /// Some rows of some columns. The elements of the right-hand side are copied to `packed`. Returns the number of
    /// rows.
    #[inline(always)]
    fn tile<I: Isa, F: Fused, const ROWS: usize, const WIDE: usize>(
        &mut self,
        isa: I,
        row: usize,
        tile: &Tile<'_>,
        packed: Option<&mut [f32]>,
    ) -> usize {
        let Product { a, bias, .. } = self.product;
        let Tile { depth, cols, .. } = tile;
        let mut left: [&[f32]; ROWS] = [&[]; ROWS];
        for (i, left) in left.iter_mut().enumerate() {
            *left = &a.row(self.first[0] + row + i, depth.clone())[..depth.len()];
        }
        let sums = match packed {
            Some(packed) => sums::<I, F, ROWS, WIDE, true>(isa, left, tile, packed),
            None => sums::<I, F, ROWS, WIDE, false>(isa, left, tile, &mut []),
        };
        let (before, last) = (depth.start > 0, depth.end == a.cols());
        for (i, sums) in sums.iter().enumerate() {
            let row = row + i;
            let bias = match *bias {
                Bias::Rows(b) if !before => Bias::Rows(&b[self.first[0] + row..][..1]),
                Bias::After(b) if last => Bias::Rows(&b[self.first[0] + row..][..1]),
                Bias::Cols(b) if !before => Bias::Cols(&b[self.first[1] + cols.start..][..cols.len()]),
                _ => Bias::None,
            };
            store(isa, sums, before, bias, &mut self.out[row][cols.clone()]);
        }
        ROWS
    }
}

/// Where a tile is in its part, and the right-hand side that it reads.
struct Tile<'a> {
    depth: Range<usize>,
    cols: Range<usize>,
    panel: &'a [f32],
    /// The distance of the rows of `panel`.
    stride: usize,
}

/// Writes the sums of a row of a tile: with `before`, what `out` has is added, then the bias, of which `Rows` is a single
/// number. `out` may be shorter than the row.
#[inline(always)]
fn store<I: Isa, const WIDE: usize>(isa: I, sums: &[I::F32; WIDE], before: bool, bias: Bias<'_>, out: &mut [f32]) {
    let ops = isa.f32();
    if out.len() == WIDE * ops.len() {
        for (j, &sum) in sums.iter().enumerate() {
            let lanes = j * ops.len()..(j + 1) * ops.len();
            let sum = if before { ops.add(sum, ops.load(&out[lanes.clone()])) } else { sum };
            let sum = match bias {
                Bias::None => sum,
                Bias::Rows(b) | Bias::After(b) => ops.add(sum, ops.splat(b[0])),
                Bias::Cols(b) => ops.add(sum, ops.load(&b[lanes.clone()])),
            };
            ops.store(sum, &mut out[lanes]);
        }
        return;
    }
    let mut whole = [0.0f32; WIDEST];
    for (j, &sum) in sums.iter().enumerate() {
        ops.store(sum, &mut whole[j * ops.len()..]);
    }
    for (i, (o, sum)) in out.iter_mut().zip(whole).enumerate() {
        let sum = if before { sum + *o } else { sum };
        *o = match bias {
            Bias::None => sum,
            Bias::Rows(b) | Bias::After(b) => sum + b[0],
            Bias::Cols(b) => sum + b[i],
        };
    }
}

/// The sums of products of some rows with the columns of a tile. With `PACKED`, these are copied to `packed`.
#[inline(always)]
fn sums<I: Isa, F: Fused, const ROWS: usize, const WIDE: usize, const PACKED: bool>(
    isa: I,
    rows: [&[f32]; ROWS],
    tile: &Tile<'_>,
    packed: &mut [f32],
) -> [[I::F32; WIDE]; ROWS] {
    let ops = isa.f32();
    let (width, stride) = (WIDE * ops.len(), tile.stride);
    let mut sums = [[ops.zero(); WIDE]; ROWS];
    for k in 0..tile.depth.len() {
        let panel = &tile.panel[k * stride..][..width];
        let mut right = [ops.zero(); WIDE];
        for j in 0..WIDE {
            right[j] = ops.load(&panel[j * ops.len()..]);
        }
        if PACKED {
            let packed = &mut packed[k * width..][..width];
            for j in 0..WIDE {
                ops.store(right[j], &mut packed[j * ops.len()..]);
            }
        }
        for i in 0..ROWS {
            let left = ops.splat(rows[i][k]);
            for j in 0..WIDE {
                sums[i][j] = F::mul_add(isa, left, right[j], sums[i][j]);
            }
        }
    }
    sums
}
