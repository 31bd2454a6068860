//! Integer convolutions and matrix products: accumulation and rescaling.

use super::super::conv::{Geometry, conv_sums, depthwise, transpose_sums};
use super::super::gemm::{Term, exact_terms, gemm};
use super::super::matmul::Batches;
use super::super::matrix::Bias;
use super::{mantissa, packed, widen};
use crate::error::EvalError;
use crate::ops::*;
use crate::types::{Elem, QuantParams, Shape, StorageType, Tensor, TensorType};
use crate::vector::{fold, vectorized};
use smallvec::smallvec;

/// Integer sums up to this bound are exact in `f32`. It is below 2^24 because the bound itself is computed with
/// rounding.
const EXACT: f32 = 16_000_000.0;

/// How accumulators are rescaled to integers of the result.
#[derive(Clone, Copy, Debug)]
enum Rescale {
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

    /// For products of 8-bit integers where the zero point of the right side is not 0.
    fn twice(ratio: f64) -> Self {
        let (multiplier, exponent) = mantissa(ratio);
        Rescale::Twice { multiplier, shift: -exponent }
    }

    fn apply(self, sum: f64, storage: StorageType, zero_point: i32) -> i32 {
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

/// One plane of an activation: the sum of `factor * values` over the planes is the stored integer minus the zero point.
#[derive(Debug)]
struct Plane {
    values: Vec<f32>,
    factor: f64,
    /// Bounds of the values, one on each side of 0.
    range: [f32; 2],
}

/// A contraction with quantized operands and a quantized result.
#[derive(Debug)]
struct Contraction {
    planes: Vec<Plane>,
    weight: Vec<f32>,
    bias: Option<Vec<f64>>,
    /// One for each output channel, or one for all.
    rescale: Vec<Rescale>,
    qparams: QuantParams,
}

impl Contraction {
    /// `None` where no integer kernel exists for these quantization parameters.
    fn of(operands: &[&Tensor], result: &TensorType, wide: fn(f64) -> Rescale) -> Option<Self> {
        let (x, w) = (operands[0].ty().elem.qparams()?, operands[1].ty().elem.qparams()?);
        let qparams = result.elem.qparams()?.clone();
        let ((scale, zero_point), (to, _)) = (x.tensor_map()?, qparams.tensor_map()?);
        let weights_fit = matches!(w.storage, StorageType::I8 | StorageType::U8);
        let planes = match (x.storage, qparams.storage) {
            (StorageType::I8 | StorageType::U8, StorageType::I8 | StorageType::U8) if weights_fit => {
                let (lo, hi) = x.storage.range();
                let range = [(lo - zero_point) as f32, (hi - zero_point) as f32];
                vec![Plane { values: widen(operands[0], |q| (q - zero_point) as f32)?, factor: 1.0, range }]
            }
            (StorageType::I16, StorageType::I16) if weights_fit => {
                let high = widen(operands[0], |q| ((q - zero_point) >> 8) as f32)?;
                let low = widen(operands[0], |q| ((q - zero_point) & 255) as f32)?;
                let plane = |values, factor| Plane { values, factor, range: [-256.0, 256.0] };
                vec![plane(high, 256.0), plane(low, 1.0)]
            }
            _ => return None,
        };
        let rescale = |&s: &f32| match x.storage {
            StorageType::I16 => wide(f64::from(scale) * f64::from(s) / f64::from(to)),
            StorageType::I8 if w.zero_point() != 0 => Rescale::twice(f64::from(scale) * f64::from(s) / f64::from(to)),
            _ => Rescale::Single(scale * s / to),
        };
        let bias = operands.get(2).map(|b| Some(b.integers()?.into_iter().map(|q| q as f64).collect()));
        Some(Contraction {
            planes,
            weight: widen(operands[1], |q| (q - w.zero_point()) as f32)?,
            bias: if let Some(bias) = bias { Some(bias?) } else { None },
            rescale: w.scales().iter().map(rescale).collect(),
            qparams,
        })
    }

    /// Rescales the accumulators of one channel.
    fn round<'o>(&self, channel: usize, sums: impl Iterator<Item = f64>, out: impl Iterator<Item = &'o mut i32>) {
        let bias = self.bias.as_ref().map_or(0.0, |b| b[channel]);
        let (storage, zero_point) = (self.qparams.storage, self.qparams.zero_point());
        let rescale = self.rescale[channel % self.rescale.len()];
        out.zip(sums).for_each(|(o, sum)| *o = rescale.apply(sum + bias, storage, zero_point));
    }

    /// As [`Contraction::round`], for accumulators next to each other.
    fn round_row<S: Copy + Into<f64>>(&self, channel: usize, sums: &[S], out: &mut [i32]) {
        let Rescale::Single(ratio) = self.rescale[channel % self.rescale.len()] else {
            return self.round(channel, sums.iter().map(|&s| s.into()), out.iter_mut());
        };
        let bias = self.bias.as_ref().map_or(0.0, |b| b[channel]);
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

    /// Splits the `inner` reduction indices of all planes into terms that are exact in `f32`. With `rows`, the weights
    /// of one accumulator are contiguous, which gives a tighter bound: what any part of its sum can be.
    fn terms(&self, inner: usize, rows: bool) -> Vec<Term> {
        let part = |row: &[f32], sign: f32| {
            vectorized(
                #[inline(always)]
                || fold(row, 0.0, |sum, w| sum + (w * sign).max(0.0), |a, b| a + b),
            )
        };
        let signed = |row: &[f32]| [part(row, 1.0), part(row, -1.0)];
        let whole: Vec<[f32; 2]> = match rows {
            true => self.weight.chunks_exact(inner.max(1)).map(signed).collect(),
            false => Vec::new(),
        };
        let terms = |(i, p): (usize, &Plane)| {
            let [least, most] = [-p.range[0], p.range[1]];
            let exact =
                |&[above, below]: &[f32; 2]| (above * most + below * least).max(above * least + below * most) <= EXACT;
            if rows && whole.iter().all(exact) {
                return exact_terms(i, inner, 0.0);
            }
            let heaviest = self.weight.iter().fold(0.0f32, |m, w| m.max(w.abs()));
            exact_terms(i, inner, least.max(most) * heaviest)
        };
        self.planes.iter().enumerate().flat_map(terms).collect()
    }

    fn result(&self, shape: Shape, values: Vec<i32>) -> Result<Option<Tensors>, EvalError> {
        let ty = TensorType::new(Elem::Quantized(self.qparams.clone()), shape);
        Ok(Some(smallvec![packed(self.qparams.storage, ty, &values, |q| q)]))
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
        let mut sums = vec![0.0f32; out.len()];
        let mut total = if c.planes.len() > 1 { vec![0.0f64; out.len()] } else { Vec::new() };
        for plane in &c.planes {
            depthwise(&g, &plane.values, &c.weight, None, None, &mut sums);
            total.iter_mut().zip(&sums).for_each(|(t, &s)| *t += plane.factor * f64::from(s));
        }
        for (i, out) in out.chunks_exact_mut(positions.max(1)).enumerate() {
            let range = i * positions..(i + 1) * positions;
            match total.is_empty() {
                true => c.round_row(i % channels, &sums[range], out),
                false => c.round_row(i % channels, &total[range], out),
            }
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
                c.round_row(channel(f), sums, &mut out[place(f)..][cols.clone()]);
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
                c.round_row(channel(f), total, &mut out[place(f)..][cols.clone()]);
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
        c.round_row(i % channels, total, out);
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

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Pseudo-random integers over the full range of the storage type.
    pub(in super::super) fn on(qparams: &QuantParams, dims: &[usize], seed: usize) -> Tensor {
        let (lo, hi) = qparams.storage.range();
        let value = |i: usize| lo + ((i * 7919 + seed * 104_729) % (hi - lo + 1) as usize) as i32;
        let ty = TensorType::new(Elem::Quantized(qparams.clone()), Shape::known(dims));
        qparams.storage.pack(ty, (0..dims.iter().product()).map(value))
    }

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

    /// Accumulators far beyond 2^24 are exact, since each term is small enough.
    #[test]
    fn large_accumulators_are_exact() {
        let k = 5003;
        let (narrow, weights) =
            (QuantParams::per_tensor(StorageType::I8, 0.01, -128), QuantParams::per_tensor(StorageType::I8, 0.01, 0));
        let w = on(&weights, &[k, 1], 2);
        let out = |scale| {
            TensorType::new(Elem::Quantized(QuantParams::per_tensor(StorageType::I16, scale, 0)), Shape::known(&[1, 1]))
        };
        let sixteen =
            TensorType::new(Elem::Quantized(QuantParams::per_tensor(StorageType::I16, 1e-4, 0)), Shape::known(&[1, k]));
        let x = Tensor::of(sixteen, w.view::<i8>().iter().map(|&q| i16::from(q) * 250 + 3).collect());
        let product = |a: &Tensor| -> i64 {
            let zero = i64::from(a.ty().elem.qparams().unwrap().zero_point());
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
        // The magnitudes of the weights give a tighter bound, but not one that allows a single term.
        assert!(c.terms(k, true).len() > 1);
        let light = Tensor::of(w.ty().clone(), vec![1i8; k]);
        let c = Contraction::of(&[&x, &light], &x.ty().clone(), Rescale::Double).unwrap();
        assert_eq!(c.terms(k, true).len(), 1);
    }
}
