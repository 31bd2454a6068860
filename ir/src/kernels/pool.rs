//! Pooling. A window is a box, so one axis is reduced after the other.

use std::borrow::Cow;
use std::ops::Range;

use smallvec::smallvec;

use crate::error::EvalError;
use crate::ops::{Pool, PoolFn, Tensors};
use crate::types::{Elem, Scalar, Shape, Tensor};
use crate::vector::vectorized;

/// The window along one axis.
#[derive(Clone, Copy, Debug)]
struct Axis {
    extent: usize,
    steps: usize,
    window: usize,
    stride: usize,
    before: usize,
    dilation: usize,
}

impl Axis {
    fn all(op: &Pool, x: &[usize]) -> Vec<Axis> {
        let axis = |i: usize| {
            let (extent, window, dilation) = (x[2 + i], op.window[i], op.dilation[i]);
            let padded = extent + op.before[i] + op.after[i];
            let steps = (padded - dilation * (window - 1) - 1) / op.stride[i] + 1;
            Axis { extent, steps, window, stride: op.stride[i], before: op.before[i], dilation }
        };
        (0..op.window.len()).map(axis).collect()
    }

    /// The steps at which a tap is inside the image.
    fn inside(&self, tap: usize) -> Range<usize> {
        let offset = tap * self.dilation;
        let first = self.before.saturating_sub(offset).div_ceil(self.stride).min(self.steps);
        let end = (self.extent + self.before).saturating_sub(offset).div_ceil(self.stride);
        first..end.clamp(first, self.steps)
    }

    /// The element that a tap inside the image reads.
    fn element(&self, step: usize, tap: usize) -> usize {
        step * self.stride + tap * self.dilation - self.before
    }

    /// Reduces this axis of `x`, which has `inner` elements for each of its indices.
    fn reduce<T: Copy>(&self, x: &[T], inner: usize, start: T, f: impl Fn(T, T) -> T) -> Vec<T> {
        let (long, short) = (self.extent * inner, self.steps * inner);
        let mut out = vec![start; x.len() / long.max(1) * short];
        vectorized(
            #[inline(always)]
            || {
                for (x, out) in x.chunks_exact(long.max(1)).zip(out.chunks_exact_mut(short)) {
                    for tap in 0..self.window {
                        let inside = self.inside(tap);
                        if inside.is_empty() {
                            continue;
                        }
                        let first = self.element(inside.start, tap) * inner;
                        if self.stride == 1 {
                            join(&mut out[inside.start * inner..inside.end * inner], &x[first..], &f);
                        } else if inner == 1 {
                            join_strided(&mut out[inside], &x[first..], self.stride, &f);
                        } else {
                            let sources = x[first..].chunks(self.stride * inner);
                            let lines = out.chunks_exact_mut(inner).skip(inside.start).take(inside.len());
                            for (out, x) in lines.zip(sources) {
                                join(out, x, &f);
                            }
                        }
                    }
                }
            },
        );
        out
    }
}

/// `out[i] = f(out[i], x[i])`
#[inline(always)]
fn join<T: Copy>(out: &mut [T], x: &[T], f: impl Fn(T, T) -> T) {
    for (o, &v) in out.iter_mut().zip(x) {
        *o = f(*o, v);
    }
}

/// `out[i] = f(out[i], x[i * stride])`
#[inline(always)]
fn join_strided<T: Copy>(out: &mut [T], x: &[T], stride: usize, f: impl Fn(T, T) -> T) {
    if stride == 2 {
        let pairs = x.as_chunks::<2>().0;
        let (whole, last) = out.split_at_mut(pairs.len().min(out.len()));
        for (o, pair) in whole.iter_mut().zip(pairs) {
            *o = f(*o, pair[0]);
        }
        // The last may be followed by nothing.
        return join(last, &x[2 * pairs.len()..], f);
    }
    for (o, &v) in out.iter_mut().zip(x.iter().step_by(stride)) {
        *o = f(*o, v);
    }
}

/// Reduces all windows of `x` (`[N, C, spatial..]`), without elements outside the image.
pub(crate) fn windows<T: Copy>(op: &Pool, dims: &[usize], x: &[T], start: T, f: impl Fn(T, T) -> T + Copy) -> Vec<T> {
    let mut values = Cow::Borrowed(x);
    let axes = Axis::all(op, dims);
    let mut inner = 1;
    for axis in axes.iter().rev() {
        values = Cow::Owned(axis.reduce(&values, inner, start, f));
        inner *= axis.steps;
    }
    values.into_owned()
}

/// For each position of the window, the number of taps inside the image.
pub(crate) fn counts(op: &Pool, dims: &[usize]) -> Vec<usize> {
    let mut counts = vec![1];
    for axis in Axis::all(op, dims) {
        let mut line = vec![0; axis.steps];
        for tap in 0..axis.window {
            axis.inside(tap).for_each(|step| line[step] += 1);
        }
        counts = counts.iter().flat_map(|&c| line.iter().map(move |n| c * n)).collect();
    }
    counts
}

/// The shape of the result.
pub(crate) fn shape(op: &Pool, dims: &[usize]) -> Shape {
    dims[..2].iter().copied().chain(Axis::all(op, dims).iter().map(|a| a.steps)).collect()
}

fn largest<T: Scalar + PartialOrd>(op: &Pool, x: &Tensor, lowest: T) -> Tensor {
    let dims = x.dims();
    let values = windows(op, &dims, &x.view::<T>(), lowest, |a, b| if b > a { b } else { a });
    let mut ty = x.ty().clone();
    ty.shape = shape(op, &dims);
    Tensor::of(ty, values)
}

fn average(op: &Pool, x: &Tensor) -> Tensor {
    let dims = x.dims();
    let mut sums = windows(op, &dims, &x.view::<f32>(), 0.0, |a, b| a + b);
    let counts = counts(op, &dims);
    for plane in sums.chunks_exact_mut(counts.len().max(1)) {
        plane.iter_mut().zip(&counts).for_each(|(s, &n)| *s /= n.max(1) as f32);
    }
    Tensor::from_vec(shape(op, &dims), sums)
}

pub(crate) fn pool(op: &Pool, x: &Tensor) -> Result<Tensors, EvalError> {
    let result = match (op.f, &x.ty().elem) {
        (PoolFn::Max, Elem::F32) => largest(op, x, f32::NEG_INFINITY),
        (PoolFn::Max, Elem::I8) => largest(op, x, i8::MIN),
        (PoolFn::Max, Elem::U8) => largest(op, x, u8::MIN),
        (PoolFn::Max, Elem::I16) => largest(op, x, i16::MIN),
        (PoolFn::Max, Elem::I32) => largest(op, x, i32::MIN),
        (PoolFn::Average, Elem::F32) => average(op, x),
        (_, elem) => return Err(EvalError::Elem { op: "pool", elem: elem.to_string() }),
    };
    Ok(smallvec![result])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn op(f: PoolFn, window: &[usize], stride: usize, pad: usize) -> Pool {
        let all = |v: usize| window.iter().map(|_| v).collect();
        Pool { f, window: window.into(), stride: all(stride), before: all(pad), after: all(pad), dilation: all(1) }
    }

    fn pooled(op: &Pool, dims: &[usize]) -> (Vec<usize>, Vec<f32>) {
        let n = dims.iter().product::<usize>();
        let x = Tensor::from_vec(Shape::known(dims), (0..n).map(|i| (i * 7 % n) as f32).collect());
        let y = pool(op, &x).unwrap().remove(0);
        (y.dims(), y.view::<f32>().to_vec())
    }

    #[test]
    fn largest_of_each_window() {
        // 0 7 2 9 / 4 11 6 1 / 8 3 10 5
        let (dims, y) = pooled(&op(PoolFn::Max, &[2, 2], 1, 0), &[1, 1, 3, 4]);
        assert_eq!((dims, y), (vec![1, 1, 2, 3], vec![11.0, 11.0, 9.0, 11.0, 11.0, 10.0]));
        let (dims, y) = pooled(&op(PoolFn::Max, &[3, 3], 2, 1), &[1, 1, 3, 4]);
        assert_eq!((dims, y), (vec![1, 1, 2, 2], vec![11.0, 11.0, 11.0, 11.0]));
        let dilated = Pool { dilation: smallvec![2], ..op(PoolFn::Max, &[2], 1, 0) };
        assert_eq!(pooled(&dilated, &[1, 1, 5]), (vec![1, 1, 3], vec![4.0, 2.0, 4.0]));
    }

    #[test]
    fn padding_is_not_counted_in_the_mean() {
        // 0 1 2 3 in two rows: 0 3 / 2 1
        let (dims, y) = pooled(&op(PoolFn::Average, &[2, 2], 1, 1), &[1, 1, 2, 2]);
        assert_eq!((dims, y), (vec![1, 1, 3, 3], vec![0.0, 1.5, 3.0, 1.0, 1.5, 2.0, 2.0, 1.5, 1.0]));
    }

    #[test]
    fn three_axes() {
        let (dims, y) = pooled(&op(PoolFn::Average, &[2, 2, 2], 2, 0), &[1, 2, 2, 2, 2]);
        assert_eq!((dims, y), (vec![1, 2, 1, 1, 1], vec![6.5, 8.5]));
    }
}
