//! Matrix products whose results do not depend on the processor or the number of threads.
//!
//! The reduction axis is divided into blocks of [`DEPTH`]. Within a block, each element of the result has one
//! accumulator, to which products are added in order with fused multiply-add. The bias is added to the first block's
//! sum, then the sums of the other blocks are. The vector width only decides how many accumulators there are at once.
//! Products of a single row with columns that are contiguous are sums in [`LANES`] lanes instead.
//!
//! Processors without fused multiply-add (x86-64 before 2013) compute it exactly in double precision, which is slow.

use std::cell::Cell;
use std::ops::Range;

use rayon::prelude::*;
use rten_simd::ops::{BitOps, NumOps};
use rten_simd::{Isa, SimdOp};

use super::fused::{Emulated, Fused, Native, fuses};
use super::matrix::{Bias, View};
use crate::vector::joined;

/// Length of a block of the reduction axis. A panel of the right-hand side fits into the L1 cache. It is part of the
/// definition of the result.
const DEPTH: usize = 256;

/// Columns of a block, so that it fits into the L2 cache: a multiple of the panel width of every processor.
const WIDTH: usize = 480;

/// Number of lanes of the product of two rows.
const LANES: usize = 16;

/// The least number of multiplications for which another thread is worth its start.
const TASK: usize = 1 << 20;

thread_local! {
    /// A buffer for panels, so that no product allocates and clears one.
    static PANELS: Cell<Vec<f32>> = const { Cell::new(Vec::new()) };
}

/// How operations are compiled for the instruction set of a processor.
pub(super) trait Dispatch: Copy + Sync {
    fn run<O: SimdOp>(self, op: O) -> O::Output;
}

/// The best instruction set of this processor.
#[derive(Clone, Copy)]
pub(super) struct Best;

impl Dispatch for Best {
    fn run<O: SimdOp>(self, op: O) -> O::Output {
        op.dispatch()
    }
}

/// `out = a * b + bias`, row-major, for operands of matching sizes.
pub(super) fn multiply(on: impl Dispatch, out: &mut [f32], a: View<'_>, b: View<'_>, bias: Bias<'_>) {
    let [rows, cols, depth] = [a.rows(), b.cols(), a.cols()];
    if cols == 1 && rows > 1 {
        // A column is the row of the transposed product.
        let bias = match bias {
            Bias::None => Bias::None,
            Bias::Rows(b) => Bias::Cols(b),
            Bias::Cols(b) => Bias::Rows(b),
        };
        return multiply(on, out, b.transposed(), a.transposed(), bias);
    }
    if depth == 0 {
        // Sums of nothing.
        out.fill(0.0);
        return add(out, bias);
    }
    let dense;
    let a = if a.is_row_major() {
        a
    } else {
        dense = a.dense();
        View::new(&dense, rows, depth)
    };
    if rows == 1 && b.transposed().is_row_major() {
        return row(on, out, a.row(0, 0..depth), b, bias);
    }
    let tasks = (rows * cols * depth / TASK).clamp(1, rayon::current_num_threads());
    let width = on.run(PanelWidth);
    // Taken, because another product may begin on this thread while this one waits for its tasks.
    let mut panels = PANELS.take();
    for first in (0..cols).step_by(WIDTH) {
        let cols = first..(first + WIDTH).min(cols);
        for start in (0..depth).step_by(DEPTH) {
            let depth = start..(start + DEPTH).min(depth);
            // Few rows do not repay packing.
            let packed = if rows <= FEW_ROWS && b.is_row_major() { cols.len() / width * width } else { 0 };
            let rest = cols.start + packed..cols.end;
            let size = depth.len() * width;
            let needed = rest.len().div_ceil(width) * size;
            if panels.len() < needed {
                panels.resize(needed, 0.0);
            }
            let panels = &mut panels[..needed];
            let pack = |(i, panel): (usize, &mut [f32])| {
                let first = rest.start + i * width;
                on.run(Pack { panel, b, rows: depth.clone(), cols: first..(first + width).min(rest.end), width });
            };
            match tasks {
                1 => panels.chunks_exact_mut(size).enumerate().for_each(pack),
                _ => panels.par_chunks_exact_mut(size).enumerate().for_each(pack),
            }
            let block = Block { a, b, bias, depth, direct: cols.start..rest.start, packed: rest, panels };
            let stride = out.len() / rows;
            let chunk = rows.div_ceil(tasks).next_multiple_of(FEW_ROWS);
            let multiply = |(i, out)| on.run(Rows { out, first: i * chunk, stride, block: &block });
            match tasks {
                1 => multiply((0, &mut *out)),
                _ => out.par_chunks_mut(chunk * stride).enumerate().for_each(multiply),
            }
        }
    }
    PANELS.set(panels);
}

/// The number of rows of the tallest tile.
const FEW_ROWS: usize = 8;

/// The number of columns of the widest panel.
const WIDEST: usize = 32;

/// The product of a row with contiguous columns.
fn row(on: impl Dispatch, out: &mut [f32], a: &[f32], b: View<'_>, bias: Bias<'_>) {
    let columns = b.transposed();
    match out.len() * a.len() / TASK {
        0 => on.run(Dots { out, a, columns, first: 0 }),
        _ => {
            let chunk = (TASK / a.len()).next_multiple_of(AT_ONCE);
            let dots = |(i, out)| on.run(Dots { out, a, columns, first: i * chunk });
            out.par_chunks_mut(chunk).enumerate().for_each(dots);
        }
    }
    add(out, bias);
}

/// Adds the bias to a row-major matrix.
fn add(out: &mut [f32], bias: Bias<'_>) {
    match bias {
        Bias::None => {}
        Bias::Rows(b) => {
            let cols = out.len() / b.len();
            out.chunks_exact_mut(cols).zip(b).for_each(|(row, b)| row.iter_mut().for_each(|o| *o += b));
        }
        Bias::Cols(b) => out.chunks_exact_mut(b.len()).for_each(|row| row.iter_mut().zip(b).for_each(|(o, b)| *o += b)),
    }
}

/// Columns that a row is multiplied with at once.
const AT_ONCE: usize = 4;

/// The products of a row with columns from `first` on.
struct Dots<'a> {
    out: &'a mut [f32],
    a: &'a [f32],
    columns: View<'a>,
    first: usize,
}

impl SimdOp for Dots<'_> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) {
        let Dots { out, a, columns, first } = self;
        let column = |i: usize| &columns.row(first + i, 0..a.len())[..a.len()];
        let (fours, rest) = out.as_chunks_mut::<AT_ONCE>();
        for (i, four) in fours.iter_mut().enumerate() {
            let i = i * AT_ONCE;
            *four = dot(isa, a, [column(i), column(i + 1), column(i + 2), column(i + 3)]);
        }
        for (i, o) in rest.iter_mut().enumerate() {
            [*o] = dot(isa, a, [column(fours.len() * AT_ONCE + i)]);
        }
    }
}

/// The products of a row with some columns of the same length.
#[inline(always)]
fn dot<I: Isa, const N: usize>(isa: I, a: &[f32], columns: [&[f32]; N]) -> [f32; N] {
    /// Vectors of the smallest size in all lanes.
    const MOST: usize = 4;
    let ops = isa.f32();
    let (vectors, whole) = (LANES / ops.len(), a.len() / LANES * LANES);
    let mut sums = [[ops.zero(); MOST]; N];
    for first in (0..whole).step_by(LANES) {
        for (sums, column) in sums.iter_mut().zip(columns) {
            for (v, sum) in sums.iter_mut().enumerate().take(vectors) {
                let lanes = first + v * ops.len()..first + (v + 1) * ops.len();
                *sum = ops.add(*sum, ops.mul(ops.load(&a[lanes.clone()]), ops.load(&column[lanes])));
            }
        }
    }
    let mut out = [0.0; N];
    for (out, (sums, column)) in out.iter_mut().zip(sums.iter().zip(columns)) {
        let mut lanes = [0.0; LANES];
        for (v, &sum) in sums.iter().enumerate().take(vectors) {
            ops.store(sum, &mut lanes[v * ops.len()..]);
        }
        let rest = a[whole..].iter().zip(&column[whole..]);
        lanes.iter_mut().zip(rest).for_each(|(sum, (a, b))| *sum += a * b);
        *out = joined(&mut lanes, |a, b| a + b);
    }
    out
}

/// Columns of a panel: two or three vectors, by the number of registers.
struct PanelWidth;

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

/// Copies a block of the right-hand side to a panel of `width` columns, row by row. Columns that the block does not
/// have are not read by anyone.
struct Pack<'a> {
    panel: &'a mut [f32],
    b: View<'a>,
    rows: Range<usize>,
    cols: Range<usize>,
    width: usize,
}

impl SimdOp for Pack<'_> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) {
        let Pack { panel, b, rows, cols, width } = self;
        let ops = isa.f32();
        let lines = panel.chunks_exact_mut(width).zip(rows.clone());
        if b.is_row_major() && cols.len() == width {
            for (to, k) in lines {
                let from = b.row(k, cols.clone()).chunks_exact(ops.len());
                to.chunks_exact_mut(ops.len()).zip(from).for_each(|(to, from)| ops.store(ops.load(from), to));
            }
        } else if b.is_row_major() {
            lines.for_each(|(to, k)| to[..cols.len()].copy_from_slice(b.row(k, cols.clone())));
        } else {
            /// Rows at a time, so that the columns' cache lines are used whole.
            const ROWS: usize = 16;
            for (to, first) in panel.chunks_mut(ROWS * width).zip(rows.clone().step_by(ROWS)) {
                for (j, col) in cols.clone().enumerate() {
                    let elements = b.column(col, first..rows.end);
                    to.iter_mut().skip(j).step_by(width).zip(elements).for_each(|(to, &v)| *to = v);
                }
            }
        }
    }
}

/// A block of a product.
struct Block<'a> {
    a: View<'a>,
    b: View<'a>,
    bias: Bias<'a>,
    depth: Range<usize>,
    /// Columns that are read from `b` itself: whole panels.
    direct: Range<usize>,
    /// Columns that are in `panels`.
    packed: Range<usize>,
    panels: &'a [f32],
}

/// Some rows of the product, with the sums of one block.
struct Rows<'a> {
    out: &'a mut [f32],
    /// The row that `out` begins with.
    first: usize,
    stride: usize,
    block: &'a Block<'a>,
}

impl SimdOp for Rows<'_> {
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

impl Rows<'_> {
    #[inline(always)]
    fn run<I: Isa, F: Fused, const TALL: usize, const WIDE: usize>(mut self, isa: I) {
        let width = WIDE * isa.f32().len();
        let Block { b, depth, direct, packed, panels, .. } = self.block;
        for first in direct.clone().step_by(width) {
            let (panel, stride) = b.from(depth.start, first);
            self.panel::<I, F, TALL, WIDE>(isa, panel, stride, first..first + width);
        }
        let panels = panels.chunks_exact(depth.len() * width);
        for (panel, first) in panels.zip(packed.clone().step_by(width)) {
            self.panel::<I, F, TALL, WIDE>(isa, panel, width, first..(first + width).min(packed.end));
        }
    }

    /// All rows of some columns.
    #[inline(always)]
    fn panel<I: Isa, F: Fused, const TALL: usize, const WIDE: usize>(
        &mut self,
        isa: I,
        panel: &[f32],
        stride: usize,
        cols: Range<usize>,
    ) {
        let rows = self.out.len() / self.stride;
        let mut row = 0;
        while row < rows {
            let cols = cols.clone();
            row += match rows - row {
                left if left >= TALL => self.tile::<I, F, TALL, WIDE>(isa, panel, stride, row, cols),
                4.. => self.tile::<I, F, 4, WIDE>(isa, panel, stride, row, cols),
                2.. => self.tile::<I, F, 2, WIDE>(isa, panel, stride, row, cols),
                _ => self.tile::<I, F, 1, WIDE>(isa, panel, stride, row, cols),
            };
        }
    }

    /// Some rows of some columns. Returns the number of rows.
    #[inline(always)]
    fn tile<I: Isa, F: Fused, const ROWS: usize, const WIDE: usize>(
        &mut self,
        isa: I,
        panel: &[f32],
        stride: usize,
        row: usize,
        cols: Range<usize>,
    ) -> usize {
        let Block { a, bias, depth, .. } = self.block;
        let mut left: [&[f32]; ROWS] = [&[]; ROWS];
        for (i, left) in left.iter_mut().enumerate() {
            *left = &a.row(self.first + row + i, depth.clone())[..depth.len()];
        }
        let sums = sums::<I, F, ROWS, WIDE>(isa, left, depth.len(), panel, stride);
        for (i, sums) in sums.iter().enumerate() {
            let row = row + i;
            let out = &mut self.out[row * self.stride..][cols.clone()];
            let bias = match bias {
                _ if depth.start > 0 => Addend::Before,
                Bias::None => Addend::None,
                Bias::Rows(b) => Addend::One(b[self.first + row]),
                Bias::Cols(b) => Addend::Each(&b[cols.clone()]),
            };
            store(isa, sums, &bias, out);
        }
        ROWS
    }
}

/// What is added to the sums of a block.
enum Addend<'a> {
    None,
    One(f32),
    Each(&'a [f32]),
    /// The sums of the blocks before.
    Before,
}

/// Writes the sums of a row of a tile. `out` may be shorter.
#[inline(always)]
fn store<I: Isa, const WIDE: usize>(isa: I, sums: &[I::F32; WIDE], addend: &Addend<'_>, out: &mut [f32]) {
    let ops = isa.f32();
    if out.len() == WIDE * ops.len() {
        for (j, &sum) in sums.iter().enumerate() {
            let lanes = j * ops.len()..(j + 1) * ops.len();
            let sum = match addend {
                Addend::None => sum,
                Addend::One(b) => ops.add(sum, ops.splat(*b)),
                Addend::Each(b) => ops.add(sum, ops.load(&b[lanes.clone()])),
                Addend::Before => ops.add(sum, ops.load(&out[lanes.clone()])),
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
        *o = match addend {
            Addend::None => sum,
            Addend::One(b) => sum + b,
            Addend::Each(b) => sum + b[i],
            Addend::Before => sum + *o,
        };
    }
}

/// The sums of products of some rows with the columns of a panel, whose rows are `stride` apart.
#[inline(always)]
fn sums<I: Isa, F: Fused, const ROWS: usize, const WIDE: usize>(
    isa: I,
    rows: [&[f32]; ROWS],
    depth: usize,
    panel: &[f32],
    stride: usize,
) -> [[I::F32; WIDE]; ROWS] {
    let ops = isa.f32();
    let mut sums = [[ops.zero(); WIDE]; ROWS];
    for k in 0..depth {
        let panel = &panel[k * stride..][..WIDE * ops.len()];
        let mut right = [ops.zero(); WIDE];
        for j in 0..WIDE {
            right[j] = ops.load(&panel[j * ops.len()..]);
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

#[cfg(test)]
mod tests {
    use super::super::fused::fused;
    use super::*;
    use proptest::prelude::*;

    /// An instruction set, without the compiler's use of it outside the operations.
    #[derive(Clone, Copy)]
    struct On<I>(I);

    impl<I: Isa + Sync> Dispatch for On<I> {
        fn run<O: SimdOp>(self, op: O) -> O::Output {
            op.eval(self.0)
        }
    }

    /// Pseudo-random numbers of unlike magnitudes.
    fn numbers(count: usize, seed: usize) -> Vec<f32> {
        let number = |i: usize| {
            let bits = (i + seed * 7919).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29).wrapping_mul(0xbf58_476d);
            let mantissa = (bits >> 16) as u16 as f32 / 65536.0 - 0.5;
            mantissa * libm::scalbnf(1.0, (bits >> 40) as i32 % 12)
        };
        (0..count).map(number).collect()
    }

    /// The definition.
    fn defined(a: View<'_>, b: View<'_>, bias: Bias<'_>) -> Vec<f32> {
        let mut out = Vec::new();
        for i in 0..a.rows() {
            for j in 0..b.cols() {
                let row: Vec<f32> = a.transposed().column(i, 0..a.cols()).copied().collect();
                let column: Vec<f32> = b.column(j, 0..b.rows()).copied().collect();
                let block = |(a, b): (&[f32], &[f32])| a.iter().zip(b).fold(0.0, |sum, (&a, &b)| fused(a, b, sum));
                let mut blocks = row.chunks(DEPTH).zip(column.chunks(DEPTH)).map(block);
                let first = blocks.next().unwrap_or(0.0);
                let first = match bias {
                    Bias::None => first,
                    Bias::Rows(bias) => first + bias[i],
                    Bias::Cols(bias) => first + bias[j],
                };
                out.push(blocks.fold(first, |sum, block| sum + block));
            }
        }
        out
    }

    fn bits(x: &[f32]) -> Vec<u32> {
        x.iter().map(|v| v.to_bits()).collect()
    }

    /// The bits of a product on each instruction set that this processor has.
    fn on_all(a: View<'_>, b: View<'_>, bias: Bias<'_>) -> Vec<(&'static str, Vec<u32>)> {
        let mut all = Vec::new();
        let mut add = |name, multiply: &dyn Fn(&mut [f32])| {
            let mut out = vec![f32::NAN; a.rows() * b.cols()];
            multiply(&mut out);
            all.push((name, bits(&out)));
        };
        add("best", &|out| multiply(Best, out, a, b, bias));
        add("generic", &|out| multiply(On(rten_simd::isa::GenericIsa::new()), out, a, b, bias));
        #[cfg(target_arch = "x86_64")]
        {
            if let Some(isa) = rten_simd::isa::Avx2Isa::new() {
                add("AVX2", &|out| multiply(On(isa), out, a, b, bias));
            }
            if let Some(isa) = rten_simd::isa::Avx512Isa::new() {
                add("AVX-512", &|out| multiply(On(isa), out, a, b, bias));
            }
        }
        all
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn every_instruction_set_computes_the_same_bits(
            (rows, depth, cols) in (1..20usize, 1..600usize, 1..70usize),
            (transposed_a, transposed_b) in any::<(bool, bool)>(),
            biased in 0..3usize,
            seed in 0..100usize,
        ) {
            let (x, y) = (numbers(rows * depth, seed), numbers(depth * cols, seed + 1));
            let (row_bias, col_bias) = (numbers(rows, seed + 2), numbers(cols, seed + 3));
            let a = if transposed_a { View::new(&x, depth, rows).transposed() } else { View::new(&x, rows, depth) };
            let b = if transposed_b { View::new(&y, cols, depth).transposed() } else { View::new(&y, depth, cols) };
            let bias = [Bias::None, Bias::Rows(&row_bias), Bias::Cols(&col_bias)][biased];
            let all = on_all(a, b, bias);
            for (name, found) in &all[1..] {
                prop_assert_eq!(found, &all[0].1, "{} and {}", name, all[0].0);
            }
            if rows > 1 && cols > 1 {
                prop_assert_eq!(&all[0].1, &bits(&defined(a, b, bias)));
            }
        }
    }

    #[test]
    fn any_number_of_threads_computes_the_same_bits() {
        let sizes = [(70, 600, 900), (1, 2000, 3000), (300, 20_000, 1)];
        for (rows, depth, cols) in sizes {
            let (x, y) = (numbers(rows * depth, 1), numbers(depth * cols, 2));
            let (a, b) = (View::new(&x, rows, depth), View::new(&y, cols, depth).transposed());
            let on = |threads: usize| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                let mut out = vec![0.0; rows * cols];
                pool.install(|| multiply(Best, &mut out, a, b, Bias::None));
                bits(&out)
            };
            let one = on(1);
            assert!([2, 3, 7].into_iter().all(|threads| on(threads) == one), "{rows} {depth} {cols}");
        }
    }

    #[test]
    fn empty_sums_are_the_bias() {
        let mut out = [f32::NAN; 4];
        multiply(Best, &mut out, View::new(&[], 2, 0), View::new(&[], 0, 2), Bias::Rows(&[1.0, 2.0]));
        assert_eq!(out, [1.0, 1.0, 2.0, 2.0]);
    }
}
