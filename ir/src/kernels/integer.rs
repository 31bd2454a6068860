//! Arithmetic on grids as runtimes do it: on signed bytes as TensorFlow Lite's XNNPACK kernels, or its own where XNNPACK has
//! none, on unsigned ones as ONNX Runtime, and on 16 bits as TensorFlow Lite's own kernels. What ONNX Runtime computes with
//! real numbers between integers is left to the default.
//!
//! Sums of integers are formed by the `F32` kernels, in parts small enough to be exact there, and added up in `f64`.

use smallvec::smallvec;

use super::conv::{Geometry, conv_sums, depthwise, transpose_sums};
use super::gemm::{Bias, Term, exact_terms, gemm};
use super::matmul::Batches;
use super::pool;
use crate::error::EvalError;
use crate::ops::*;
use crate::types::{Elem, Grid, Layout, Scalar, Shape, Store, Tensor, TensorType, nearest};

/// Sums of integers up to here are exact in `f32`; the rest of 2^24 makes up for the rounding of their bound.
const EXACT: f32 = 16_000_000.0;

/// How sums become integers of the result.
#[derive(Clone, Copy, Debug)]
enum Rescale {
    /// XNNPACK: a product in `f32`, half to even.
    Single(f32),
    /// 16-bit convolution with a 64-bit bias: a 16-bit multiplier, half up.
    Fixed { multiplier: i64, shift: u32 },
    /// 16-bit matrix product: a product in `f64`, half away from zero.
    Double(f64),
    /// TensorFlow Lite's own matrix product of 8 bits, where XNNPACK does not take the right side: the upper half of a
    /// 64-bit product, and a shift, each half away from zero.
    Twice { multiplier: i64, shift: i32 },
}

impl Rescale {
    /// For sums of products of 16-bit with 8-bit integers.
    fn fixed(ratio: f64) -> Self {
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

    /// For products of 8-bit integers whose right side has its zero elsewhere.
    fn twice(ratio: f64) -> Self {
        let (multiplier, exponent) = mantissa(ratio);
        Rescale::Twice { multiplier, shift: -exponent }
    }

    fn apply(self, sum: f64, store: Store, zero_point: i32) -> i32 {
        match self {
            Rescale::Single(ratio) => store.saturate(sum as f32 * ratio, zero_point),
            Rescale::Fixed { multiplier, shift } => {
                let q = (sum as i64 * multiplier + (1 << (shift - 1))) >> shift;
                let (lo, hi) = store.range();
                (q + i64::from(zero_point)).clamp(i64::from(lo), i64::from(hi)) as i32
            }
            Rescale::Double(ratio) => store.saturate((sum * ratio).round() as f32, zero_point),
            Rescale::Twice { multiplier, shift } => {
                let left = (sum as i64) << (-shift).clamp(0, 30);
                let product = left * multiplier;
                let nudge = if product >= 0 { 1 << 30 } else { 1 - (1 << 30) };
                // Towards zero, as division is.
                let high = (product + nudge) / (1 << 31);
                let right = shift.clamp(0, 31);
                let half = (1i64 << right) >> 1;
                let q = if high >= 0 { (high + half) >> right } else { -((half - high) >> right) };
                let (lo, hi) = store.range();
                (q + i64::from(zero_point)).clamp(i64::from(lo), i64::from(hi)) as i32
            }
        }
    }
}

/// A multiplier of 31 bits and an exponent: `multiplier * 2^(exponent - 31)` is the ratio.
fn mantissa(ratio: f64) -> (i64, i32) {
    // ratio = fraction * 2^exponent with a fraction in 0.5..1.
    let exponent = (ratio.to_bits() >> 52) as i32 - 1022;
    match (ratio * 2f64.powi(31 - exponent)).round() as i64 {
        whole if whole == 1 << 31 => (whole / 2, exponent + 1),
        multiplier => (multiplier, exponent),
    }
}

/// One plane of an activation: `factor * values`, summed over the planes, is what is stored less the zero point.
#[derive(Debug)]
struct Plane {
    values: Vec<f32>,
    factor: f64,
    /// No value is further from 0.
    largest: f32,
}

/// A contraction whose operands and result all lie on grids.
#[derive(Debug)]
struct Contraction {
    planes: Vec<Plane>,
    weight: Vec<f32>,
    bias: Option<Vec<f64>>,
    /// One for each output channel, or one for all.
    rescale: Vec<Rescale>,
    grid: Grid,
}

impl Contraction {
    /// `None` where the kernels have no arithmetic of their own for these grids.
    fn of(operands: &[&Tensor], result: &TensorType, wide: fn(f64) -> Rescale) -> Option<Self> {
        let (x, w) = (operands[0].ty().elem.grid()?, operands[1].ty().elem.grid()?);
        let grid = result.elem.grid()?.clone();
        let ((scale, zero_point), (to, _)) = (x.tensor_map()?, grid.tensor_map()?);
        let weights_fit = matches!(w.store, Store::I8 | Store::U8);
        let planes = match (x.store, grid.store) {
            (Store::I8 | Store::U8, Store::I8 | Store::U8) if weights_fit => {
                let (lo, hi) = x.store.range();
                let largest = (hi - zero_point).max(zero_point - lo) as f32;
                vec![Plane { values: widen(operands[0], |q| (q - zero_point) as f32)?, factor: 1.0, largest }]
            }
            (Store::I16, Store::I16) if weights_fit => {
                let high = widen(operands[0], |q| ((q - zero_point) >> 8) as f32)?;
                let low = widen(operands[0], |q| ((q - zero_point) & 255) as f32)?;
                let plane = |values, factor| Plane { values, factor, largest: 256.0 };
                vec![plane(high, 256.0), plane(low, 1.0)]
            }
            _ => return None,
        };
        let rescale = |&s: &f32| match x.store {
            Store::I16 => wide(f64::from(scale) * f64::from(s) / f64::from(to)),
            Store::I8 if w.zero_point() != 0 => Rescale::twice(f64::from(scale) * f64::from(s) / f64::from(to)),
            _ => Rescale::Single(scale * s / to),
        };
        let bias = operands.get(2).map(|b| Some(b.integers()?.into_iter().map(|q| q as f64).collect()));
        Some(Contraction {
            planes,
            weight: widen(operands[1], |q| (q - w.zero_point()) as f32)?,
            bias: if let Some(bias) = bias { Some(bias?) } else { None },
            rescale: w.scales().iter().map(rescale).collect(),
            grid,
        })
    }

    /// The integers that stand for sums in one channel.
    fn round<'o>(&self, channel: usize, sums: impl Iterator<Item = f64>, out: impl Iterator<Item = &'o mut i32>) {
        let bias = self.bias.as_ref().map_or(0.0, |b| b[channel]);
        let (store, zero_point) = (self.grid.store, self.grid.zero_point());
        match self.rescale[channel % self.rescale.len()] {
            Rescale::Single(ratio) => {
                out.zip(sums).for_each(|(o, sum)| *o = store.saturate((sum + bias) as f32 * ratio, zero_point));
            }
            rescale => out.zip(sums).for_each(|(o, sum)| *o = rescale.apply(sum + bias, store, zero_point)),
        }
    }

    /// Terms of `inner` indices of all planes, each exact in `f32`. `rows` says that the weights of one sum lie side by
    /// side: no sum exceeds that of their magnitudes.
    fn terms(&self, inner: usize, rows: bool) -> Vec<Term> {
        let heaviest = self.weight.iter().fold(0.0f32, |m, w| m.max(w.abs()));
        let average = |row: &[f32]| row.iter().map(|w| w.abs()).sum::<f32>() / inner as f32;
        let whole = rows.then(|| self.weight.chunks_exact(inner.max(1)).map(average).fold(0.0f32, f32::max));
        let terms = |(i, p): (usize, &Plane)| match whole {
            Some(average) if p.largest * average * inner as f32 <= EXACT => exact_terms(i, inner, 0.0),
            _ => exact_terms(i, inner, p.largest * heaviest),
        };
        self.planes.iter().enumerate().flat_map(terms).collect()
    }

    fn result(&self, shape: Shape, values: Vec<i32>) -> Result<Option<Tensors>, EvalError> {
        let ty = TensorType::new(Elem::Grid(self.grid.clone()), shape);
        Ok(Some(smallvec![self.grid.store.pack(ty, values.into_iter())]))
    }
}

/// The stored integers of a grid of 8 or 16 bits, each through `f`.
fn widen<T>(x: &Tensor, f: impl Fn(i32) -> T) -> Option<Vec<T>> {
    fn each<S: Scalar + Into<i32>, T>(x: &Tensor, f: impl Fn(i32) -> T) -> Vec<T> {
        x.view::<S>().iter().map(|&q| f(q.into())).collect()
    }
    match x.ty().elem.grid()?.store {
        Store::I4 | Store::I8 => Some(each::<i8, T>(x, f)),
        Store::U8 => Some(each::<u8, T>(x, f)),
        Store::I16 => Some(each::<i16, T>(x, f)),
        Store::I32 => None,
    }
}

pub(crate) fn conv(op: &Conv, operands: &[&Tensor], results: &[TensorType]) -> Result<Option<Tensors>, EvalError> {
    let Some(c) = Contraction::of(operands, &results[0], Rescale::fixed) else { return Ok(None) };
    let g = Geometry::of_conv(op, &operands[0].dims(), &operands[1].dims());
    let (channels, positions, depth) = (g.groups * g.filters, g.positions(), g.channels * g.taps());
    let terms = c.terms(depth, true);
    let shape = g.shape(channels, g.steps, operands[0].ty().rank());
    let mut out = vec![0i32; g.batch * channels * positions];
    if g.channels == 1 && g.filters == 1 && terms.len() == c.planes.len() {
        let mut sums = vec![0.0f32; positions];
        let mut total = vec![0.0f64; positions];
        for (i, out) in out.chunks_exact_mut(positions.max(1)).enumerate() {
            let channel = i % channels;
            total.fill(0.0);
            for plane in &c.planes {
                sums.fill(0.0);
                let image = &plane.values[i * g.pixels()..][..g.pixels()];
                depthwise(&g, image, &c.weight[channel * g.taps()..][..g.taps()], &mut sums);
                total.iter_mut().zip(&sums).for_each(|(t, &s)| *t += plane.factor * f64::from(s));
            }
            c.round(channel, total.iter().copied(), out.iter_mut());
        }
        return c.result(shape, out);
    }
    let planes: Vec<&[f32]> = c.planes.iter().map(|p| p.values.as_slice()).collect();
    let last = terms.len() - 1;
    let mut total = Vec::new();
    conv_sums(&g, &planes, &c.weight, &terms, |image, group, term, cols, sums| {
        let channel = |f: usize| group * g.filters + f;
        let place = |f: usize| (image * channels + channel(f)) * positions;
        if last == 0 {
            for (f, sums) in sums.chunks_exact(cols.len()).enumerate() {
                c.round(channel(f), sums.iter().map(|&s| f64::from(s)), out[place(f)..][cols.clone()].iter_mut());
            }
            return;
        }
        if term == 0 {
            total.clear();
            total.resize(sums.len(), 0.0f64);
        }
        let factor = c.planes[terms[term].plane].factor;
        total.iter_mut().zip(sums).for_each(|(t, &s)| *t += factor * f64::from(s));
        if term == last {
            for (f, total) in total.chunks_exact(cols.len()).enumerate() {
                c.round(channel(f), total.iter().copied(), out[place(f)..][cols.clone()].iter_mut());
            }
        }
    })?;
    c.result(shape, out)
}

pub(crate) fn conv_transpose(
    op: &ConvTranspose,
    operands: &[&Tensor],
    results: &[TensorType],
) -> Result<Option<Tensors>, EvalError> {
    let Some(c) = Contraction::of(operands, &results[0], Rescale::fixed) else { return Ok(None) };
    let g = Geometry::of_transpose(op, &operands[0].dims(), &operands[1].dims());
    let (channels, pixels) = (g.groups * g.channels, g.pixels());
    let mut total = vec![0.0f64; g.batch * channels * pixels];
    let terms = c.terms(g.filters, false);
    for (i, plane) in c.planes.iter().enumerate() {
        let own: Vec<Term> = terms.iter().filter(|t| t.plane == i).map(|t| Term { plane: 0, ..t.clone() }).collect();
        let mut sums = vec![0.0f64; total.len()];
        transpose_sums(&g, &plane.values, &c.weight, &own, &mut sums)?;
        total.iter_mut().zip(sums).for_each(|(t, s)| *t += plane.factor * s);
    }
    let mut out = vec![0i32; total.len()];
    for (i, (out, total)) in out.chunks_exact_mut(pixels).zip(total.chunks_exact(pixels)).enumerate() {
        c.round(i % channels, total.iter().copied(), out.iter_mut());
    }
    c.result(g.shape(channels, g.image, operands[0].ty().rank()), out)
}

pub(crate) fn matmul(op: &MatMul, operands: &[&Tensor], results: &[TensorType]) -> Result<Option<Tensors>, EvalError> {
    let Some(c) = Contraction::of(operands, &results[0], Rescale::Double) else { return Ok(None) };
    if c.rescale.len() > 1 && operands[1].ty().rank() > 2 {
        return Ok(None);
    }
    let batches = Batches::of(op, &operands[0].dims(), &operands[1].dims());
    let [m, k, n] = batches.extents;
    let terms = c.terms(k, op.transpose_b && operands[1].ty().rank() == 2);
    let (mut sums, mut total) = (vec![0.0f32; m * n], vec![0.0f64; m * n]);
    let mut out = vec![0i32; batches.pairs.len() * m * n];
    for (&(i, j), out) in batches.pairs.iter().zip(out.chunks_exact_mut((m * n).max(1))) {
        let right = batches.right(op, &c.weight, j);
        total.fill(0.0);
        for term in &terms {
            let plane = &c.planes[term.plane];
            let left = batches.left(&plane.values, i).block(0..m, term.inner.clone());
            gemm(&mut sums, left, right.block(term.inner.clone(), 0..n), Bias::None)?;
            total.iter_mut().zip(&sums).for_each(|(t, &s)| *t += plane.factor * f64::from(s));
        }
        for channel in 0..n {
            let down = total.iter().copied().skip(channel).step_by(n);
            c.round(channel, down, out.iter_mut().skip(channel).step_by(n));
        }
    }
    c.result(batches.shape, out)
}

/// The per-tensor maps of grids that all have the same 8-bit store.
fn bytes<const N: usize>(types: [&TensorType; N]) -> Option<(Store, [(f32, i32); N])> {
    let store = types[0].elem.grid()?.store;
    let mut maps = [(0.0, 0); N];
    for (map, ty) in maps.iter_mut().zip(types) {
        let grid = ty.elem.grid().filter(|g| g.store == store && matches!(store, Store::I8 | Store::U8))?;
        *map = grid.tensor_map()?;
    }
    Some((store, maps))
}

/// As [`bytes`], where all are signed.
fn signed_bytes<const N: usize>(types: [&TensorType; N]) -> Option<(Store, [(f32, i32); N])> {
    bytes(types).filter(|(store, _)| *store == Store::I8)
}

/// A result on the grid of `ty`, with the shape of `like`, from integers that are limited to the store.
fn limited(store: Store, ty: &TensorType, like: &Shape, values: impl Iterator<Item = i32>) -> Tensors {
    let (lo, hi) = store.range();
    let ty = TensorType { shape: like.clone(), layout: Layout::row_major(like.rank()), elem: ty.elem.clone() };
    smallvec![store.pack(ty, values.map(|q| q.clamp(lo, hi)))]
}

/// The integers less the zero point, repeated to `shape`.
fn centred(x: &Tensor, zero_point: i32, shape: &Shape) -> Result<Option<Vec<i32>>, EvalError> {
    let Some(values) = widen(x, |q| q - zero_point) else { return Ok(None) };
    if x.ty().shape == *shape {
        return Ok(Some(values));
    }
    let small = Tensor::from_vec(x.ty().shape.clone(), values);
    let wide = super::movement::expand(&Expand { shape: shape.clone() }, &small)?;
    Ok(Some(wide[0].view::<i32>().into_owned()))
}

/// XNNPACK's addition, subtraction and multiplication.
pub(crate) fn binary(f: BinaryFn, operands: &[&Tensor], results: &[TensorType]) -> Result<Option<Tensors>, EvalError> {
    let (a, b) = (operands[0], operands[1]);
    let Some((store, [(sa, za), (sb, zb), (so, zo)])) = signed_bytes([a.ty(), b.ty(), &results[0]]) else {
        return Ok(None);
    };
    let shape = broadcast(&a.ty().shape, &b.ty().shape)?;
    let (Some(x), Some(y)) = (centred(a, za, &shape)?, centred(b, zb, &shape)?) else { return Ok(None) };
    let pairs = x.iter().zip(&y);
    let result = match f {
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
            limited(store, &results[0], &shape, pairs.map(|(x, y)| ((ma * x + mb * y + half) >> shift) + zo))
        }
        BinaryFn::Mul => {
            let ratio = sa * sb / so;
            if !(2f32.powi(-16)..256.0).contains(&ratio) {
                return Ok(None);
            }
            limited(store, &results[0], &shape, pairs.map(|(x, y)| store.saturate((x * y) as f32 * ratio, zo)))
        }
        _ => return Ok(None),
    };
    Ok(Some(result))
}

/// floor(log2(x)) of a normal number.
fn exponent(x: f32) -> i32 {
    (x.to_bits() >> 23) as i32 - 127
}

/// Scales an 8-bit grid has to another in XNNPACK, as 8-bit fractions.
fn fraction(ratio: f32) -> Option<i32> {
    (2f32.powi(-8)..=128.0).contains(&ratio).then(|| nearest(256.0 * ratio))
}

pub(crate) fn quantize(x: &Tensor, result: &TensorType) -> Result<Option<Tensors>, EvalError> {
    let Some((store, [(si, zi), (so, zo)])) = signed_bytes([x.ty(), result]) else { return Ok(None) };
    let Some(k) = fraction(si / so) else { return Ok(None) };
    Ok(widen(x, |q| (((q - zi) * k + 128) >> 8) + zo).map(|v| limited(store, result, &x.ty().shape, v.into_iter())))
}

/// x where x >= 0, alpha * x below.
pub(crate) fn leaky_relu(alpha: f32, x: &Tensor, result: &TensorType) -> Option<Tensors> {
    let (store, [(si, zi), (so, zo)]) = signed_bytes([x.ty(), result])?;
    let ratio = si / so;
    let (above, below) = (fraction(ratio)?, fraction((ratio * alpha).abs())?);
    let below = if alpha < 0.0 { -below } else { below };
    let one = |q: i32| (((q - zi) * if q >= zi { above } else { below } + 128) >> 8) + zo;
    Some(limited(store, result, &x.ty().shape, widen(x, one)?.into_iter()))
}

/// TensorFlow Lite's x * relu6(x + 3) / 6: in 16 bits, with a multiplier of 16 bits for the result and one for the factor.
pub(crate) fn hard_swish(x: &Tensor, result: &TensorType) -> Option<Tensors> {
    let (store, [(si, zi), (so, zo)]) = signed_bytes([x.ty(), result])?;
    // Inputs are counted in parts of 128 of a step, factors in parts of 2^15 of 3.
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
    // The upper half of twice a product, half away from zero.
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
    Some(limited(store, result, &x.ty().shape, widen(x, one)?.into_iter()))
}

/// TensorFlow Lite's square root, which drops the fraction.
pub(crate) fn sqrt(x: &Tensor, result: &TensorType) -> Option<Tensors> {
    let (store, [(si, zi), (so, zo)]) = signed_bytes([x.ty(), result])?;
    let one = |q: i32| (((q - zi).max(0) as f32 * si).sqrt() / so) as i32 + zo;
    Some(limited(store, result, &x.ty().shape, widen(x, one)?.into_iter()))
}

/// A function of one number on 8-bit grids, worked out for all 256 integers.
pub(crate) fn table(
    x: &Tensor,
    result: &TensorType,
    f: impl FnOnce(&Tensor) -> Result<Tensors, EvalError>,
) -> Result<Option<Tensors>, EvalError> {
    let byte = |t: &TensorType| t.elem.grid().filter(|g| g.store.size() == 1 && g.tensor_map().is_some()).cloned();
    let (Some(from), Some(to)) = (byte(x.ty()), byte(result)) else { return Ok(None) };
    let ty = TensorType::new(Elem::Grid(from), Shape::known(&[256]));
    let values = f(&Tensor::of(ty, (0..=255u8).collect()).to_real())?;
    let table = values[0].quantized(&to);
    let found = x.data().iter().map(|&q| table.data()[usize::from(q)]).collect::<Vec<u8>>();
    Ok(Some(smallvec![Tensor::of(x.ty().with_elem(Elem::Grid(to)), found)]))
}

/// ONNX Runtime's mean of real numbers, which it rounds after the zero point is added.
fn mean_of_reals(op: &Pool, x: &Tensor, result: &TensorType) -> Result<Option<Tensors>, EvalError> {
    let Some((store, [(_, _), (scale, zero)])) = bytes([x.ty(), result]) else { return Ok(None) };
    let means = pool::pool(op, &x.to_real())?.swap_remove(0);
    let placed: Vec<i32> = means.reals().iter().map(|m| store.saturate(m / scale + zero as f32, 0)).collect();
    Ok(Some(limited(store, result, &means.ty().shape, placed.into_iter())))
}

/// The mean of the stored integers under each window, half away from zero.
pub(crate) fn pool(op: &Pool, x: &Tensor, results: &[TensorType]) -> Result<Option<Tensors>, EvalError> {
    let grid = results[0].elem.grid().filter(|_| op.f == PoolFn::Average);
    if grid.is_some_and(|grid| grid.store == Store::U8) {
        return mean_of_reals(op, x, &results[0]);
    }
    let (Some(grid), Some(values)) = (grid, widen(x, |q| q)) else { return Ok(None) };
    let dims = x.dims();
    let mut sums = pool::windows(op, &dims, &values, 0, |a, b| a + b);
    let counts = pool::counts(op, &dims);
    for plane in sums.chunks_exact_mut(counts.len().max(1)) {
        for (sum, &n) in plane.iter_mut().zip(&counts) {
            let n = n as i32;
            *sum = match n {
                0 => grid.zero_point(),
                _ if *sum > 0 => (*sum + n / 2) / n,
                _ => (*sum - n / 2) / n,
            };
        }
    }
    Ok(Some(limited(grid.store, &results[0], &pool::shape(op, &dims), sums.into_iter())))
}

/// XNNPACK's image between the pixels of another, with weights of 11 bits.
pub(crate) fn resize(op: &Resize, x: &Tensor, results: &[TensorType]) -> Result<Option<Tensors>, EvalError> {
    let dims = x.dims();
    let (Some((store, _)), ResizeMode::Linear, &[_, _, height, width]) =
        (signed_bytes([x.ty(), &results[0]]), op.mode, dims.as_slice())
    else {
        return Ok(None);
    };
    let Some(values) = widen(x, |q| q) else { return Ok(None) };
    // The pixels before and behind a position, and the weight of that behind.
    let taps = |axis: usize| -> Vec<(usize, usize, i32)> {
        let tap = |i| {
            let at = super::resize::position(op, axis, i, &dims).max(0.0);
            let before = (at as usize).min(dims[axis] - 1);
            (before, (before + 1).min(dims[axis] - 1), ((at - before as f32) * 2048.0).round_ties_even() as i32)
        };
        (0..op.size[axis - 2]).map(tap).collect()
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
    Ok(Some(limited(store, &results[0], &shape, out.into_iter())))
}

/// Limits that TensorFlow Lite has no operator for: the value goes onto the result's grid first.
pub(crate) fn clamp(op: &Clamp, x: &Tensor, result: &TensorType) -> Result<Option<Tensors>, EvalError> {
    let own_operator = [(0.0, f32::INFINITY), (0.0, 6.0), (-1.0, 1.0), (0.0, 1.0)].contains(&(op.lo, op.hi));
    let Some(grid) = result.elem.grid().filter(|grid| !own_operator && x.ty().elem.grid() != Some(grid)) else {
        return Ok(None);
    };
    let Some(moved) = quantize(x, result)? else { return Ok(None) };
    let (lo, hi) = grid.store.range();
    let limit = |v: f32| Tensor::scalar(v).quantized(grid).integers().map_or(lo, |q| q[0] as i32).clamp(lo, hi);
    let (lo, hi) = (limit(op.lo), limit(op.hi));
    Ok(widen(&moved[0], |q| q.max(lo).min(hi)).map(|v| limited(grid.store, result, &x.ty().shape, v.into_iter())))
}

/// XNNPACK's mean and sum.
pub(crate) fn reduce(op: &Reduce, x: &Tensor, results: &[TensorType]) -> Result<Option<Tensors>, EvalError> {
    let Some((store, [(si, zi), (so, zo)])) = bytes([x.ty(), &results[0]]) else { return Ok(None) };
    let n = match op.f {
        ReduceFn::Mean => op.axes.iter().map(|&a| x.dims()[a]).product::<usize>(),
        ReduceFn::Sum => 1,
        _ => return Ok(None),
    };
    let Some(values) = widen(x, |q| q - zi) else { return Ok(None) };
    let whole = Tensor::from_vec(x.ty().shape.clone(), values);
    let sums = super::reduce::reduce(&Reduce { f: ReduceFn::Sum, ..op.clone() }, &whole)?;
    let ratio = si / so * (1.0 / n as f32);
    let rounded = sums[0].view::<i32>().iter().map(|&s| store.saturate(s as f32 * ratio, zo)).collect::<Vec<_>>();
    Ok(Some(limited(store, &results[0], &sums[0].ty().shape, rounded.into_iter())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::evaluate_node;
    use proptest::prelude::*;

    fn on(grid: &Grid, dims: &[usize], seed: usize) -> Tensor {
        let (lo, hi) = grid.store.range();
        let value = |i: usize| lo + ((i * 7919 + seed * 104_729) % (hi - lo + 1) as usize) as i32;
        let ty = TensorType::new(Elem::Grid(grid.clone()), Shape::known(dims));
        grid.store.pack(ty, (0..dims.iter().product()).map(value))
    }

    fn centred_f32(t: &Tensor) -> Tensor {
        let zero = t.ty().elem.grid().unwrap().zero_point();
        let values = t.integers().unwrap().iter().map(|q| (q - i64::from(zero)) as f32).collect();
        Tensor::from_vec(t.ty().shape.clone(), values)
    }

    fn bias(channels: usize) -> Tensor {
        let ty = TensorType::new(Elem::Grid(Grid::per_tensor(Store::I32, 1.0, 0)), Shape::known(&[channels]));
        Tensor::of(ty, (0..channels).map(|i| i as i32 * 1000 - 700).collect())
    }

    /// XNNPACK's recipe, written out for one sum.
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
            let input = Grid::per_tensor(Store::I8, 0.021, zero);
            let output = Grid::per_tensor(Store::I8, 0.9, -7);
            let scales: Vec<f32> = (0..f * groups).map(|i| 0.003 + i as f32 * 0.0011).collect();
            let x = on(&input, &[n, c * groups, h, h], 1);
            let w = on(&Grid::per_axis(Store::I8, 0, scales.clone()), &[f * groups, c, k, k], 2);
            let op = Conv {
                stride: smallvec![stride; 2],
                before: smallvec![pad; 2],
                after: smallvec![pad; 2],
                groups,
                ..Conv::unit(2)
            };
            let real = super::super::conv::conv(&op, &[&centred_f32(&x), &centred_f32(&w)]).unwrap();
            let ty = TensorType::new(Elem::Grid(output), real[0].ty().shape.clone());
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
            let x = on(&Grid::per_tensor(Store::I8, 0.021, 9), &[1, c, h, h], 1);
            let w = on(&Grid::per_tensor(Store::I8, 0.01, 0), &[c, f, k, k], 2);
            let zeros: Extents = smallvec![0; 2];
            let op = ConvTranspose {
                stride: smallvec![stride; 2], before: zeros.clone(), after: zeros.clone(), extra: zeros,
                dilation: smallvec![1; 2], groups: 1,
            };
            let real = super::super::conv::conv_transpose(&op, &[&centred_f32(&x), &centred_f32(&w)]).unwrap();
            let ty = TensorType::new(Elem::Grid(Grid::per_tensor(Store::I8, 1.5, 3)), real[0].ty().shape.clone());
            let found = conv_transpose(&op, &[&x, &w], &[ty]).unwrap().unwrap();
            let want: Vec<i64> =
                real[0].view::<f32>().iter().map(|&sum| recipe(sum, 0.021 * 0.01 / 1.5, 3)).collect();
            prop_assert_eq!(found[0].integers().unwrap(), want);
        }
    }

    /// What TensorFlow Lite's fixed-point arithmetic gives: both steps round half away from zero.
    #[test]
    fn sums_are_rounded_twice() {
        let apply = |ratio: f64, sum: f64| Rescale::twice(ratio).apply(sum, Store::I8, 1);
        // 15/32 is a half after the first step, -15/32 is less.
        assert_eq!([16.0, 15.0, -16.0, -15.0, 48.0, -48.0].map(|s| apply(1.0 / 32.0, s)), [2, 2, 0, 1, 3, -1]);
        assert_eq!(apply(3.0, 7.0), 22);
        assert_eq!(apply(1.0, 1e6), 127);
        assert_eq!(apply(0.9999999999, -3.0), -2);
    }

    /// Sums far beyond 2^24 are exact: each term alone is small enough.
    #[test]
    fn long_sums_are_exact() {
        let k = 5003;
        let (narrow, weights) = (Grid::per_tensor(Store::I8, 0.01, -128), Grid::per_tensor(Store::I8, 0.01, 0));
        let w = on(&weights, &[k, 1], 2);
        let out = |scale| TensorType::new(Elem::Grid(Grid::per_tensor(Store::I16, scale, 0)), Shape::known(&[1, 1]));
        let sixteen = TensorType::new(Elem::Grid(Grid::per_tensor(Store::I16, 1e-4, 0)), Shape::known(&[1, k]));
        let x = Tensor::of(sixteen, w.view::<i8>().iter().map(|&q| i16::from(q) * 250 + 3).collect());
        let product = |a: &Tensor| -> i64 {
            let zero = i64::from(a.ty().elem.grid().unwrap().zero_point());
            a.integers().unwrap().iter().zip(w.integers().unwrap()).map(|(a, b)| (a - zero) * b).sum()
        };
        let wide = matmul(&MatMul { transpose_b: false }, &[&x, &w], &[out(1.0)]).unwrap().unwrap();
        let ratio = f64::from(1e-4f32) * f64::from(0.01f32);
        let want = (product(&x) as f64 * ratio).round() as i64;
        assert!(product(&x) > 1 << 32 && want < 32_000);
        assert_eq!(wide[0].integers().unwrap(), [want]);

        let x = on(&narrow, &[1, k], 1);
        let c = Contraction::of(&[&x, &w], &x.ty().clone(), Rescale::Double).unwrap();
        let terms = c.terms(k, false);
        assert!(terms.len() > 1 && terms.iter().all(|t| t.inner.len() as f32 * 255.0 * 128.0 < 16_777_216.0));
        assert_eq!(terms.iter().map(|t| t.inner.len()).sum::<usize>(), k);
        // Known weights are lighter than the heaviest all through, but not light enough.
        assert!(c.terms(k, true).len() > 1);
        let light = Tensor::of(w.ty().clone(), vec![1i8; k]);
        let c = Contraction::of(&[&x, &light], &x.ty().clone(), Rescale::Double).unwrap();
        assert_eq!(c.terms(k, true).len(), 1);
    }

    fn bytes_on(scale: f32, zero_point: i32, values: &[i8]) -> Tensor {
        let grid = Grid::per_tensor(Store::I8, scale, zero_point);
        Tensor::of(TensorType::new(Elem::Grid(grid), Shape::known(&[values.len()])), values.to_vec())
    }

    fn run(op: impl Into<Op>, operands: &[&Tensor], scale: f32, zero_point: i32, n: usize) -> Vec<i64> {
        let ty = bytes_on(scale, zero_point, &vec![0; n]).ty().clone();
        evaluate_node(&op.into(), operands, &[ty]).unwrap()[0].integers().unwrap()
    }

    #[test]
    fn binary_on_grids() {
        let (a, b) = (bytes_on(0.5, 1, &[1, 3, 101, -128]), bytes_on(0.25, -1, &[-1, 3, 99, -128]));
        // Real: a = 0 1 50 -64.5, b = 0 1 25 -31.75
        assert_eq!(run(Binary { f: BinaryFn::Add }, &[&a, &b], 1.0, 0, 4), [0, 2, 75, -96]);
        assert_eq!(run(Binary { f: BinaryFn::Sub }, &[&a, &b], 0.5, 0, 4), [0, 0, 50, -65]);
        assert_eq!(run(Binary { f: BinaryFn::Mul }, &[&a, &b], 10.0, 2, 4), [2, 2, 127, 127]);
        let one = bytes_on(0.25, -1, &[3]);
        assert_eq!(run(Binary { f: BinaryFn::Add }, &[&a, &one], 1.0, 0, 4), [1, 2, 51, -63]);
    }

    #[test]
    fn functions_of_one_number_are_tables() {
        let x = bytes_on(0.5, 0, &[-128, -4, -1, 0, 3, 127]);
        assert_eq!(run(Clamp::RELU6, &[&x], 0.5, -128, 6), [-128, -128, -128, -128, -125, -116]);
        let sigmoid = run(Unary { f: UnaryFn::Sigmoid }, &[&x], 1.0 / 256.0, -128, 6);
        assert_eq!(sigmoid, [-128, -97, -31, 0, 81, 127]);
        let leaky = Unary { f: UnaryFn::LeakyRelu { alpha: 0.1 } };
        // 26/256 in place of 0.1.
        assert_eq!(run(leaky, &[&x], 0.5, 0, 6), [-13, 0, 0, 0, 3, 127]);
    }

    #[test]
    fn grids_change_by_eight_bit_fractions() {
        let x = bytes_on(0.5, 1, &[1, 2, 101, -128]);
        assert_eq!(run(Quantize {}, &[&x], 0.5, -4, 4), [-4, -3, 96, -128]);
        assert_eq!(run(Quantize {}, &[&x], 1.0, 0, 4), [0, 1, 50, -64]);
    }

    #[test]
    fn means_on_grids() {
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
