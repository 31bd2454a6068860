//! Quantized element-wise functions, pooling, resizing and reductions.

use super::super::pool;
use super::super::vector::map_pairs;
use super::{bytes, limited, mantissa, signed_bytes, spread, widen};
use crate::error::EvalError;
use crate::ops::*;
use crate::types::{Elem, Shape, StorageType, Tensor, TensorType, nearest};
use smallvec::smallvec;

/// XNNPACK's addition, subtraction and multiplication, and those of unsigned integers as floating-point numbers.
pub(crate) fn binary(f: BinaryFn, operands: &[&Tensor], results: &[TensorType]) -> Result<Option<Tensors>, EvalError> {
    let (a, b) = (operands[0], operands[1]);
    if let Some(found) = binary_of_floats(f, a, b, &results[0]) {
        return Ok(Some(found));
    }
    let Some((_, [(sa, za), (sb, zb), (so, zo)])) = signed_bytes([a.ty(), b.ty(), &results[0]]) else {
        return Ok(None);
    };
    let shape = broadcast(&a.ty().shape, &b.ty().shape)?;
    let (x, y) = (spread(a, &shape)?, spread(b, &shape)?);
    let found: Vec<i8> = match f {
        BinaryFn::Add | BinaryFn::Sub => {
            let (ra, rb) = (sa / so, sb / so);
            let fits = |r: f32| (2f32.powi(-10)..256.0).contains(&r);
            if !fits(ra) || !fits(rb) {
                return Ok(None);
            }
            let shift = 20 - exponent(ra.max(rb));
            let multiplier = |r: f32| (r * 2f32.powi(shift)).round_ties_even() as i32;
            let (ma, mb) = (multiplier(ra), if f == BinaryFn::Sub { -multiplier(rb) } else { multiplier(rb) });
            let half = 1 << (shift - 1);
            map_pairs(&x, &y, |x, y| {
                let sum = ma * (i32::from(x) - za) + mb * (i32::from(y) - zb);
                (((sum + half) >> shift) + zo).clamp(-128, 127) as i8
            })
        }
        BinaryFn::Mul => {
            let ratio = sa * sb / so;
            if !(2f32.powi(-16)..256.0).contains(&ratio) {
                return Ok(None);
            }
            let saturate = StorageType::I8.saturating_narrow(zo);
            map_pairs(&x, &y, |x, y| {
                let product = (i32::from(x) - za) * (i32::from(y) - zb);
                saturate(product as f32 * ratio) as i8
            })
        }
        _ => return Ok(None),
    };
    let ty = TensorType::new(results[0].elem.clone(), shape);
    Ok(Some(smallvec![Tensor::of(ty, found)]))
}

/// ONNX Runtime's arithmetic on dequantized values, element by element in one pass.
fn binary_of_floats(f: BinaryFn, a: &Tensor, b: &Tensor, result: &TensorType) -> Option<Tensors> {
    let (storage, [(sa, za), (sb, zb), (so, zo)]) = bytes([a.ty(), b.ty(), result])?;
    if storage != StorageType::U8 || a.ty().shape != b.ty().shape {
        return None;
    }
    let saturate = storage.saturating_narrow(zo);
    let real = |q: u8, scale: f32, zero: i32| (i32::from(q) - zero) as f32 * scale;
    let (x, y) = (a.view::<u8>(), b.view::<u8>());
    let found = match f {
        BinaryFn::Add => map_pairs(&x, &y, |x, y| saturate((real(x, sa, za) + real(y, sb, zb)) / so) as u8),
        BinaryFn::Sub => map_pairs(&x, &y, |x, y| saturate((real(x, sa, za) - real(y, sb, zb)) / so) as u8),
        BinaryFn::Mul => map_pairs(&x, &y, |x, y| saturate((real(x, sa, za) * real(y, sb, zb)) / so) as u8),
        _ => return None,
    };
    Some(smallvec![Tensor::of(TensorType::new(result.elem.clone(), a.ty().shape.clone()), found)])
}

/// floor(log2(x)) of a normal number.
fn exponent(x: f32) -> i32 {
    (x.to_bits() >> 23) as i32 - 127
}

/// XNNPACK's ratio of two scales, as a fixed-point number with 8 fractional bits; `None` where it has no kernel.
fn fraction(ratio: f32) -> Option<i32> {
    (2f32.powi(-8)..=128.0).contains(&ratio).then(|| nearest(256.0 * ratio))
}

pub(crate) fn quantize(x: &Tensor, result: &TensorType) -> Result<Option<Tensors>, EvalError> {
    let Some((storage, [(si, zi), (so, zo)])) = signed_bytes([x.ty(), result]) else { return Ok(None) };
    let Some(k) = fraction(si / so) else { return Ok(None) };
    Ok(widen(x, |q| (((q - zi) * k + 128) >> 8) + zo).map(|v| limited(storage, result, &x.ty().shape, &v)))
}

/// x where x >= 0, alpha * x below.
pub(crate) fn leaky_relu(alpha: f32, x: &Tensor, result: &TensorType) -> Option<Tensors> {
    let (storage, [(si, zi), (so, zo)]) = signed_bytes([x.ty(), result])?;
    let ratio = si / so;
    let (above, below) = (fraction(ratio)?, fraction((ratio * alpha).abs())?);
    let below = if alpha < 0.0 { -below } else { below };
    let one = |q: i32| (((q - zi) * if q >= zi { above } else { below } + 128) >> 8) + zo;
    Some(limited(storage, result, &x.ty().shape, &widen(x, one)?))
}

/// TensorFlow Lite's x * relu6(x + 3) / 6 in 16 bits, with 16-bit multipliers for the result and for the factor relu6.
pub(crate) fn hard_swish(x: &Tensor, result: &TensorType) -> Option<Tensors> {
    let (storage, [(si, zi), (so, zo)]) = signed_bytes([x.ty(), result])?;
    // The input has 7 fractional bits, the factor is in units of 3 / 2^15.
    let fine = si / 128.0;
    let short = |ratio: f32| {
        let (multiplier, exponent) = mantissa(f64::from(ratio));
        let multiplier = if multiplier < 0x7FFF_0000 { (multiplier + (1 << 15)) >> 16 } else { 0x7FFF };
        (multiplier as i32, exponent)
    };
    let (to_result, result_exponent) = short(fine / so);
    let (to_factor, factor_exponent) = short(fine / (3.0 / 32768.0));
    let right = u32::try_from(-result_exponent).ok().filter(|&shift| shift < 16)?;
    let limit = |v: i32| v.clamp(i32::from(i16::MIN), i32::from(i16::MAX));
    // The upper half of the doubled product, rounded half away from zero.
    let high = |a: i32, b: i32| limit((a * b + if a * b >= 0 { 1 << 14 } else { 1 - (1 << 14) }) / (1 << 15));
    let halved = |v: i32, shift: u32| {
        let (mask, rest) = ((1 << shift) - 1, v & ((1 << shift) - 1));
        (v >> shift) + i32::from(rest > (mask >> 1) + i32::from(v < 0))
    };
    let one = |q: i32| {
        let fine = (q - zi) << 7;
        let mut factor = fine;
        if factor_exponent > 0 {
            factor = limit(factor << (factor_exponent - 1).min(16));
        }
        factor = high(factor, to_factor);
        match factor_exponent {
            0 => {}
            1.. => factor = limit(factor << 1),
            _ => factor = halved(factor, factor_exponent.unsigned_abs().min(30)),
        }
        let factor = (factor + (1 << 15)) >> 1;
        let product = limit(factor * high(fine, to_result) / (1 << 15));
        halved(product, right) + zo
    };
    Some(limited(storage, result, &x.ty().shape, &widen(x, one)?))
}

/// TensorFlow Lite's square root, which truncates.
pub(crate) fn sqrt(x: &Tensor, result: &TensorType) -> Option<Tensors> {
    let (storage, [(si, zi), (so, zo)]) = signed_bytes([x.ty(), result])?;
    let one = |q: i32| (((q - zi).max(0) as f32 * si).sqrt() / so) as i32 + zo;
    Some(limited(storage, result, &x.ty().shape, &widen(x, one)?))
}

/// An element-wise function of 8-bit integers, as a lookup table of 256 entries.
pub(crate) fn table(
    x: &Tensor,
    result: &TensorType,
    f: impl FnOnce(&Tensor) -> Result<Tensors, EvalError>,
) -> Result<Option<Tensors>, EvalError> {
    let byte = |t: &TensorType| t.elem.qparams().filter(|g| g.storage.size() == 1 && g.tensor_map().is_some()).cloned();
    let (Some(from), Some(to)) = (byte(x.ty()), byte(result)) else { return Ok(None) };
    let ty = TensorType::new(Elem::Quantized(from), Shape::known(&[256]));
    let values = f(&Tensor::of(ty, (0..=255u8).collect()).to_float())?;
    let quantized = values[0].quantized(&to);
    let mut table = [0; 256];
    table.copy_from_slice(quantized.data());
    let found = x.data().iter().map(|&q| table[usize::from(q)]).collect::<Vec<u8>>();
    Ok(Some(smallvec![Tensor::of(x.ty().with_elem(Elem::Quantized(to)), found)]))
}

/// ONNX Runtime's average pooling of dequantized values, which rounds after adding the zero point.
fn mean_of_floats(op: &Pool, x: &Tensor, result: &TensorType) -> Result<Option<Tensors>, EvalError> {
    let Some((storage, [(_, _), (scale, zero)])) = bytes([x.ty(), result]) else { return Ok(None) };
    let means = pool::pool(op, &x.to_float())?.swap_remove(0);
    let saturate = storage.saturating(0);
    let placed: Vec<i32> = means.floats().iter().map(|m| saturate(m / scale + zero as f32)).collect();
    Ok(Some(limited(storage, result, &means.ty().shape, &placed)))
}

/// Average pooling: the mean of the stored integers of each window, rounded half away from zero.
pub(crate) fn pool(op: &Pool, x: &Tensor, results: &[TensorType]) -> Result<Option<Tensors>, EvalError> {
    let qparams = results[0].elem.qparams().filter(|_| op.f == PoolFn::Average);
    if qparams.is_some_and(|qparams| qparams.storage == StorageType::U8) {
        return mean_of_floats(op, x, &results[0]);
    }
    let (Some(qparams), Some(values)) = (qparams, widen(x, |q| q)) else { return Ok(None) };
    let dims = x.dims();
    let mut sums = pool::windows(op, &dims, &values, 0, |a, b| a + b);
    let counts = pool::counts(op, &dims);
    for plane in sums.chunks_exact_mut(counts.len().max(1)) {
        for (sum, &n) in plane.iter_mut().zip(&counts) {
            let n = n as i32;
            *sum = match n {
                0 => qparams.zero_point(),
                _ if *sum > 0 => (*sum + n / 2) / n,
                _ => (*sum - n / 2) / n,
            };
        }
    }
    Ok(Some(limited(qparams.storage, &results[0], &pool::shape(op, &dims), &sums)))
}

/// XNNPACK's bilinear resize, with 11-bit weights.
pub(crate) fn resize(op: &Resize, x: &Tensor, results: &[TensorType]) -> Result<Option<Tensors>, EvalError> {
    let dims = x.dims();
    let (Some((storage, _)), ResizeMode::Linear, &[_, _, height, width]) =
        (signed_bytes([x.ty(), &results[0]]), op.mode, dims.as_slice())
    else {
        return Ok(None);
    };
    let Some(values) = widen(x, |q| q) else { return Ok(None) };
    let op = &super::super::resize::Known::of(op, x)?;
    // The pixels before and after a position, and the weight of the latter.
    let taps = |axis: usize| -> Vec<(usize, usize, i32)> {
        let tap = |i| {
            let at = super::super::resize::position(op, axis, i, &dims).max(0.0);
            let before = (at as usize).min(dims[axis] - 1);
            (before, (before + 1).min(dims[axis] - 1), ((at - before as f32) * 2048.0).round_ties_even() as i32)
        };
        (0..op.sizes[axis - 2]).map(tap).collect()
    };
    let (rows, columns) = (taps(2), taps(3));
    let mut out = Vec::with_capacity(values.len() / (height * width).max(1) * rows.len() * columns.len());
    for image in values.chunks_exact((height * width).max(1)) {
        for &(top, bottom, down) in &rows {
            let across = |row: usize, &(left, right, weight): &(usize, usize, i32)| {
                let (a, b) = (image[row * width + left], image[row * width + right]);
                (a << 11) + (b - a) * weight
            };
            out.extend(columns.iter().map(|column| {
                let (above, below) = (across(top, column), across(bottom, column));
                ((above << 11) + (below - above) * down + (1 << 21)) >> 22
            }));
        }
    }
    let shape = Shape::known(&[dims[0], dims[1], rows.len(), columns.len()]);
    Ok(Some(limited(storage, &results[0], &shape, &out)))
}

/// A clamp for which TensorFlow Lite has no operator: the value is requantized to the parameters of the result first.
pub(crate) fn clamp(op: &Clamp, x: &Tensor, result: &TensorType) -> Result<Option<Tensors>, EvalError> {
    let own_operator = [(0.0, f32::INFINITY), (0.0, 6.0), (-1.0, 1.0), (0.0, 1.0)].contains(&(op.lo, op.hi));
    let Some(qparams) = result.elem.qparams().filter(|qparams| !own_operator && x.ty().elem.qparams() != Some(qparams))
    else {
        return Ok(None);
    };
    let Some(moved) = quantize(x, result)? else { return Ok(None) };
    let (lo, hi) = qparams.storage.range();
    let limit = |v: f32| Tensor::scalar(v).quantized(qparams).integers().map_or(lo, |q| q[0] as i32).clamp(lo, hi);
    let (lo, hi) = (limit(op.lo), limit(op.hi));
    Ok(widen(&moved[0], |q| q.max(lo).min(hi)).map(|v| limited(qparams.storage, result, &x.ty().shape, &v)))
}

/// XNNPACK's mean and sum.
pub(crate) fn reduce(op: &Reduce, x: &Tensor, results: &[TensorType]) -> Result<Option<Tensors>, EvalError> {
    let Some((storage, [(si, zi), (so, zo)])) = bytes([x.ty(), &results[0]]) else { return Ok(None) };
    let n = match op.f {
        ReduceFn::Mean => op.axes.iter().map(|&a| x.dims()[a]).product::<usize>(),
        ReduceFn::Sum => 1,
        _ => return Ok(None),
    };
    let Some(values) = widen(x, |q| q - zi) else { return Ok(None) };
    let whole = Tensor::from_vec(x.ty().shape.clone(), values);
    let sums = super::super::reduce::reduce(&Reduce { f: ReduceFn::Sum, ..op.clone() }, &whole)?;
    let ratio = si / so * (1.0 / n as f32);
    let saturate = storage.saturating(zo);
    let rounded = sums[0].view::<i32>().iter().map(|&s| saturate(s as f32 * ratio)).collect::<Vec<_>>();
    Ok(Some(limited(storage, &results[0], &sums[0].ty().shape, &rounded)))
}
