//! Quantization parameters from ranges.

use qcc_ir::target::BlockGrid;
use qcc_ir::vector::{self, LANES, vectorized};
use qcc_ir::{QuantParams, StorageType};

use crate::calibrate::Range;

/// The smallest scale: far below any useful one, and far above the numbers that kernels flush to zero.
const FINEST: f32 = 1e-20;

/// The quantization parameters that cover a range. 0 is exactly representable, and the ends are clipped by at most half
/// a step. If `symmetric`, and always for 16-bit storage, the quantization is symmetric. The ends of a symmetric range
/// would be halfway between two steps, and are steps instead: 8-bit pictures that are scaled to -1 .. 1 have as many numbers as
/// there are steps, and all of them would be halfway, where each has the largest error and runtimes round differently.
pub(super) fn qparams_of(range: Range, storage: StorageType, symmetric: bool) -> QuantParams {
    let r = range.with_zero();
    let (qmin, qmax) = storage.range();
    if symmetric || matches!(storage, StorageType::I16 | StorageType::I32) {
        let middle = if storage == StorageType::U8 { 128 } else { 0 };
        let scale = (r.hi.max(-r.lo) / (qmax - middle) as f32).max(FINEST);
        return QuantParams::per_tensor(storage, scale, middle);
    }
    if r.span() <= 0.0 {
        return QuantParams::per_tensor(storage, 1.0, qmin);
    }
    let scale_of = |steps: i32| (r.span() / steps as f32).max(FINEST);
    // A symmetric range has 0 in its middle, and the number of steps is odd.
    let is_halfway = (r.lo + r.hi).abs() < HALFWAY * scale_of(qmax - qmin);
    let scale = scale_of(if is_halfway { qmax - qmin - 1 } else { qmax - qmin });
    let zero_point = (qmin as f32 - r.lo / scale).round().clamp(qmin as f32, qmax as f32) as i32;
    QuantParams::per_tensor(storage, scale, zero_point)
}

/// The most by which a number differs from one halfway between two steps, in steps.
const HALFWAY: f32 = 1e-3;

/// The quantization parameters that map `[lo, hi)` to all values of the storage type.
pub(super) fn fixed_qparams(lo: f32, hi: f32, storage: StorageType) -> QuantParams {
    let (qmin, qmax) = storage.range();
    if storage == StorageType::I16 {
        return QuantParams::per_tensor(storage, hi.max(-lo) / 32768.0, 0);
    }
    let scale = (hi - lo) / (qmax - qmin + 1) as f32;
    QuantParams::per_tensor(storage, scale, qmin - (lo / scale) as i32)
}

/// Symmetric per-channel scales of a weight: the largest magnitude maps to the largest integer. A channel of zeros gets
/// the scale of the largest channel, because kernels reject a scale of 0 and extreme ratios of scales.
pub(super) fn per_channel(magnitudes: &[f32]) -> Vec<f32> {
    let largest = magnitudes.iter().copied().fold(0.0, f32::max);
    let scale = |m: f32| (if m > 0.0 { m } else { largest } / 127.0).max(FINEST);
    if largest > 0.0 { magnitudes.iter().map(|&m| scale(m)).collect() } else { vec![1.0; magnitudes.len()] }
}

/// Candidate divisors of the span of a block. 15 steps cover it; larger divisors clip its ends in favour of a finer scale,
/// and smaller ones leave room for rounding.
const STEPS: [f32; 9] = [14.0, 14.5, 15.0, 15.5, 16.0, 16.5, 17.0, 17.5, 18.0];

/// The 4-bit scale and zero point of a block with the least squared error, in which each element counts as its weight
/// says; there may be more weights. 0 is exactly representable.
pub(super) fn block_qparams(block: &[f32], weights: &[f32], grid: BlockGrid) -> (f32, i8) {
    let weights = &weights[..block.len()];
    let symmetric = grid == BlockGrid::ShortScales;
    let mut best = (1.0, 0.0);
    vectorized(
        #[inline(always)]
        || {
            let end = |f: fn(f32, f32) -> f32| vector::fold(block, 0.0, f, f);
            let (lo, hi) = (end(|a, b| if b < a { b } else { a }), end(|a, b| if b > a { b } else { a }));
            let mut least = f64::INFINITY;
            // A symmetric span is that of the largest number and its opposite.
            let (lo, hi) = if symmetric { (-hi.max(-lo), hi.max(-lo)) } else { (lo, hi) };
            for steps in STEPS {
                if hi <= lo {
                    break;
                }
                let scale = grid.scale(((hi - lo) / steps).max(FINEST));
                // What is clipped is the same at both ends.
                let (first, last) = BLOCK_ENDS;
                let middle = (first + last) / 2.0 - (lo + hi) / 2.0 / scale;
                let zero = if symmetric { 0.0 } else { middle.round_ties_even().clamp(first, last) };
                let error = f64::from(block_error(block, weights, scale, zero)) * f64::from(scale).powi(2);
                if error < least {
                    (best, least) = ((scale, zero), error);
                }
            }
        },
    );
    (best.0, best.1 as i8)
}

/// The smallest and the largest 4-bit integer.
const BLOCK_ENDS: (f32, f32) = (-8.0, 7.0);

/// An element of a block as a 4-bit integer.
#[inline(always)]
pub(super) fn in_block(x: f32, (scale, zero): (f32, f32)) -> f32 {
    (x * (1.0 / scale)).round_ties_even().clamp(BLOCK_ENDS.0 - zero, BLOCK_ENDS.1 - zero) + zero
}

/// The weighted squared error of a block that is rounded to 4 bits, in squared steps.
#[inline(always)]
fn block_error(block: &[f32], weights: &[f32], scale: f32, zero: f32) -> f32 {
    let (lo, hi, steps) = (BLOCK_ENDS.0 - zero, BLOCK_ENDS.1 - zero, 1.0 / scale);
    let off = |x: f32| x * steps - (x * steps).round_ties_even().clamp(lo, hi);
    let mut sums = [0.0; LANES];
    let ((blocks, rest), (of_blocks, of_rest)) = (block.as_chunks::<LANES>(), weights.as_chunks::<LANES>());
    for (block, weights) in blocks.iter().zip(of_blocks) {
        for lane in 0..LANES {
            sums[lane] += weights[lane] * (off(block[lane]) * off(block[lane]));
        }
    }
    for (lane, (&x, weight)) in rest.iter().zip(of_rest).enumerate() {
        sums[lane] += weight * (off(x) * off(x));
    }
    vector::joined(&mut sums, |a, b| a + b)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// 0 is exactly representable, and every number of the range is within half a step of a representable one.
        #[test]
        fn parameters_cover_the_range(a in -1e4f32..1e4, b in -1e4f32..1e4, t in 0.0f32..1.0, symmetric: bool) {
            let range = Range { lo: a.min(b), hi: a.max(b) };
            for storage in [StorageType::I8, StorageType::U8, StorageType::I16] {
                let qparams = qparams_of(range, storage, symmetric);
                let (scale, zero) = qparams.tensor_map().unwrap();
                let (qmin, qmax) = storage.range();
                prop_assert!((qmin..=qmax).contains(&zero));
                let x = range.lo + t * (range.hi - range.lo);
                let q = (x / scale + zero as f32).round().clamp(qmin as f32, qmax as f32);
                // The zero point is an integer, so the ends may be half a step outside.
                prop_assert!(((q - zero as f32) * scale - x).abs() <= scale * 1.01, "{x} {qparams}");
            }
        }
    }

    /// No number of an 8-bit picture that is scaled to -1 .. 1 is halfway between two steps.
    #[test]
    fn symmetric_ranges_have_steps_at_their_ends() {
        let qparams = qparams_of(Range { lo: -1.0, hi: 1.0 }, StorageType::U8, false);
        let (scale, zero) = qparams.tensor_map().unwrap();
        assert_eq!((scale, zero), (1.0 / 127.0, 127));
        let halfway = |p: u8| ((f32::from(p) / 127.5 - 1.0) / scale).abs().fract();
        assert!((0..=255).all(|p| (halfway(p) - 0.5).abs() > 1e-3));
    }

    /// The searched parameters have a smaller error than those that cover the span, and than symmetric ones.
    #[test]
    fn block_parameters_minimize_the_error() {
        let block_qparams = |block: &[f32]| block_qparams(block, &[1.0; 32], BlockGrid::Any);
        assert_eq!(block_qparams(&[0.0, 0.0]), (1.0, 0));
        // All integers from 0 on, and from 0 down.
        assert_eq!(block_qparams(&[0.0, 15.0, 7.0, 3.0]), (1.0, -8));
        assert_eq!(block_qparams(&[-15.0, -7.0, 0.0]), (1.0, 7));
        assert_eq!(block_qparams(&[-8.0, 7.0, 1.0]), (1.0, 0));
        let noise = qcc_ir::testing::numbers(qcc_ir::Shape::known(&[128, 32]), 1);
        let error = |qparams: &dyn Fn(&[f32]) -> (f32, i8)| -> f64 {
            let of = |row: &[f32]| -> f64 {
                let (scale, zero) = qparams(row);
                let off = |x: &f32| f64::from(x - (in_block(*x, (scale, zero.into())) - f32::from(zero)) * scale);
                row.iter().map(|x| off(x).powi(2)).sum()
            };
            noise.floats().chunks(32).map(of).sum()
        };
        let largest = |row: &[f32]| (row.iter().fold(0.0f32, |m, x| m.max(x.abs())) / 7.0, 0);
        let spans = |row: &[f32]| {
            let (lo, hi) = row.iter().fold((0.0f32, 0.0f32), |(lo, hi), &x| (lo.min(x), hi.max(x)));
            ((hi - lo) / 15.0, (-8.0 - lo * 15.0 / (hi - lo)).round() as i8)
        };
        let gain = |over: &dyn Fn(&[f32]) -> (f32, i8)| 10.0 * libm::log10(error(over) / error(&block_qparams));
        assert!(gain(&largest) > 1.0 && gain(&spans) > 0.1, "{} {} dB", gain(&largest), gain(&spans));
    }

    #[test]
    fn channels_of_zeros_get_the_scale_of_the_largest() {
        assert_eq!(per_channel(&[127.0, 0.0, 12.7]), [1.0, 1.0, 0.1]);
        assert_eq!(per_channel(&[0.0]), [1.0]);
    }
}
