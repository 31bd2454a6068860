//! Quantized arithmetic as runtimes do it: for signed 8-bit operands as TensorFlow Lite's XNNPACK kernels, or its
//! reference kernels where XNNPACK has none; for unsigned 8-bit operands as ONNX Runtime; for 16-bit operands as
//! TensorFlow Lite's reference kernels. Operators that ONNX Runtime computes in floating point between Q/DQ are left to
//! the default, or compute the same in one pass.
//!
//! Accumulators of 8-bit convolutions are computed in integers where the processor has instructions for that, else by the
//! `F32` kernels in partial sums that are small enough to be exact, which are added in `f64`.

use std::borrow::Cow;

use smallvec::smallvec;

use super::vector::map;
use crate::error::EvalError;
use crate::ops::*;
use crate::types::{Layout, Scalar, Shape, StorageType, Tensor, TensorType};

mod bytes;
mod contraction;
mod rescale;
mod single;

pub(crate) use contraction::{conv, conv_transpose, matmul};
pub(crate) use single::{binary, clamp, hard_swish, leaky_relu, pool, quantize, reduce, resize, sqrt, table};

/// A 31-bit multiplier and an exponent: `multiplier * 2^(exponent - 31)` is the ratio.
fn mantissa(ratio: f64) -> (i64, i32) {
    // ratio = fraction * 2^exponent with the fraction in 0.5..1.
    let exponent = (ratio.to_bits() >> 52) as i32 - 1022;
    match (ratio * 2f64.powi(31 - exponent)).round() as i64 {
        whole if whole == 1 << 31 => (whole / 2, exponent + 1),
        multiplier => (multiplier, exponent),
    }
}

/// Applies `f` to each stored integer of 8 or 16 bits; `None` for other storage types.
fn widen<T: Copy + Default>(x: &Tensor, f: impl Fn(i32) -> T) -> Option<Vec<T>> {
    fn each<S: Scalar + Into<i32>, T: Copy + Default>(x: &Tensor, f: impl Fn(i32) -> T) -> Vec<T> {
        map(&x.view::<S>(), |q: S| f(q.into()))
    }
    match x.ty().elem.qparams()?.storage {
        StorageType::I4 | StorageType::I8 => Some(each::<i8, T>(x, f)),
        StorageType::U8 => Some(each::<u8, T>(x, f)),
        StorageType::I16 => Some(each::<i16, T>(x, f)),
        StorageType::I32 => None,
    }
}

/// Scales and zero points, where all types are quantized per tensor with the same 8-bit storage type.
fn bytes<const N: usize>(types: [&TensorType; N]) -> Option<(StorageType, [(f32, i32); N])> {
    let storage = types[0].elem.qparams()?.storage;
    let mut maps = [(0.0, 0); N];
    for (map, ty) in maps.iter_mut().zip(types) {
        let qparams = ty
            .elem
            .qparams()
            .filter(|g| g.storage == storage && matches!(storage, StorageType::I8 | StorageType::U8))?;
        *map = qparams.tensor_map()?;
    }
    Some((storage, maps))
}

/// As [`bytes()`], for signed storage only.
fn signed_bytes<const N: usize>(types: [&TensorType; N]) -> Option<(StorageType, [(f32, i32); N])> {
    bytes(types).filter(|(storage, _)| *storage == StorageType::I8)
}

/// A result with the element type of `ty` and the shape `like`, from integers that are clamped to the storage type.
fn limited(storage: StorageType, ty: &TensorType, like: &Shape, values: &[i32]) -> Tensors {
    let (lo, hi) = storage.range();
    let ty = TensorType { shape: like.clone(), layout: Layout::row_major(like.rank()), elem: ty.elem.clone() };
    smallvec![packed(storage, ty, values, |q| q.clamp(lo, hi))]
}

/// A tensor of a storage type from a function of integers, whose results are in the range of the storage type.
fn packed(storage: StorageType, ty: TensorType, values: &[i32], f: impl Fn(i32) -> i32) -> Tensor {
    match storage {
        StorageType::I4 | StorageType::I8 => Tensor::of(ty, map(values, |q| f(q) as i8)),
        StorageType::U8 => Tensor::of(ty, map(values, |q| f(q) as u8)),
        StorageType::I16 => Tensor::of(ty, map(values, |q| f(q) as i16)),
        StorageType::I32 => Tensor::of(ty, map(values, f)),
    }
}

/// The stored bytes, broadcast to `shape`.
fn spread<'x>(x: &'x Tensor, shape: &Shape) -> Result<Cow<'x, [i8]>, EvalError> {
    if x.ty().shape == *shape {
        return Ok(x.view::<i8>());
    }
    let small = Tensor::from_vec(x.ty().shape.clone(), x.view::<i8>().into_owned());
    let wide = super::movement::expand(&Expand { shape: shape.clone() }, &small)?;
    Ok(Cow::Owned(wide[0].view::<i8>().into_owned()))
}

#[cfg(test)]
mod tests {
    use crate::types::{Elem, QuantParams};

    use super::contraction::tests::on;
    use super::*;
    use crate::eval::evaluate_node;
    use proptest::prelude::*;

    fn centred_f32(t: &Tensor) -> Tensor {
        let zero = t.ty().elem.qparams().unwrap().zero_point();
        let values = t.integers().unwrap().iter().map(|q| (q - i64::from(zero)) as f32).collect();
        Tensor::from_vec(t.ty().shape.clone(), values)
    }

    fn bias(channels: usize) -> Tensor {
        let ty = TensorType::new(
            Elem::Quantized(QuantParams::per_tensor(StorageType::I32, 1.0, 0)),
            Shape::known(&[channels]),
        );
        Tensor::of(ty, (0..channels).map(|i| i as i32 * 1000 - 700).collect())
    }

    /// XNNPACK's rescaling of one accumulator.
    fn recipe(sum: f32, ratio: f32, zero_point: i32) -> i64 {
        (f64::from((sum * ratio).clamp((-128 - zero_point) as f32, (127 - zero_point) as f32)).round_ties_even()) as i64
            + i64::from(zero_point)
    }

    proptest! {
        #[test]
        fn conv_rescales_exact_sums(
            (n, c, f, groups) in (1..3usize, 1..4usize, 1..4usize, 1..3usize),
            (h, k, stride, pad) in (3..9usize, 1..4usize, 1..3usize, 0..2usize),
            zero in -128..128i32,
        ) {
            let input = QuantParams::per_tensor(StorageType::I8, 0.021, zero);
            let output = QuantParams::per_tensor(StorageType::I8, 0.9, -7);
            let scales: Vec<f32> = (0..f * groups).map(|i| 0.003 + i as f32 * 0.0011).collect();
            let x = on(&input, &[n, c * groups, h, h], 1);
            let w = on(&QuantParams::per_axis(StorageType::I8, 0, scales.clone()), &[f * groups, c, k, k], 2);
            let op = Conv {
                stride: smallvec![stride; 2],
                before: smallvec![pad; 2],
                after: smallvec![pad; 2],
                groups,
                ..Conv::unit(2)
            };
            let real = super::super::conv::conv(&op, &[&centred_f32(&x), &centred_f32(&w)], None).unwrap();
            let ty = TensorType::new(Elem::Quantized(output), real[0].ty().shape.clone());
            let b = bias(f * groups);
            let found = conv(&op, &[&x, &w, &b], &[ty]).unwrap().unwrap();
            let plane: usize = real[0].dims()[2..].iter().product();
            let want: Vec<i64> = real[0].view::<f32>().iter().enumerate().map(|(i, &sum)| {
                let channel = i / plane % (f * groups);
                recipe(sum + channel as f32 * 1000.0 - 700.0, 0.021 * scales[channel] / 0.9, -7)
            }).collect();
            prop_assert_eq!(found[0].integers().unwrap(), want);
        }

        #[test]
        fn conv_transpose_rescales_exact_sums(
            (c, f, h, k, stride) in (1..4usize, 1..4usize, 1..6usize, 1..4usize, 1..4usize),
        ) {
            let x = on(&QuantParams::per_tensor(StorageType::I8, 0.021, 9), &[1, c, h, h], 1);
            let w = on(&QuantParams::per_tensor(StorageType::I8, 0.01, 0), &[c, f, k, k], 2);
            let zeros: Extents = smallvec![0; 2];
            let op = ConvTranspose {
                stride: smallvec![stride; 2], before: zeros.clone(), after: zeros.clone(), extra: zeros,
                dilation: smallvec![1; 2], groups: 1,
            };
            let real = super::super::conv::conv_transpose(&op, &[&centred_f32(&x), &centred_f32(&w)]).unwrap();
            let ty = TensorType::new(Elem::Quantized(QuantParams::per_tensor(StorageType::I8, 1.5, 3)), real[0].ty().shape.clone());
            let found = conv_transpose(&op, &[&x, &w], &[ty]).unwrap().unwrap();
            let want: Vec<i64> =
                real[0].view::<f32>().iter().map(|&sum| recipe(sum, 0.021 * 0.01 / 1.5, 3)).collect();
            prop_assert_eq!(found[0].integers().unwrap(), want);
        }
    }

    fn bytes_on(scale: f32, zero_point: i32, values: &[i8]) -> Tensor {
        let qparams = QuantParams::per_tensor(StorageType::I8, scale, zero_point);
        Tensor::of(TensorType::new(Elem::Quantized(qparams), Shape::known(&[values.len()])), values.to_vec())
    }

    fn run(op: impl Into<Op>, operands: &[&Tensor], scale: f32, zero_point: i32, n: usize) -> Vec<i64> {
        let ty = bytes_on(scale, zero_point, &vec![0; n]).ty().clone();
        evaluate_node(&op.into(), operands, &[ty]).unwrap()[0].integers().unwrap()
    }

    #[test]
    fn quantized_binary_operators() {
        let (a, b) = (bytes_on(0.5, 1, &[1, 3, 101, -128]), bytes_on(0.25, -1, &[-1, 3, 99, -128]));
        // Dequantized: a = 0 1 50 -64.5, b = 0 1 25 -31.75
        assert_eq!(run(Binary { f: BinaryFn::Add }, &[&a, &b], 1.0, 0, 4), [0, 2, 75, -96]);
        assert_eq!(run(Binary { f: BinaryFn::Sub }, &[&a, &b], 0.5, 0, 4), [0, 0, 50, -65]);
        assert_eq!(run(Binary { f: BinaryFn::Mul }, &[&a, &b], 10.0, 2, 4), [2, 2, 127, 127]);
        let one = bytes_on(0.25, -1, &[3]);
        assert_eq!(run(Binary { f: BinaryFn::Add }, &[&a, &one], 1.0, 0, 4), [1, 2, 51, -63]);
    }

    proptest! {
        /// In one pass as by way of tensors of floating-point numbers.
        #[test]
        fn arithmetic_of_unsigned_integers_is_that_of_their_values(zeros in prop::array::uniform3(0..256i32), len in 1..100usize) {
            let qparams = |i: usize| QuantParams::per_tensor(StorageType::U8, [0.021, 0.013, 0.033][i], zeros[i]);
            let (a, b) = (on(&qparams(0), &[len], 1), on(&qparams(1), &[len], 2));
            for f in [BinaryFn::Add, BinaryFn::Sub, BinaryFn::Mul] {
                let ty = TensorType::new(Elem::Quantized(qparams(2)), Shape::known(&[len]));
                let found = binary(f, &[&a, &b], &[ty]).unwrap().unwrap();
                let real = super::super::elementwise::binary(f, &a.to_float(), &b.to_float()).unwrap();
                prop_assert_eq!(&found[0], &real[0].quantized(&qparams(2)));
            }
        }
    }

    #[test]
    fn unary_functions_are_lookup_tables() {
        let x = bytes_on(0.5, 0, &[-128, -4, -1, 0, 3, 127]);
        assert_eq!(run(Clamp::RELU6, &[&x], 0.5, -128, 6), [-128, -128, -128, -128, -125, -116]);
        let sigmoid = run(Unary { f: UnaryFn::Sigmoid }, &[&x], 1.0 / 256.0, -128, 6);
        assert_eq!(sigmoid, [-128, -97, -31, 0, 81, 127]);
        let leaky = Unary { f: UnaryFn::LeakyRelu { alpha: 0.1 } };
        // 26/256 in place of 0.1.
        assert_eq!(run(leaky, &[&x], 0.5, 0, 6), [-13, 0, 0, 0, 3, 127]);
    }

    #[test]
    fn requantization_uses_eight_bit_fractions() {
        let x = bytes_on(0.5, 1, &[1, 2, 101, -128]);
        assert_eq!(run(Quantize {}, &[&x], 0.5, -4, 4), [-4, -3, 96, -128]);
        assert_eq!(run(Quantize {}, &[&x], 1.0, 0, 4), [0, 1, 50, -64]);
    }

    #[test]
    fn quantized_means() {
        let x = Tensor::of(bytes_on(1.0, 0, &[0; 8]).ty().clone(), vec![1i8, 2, 3, 4, -1, -2, -3, -5]);
        let x =
            x.retype(TensorType { shape: Shape::known(&[1, 2, 2, 2]), layout: Layout::row_major(4), ..x.ty().clone() });
        let x = x.unwrap();
        let two: Extents = smallvec![2, 2];
        let zeros: Extents = smallvec![0, 0];
        let ones: Extents = smallvec![1, 1];
        let pool = |f| Pool {
            f,
            window: two.clone(),
            stride: ones.clone(),
            before: zeros.clone(),
            after: zeros.clone(),
            dilation: ones.clone(),
        };
        let ty = TensorType::new(x.ty().elem.clone(), Shape::known(&[1, 2, 1, 1]));
        let evaluate = |op: Op| evaluate_node(&op, &[&x], std::slice::from_ref(&ty)).unwrap()[0].integers().unwrap();
        // 2.5 and -2.75
        assert_eq!(evaluate(pool(PoolFn::Average).into()), [3, -3]);
        assert_eq!(evaluate(pool(PoolFn::Max).into()), [4, -1]);
        assert_eq!(evaluate(Reduce { f: ReduceFn::Mean, axes: smallvec![2, 3], keep: true }.into()), [2, -3]);
        assert_eq!(evaluate(Reduce { f: ReduceFn::Sum, axes: smallvec![2, 3], keep: true }.into()), [10, -11]);
    }
}
