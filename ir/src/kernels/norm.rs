//! Normalisations over axes.

use smallvec::smallvec;

use super::index::around;
use super::vector::{exp, replace};
use super::{all_widened, result, widened};
use crate::error::EvalError;
use crate::ops::*;
use crate::types::{Elem, Tensor};
use crate::vector::{fold, vectorized};

pub(crate) fn softmax(op: &Softmax, x: &Tensor) -> Result<Tensors, EvalError> {
    let ty = result(op, &[x])?;
    if ty.elem == Elem::F16 {
        return widened(x, |x| softmax(op, x));
    }
    let [_, extent, inner] = around(&x.dims(), op.axis);
    let mut out = x.view::<f32>().into_owned();
    // Empty result.
    let image = (extent * inner).max(1);
    for image in out.chunks_exact_mut(image) {
        match inner {
            1 => softmax_row(image, op.log),
            _ => softmax_columns(image, inner, op.log),
        }
    }
    Ok(smallvec![Tensor::of(ty, out)])
}

/// Softmax of contiguous elements.
fn softmax_row(row: &mut [f32], log: bool) {
    vectorized(
        #[inline(always)]
        || {
            let largest = fold(row, f32::NEG_INFINITY, larger, larger);
            for v in &mut *row {
                *v -= largest;
            }
            if log {
                #[inline(always)]
                fn add(sum: f32, v: f32) -> f32 {
                    sum + exp(v)
                }
                let all = libm::logf(fold(row, 0.0, add, |a, b| a + b));
                for v in row {
                    *v -= all;
                }
            } else {
                for v in &mut *row {
                    *v = exp(*v);
                }
                let factor = 1.0 / fold(row, 0.0, |s, v| s + v, |a, b| a + b);
                for v in row {
                    *v *= factor;
                }
            }
        },
    );
}

/// The larger number. NaN in either is the result.
#[inline(always)]
fn larger(a: f32, b: f32) -> f32 {
    if b > a || b.is_nan() { b } else { a }
}

/// Softmax of each column of a matrix whose rows have `width` elements.
fn softmax_columns(image: &mut [f32], width: usize, log: bool) {
    let mut largest = image[..width].to_vec();
    for row in image.chunks_exact(width).skip(1) {
        largest.iter_mut().zip(row).for_each(|(m, &v)| *m = larger(*m, v));
    }
    for row in image.chunks_exact_mut(width) {
        row.iter_mut().zip(&largest).for_each(|(v, m)| *v -= m);
    }
    let mut sums = vec![0f32; width];
    let add = |sums: &mut [f32], row: &[f32]| sums.iter_mut().zip(row).for_each(|(s, v)| *s += v);
    if log {
        let mut row_exp = vec![0f32; width];
        for row in image.chunks_exact(width) {
            row_exp.copy_from_slice(row);
            replace(&mut row_exp, exp);
            add(&mut sums, &row_exp);
        }
        sums.iter_mut().for_each(|s| *s = libm::logf(*s));
        for row in image.chunks_exact_mut(width) {
            row.iter_mut().zip(&sums).for_each(|(v, s)| *v -= s);
        }
        return;
    }
    for row in image.chunks_exact_mut(width) {
        replace(row, exp);
        add(&mut sums, row);
    }
    for row in image.chunks_exact_mut(width) {
        row.iter_mut().zip(&sums).for_each(|(v, s)| *v /= s);
    }
}

pub(crate) fn layer_norm(op: &LayerNorm, operands: &[&Tensor]) -> Result<Tensors, EvalError> {
    let ty = result(op, operands)?;
    if ty.elem == Elem::F16 {
        return all_widened(operands, |wide| layer_norm(op, wide));
    }
    let x = operands[0].view::<f32>();
    let row: usize = operands[0].dims()[op.axis..].iter().product();
    let scale = operands.get(1).map(|t| t.view::<f32>());
    let bias = operands.get(2).map(|t| t.view::<f32>());
    let mut out = Vec::with_capacity(x.len());
    for row in x.chunks_exact(row.max(1)) {
        let begin = out.len();
        let mean = sum(row, f64::from) / row.len() as f64;
        let variance = sum(row, |v| (f64::from(v) - mean) * (f64::from(v) - mean)) / row.len() as f64;
        let (mean, factor) = (mean as f32, (1.0 / (variance + f64::from(op.epsilon)).sqrt()) as f32);
        out.extend(row.iter().map(|v| (v - mean) * factor));
        if let Some(scale) = &scale {
            out[begin..].iter_mut().zip(scale.iter()).for_each(|(v, s)| *v *= s);
        }
        if let Some(bias) = &bias {
            out[begin..].iter_mut().zip(bias.iter()).for_each(|(v, b)| *v += b);
        }
    }
    Ok(smallvec![Tensor::of(ty, out)])
}

/// The sum of `f` over a run, in eight partial sums so that it vectorises.
pub(super) fn sum(x: &[f32], f: impl Fn(f32) -> f64) -> f64 {
    let mut parts = [0f64; 8];
    let chunks = x.chunks_exact(8);
    let rest: f64 = chunks.remainder().iter().map(|&v| f(v)).sum();
    for chunk in chunks {
        parts.iter_mut().zip(chunk).for_each(|(s, &v)| *s += f(v));
    }
    parts.iter().sum::<f64>() + rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::Evaluate;
    use crate::types::Shape;
    use std::f32::consts::LN_2;

    fn close(found: &Tensor, expected: &[f32]) {
        let found = found.floats();
        assert_eq!(found.len(), expected.len());
        for (f, e) in found.iter().zip(expected) {
            assert!((f - e).abs() <= 1e-6 * (1.0 + e.abs()), "{found:?} is not {expected:?}");
        }
    }

    #[test]
    fn softmax_along_any_axis() {
        // exp(ln 3) = 3.
        let l = libm::logf(3.0);
        let x = Tensor::from_vec(Shape::known(&[2, 2]), vec![0.0, l, 100.0, 100.0]);
        close(&Softmax { axis: 1, log: false }.eval(&[&x]).unwrap()[0], &[0.25, 0.75, 0.5, 0.5]);
        close(
            &Softmax { axis: 1, log: true }.eval(&[&x]).unwrap()[0],
            &[libm::logf(0.25), libm::logf(0.75), -LN_2, -LN_2],
        );
        let x = Tensor::from_vec(Shape::known(&[2, 2]), vec![0.0, 100.0, l, 100.0]);
        close(&Softmax { axis: 0, log: false }.eval(&[&x]).unwrap()[0], &[0.25, 0.5, 0.75, 0.5]);
        close(
            &Softmax { axis: 0, log: true }.eval(&[&x]).unwrap()[0],
            &[libm::logf(0.25), -LN_2, libm::logf(0.75), -LN_2],
        );
    }

    #[test]
    fn layer_norm_scales_and_shifts() {
        let x = Tensor::from_vec(Shape::known(&[1, 4]), vec![1f32, 2.0, 3.0, 4.0]);
        let scale = Tensor::from_vec(Shape::known(&[4]), vec![1f32, 1.0, 2.0, 2.0]);
        let bias = Tensor::from_vec(Shape::known(&[4]), vec![0f32, 1.0, 0.0, 1.0]);
        // Mean 2.5, variance 1.25.
        let (a, b) = (1.5 / 1.25f32.sqrt(), 0.5 / 1.25f32.sqrt());
        let op = LayerNorm { axis: 1, epsilon: 0.0 };
        close(&op.eval(&[&x]).unwrap()[0], &[-a, -b, b, a]);
        close(&op.eval(&[&x, &scale, &bias]).unwrap()[0], &[-a, 1.0 - b, 2.0 * b, 1.0 + 2.0 * a]);
    }
}
