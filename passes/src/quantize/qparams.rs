//! Quantization parameters from ranges.

use qcc_ir::vector::{self, LANES, vectorized};
use qcc_ir::{QuantParams, StorageType};

use crate::calibrate::Range;

/// The smallest scale: far below any useful one, and far above the numbers that kernels flush to zero.
const FINEST: f32 = 1e-20;

/// The quantization parameters that cover a range. 0 is exactly representable, and the ends are clipped by at most half
/// a step. If `symmetric`, and always for 16-bit storage, the quantization is symmetric.
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
    let scale = (r.span() / (qmax - qmin) as f32).max(FINEST);
    let zero_point = (qmin as f32 - r.lo / scale).round().clamp(qmin as f32, qmax as f32) as i32;
    QuantParams::per_tensor(storage, scale, zero_point)
}

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

/// Candidate divisors of the largest magnitude of a block, for both signs of the scale. 7 maps it to the largest integer
/// and 8 to the smallest. Larger divisors clip it in favour of a finer scale.
const ENDS: [f32; 14] = [7.0, 7.5, 8.0, 8.5, 9.0, 9.5, 10.0, -7.0, -7.5, -8.0, -8.5, -9.0, -9.5, -10.0];

/// The 4-bit scale of a block with the least squared error, in which each element counts as its weight says;
/// there may be more weights. A negative
/// scale maps the largest number to the smallest integer, which is one farther from 0 than the largest.
pub(super) fn block_scale(block: &[f32], weights: &[f32]) -> f32 {
    let weights = &weights[..block.len()];
    let mut best = 1.0;
    vectorized(
        #[inline(always)]
        || {
            let largest = vector::fold(block, 0.0, |m, x| if x.abs() > m { x.abs() } else { m }, f32::max);
            let mut least = f64::INFINITY;
            for end in ENDS {
                let scale = (largest / end.abs()).max(FINEST).copysign(end);
                let error = f64::from(block_error(block, weights, scale)) * f64::from(scale).powi(2);
                if largest > 0.0 && error < least {
                    (best, least) = (scale, error);
                }
            }
        },
    );
    best
}

/// The weighted squared error of a block that is rounded to 4 bits, in squared steps.
#[inline(always)]
fn block_error(block: &[f32], weights: &[f32], scale: f32) -> f32 {
    let (lo, hi) = StorageType::I4.range();
    let (lo, hi, steps) = (lo as f32, hi as f32, 1.0 / scale);
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

    /// The searched scales have a smaller error than those that do not clip the largest number.
    #[test]
    fn block_scales_minimize_the_error() {
        let block_scale = |block: &[f32]| block_scale(block, &[1.0; 32]);
        assert_eq!(block_scale(&[0.0, 0.0]), 1.0);
        assert_eq!(block_scale(&[-8.0, 1.0, 3.0]), 1.0);
        assert_eq!(block_scale(&[7.0, 1.0, -3.0]), 1.0);
        let noise = qcc_ir::testing::numbers(qcc_ir::Shape::known(&[128, 32]), 1);
        let error = |scale: &dyn Fn(&[f32]) -> f32| -> f64 {
            let of = |row: &[f32]| -> f64 {
                let s = scale(row);
                row.iter().map(|x| f64::from(x - (x / s).round().clamp(-8.0, 7.0) * s).powi(2)).sum()
            };
            noise.floats().chunks(32).map(of).sum()
        };
        let largest = |row: &[f32]| row.iter().fold(0.0f32, |m, x| m.max(x.abs())) / 7.0;
        let gain = 10.0 * libm::log10(error(&largest) / error(&block_scale));
        assert!(gain > 0.5, "{gain} dB");
    }

    #[test]
    fn channels_of_zeros_get_the_scale_of_the_largest() {
        assert_eq!(per_channel(&[127.0, 0.0, 12.7]), [1.0, 1.0, 0.1]);
        assert_eq!(per_channel(&[0.0]), [1.0]);
    }
}
