//! Matrix products whose results do not depend on the processor or the number of threads.
//!
//! The reduction axis is divided into blocks of [`tile::DEPTH`]. Within a block, each element of the result has one
//! accumulator, to which products are added in order with fused multiply-add. The bias is added to the first block's
//! sum, then the sums of the other blocks are; [`Bias::After`] is added to the sum of all blocks. The vector width only
//! decides how many accumulators there are at once. Products of a single row with columns that are contiguous are sums
//! in [`dot::LANES`] lanes instead.
//!
//! Processors without fused multiply-add (x86-64 before 2013) compute it exactly in double precision, which is slow.

mod dot;
mod tile;

use std::cell::Cell;

use rayon::prelude::*;
use rten_simd::SimdOp;

use super::matrix::{Bias, Panels, Right, View};
use super::then::Then;
use dot::{AT_ONCE, Dots};
pub(super) use tile::{FEW_ROWS, READ, store};
use tile::{Pack, PanelWidth, Part, Product};

/// The least number of multiplications for which another thread is worth its start.
const TASK: usize = 1 << 20;

thread_local! {
    /// A buffer for a panel and for sums, so that no product allocates and clears one.
    static BUFFER: Cell<Vec<f32>> = const { Cell::new(Vec::new()) };
}

/// The number of tasks for some multiplications.
pub(super) fn tasks(multiplications: usize) -> usize {
    (multiplications / TASK).clamp(1, rayon::current_num_threads())
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

/// `out = then(a * b + bias)`, row-major, for operands of matching sizes.
pub(super) fn multiply(
    on: impl Dispatch,
    out: &mut [f32],
    a: View<'_>,
    b: View<'_>,
    bias: Bias<'_>,
    then: Option<Then>,
) {
    let [rows, cols, depth] = [a.rows(), b.cols(), a.cols()];
    if depth == 0 {
        // Sums of nothing.
        out.fill(0.0);
        return finish(out, bias, then);
    }
    let dense;
    let a = if a.is_row_major() {
        a
    } else {
        dense = a.dense();
        View::new(&dense, rows, depth)
    };
    if cols == 1 && rows > 1 {
        // A column is the row of the transposed product.
        let column: Vec<f32> = b.column(0, 0..depth).copied().collect();
        row(on, out, &column, a.transposed(), bias, then);
    } else if rows == 1 && b.transposed().is_row_major() {
        row(on, out, a.row(0, 0..depth), b, bias, then);
    } else {
        blocks(on, out, &Product { a, b, bias, then });
    }
}

/// The right-hand side of products with several rows, as [`multiply_panels`] needs it.
pub(super) fn panels(on: impl Dispatch, b: View<'_>) -> Panels {
    on.run(Pack(b))
}

/// As [`multiply`], for several rows and columns. `a` is row-major.
pub(super) fn multiply_panels(
    on: impl Dispatch,
    out: &mut [f32],
    a: View<'_>,
    b: &Panels,
    bias: Bias<'_>,
    then: Option<Then>,
) {
    blocks(on, out, &Product { a, b, bias, then });
}

/// The rows `out` of a product, on this thread. `a` is row-major.
pub(super) fn multiply_rows(out: Vec<&mut [f32]>, a: View<'_>, b: impl Right, bias: Bias<'_>, then: Option<Then>) {
    part(Best, out, [0, 0], b.cols(), &Product { a, b, bias, then });
}

/// The product of a row with contiguous columns. The bias is that of the product or of the transposed product.
fn row(on: impl Dispatch, out: &mut [f32], a: &[f32], b: View<'_>, bias: Bias<'_>, then: Option<Then>) {
    let columns = b.transposed();
    match out.len() * a.len() / TASK {
        0 => on.run(Dots { out, a, columns, first: 0 }),
        _ => {
            let chunk = (TASK / a.len()).next_multiple_of(AT_ONCE);
            let dots = |(i, out)| on.run(Dots { out, a, columns, first: i * chunk });
            out.par_chunks_mut(chunk).enumerate().for_each(dots);
        }
    }
    finish(out, bias, then);
}

/// Adds the bias to a row-major matrix, and applies a function.
fn finish(out: &mut [f32], bias: Bias<'_>, then: Option<Then>) {
    match bias {
        Bias::None => {}
        Bias::Rows(b) | Bias::After(b) => {
            let cols = out.len() / b.len();
            out.chunks_exact_mut(cols).zip(b).for_each(|(row, b)| row.iter_mut().for_each(|o| *o += b));
        }
        Bias::Cols(b) => out.chunks_exact_mut(b.len()).for_each(|row| row.iter_mut().zip(b).for_each(|(o, b)| *o += b)),
    }
    if let Some(then) = then {
        then.apply(out);
    }
}

/// A product of tiles. Tasks have their own columns or, where there are few, their own rows.
fn blocks<R: Right>(on: impl Dispatch, out: &mut [f32], product: &Product<'_, R>) {
    let [rows, cols, depth] = [product.a.rows(), product.b.cols(), product.a.cols()];
    let tasks = tasks(rows * cols * depth);
    let lines = out.chunks_exact_mut(cols);
    if tasks == 1 {
        return part(on, lines.collect(), [0, 0], cols, product);
    }
    let chunk = cols.div_ceil(tasks).next_multiple_of(on.run(PanelWidth));
    if cols > (tasks - 1) * chunk {
        let mut parts: Vec<Vec<&mut [f32]>> = Vec::new();
        parts.resize_with(cols.div_ceil(chunk), || Vec::with_capacity(rows));
        lines.for_each(|line| line.chunks_mut(chunk).zip(&mut parts).for_each(|(piece, part)| part.push(piece)));
        parts.into_par_iter().enumerate().for_each(|(i, lines)| {
            let cols = lines[0].len();
            part(on, lines, [0, i * chunk], cols, product);
        });
    } else {
        let chunk = rows.div_ceil(tasks).next_multiple_of(tile::FEW_ROWS);
        let parts = out.par_chunks_mut(chunk * cols).enumerate();
        parts.for_each(|(i, out)| part(on, out.chunks_exact_mut(cols).collect(), [i * chunk, 0], cols, product));
    }
}

/// Some rows of a product, and `cols` columns of the right-hand side.
fn part<R: Right>(on: impl Dispatch, out: Vec<&mut [f32]>, first: [usize; 2], cols: usize, product: &Product<'_, R>) {
    let mut buffer = BUFFER.take();
    on.run(Part { out, first, cols, product, buffer: &mut buffer });
    BUFFER.set(buffer);
}

#[cfg(test)]
mod tests {
    use super::super::fused::fused;
    use super::tile::DEPTH;
    use super::*;
    use proptest::prelude::*;

    /// An instruction set, without the compiler's use of it outside the operations.
    #[derive(Clone, Copy)]
    struct On<I>(I);

    impl<I: rten_simd::Isa + Sync> Dispatch for On<I> {
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
                    Bias::None | Bias::After(_) => first,
                    Bias::Rows(bias) => first + bias[i],
                    Bias::Cols(bias) => first + bias[j],
                };
                let sum = blocks.fold(first, |sum, block| sum + block);
                out.push(if let Bias::After(bias) = bias { sum + bias[i] } else { sum });
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
        add("best", &|out| multiply(Best, out, a, b, bias, None));
        if a.rows() > 1 && b.cols() > 1 && a.is_row_major() {
            add("panels", &|out| multiply_panels(Best, out, a, &panels(Best, b), bias, None));
            let generic = On(rten_simd::isa::GenericIsa::new());
            add("generic panels", &|out| multiply_panels(generic, out, a, &panels(generic, b), bias, None));
        }
        add("generic", &|out| multiply(On(rten_simd::isa::GenericIsa::new()), out, a, b, bias, None));
        #[cfg(target_arch = "x86_64")]
        {
            if let Some(isa) = rten_simd::isa::Avx2Isa::new() {
                add("AVX2", &|out| multiply(On(isa), out, a, b, bias, None));
            }
            if let Some(isa) = rten_simd::isa::Avx512Isa::new() {
                add("AVX-512", &|out| multiply(On(isa), out, a, b, bias, None));
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
            biased in 0..4usize,
            seed in 0..100usize,
        ) {
            let (x, y) = (numbers(rows * depth, seed), numbers(depth * cols, seed + 1));
            let (row_bias, col_bias) = (numbers(rows, seed + 2), numbers(cols, seed + 3));
            let a = if transposed_a { View::new(&x, depth, rows).transposed() } else { View::new(&x, rows, depth) };
            let b = if transposed_b { View::new(&y, cols, depth).transposed() } else { View::new(&y, depth, cols) };
            let bias = [Bias::None, Bias::Rows(&row_bias), Bias::Cols(&col_bias), Bias::After(&row_bias)][biased];
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
        let sizes = [(70, 600, 900), (3000, 600, 20), (1, 2000, 3000), (300, 20_000, 1)];
        for (rows, depth, cols) in sizes {
            let (x, y) = (numbers(rows * depth, 1), numbers(depth * cols, 2));
            let (a, b) = (View::new(&x, rows, depth), View::new(&y, cols, depth).transposed());
            let on = |threads: usize| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                let mut out = vec![0.0; rows * cols];
                pool.install(|| multiply(Best, &mut out, a, b, Bias::None, None));
                bits(&out)
            };
            let one = on(1);
            assert!([2, 3, 7].into_iter().all(|threads| on(threads) == one), "{rows} {depth} {cols}");
        }
    }

    #[test]
    fn empty_sums_are_the_bias() {
        let mut out = [f32::NAN; 4];
        multiply(Best, &mut out, View::new(&[], 2, 0), View::new(&[], 0, 2), Bias::Rows(&[1.0, 2.0]), None);
        assert_eq!(out, [1.0, 1.0, 2.0, 2.0]);
    }
}
