//! Products of a single row with contiguous columns.

use rten_simd::ops::{BitOps, NumOps};
use rten_simd::{Isa, SimdOp};

use super::super::matrix::View;

/// Number of lanes of the product of two rows. It is part of the definition of the result.
const LANES: usize = 16;

/// Columns that a row is multiplied with at once.
pub(super) const AT_ONCE: usize = 4;

/// The products of a row with columns from `first` on.
pub(super) struct Dots<'a> {
    pub(super) out: &'a mut [f32],
    pub(super) a: &'a [f32],
    pub(super) columns: View<'a>,
    pub(super) first: usize,
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
        *out = sum_of(&lanes);
    }
    out
}

/// The sum of all lanes: those of each half are added pairwise, until one is left.
#[inline(always)]
fn sum_of(lanes: &[f32; LANES]) -> f32 {
    let eight: [f32; 8] = std::array::from_fn(|i| lanes[i] + lanes[i + 8]);
    let four: [f32; 4] = std::array::from_fn(|i| eight[i] + eight[i + 4]);
    (four[0] + four[2]) + (four[1] + four[3])
}
