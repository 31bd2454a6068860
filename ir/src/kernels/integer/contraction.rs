//! Integer convolutions and matrix products.

use super::super::conv::{Geometry, conv_sums, depthwise, transpose_sums};
use super::super::gemm::{Term, exact_terms, gemm};
use super::super::matmul::Batches;
use super::super::matrix::Bias;
use super::rescale::{Rescale, Rounding};
use super::{bytes, widen};
use crate::error::EvalError;
use crate::ops::*;
use crate::types::{StorageType, Tensor, TensorType};
use crate::vector::{fold, vectorized};

/// Integer sums up to this bound are exact in `f32`. It is below 2^24 because the bound itself is computed with
/// rounding.
const EXACT: f32 = 16_000_000.0;

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
    rounding: Rounding,
}

impl Contraction {
    /// `None` where no integer kernel exists for these quantization parameters.
    fn of(operands: &[&Tensor], result: &TensorType, wide: fn(f64) -> Rescale) -> Option<Self> {
        let (x, w) = (operands[0].ty().elem.qparams()?, operands[1].ty().elem.qparams()?);
        let rounding = Rounding::of(operands, result, wide)?;
        let (_, zero_point) = x.tensor_map()?;
        let weights_fit = matches!(w.storage, StorageType::I8 | StorageType::U8);
        let planes = match (x.storage, rounding.qparams.storage) {
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
        Some(Contraction { planes, weight: widen(operands[1], |q| (q - w.zero_point()) as f32)?, rounding })
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
}

pub(crate) fn conv(op: &Conv, operands: &[&Tensor], results: &[TensorType]) -> Result<Option<Tensors>, EvalError> {
    let g = Geometry::of_conv(op, &operands[0].dims(), &operands[1].dims());
    match bytes::conv(&g, operands, &results[0]) {
        Some(found) => Ok(Some(found)),
        None => conv_in_float(&g, operands, &results[0]),
    }
}

/// A convolution by products of floating-point numbers.
pub(super) fn conv_in_float(
    g: &Geometry,
    operands: &[&Tensor],
    result: &TensorType,
) -> Result<Option<Tensors>, EvalError> {
    let Some(c) = Contraction::of(operands, result, Rescale::fixed) else { return Ok(None) };
    let (channels, positions, depth) = (g.groups * g.filters, g.positions(), g.channels * g.taps());
    let terms = c.terms(depth, true);
    let shape = g.shape(channels, g.steps, operands[0].ty().rank());
    let mut out = vec![0i32; g.batch * channels * positions];
    if g.channels == 1 && g.filters == 1 && terms.len() == c.planes.len() {
        let mut sums = vec![0.0f32; out.len()];
        let mut total = if c.planes.len() > 1 { vec![0.0f64; out.len()] } else { Vec::new() };
        for plane in &c.planes {
            depthwise(g, &plane.values, &c.weight, None, None, &mut sums);
            total.iter_mut().zip(&sums).for_each(|(t, &s)| *t += plane.factor * f64::from(s));
        }
        for (i, out) in out.chunks_exact_mut(positions.max(1)).enumerate() {
            let range = i * positions..(i + 1) * positions;
            match total.is_empty() {
                true => c.rounding.round_row(i % channels, &sums[range], out),
                false => c.rounding.round_row(i % channels, &total[range], out),
            }
        }
        return c.rounding.result(shape, out);
    }
    let planes: Vec<&[f32]> = c.planes.iter().map(|p| p.values.as_slice()).collect();
    let last = terms.len() - 1;
    let mut total = Vec::new();
    conv_sums(g, &planes, &c.weight, &terms, |image, group, term, cols, sums| {
        let channel = |f: usize| group * g.filters + f;
        let place = |f: usize| (image * channels + channel(f)) * positions;
        if last == 0 {
            for (f, sums) in sums.chunks_exact(cols.len()).enumerate() {
                c.rounding.round_row(channel(f), sums, &mut out[place(f)..][cols.clone()]);
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
                c.rounding.round_row(channel(f), total, &mut out[place(f)..][cols.clone()]);
            }
        }
    })?;
    c.rounding.result(shape, out)
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
        c.rounding.round_row(i % channels, total, out);
    }
    c.rounding.result(g.shape(channels, g.image, operands[0].ty().rank()), out)
}

pub(crate) fn matmul(op: &MatMul, operands: &[&Tensor], results: &[TensorType]) -> Result<Option<Tensors>, EvalError> {
    let Some(c) = Contraction::of(operands, &results[0], Rescale::Double) else { return Ok(None) };
    if c.rounding.rescale.len() > 1 && operands[1].ty().rank() > 2 {
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
            c.rounding.round(channel, down, out.iter_mut().skip(channel).step_by(n));
        }
    }
    c.rounding.result(batches.shape, out)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::types::{Elem, QuantParams, Shape};

    /// Pseudo-random integers over the full range of the storage type.
    pub(in super::super) fn on(qparams: &QuantParams, dims: &[usize], seed: usize) -> Tensor {
        let (lo, hi) = qparams.storage.range();
        let value = |i: usize| lo + ((i * 7919 + seed * 104_729) % (hi - lo + 1) as usize) as i32;
        let ty = TensorType::new(Elem::Quantized(qparams.clone()), Shape::known(dims));
        qparams.storage.pack(ty, (0..dims.iter().product()).map(value))
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
