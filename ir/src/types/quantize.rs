//! Quantization of floating-point tensors.

use super::elem::{Elem, QuantParams, Scalar, StorageType};
use super::tensor::{Runs, Tensor, TensorType};
use crate::vector::vectorized;

/// The integer nearest to `x`, half to even, where |x| < 2^22. Adding 1.5 * 2^23 leaves no bits for a fraction.
#[inline(always)]
pub(crate) fn nearest(x: f32) -> i32 {
    const SHIFT: f32 = 12_582_912.0;
    (x + SHIFT).to_bits() as i32 - SHIFT.to_bits() as i32
}

impl StorageType {
    /// The function of `v` that is `nearest(v) + zero_point`, saturated to the storage type. NaN becomes the smallest
    /// integer. What does not depend on `v` is computed once.
    #[inline]
    pub(crate) fn saturating(self, zero_point: i32) -> impl Fn(f32) -> i32 + Copy {
        let (lo, hi) = self.range();
        let (wide, narrow) = (self == StorageType::I32, self.saturating_narrow(zero_point));
        move |v| {
            if wide {
                let q = f64::from(v).round_ties_even() + f64::from(zero_point);
                return q.clamp(f64::from(lo), f64::from(hi)) as i32;
            }
            narrow(v)
        }
    }

    /// As [`StorageType::saturating`], for storage types of at most 16 bits: without a branch, for vectors.
    #[inline]
    pub(crate) fn saturating_narrow(self, zero_point: i32) -> impl Fn(f32) -> i32 + Copy {
        let (lo, hi) = self.range();
        let (least, most) = (lo.wrapping_sub(zero_point) as f32, hi.wrapping_sub(zero_point) as f32);
        #[inline(always)]
        move |v| {
            let v = if v > least { v } else { least };
            nearest(if v < most { v } else { most }) + zero_point
        }
    }

    /// [`StorageType::saturating`] of one number.
    pub(crate) fn saturate(self, v: f32, zero_point: i32) -> i32 {
        self.saturating(zero_point)(v)
    }

    /// A tensor of this storage type, all of whose elements are `value`.
    pub fn filled(self, ty: TensorType, value: i32) -> Tensor {
        let count = ty.shape.elements().unwrap_or(0);
        self.pack(ty, std::iter::repeat_n(value, count))
    }

    /// A tensor of this storage type from integers within its range.
    pub(crate) fn pack(self, ty: TensorType, values: impl Iterator<Item = i32>) -> Tensor {
        match self {
            StorageType::I4 | StorageType::I8 => Tensor::of(ty, values.map(|q| q as i8).collect()),
            StorageType::U8 => Tensor::of(ty, values.map(|q| q as u8).collect()),
            StorageType::I16 => Tensor::of(ty, values.map(|q| q as i16).collect()),
            StorageType::I32 => Tensor::of(ty, values.collect()),
        }
    }
}

impl Tensor {
    /// Quantizes the tensor: `x * (1 / scale)` (`x / scale` where the storage type is `U8`) rounded half to even, plus
    /// the zero point, saturated. Shape and layout stay the same. For `I32` (biases) `x / scale` is computed in `f64`.
    pub fn quantized(&self, qparams: &QuantParams) -> Tensor {
        let ty = self.ty().with_elem(Elem::Quantized(qparams.clone()));
        let reals = self.floats();
        match qparams.storage {
            StorageType::I4 | StorageType::I8 => place(ty, qparams, &reals, |q| q as i8),
            StorageType::U8 => place(ty, qparams, &reals, |q| q as u8),
            StorageType::I16 => place(ty, qparams, &reals, |q| q as i16),
            StorageType::I32 => place(ty, qparams, &reals, |q| q),
        }
    }

    /// Converts or dequantizes the tensor to `F32`, with the same shape and layout.
    pub fn to_float(&self) -> Tensor {
        match &self.ty().elem {
            Elem::F32 => self.clone(),
            _ => Tensor::of(self.ty().with_elem(Elem::F32), self.floats().into_owned()),
        }
    }
}

fn place<T: Scalar>(ty: TensorType, qparams: &QuantParams, reals: &[f32], cast: impl Fn(i32) -> T + Copy) -> Tensor {
    let storage = qparams.storage;
    let mut out = vec![T::zeroed(); reals.len()];
    let runs = Runs::new(&ty, qparams);
    vectorized(
        #[inline(always)]
        || {
            let parts = out.chunks_mut(runs.length()).zip(reals.chunks(runs.length()));
            for (i, (out, run)) in parts.enumerate() {
                let (scale, zero_point) = runs.at(i);
                let saturate = storage.saturating_narrow(zero_point);
                if storage == StorageType::I32 {
                    let scale = f64::from(scale);
                    let wide = |x: f32| (f64::from(x) / scale).round_ties_even() + f64::from(zero_point);
                    // `as` saturates.
                    out.iter_mut().zip(run).for_each(|(o, &x)| *o = cast(wide(x) as i32));
                } else if storage == StorageType::U8 {
                    for (o, &x) in out.iter_mut().zip(run) {
                        *o = cast(saturate(x / scale));
                    }
                } else {
                    let inverse = 1.0 / scale;
                    for (o, &x) in out.iter_mut().zip(run) {
                        *o = cast(saturate(x * inverse));
                    }
                }
            }
        },
    );
    Tensor::of(ty, out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Shape;

    fn quantize(values: &[f32], qparams: QuantParams) -> Vec<i64> {
        Tensor::from_vec(Shape::known(&[values.len()]), values.to_vec()).quantized(&qparams).integers().unwrap()
    }

    #[test]
    fn ties_go_to_even_and_ends_saturate() {
        let qparams = QuantParams::per_tensor(StorageType::I8, 0.5, -3);
        let values = [0.0, 0.25, 0.75, 1.25, -0.25, -0.75, 1e9, -1e9, f32::INFINITY, f32::NEG_INFINITY, f32::NAN];
        assert_eq!(quantize(&values, qparams), [-3, -3, -1, -1, -3, -5, 127, -128, 127, -128, -128]);
    }

    #[test]
    fn each_channel_has_its_scale() {
        let qparams = QuantParams::per_axis(StorageType::I8, 1, [1.0, 10.0]);
        let x = Tensor::from_vec(Shape::known(&[2, 2, 2]), vec![10.0f32; 8]);
        assert_eq!(x.quantized(&qparams).integers().unwrap(), [10, 10, 1, 1, 10, 10, 1, 1]);
    }

    /// Two blocks of two and one of one in each column.
    #[test]
    fn each_block_has_its_scale() {
        let qparams = QuantParams::per_block(StorageType::I4, 0, 2, [1.0, 10.0, 2.0, 20.0, 4.0, 40.0]);
        let x = Tensor::from_vec(Shape::known(&[5, 2]), vec![-8.0f32; 10]);
        let q = x.quantized(&qparams);
        assert_eq!(q.integers().unwrap(), [-8, -1, -8, -1, -4, 0, -4, 0, -2, 0]);
        assert_eq!(q.to_float().floats()[..], [-8.0, -10.0, -8.0, -10.0, -8.0, 0.0, -8.0, 0.0, -8.0, 0.0]);
        let transposed = crate::eval::relayout(&q, &crate::types::Layout::from_order(&[1, 0]).unwrap()).unwrap();
        assert_eq!(transposed.to_float().floats()[..], [-8.0, -8.0, -8.0, -8.0, -8.0, -10.0, -10.0, 0.0, 0.0, 0.0]);
    }

    #[test]
    fn each_block_has_its_zero_point() {
        let qparams =
            QuantParams::per_block_with_zero_points(StorageType::I4, 0, 2, [1.0, 0.5, 2.0, 1.0], [-8, 7, 3, 0]);
        let x = Tensor::from_vec(Shape::known(&[3, 2]), vec![14.0f32, -3.0, -1.0, 0.5, 8.0, -9.0]);
        let q = x.quantized(&qparams);
        assert_eq!(q.ty().validate(), Ok(()));
        assert_eq!(q.integers().unwrap(), [6, 1, -8, 7, 7, -8]);
        assert_eq!(q.to_float().floats()[..], [14.0, -3.0, 0.0, 0.0, 8.0, -8.0]);
    }

    proptest::proptest! {
        /// The error is at most half a step of the block's scale, and all quantized values are in range.
        #[test]
        fn blocks_round_to_nearest(
            rows in 1usize..4, columns in 1usize..20, axis in 0usize..2, size in 1usize..8, seed: u64,
        ) {
            let n = rows * columns;
            let values: Vec<f32> = (0..n as u32).map(|i| (seed.rotate_left(5 * i) as i16) as f32 / 999.0).collect();
            let blocks = if axis == 0 { rows.div_ceil(size) * columns } else { rows * columns.div_ceil(size) };
            let scales: Vec<f32> = (0..blocks).map(|b| 5.0 + b as f32).collect();
            let x = Tensor::from_vec(Shape::known(&[rows, columns]), values);
            let q = x.quantized(&QuantParams::per_block(StorageType::I4, axis, size, scales.clone()));
            proptest::prop_assert!(q.ty().validate().is_ok());
            let across = if axis == 0 { columns } else { columns.div_ceil(size) };
            for (i, ((x, real), q)) in x.floats().iter().zip(q.floats().iter()).zip(q.integers().unwrap()).enumerate() {
                let (r, c) = (i / columns, i % columns);
                let block = if axis == 0 { r / size * across + c } else { r * across + c / size };
                proptest::prop_assert!((-8..8).contains(&q) && (x - real).abs() <= scales[block] * 0.501);
            }
        }
    }

    #[test]
    fn biases_are_quantized_in_double_precision() {
        let qparams = QuantParams::per_tensor(StorageType::I32, 1e-7, 0);
        // The `f32` next to 1e-7 is 1.000_000_011_68e-7.
        assert_eq!(quantize(&[1.0, 100.0, -1e9], qparams), [10_000_000, 999_999_988, i64::from(i32::MIN)]);
    }

    #[test]
    fn nearest_rounds_half_to_even() {
        for (x, want) in [(0.5, 0), (1.5, 2), (-0.5, 0), (-1.5, -2), (2.4999, 2), (4_000_000.5, 4_000_000)] {
            assert_eq!(nearest(x), want, "{x}");
        }
    }
}
