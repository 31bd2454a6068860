//! How accumulators become integers of the result.

use smallvec::smallvec;

use super::{mantissa, packed};
use crate::error::EvalError;
use crate::ops::Tensors;
use crate::types::{Elem, QuantParams, Shape, StorageType, Tensor, TensorType};
use crate::vector::vectorized;

/// How accumulators are rescaled to integers of the result.
#[derive(Clone, Copy, Debug)]
pub(super) enum Rescale {
    /// XNNPACK: a product in `f32`, half to even.
    Single(f32),
    /// 16-bit convolution with a 64-bit bias: a 16-bit multiplier, half up.
    Fixed { multiplier: i64, shift: u32 },
    /// 16-bit matrix product: a product in `f64`, half away from zero.
    Double(f64),
    /// TensorFlow Lite's 8-bit matrix product for a right side that XNNPACK does not take: the upper half of a 64-bit
    /// product, then a shift, each rounded half away from zero.
    Twice { multiplier: i64, shift: i32 },
}

impl Rescale {
    /// For products of 16-bit activations with 8-bit weights.
    pub(super) fn fixed(ratio: f64) -> Self {
        let (multiplier, exponent) = mantissa(ratio);
        let Ok(shift) = u32::try_from(15 - exponent) else { return Rescale::Double(ratio) };
        match shift {
            0 => Rescale::Double(ratio),
            1..=46 => {
                let multiplier = if multiplier < 0x7FFF_0000 { (multiplier + (1 << 15)) >> 16 } else { 0x7FFF };
                Rescale::Fixed { multiplier, shift }
            }
            _ => Rescale::Fixed { multiplier: 0, shift: 1 },
        }
    }

    /// For products of 8-bit integers where the zero point of the right side is not 0.
    pub(super) fn twice(ratio: f64) -> Self {
        let (multiplier, exponent) = mantissa(ratio);
        Rescale::Twice { multiplier, shift: -exponent }
    }

    pub(super) fn apply(self, sum: f64, storage: StorageType, zero_point: i32) -> i32 {
        match self {
            Rescale::Single(ratio) => storage.saturate(sum as f32 * ratio, zero_point),
            Rescale::Fixed { multiplier, shift } => {
                let q = (sum as i64 * multiplier + (1 << (shift - 1))) >> shift;
                let (lo, hi) = storage.range();
                (q + i64::from(zero_point)).clamp(i64::from(lo), i64::from(hi)) as i32
            }
            Rescale::Double(ratio) => storage.saturate((sum * ratio).round() as f32, zero_point),
            Rescale::Twice { multiplier, shift } => {
                let left = (sum as i64) << (-shift).clamp(0, 30);
                let product = left * multiplier;
                let nudge = if product >= 0 { 1 << 30 } else { 1 - (1 << 30) };
                // Integer division truncates towards zero.
                let high = (product + nudge) / (1 << 31);
                let right = shift.clamp(0, 31);
                let half = (1i64 << right) >> 1;
                let q = if high >= 0 { (high + half) >> right } else { -((half - high) >> right) };
                let (lo, hi) = storage.range();
                (q + i64::from(zero_point)).clamp(i64::from(lo), i64::from(hi)) as i32
            }
        }
    }
}

/// The bias and the rounding of the accumulators of a contraction.
#[derive(Debug)]
pub(super) struct Rounding {
    bias: Option<Vec<f64>>,
    /// One for each output channel, or one for all.
    pub(super) rescale: Vec<Rescale>,
    pub(super) qparams: QuantParams,
}

impl Rounding {
    /// For operands and a result that are quantized; `None` where no integer kernel exists for the parameters. 16-bit
    /// activations have the rounding `wide`.
    pub(super) fn of(operands: &[&Tensor], result: &TensorType, wide: fn(f64) -> Rescale) -> Option<Self> {
        let (x, w) = (operands[0].ty().elem.qparams()?, operands[1].ty().elem.qparams()?);
        let qparams = result.elem.qparams()?.clone();
        let ((scale, _), (to, _)) = (x.tensor_map()?, qparams.tensor_map()?);
        let rescale = |&s: &f32| match x.storage {
            StorageType::I16 => wide(f64::from(scale) * f64::from(s) / f64::from(to)),
            StorageType::I8 if w.zero_point() != 0 => Rescale::twice(f64::from(scale) * f64::from(s) / f64::from(to)),
            _ => Rescale::Single(scale * s / to),
        };
        let bias = operands.get(2).map(|b| Some(b.integers()?.into_iter().map(|q| q as f64).collect()));
        let bias = if let Some(bias) = bias { Some(bias?) } else { None };
        Some(Rounding { bias, rescale: w.scales().iter().map(rescale).collect(), qparams })
    }

    /// The bias and the rescaling of one channel.
    pub(super) fn of_channel(&self, channel: usize) -> (f64, Rescale) {
        (self.bias.as_ref().map_or(0.0, |b| b[channel]), self.rescale[channel % self.rescale.len()])
    }

    /// Rescales the accumulators of one channel.
    pub(super) fn round<'o>(
        &self,
        channel: usize,
        sums: impl Iterator<Item = f64>,
        out: impl Iterator<Item = &'o mut i32>,
    ) {
        let (bias, rescale) = self.of_channel(channel);
        let (storage, zero_point) = (self.qparams.storage, self.qparams.zero_point());
        out.zip(sums).for_each(|(o, sum)| *o = rescale.apply(sum + bias, storage, zero_point));
    }

    /// As [`Rounding::round`], for accumulators next to each other.
    pub(super) fn round_row<S: Copy + Into<f64>>(&self, channel: usize, sums: &[S], out: &mut [i32]) {
        let (bias, Rescale::Single(ratio)) = self.of_channel(channel) else {
            return self.round(channel, sums.iter().map(|&s| s.into()), out.iter_mut());
        };
        let saturate = self.qparams.storage.saturating_narrow(self.qparams.zero_point());
        vectorized(
            #[inline(always)]
            || {
                for (o, &sum) in out.iter_mut().zip(sums) {
                    *o = saturate((sum.into() + bias) as f32 * ratio);
                }
            },
        );
    }

    /// A result of this shape.
    pub(super) fn result(&self, shape: Shape, values: Vec<i32>) -> Result<Option<Tensors>, EvalError> {
        let ty = TensorType::new(Elem::Quantized(self.qparams.clone()), shape);
        Ok(Some(smallvec![packed(self.qparams.storage, ty, &values, |q| q)]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// TensorFlow Lite's fixed-point arithmetic: both steps round half away from zero.
    #[test]
    fn accumulators_are_rounded_twice() {
        let apply = |ratio: f64, sum: f64| Rescale::twice(ratio).apply(sum, StorageType::I8, 1);
        // 15/32 is a half after the first step, -15/32 is less.
        assert_eq!([16.0, 15.0, -16.0, -15.0, 48.0, -48.0].map(|s| apply(1.0 / 32.0, s)), [2, 2, 0, 1, 3, -1]);
        assert_eq!(apply(3.0, 7.0), 22);
        assert_eq!(apply(1.0, 1e6), 127);
        assert_eq!(apply(0.9999999999, -3.0), -2);
    }
}
