//! Reductions over axes.

use smallvec::smallvec;

use super::elementwise::wrapped;
use super::norm::sum;
use super::walk::{Walk, strides};
use super::{result, widened};
use crate::error::EvalError;
use crate::ops::*;
use crate::types::{Elem, Tensor};

pub(crate) fn reduce(op: &Reduce, x: &Tensor) -> Result<Tensors, EvalError> {
    let ty = result(op, &[x])?;
    let dims = x.dims();
    let kept: Vec<usize> = dims.iter().enumerate().map(|(a, &n)| if op.axes.contains(&a) { 1 } else { n }).collect();
    let to = strides(&kept);
    let along = |a: usize| if op.axes.contains(&a) { 0 } else { to[a] };
    // Reads x in order; the result's index does not change along the reduced axes.
    let from = strides(&dims);
    let walk = Walk::new([0, 0], dims.iter().enumerate().map(|(a, &n)| (n, [from[a], along(a)])));
    let len = kept.iter().product();
    let count: usize = op.axes.iter().map(|&a| dims[a]).product();
    let out = match ty.elem {
        Elem::F16 => return widened(x, |x| reduce(op, x)),
        Elem::F32 => Tensor::of(ty, reduce_f32(op.f, &walk, &x.view(), len, count)),
        _ => {
            let values = x.integers().unwrap_or_default();
            let (first, f): (i64, fn(i64, i64) -> i64) = match op.f {
                ReduceFn::Sum | ReduceFn::Mean => (0, i64::wrapping_add),
                ReduceFn::Prod => (1, i64::wrapping_mul),
                ReduceFn::Max => (i64::MIN, i64::max),
                ReduceFn::Min => (i64::MAX, i64::min),
                ReduceFn::Any => (0, |a, b| a | b),
                ReduceFn::All => (1, |a, b| a & b),
            };
            let out = fold(&walk, &values, len, first, f, |sum, run| run.iter().fold(sum, |sum, &v| f(sum, v)));
            if op.f == ReduceFn::Mean && count == 0 && len > 0 {
                return Err(EvalError::DivisionByZero);
            }
            let divisor = if op.f == ReduceFn::Mean { count.max(1) as i64 } else { 1 };
            wrapped(ty, out.into_iter().map(|v| v / divisor))
        }
    };
    Ok(smallvec![out])
}

fn reduce_f32(f: ReduceFn, walk: &Walk<2>, x: &[f32], len: usize, count: usize) -> Vec<f32> {
    let larger = |a: f32, b: f32| if b > a || b.is_nan() { b } else { a };
    let smaller = |a: f32, b: f32| if b < a || b.is_nan() { b } else { a };
    match f {
        ReduceFn::Max | ReduceFn::Any => {
            fold(walk, x, len, f32::NEG_INFINITY, larger, |m, run| larger(m, extreme(run, larger)))
        }
        ReduceFn::Min | ReduceFn::All => {
            fold(walk, x, len, f32::INFINITY, smaller, |m, run| smaller(m, extreme(run, smaller)))
        }
        ReduceFn::Prod => {
            let product = |p: f64, v: f32| p * f64::from(v);
            let products = fold(walk, x, len, 1.0, product, |p, run| run.iter().fold(p, |p, &v| product(p, v)));
            products.into_iter().map(|p| p as f32).collect()
        }
        ReduceFn::Sum | ReduceFn::Mean => {
            let sums = fold(walk, x, len, 0.0, |s, v| s + f64::from(v), |s, run| s + sum(run, f64::from));
            let divisor = if f == ReduceFn::Mean { count as f64 } else { 1.0 };
            sums.into_iter().map(|s| (s / divisor) as f32).collect()
        }
    }
}

/// The minimum or maximum of a non-empty run, in eight partial results so that it vectorises.
fn extreme(x: &[f32], f: impl Fn(f32, f32) -> f32) -> f32 {
    let mut parts = [x[0]; 8];
    let chunks = x.chunks_exact(8);
    let rest = chunks.remainder().iter().fold(x[0], |m, &v| f(m, v));
    for chunk in chunks {
        parts.iter_mut().zip(chunk).for_each(|(m, &v)| *m = f(*m, v));
    }
    parts.iter().fold(rest, |m, &v| f(m, v))
}

/// Folds the elements that a walk maps to each index of the result: single elements with `f`, runs with `whole`.
fn fold<T: Copy, A: Copy>(
    walk: &Walk<2>,
    x: &[T],
    len: usize,
    first: A,
    f: impl Fn(A, T) -> A,
    whole: impl Fn(A, &[T]) -> A,
) -> Vec<A> {
    let mut out = vec![first; len];
    walk.runs(|run| {
        let [from, to] = run.start;
        let x = &x[from..from + run.len];
        match run.step[1] {
            0 => out[to] = whole(out[to], x),
            _ => out[to..to + run.len].iter_mut().zip(x).for_each(|(a, &v)| *a = f(*a, v)),
        }
    });
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::Evaluate;
    use crate::types::Shape;

    fn reduced(f: ReduceFn, axes: &[usize], x: &Tensor) -> (Vec<usize>, Vec<f32>) {
        let out = Reduce { f, axes: axes.into(), keep: true }.eval(&[x]).unwrap();
        let without = Reduce { f, axes: axes.into(), keep: false }.eval(&[x]).unwrap();
        assert_eq!(out[0].data(), without[0].data());
        (out[0].dims(), out[0].floats().into_owned())
    }

    #[test]
    fn any_axes() {
        let x = Tensor::from_vec(Shape::known(&[2, 3, 2]), (0..12).map(|v| v as f32).collect());
        assert_eq!(reduced(ReduceFn::Sum, &[0], &x), (vec![1, 3, 2], vec![6., 8., 10., 12., 14., 16.]));
        assert_eq!(reduced(ReduceFn::Sum, &[1], &x), (vec![2, 1, 2], vec![6., 9., 24., 27.]));
        assert_eq!(reduced(ReduceFn::Sum, &[0, 2], &x), (vec![1, 3, 1], vec![14., 22., 30.]));
        assert_eq!(reduced(ReduceFn::Mean, &[1, 2], &x), (vec![2, 1, 1], vec![2.5, 8.5]));
        assert_eq!(reduced(ReduceFn::Max, &[0, 1, 2], &x), (vec![1, 1, 1], vec![11.]));
        assert_eq!(reduced(ReduceFn::Min, &[2], &x), (vec![2, 3, 1], vec![0., 2., 4., 6., 8., 10.]));
        assert_eq!(reduced(ReduceFn::Prod, &[1], &x), (vec![2, 1, 2], vec![0., 15., 480., 693.]));
        assert_eq!(reduced(ReduceFn::Sum, &[], &x).1, x.floats().as_ref());
    }

    #[test]
    fn integers_wrap_and_means_truncate() {
        let x = Tensor::from_vec(Shape::known(&[2, 2]), vec![-128i8, -1, 3, 4]);
        assert_eq!(reduced(ReduceFn::Sum, &[1], &x).1, [127., 7.]);
        assert_eq!(reduced(ReduceFn::Mean, &[1], &x).1, [-64., 3.]);
        assert_eq!(reduced(ReduceFn::Max, &[0], &x).1, [3., 4.]);
    }

    #[test]
    fn empty_axes() {
        let x = Tensor::from_vec(Shape::known(&[2, 0]), Vec::<f32>::new());
        assert_eq!(reduced(ReduceFn::Sum, &[1], &x).1, [0., 0.]);
        assert_eq!(reduced(ReduceFn::Max, &[1], &x).1, [f32::NEG_INFINITY; 2]);
        let x = Tensor::from_vec(Shape::known(&[0]), Vec::<i32>::new());
        let mean = Reduce { f: ReduceFn::Mean, axes: [0][..].into(), keep: false };
        assert_eq!(mean.eval(&[&x]), Err(EvalError::DivisionByZero));
    }

    #[test]
    fn booleans() {
        let x = Tensor::from_bools(Shape::known(&[2, 2]), [true, false, true, true]);
        assert_eq!(reduced(ReduceFn::All, &[1], &x).1, [0., 1.]);
        assert_eq!(reduced(ReduceFn::Any, &[1], &x).1, [1., 1.]);
    }

    #[test]
    fn nan_is_the_extreme() {
        let x = Tensor::from_vec(Shape::known(&[3]), vec![1.0, f32::NAN, 2.0]);
        assert!(reduced(ReduceFn::Max, &[0], &x).1[0].is_nan());
    }
}
