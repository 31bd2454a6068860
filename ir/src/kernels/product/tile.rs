//! Products of tiles: a few rows with the columns of a panel.

use std::ops::Range;

use rten_simd::ops::{BitOps, NumOps};
use rten_simd::{Isa, SimdOp};

use super::super::fused::{Emulated, Fused, Native, fuses};
use super::super::matrix::{Bias, Panels, Place, Places, Right, View, copy};
use super::super::then::Then;

/// Length of a block of the reduction axis. A panel of the right-hand side fits into the L1 cache. It is part of the
/// definition of the result.
pub(super) const DEPTH: usize = 256;

/// Columns between which the rows of a block stay in the L2 cache: a multiple of the panel width of every processor.
const WIDTH: usize = 480;

/// The number of rows of the tallest tile.
pub(in super::super) const FEW_ROWS: usize = 8;

/// The most columns that are computed at once.
pub(in super::super) const READ: usize = 64;

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

/// Divides a matrix into panels.
pub(super) struct Pack<'a>(pub(super) View<'a>);

impl SimdOp for Pack<'_> {
    type Output = Panels;

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) -> Panels {
        let (b, width) = (self.0, PanelWidth.eval(isa));
        let [rows, cols] = [b.rows(), b.cols()];
        let mut elements = vec![0.0; cols.div_ceil(width) * rows * width];
        for (i, panel) in elements.chunks_exact_mut((rows * width).max(1)).enumerate() {
            b.pack(isa, panel, width, 0..rows, i * width..cols.min((i + 1) * width));
        }
        Panels { elements, rows, cols, width }
    }
}

/// Operands of matching sizes; `a` is row-major.
pub(super) struct Product<'a, R> {
    pub(super) a: View<'a>,
    pub(super) b: R,
    pub(super) bias: Bias<'a>,
    pub(super) then: Option<Then>,
}

/// Some rows and columns of a product.
pub(super) struct Part<'o, 'a, R> {
    /// The columns of each row.
    pub(super) out: Vec<&'o mut [f32]>,
    /// The row and the column that `out` begins with.
    pub(super) first: [usize; 2],
    /// The number of columns of the right-hand side.
    pub(super) cols: usize,
    pub(super) product: &'a Product<'a, R>,
    /// A buffer.
    pub(super) buffer: &'a mut Vec<f32>,
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
        let (cols, depth) = (self.cols, self.product.a.cols());
        let gaps = self.product.b.has_gaps() && depth > DEPTH;
        let sizes = [depth.min(DEPTH) * width, if gaps { self.out.len() * WIDTH } else { 0 }];
        let mut buffer = std::mem::take(self.buffer);
        if buffer.len() < sizes[0] + sizes[1] {
            buffer.resize(sizes[0] + sizes[1], 0.0);
        }
        let (panel, sums) = buffer.split_at_mut(sizes[0]);
        for first in (0..cols).step_by(WIDTH) {
            for start in (0..depth).step_by(DEPTH) {
                let depth = start..(start + DEPTH).min(depth);
                let panel = &mut panel[..depth.len() * width];
                for col in (first..cols.min(first + WIDTH)).step_by(width) {
                    let sums = if gaps { &mut sums[col - first..] } else { &mut [] };
                    self.panel::<I, F, TALL, WIDE>(isa, panel, sums, &depth, col..(col + width).min(cols));
                }
            }
            if let Some(then) = self.product.then {
                let places = [first, cols.min(first + WIDTH)].map(|col| self.product.b.place(col));
                self.out.iter_mut().for_each(|row| then.apply(&mut row[places[0]..places[1]]));
            }
        }
        *self.buffer = buffer;
    }

    /// All rows of some columns, which fill at most one panel. `sums` has their sums of the blocks before.
    #[inline(always)]
    fn panel<I: Isa, F: Fused, const TALL: usize, const WIDE: usize>(
        &mut self,
        isa: I,
        panel: &mut [f32],
        sums: &mut [f32],
        depth: &Range<usize>,
        cols: Range<usize>,
    ) {
        let width = WIDE * isa.f32().len();
        let (b, from) = (self.product.b, cols.start + self.first[1]);
        let mut tile = Tile { depth: depth.clone(), places: b.places(cols.clone()), sums };
        if !b.is_direct(cols.len(), width) {
            b.pack(isa, panel, width, depth.clone(), from..from + cols.len());
            return self.rows::<I, F, TALL, WIDE>(isa, 0, &mut tile, |k| &panel[k * width..]);
        }
        let direct = |k: usize| b.from(depth.start + k, from);
        if b.is_packed() || self.out.len() <= 2 * FEW_ROWS {
            // Few rows do not repay packing.
            return self.rows::<I, F, TALL, WIDE>(isa, 0, &mut tile, direct);
        }
        // The first tile packs what it reads.
        let done = self.tile::<I, F, TALL, WIDE>(isa, 0, &mut tile, direct, Some(panel));
        self.rows::<I, F, TALL, WIDE>(isa, done, &mut tile, |k| &panel[k * width..]);
    }

    /// All rows from one on.
    #[inline(always)]
    fn rows<'b, I: Isa, F: Fused, const TALL: usize, const WIDE: usize>(
        &mut self,
        isa: I,
        first: usize,
        tile: &mut Tile<'_>,
        line: impl Fn(usize) -> &'b [f32] + Copy,
    ) {
        let (mut row, rows) = (first, self.out.len());
        while row < rows {
            row += match rows - row {
                left if left >= TALL => self.tile::<I, F, TALL, WIDE>(isa, row, tile, line, None),
                4.. => self.tile::<I, F, 4, WIDE>(isa, row, tile, line, None),
                2.. => self.tile::<I, F, 2, WIDE>(isa, row, tile, line, None),
                _ => self.tile::<I, F, 1, WIDE>(isa, row, tile, line, None),
            };
        }
    }

    /// Some rows of some columns. `line` has the elements of a row of the right-hand side; they are copied to `packed`.
    /// Returns the number of rows.
    #[inline(always)]
    fn tile<'b, I: Isa, F: Fused, const ROWS: usize, const WIDE: usize>(
        &mut self,
        isa: I,
        row: usize,
        tile: &mut Tile<'_>,
        line: impl Fn(usize) -> &'b [f32],
        packed: Option<&mut [f32]>,
    ) -> usize {
        let (Product { a, b, bias, .. }, ops) = (self.product, isa.f32());
        let Tile { depth, places, sums: all } = tile;
        let mut left: [&[f32]; ROWS] = [&[]; ROWS];
        for (i, left) in left.iter_mut().enumerate() {
            *left = &a.row(self.first[0] + row + i, depth.clone())[..depth.len()];
        }
        let sums = match packed {
            Some(packed) => sums::<I, F, ROWS, WIDE, true>(isa, left, depth.len(), line, packed),
            None => sums::<I, F, ROWS, WIDE, false>(isa, left, depth.len(), line, &mut []),
        };
        let (before, last) = (depth.start > 0, depth.end == a.cols());
        for (i, sums) in sums.iter().enumerate() {
            let row = row + i;
            let bias = match *bias {
                Bias::Rows(b) if !before => Bias::Rows(&b[self.first[0] + row..][..1]),
                Bias::After(b) if last => Bias::Rows(&b[self.first[0] + row..][..1]),
                Bias::Cols(b) if !before => Bias::Cols(&b[self.first[1]..]),
                _ => Bias::None,
            };
            if !b.has_gaps() || all.is_empty() {
                store(isa, sums, before, bias, places, self.out[row]);
                continue;
            }
            let all = all[row * WIDTH..].chunks_exact_mut(ops.len());
            let mut sums = *sums;
            for (sum, all) in sums.iter_mut().zip(all) {
                if before {
                    *sum = ops.add(*sum, ops.load(all));
                } else if let Bias::Rows(b) = bias {
                    *sum = ops.add(*sum, ops.splat(b[0]));
                }
                ops.store(*sum, all);
            }
            if last {
                store(isa, &sums, false, bias, places, self.out[row]);
            }
        }
        ROWS
    }
}

/// Where a tile is in its part.
struct Tile<'s> {
    depth: Range<usize>,
    /// Where the columns are in the result.
    places: Places,
    /// The sums of the blocks before, each row [`WIDTH`] behind the one before; empty if the result has them.
    sums: &'s mut [f32],
}

/// Writes the sums of a row of a tile to their places in a row of the result: with `before`, what `out` has is added, then
/// the bias, of which `Rows` is a single number.
#[inline(always)]
pub(in super::super) fn store<I: Isa, const WIDE: usize>(
    isa: I,
    sums: &[I::F32; WIDE],
    before: bool,
    bias: Bias<'_>,
    places: &[Place],
    out: &mut [f32],
) {
    let ops = isa.f32();
    if let [Place { from: 0, to, len }] = *places
        && len == WIDE * ops.len()
    {
        let out = &mut out[to..to + len];
        for (j, &sum) in sums.iter().enumerate() {
            let lanes = j * ops.len()..(j + 1) * ops.len();
            let sum = if before { ops.add(sum, ops.load(&out[lanes.clone()])) } else { sum };
            let sum = match bias {
                Bias::None => sum,
                Bias::Rows(b) | Bias::After(b) => ops.add(sum, ops.splat(b[0])),
                Bias::Cols(b) => ops.add(sum, ops.load(&b[to + lanes.start..to + lanes.end])),
            };
            ops.store(sum, &mut out[lanes]);
        }
        return;
    }
    let mut whole = [0.0f32; READ];
    let row = match bias {
        Bias::Rows(b) | Bias::After(b) => Some(b[0]),
        Bias::None | Bias::Cols(_) => None,
    };
    for (j, &sum) in sums.iter().enumerate() {
        let sum = if before { sum } else { row.map_or(sum, |b| ops.add(sum, ops.splat(b))) };
        ops.store(sum, &mut whole[j * ops.len()..]);
    }
    for &Place { from, to, len } in places {
        let (out, sums) = (&mut out[to..to + len], &whole[from..from + len]);
        match bias {
            Bias::Cols(b) => {
                let sums = sums.iter().zip(&b[to..to + len]);
                out.iter_mut().zip(sums).for_each(|(o, (sum, b))| *o = if before { sum + *o } else { *sum } + b);
            }
            _ if before => {
                let row = row.unwrap_or(-0.0);
                out.iter_mut().zip(sums).for_each(|(o, sum)| *o = sum + *o + row);
            }
            _ => copy(isa, out, sums),
        }
    }
}

/// The sums of products of some rows with the columns of a tile: `depth` elements of each. With `PACKED`, the columns are
/// copied to `packed`.
#[inline(always)]
fn sums<'b, I: Isa, F: Fused, const ROWS: usize, const WIDE: usize, const PACKED: bool>(
    isa: I,
    rows: [&[f32]; ROWS],
    depth: usize,
    line: impl Fn(usize) -> &'b [f32],
    packed: &mut [f32],
) -> [[I::F32; WIDE]; ROWS] {
    let ops = isa.f32();
    let width = WIDE * ops.len();
    let mut sums = [[ops.zero(); WIDE]; ROWS];
    for k in 0..depth {
        let line = &line(k)[..width];
        let mut right = [ops.zero(); WIDE];
        for j in 0..WIDE {
            right[j] = ops.load(&line[j * ops.len()..]);
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
