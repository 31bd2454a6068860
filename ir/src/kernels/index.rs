//! Operators that compute or use indices.

use smallvec::smallvec;

use super::walk::{Walk, strides};
use super::{by_width, movement, result};
use crate::error::EvalError;
use crate::ops::*;
use crate::types::{Elem, Shape, Tensor};

/// The position of an index on an axis; negative indices count from the end.
fn place(index: i64, extent: usize) -> Result<usize, EvalError> {
    let from_front = if index < 0 { index.saturating_add(extent as i64) } else { index };
    usize::try_from(from_front).ok().filter(|&i| i < extent).ok_or(EvalError::Index { index, extent })
}

/// Fails where an index is out of range; indices refer to the axes of `extents` in turn.
///
/// # Errors
/// The first index that is out of range.
pub fn within(i: &Tensor, extents: &[usize]) -> Result<(), EvalError> {
    indices(i).into_iter().zip(extents.iter().cycle()).try_for_each(|(i, &extent)| place(i, extent).map(|_| ()))
}

fn indices(i: &Tensor) -> Vec<i64> {
    i.integers().unwrap_or_default()
}

pub(crate) fn gather(op: &Gather, x: &Tensor, i: &Tensor) -> Result<Tensors, EvalError> {
    let ty = result(op, &[x, i])?;
    let extent = x.dims()[op.axis];
    let places = indices(i).into_iter().map(|i| place(i, extent)).collect::<Result<Vec<_>, _>>()?;
    let picked = movement::pick(x, op.axis, &places);
    Ok(smallvec![Tensor::new(ty, picked.data().clone()).unwrap_or(picked)])
}

pub(crate) fn gather_elements(op: &GatherElements, x: &Tensor, i: &Tensor) -> Result<Tensors, EvalError> {
    let ty = result(op, &[x, i])?;
    let (extent, from, index) = (x.dims()[op.axis], strides(&x.dims()), indices(i));
    // Along the axis the index gives the position; along the others it is that of the index itself.
    let along = |a: usize| if a == op.axis { 0 } else { from[a] };
    let walk = Walk::new([0], i.dims().into_iter().enumerate().map(|(a, n)| (n, [along(a)])));
    let mut places = Vec::with_capacity(index.len());
    let mut failed = None;
    walk.runs(|run| {
        for k in 0..run.len {
            match place(index[places.len()], extent) {
                Ok(p) => places.push(run.start[0] + k * run.step[0] as usize + p * from[op.axis] as usize),
                Err(e) => {
                    failed.get_or_insert(e);
                    places.push(0);
                }
            }
        }
    });
    if let Some(e) = failed {
        return Err(e);
    }
    Ok(by_width!(ty.elem, T => {
        let x = x.view::<T>();
        smallvec![Tensor::of(ty, places.iter().map(|&p| x[p]).collect())]
    }))
}

/// Offsets in a tensor of extents `dims` of the slices at the index tuples along the last axis of `i`.
fn slices(dims: &[usize], i: &Tensor) -> Result<Vec<usize>, EvalError> {
    let tuple = i.dims().last().copied().unwrap_or(0);
    let from = strides(dims);
    if tuple == 0 {
        return Ok(vec![0; i.dims().iter().rev().skip(1).product()]);
    }
    let start = |t: &[i64]| {
        t.iter().enumerate().try_fold(0, |at, (a, &index)| Ok(at + place(index, dims[a])? * from[a] as usize))
    };
    indices(i).chunks_exact(tuple).map(start).collect()
}

pub(crate) fn gather_nd(op: &GatherNd, x: &Tensor, i: &Tensor) -> Result<Tensors, EvalError> {
    let ty = result(op, &[x, i])?;
    let (dims, tuple) = (x.dims(), i.dims().last().copied().unwrap_or(0));
    let images: usize = dims[..op.batch].iter().product();
    let (image, run): (usize, usize) = (dims[op.batch..].iter().product(), dims[op.batch + tuple..].iter().product());
    let starts = slices(&dims[op.batch..], i)?;
    let per_image = starts.len() / images.max(1);
    Ok(by_width!(ty.elem, T => {
        let x = x.view::<T>();
        let mut out: Vec<T> = Vec::with_capacity(starts.len() * run);
        for (k, start) in starts.iter().enumerate() {
            out.extend_from_slice(&x[k / per_image * image + start..][..run]);
        }
        smallvec![Tensor::of(ty, out)]
    }))
}

pub(crate) fn scatter_nd(op: &ScatterNd, x: &Tensor, i: &Tensor, u: &Tensor) -> Result<Tensors, EvalError> {
    let ty = result(op, &[x, i, u])?;
    let (dims, tuple) = (x.dims(), i.dims().last().copied().unwrap_or(0));
    let run: usize = dims[tuple..].iter().product();
    let starts = slices(&dims, i)?;
    let out = match (op.f, &ty.elem) {
        (ScatterFn::Replace, elem) => by_width!(elem, T => {
            Tensor::of(ty, updated(&x.view::<T>(), &starts, run, &u.view(), |_, u| u))
        }),
        (f, Elem::F32) => {
            let f: fn(f32, f32) -> f32 = match f {
                ScatterFn::Replace => |_, u| u,
                ScatterFn::Add => |x, u| x + u,
                ScatterFn::Mul => |x, u| x * u,
                ScatterFn::Min => f32::min,
                ScatterFn::Max => f32::max,
            };
            Tensor::of(ty, updated(&x.view::<f32>(), &starts, run, &u.view(), f))
        }
        (_, Elem::F16) => {
            let wide = super::elementwise::cast(&Elem::F32, u)?;
            return super::widened(x, |x| scatter_nd(op, x, i, &wide[0]));
        }
        (f, _) => {
            let f: fn(i64, i64) -> i64 = match f {
                ScatterFn::Replace => |_, u| u,
                ScatterFn::Add => i64::wrapping_add,
                ScatterFn::Mul => i64::wrapping_mul,
                ScatterFn::Min => i64::min,
                ScatterFn::Max => i64::max,
            };
            let out = updated(&indices(x), &starts, run, &indices(u), f);
            super::elementwise::wrapped(ty, out.into_iter())
        }
    };
    Ok(smallvec![out])
}

/// Slices of `x` at `starts`, each combined with one of `updates`.
fn updated<T: Copy>(x: &[T], starts: &[usize], run: usize, updates: &[T], f: impl Fn(T, T) -> T) -> Vec<T> {
    let mut out = x.to_vec();
    for (k, &start) in starts.iter().enumerate() {
        for (x, &u) in out[start..start + run].iter_mut().zip(&updates[k * run..]) {
            *x = f(*x, u);
        }
    }
    out
}

/// Integer sort keys in the order of the elements: NaN above all numbers, 0.0 and -0.0 equal.
fn ranks(x: &Tensor) -> Vec<i64> {
    let rank = |v: f32| match v {
        v if v.is_nan() => i64::MAX,
        0.0 => 0,
        v => {
            let magnitude = i64::from(v.to_bits() & 0x7fff_ffff);
            if v < 0.0 { -magnitude } else { magnitude }
        }
    };
    x.integers().unwrap_or_else(|| x.floats().iter().map(|&v| rank(v)).collect())
}

/// Extents before an axis, along it and after it.
pub(super) fn around(dims: &[usize], axis: usize) -> [usize; 3] {
    [dims[..axis].iter().product(), dims[axis], dims[axis + 1..].iter().product()]
}

pub(crate) fn top_k(op: &TopK, x: &Tensor) -> Result<Tensors, EvalError> {
    let types = op.infer(&[x.ty()])?;
    let k = op.k.known().ok_or(EvalError::Unknown(TopK::NAME))?;
    let [outer, extent, inner] = around(&x.dims(), op.axis);
    let ranks = ranks(x);
    let mut found = vec![0i64; outer * k * inner];
    let mut order: Vec<usize> = Vec::with_capacity(extent);
    for (o, i) in (0..outer).flat_map(|o| (0..inner).map(move |i| (o, i))) {
        let rank = |n: usize| ranks[(o * extent + n) * inner + i];
        // Equal elements stay in order.
        let compare = |&a: &usize, &b: &usize| {
            let by_rank = if op.largest { rank(b).cmp(&rank(a)) } else { rank(a).cmp(&rank(b)) };
            by_rank.then(a.cmp(&b))
        };
        order.clear();
        order.extend(0..extent);
        if 0 < k && k < extent {
            order.select_nth_unstable_by(k - 1, compare);
        }
        order.truncate(k);
        order.sort_unstable_by(compare);
        for (place, &n) in order.iter().enumerate() {
            found[(o * k + place) * inner + i] = n as i64;
        }
    }
    let found = Tensor::of(types[1].clone(), found);
    let values = gather_elements(&GatherElements { axis: op.axis }, x, &found)?;
    Ok(values.into_iter().chain([found]).collect())
}

pub(crate) fn arg_reduce(op: &ArgReduce, x: &Tensor) -> Result<Tensors, EvalError> {
    let ty = result(op, &[x])?;
    let [outer, extent, inner] = around(&x.dims(), op.axis);
    if extent == 0 && outer * inner > 0 {
        return Err(EvalError::Index { index: 0, extent });
    }
    let sign = if op.largest { 1 } else { -1 };
    let ranks: Vec<i64> = ranks(x).into_iter().map(|r| r.saturating_mul(sign)).collect();
    let mut found = vec![0i64; outer * inner];
    let mut best = vec![0i64; inner];
    for (o, found) in found.chunks_exact_mut(inner.max(1)).enumerate() {
        let image = &ranks[o * extent * inner..][..extent * inner];
        best.copy_from_slice(&image[..inner]);
        for (n, row) in image.chunks_exact(inner).enumerate().skip(1) {
            for ((found, best), &rank) in found.iter_mut().zip(&mut best).zip(row) {
                if rank > *best {
                    (*best, *found) = (rank, n as i64);
                }
            }
        }
    }
    Ok(smallvec![Tensor::of(ty, found)])
}

pub(crate) fn cum_sum(op: &CumSum, x: &Tensor) -> Result<Tensors, EvalError> {
    let ty = result(op, &[x])?;
    match ty.elem {
        Elem::F16 => super::widened(x, |x| cum_sum(op, x)),
        Elem::F32 => {
            let reals = x.view::<f32>();
            let sums = running(op, &x.dims(), &reals, 0.0, |sum, v| sum + f64::from(v), |sum| sum as f32);
            Ok(smallvec![Tensor::of(ty, sums)])
        }
        _ => {
            let sums = running(op, &x.dims(), &indices(x), 0, i64::wrapping_add, |sum| sum);
            Ok(smallvec![super::elementwise::wrapped(ty, sums.into_iter())])
        }
    }
}

/// Cumulative sums of `x`: `add` adds an element to a sum, `give` converts a sum to an element.
fn running<T: Copy, S: Copy>(
    op: &CumSum,
    dims: &[usize],
    x: &[T],
    zero: S,
    add: impl Fn(S, T) -> S,
    give: impl Fn(S) -> T,
) -> Vec<T> {
    let [outer, extent, inner] = around(dims, op.axis);
    let mut out = x.to_vec();
    for (o, i) in (0..outer).flat_map(|o| (0..inner).map(move |i| (o, i))) {
        let mut sum = zero;
        for n in 0..extent {
            let n = if op.reverse { extent - 1 - n } else { n };
            let at = (o * extent + n) * inner + i;
            let with = add(sum, x[at]);
            out[at] = give(if op.exclusive { sum } else { with });
            sum = with;
        }
    }
    out
}

/// The indices of true elements.
pub(crate) fn non_zero(x: &Tensor) -> Tensor {
    let truths = x.integers().unwrap_or_default();
    let places: Vec<usize> = (0..truths.len()).filter(|&i| truths[i] != 0).collect();
    let dims = x.dims();
    let mut indices: Vec<i64> = Vec::with_capacity(dims.len() * places.len());
    for axis in 0..dims.len() {
        let inner: usize = dims[axis + 1..].iter().product();
        indices.extend(places.iter().map(|p| (p / inner % dims[axis]) as i64));
    }
    Tensor::from_vec(Shape::known(&[dims.len(), places.len()]), indices)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::Evaluate;
    use crate::types::Shape;

    fn i64s(dims: &[usize], values: &[i64]) -> Tensor {
        Tensor::from_vec(Shape::known(dims), values.to_vec())
    }

    fn f32s(dims: &[usize], values: &[f32]) -> Tensor {
        Tensor::from_vec(Shape::known(dims), values.to_vec())
    }

    fn found(out: Result<Tensors, EvalError>) -> (Vec<usize>, Vec<f32>) {
        let out = out.unwrap();
        (out[0].dims(), out[0].floats().into_owned())
    }

    #[test]
    fn gathering_slices() {
        let x = f32s(&[3, 2], &[0., 1., 2., 3., 4., 5.]);
        let i = i64s(&[1, 2], &[-1, 0]);
        assert_eq!(found(Gather { axis: 0 }.eval(&[&x, &i])), (vec![1, 2, 2], vec![4., 5., 0., 1.]));
        assert_eq!(found(Gather { axis: 1 }.eval(&[&x, &i])), (vec![3, 1, 2], vec![1., 0., 3., 2., 5., 4.]));
        let one = Tensor::scalar(1i32);
        assert_eq!(found(Gather { axis: 0 }.eval(&[&x, &one])), (vec![2], vec![2., 3.]));
        let out = Gather { axis: 0 }.eval(&[&x, &i64s(&[1], &[3])]);
        assert_eq!(out, Err(EvalError::Index { index: 3, extent: 3 }));
        assert!(Gather { axis: 0 }.eval(&[&x, &i64s(&[1], &[-4])]).is_err());
    }

    #[test]
    fn gathering_elements() {
        let x = f32s(&[3, 3], &[1., 2., 3., 4., 5., 6., 7., 8., 9.]);
        let i = i64s(&[2, 3], &[1, 2, 0, 2, 0, 0]);
        assert_eq!(found(GatherElements { axis: 0 }.eval(&[&x, &i])), (vec![2, 3], vec![4., 8., 3., 7., 2., 3.]));
        assert_eq!(found(GatherElements { axis: 1 }.eval(&[&x, &i])), (vec![2, 3], vec![2., 3., 1., 6., 4., 4.]));
        assert!(GatherElements { axis: 1 }.eval(&[&x, &i64s(&[1, 1], &[3])]).is_err());
    }

    #[test]
    fn index_tuples() {
        let x = f32s(&[2, 2, 2], &[0., 1., 2., 3., 4., 5., 6., 7.]);
        let i = i64s(&[2, 2], &[0, 1, 1, -2]);
        assert_eq!(found(GatherNd { batch: 0 }.eval(&[&x, &i])), (vec![2, 2], vec![2., 3., 4., 5.]));
        let i = i64s(&[2, 1], &[1, 0]);
        assert_eq!(found(GatherNd { batch: 1 }.eval(&[&x, &i])), (vec![2, 2], vec![2., 3., 4., 5.]));
        let u = f32s(&[2, 2, 2], &[10., 11., 12., 13., 20., 21., 22., 23.]);
        let i = i64s(&[2, 1], &[1, 1]);
        let expected = vec![0., 1., 2., 3., 20., 21., 22., 23.];
        assert_eq!(found(ScatterNd { f: ScatterFn::Replace }.eval(&[&x, &i, &u])), (vec![2, 2, 2], expected));
    }

    #[test]
    fn updates_of_one_element_are_added() {
        let (x, u, i) = ([1., 2., 3.], [5., 7., -1.], i64s(&[3, 1], &[0, -3, 1]));
        for (f, expected) in [
            (ScatterFn::Replace, [7., -1., 3.]),
            (ScatterFn::Add, [13., 1., 3.]),
            (ScatterFn::Mul, [35., -2., 3.]),
            (ScatterFn::Min, [1., -1., 3.]),
            (ScatterFn::Max, [7., 2., 3.]),
        ] {
            let op = ScatterNd { f };
            assert_eq!(found(op.eval(&[&f32s(&[3], &x), &i, &f32s(&[3], &u)])), (vec![3], expected.to_vec()), "{f:?}");
            let whole = |v: &[f32]| i64s(&[3], &v.iter().map(|&v| v as i64).collect::<Vec<i64>>());
            assert_eq!(op.eval(&[&whole(&x), &i, &whole(&u)]).unwrap()[0], whole(&expected), "{f:?}");
        }
    }

    #[test]
    fn the_first_of_equals_wins() {
        let x = f32s(&[2, 4], &[1., 3., 3., 2., -0.0, 0.0, -1., -2.]);
        let out = TopK { k: 2.into(), axis: 1, largest: true }.eval(&[&x]).unwrap();
        assert_eq!(out[0].floats().as_ref(), [3., 3., 0., 0.]);
        assert_eq!(out[1].integers(), Some(vec![1, 2, 0, 1]));
        let out = TopK { k: 1.into(), axis: 0, largest: false }.eval(&[&x]).unwrap();
        assert_eq!((out[0].floats().to_vec(), out[1].integers()), (vec![0., 0., -1., -2.], Some(vec![1, 1, 1, 1])));
        let arg = |axis, largest| ArgReduce { axis, largest, keep: false }.eval(&[&x]).unwrap()[0].integers();
        assert_eq!(arg(1, true), Some(vec![1, 0]));
        assert_eq!(arg(1, false), Some(vec![0, 3]));
        assert_eq!(arg(0, true), Some(vec![0, 0, 0, 0]));
        assert_eq!(arg(0, false), Some(vec![1, 1, 1, 1]));
    }

    #[test]
    fn running_sums() {
        let x = f32s(&[2, 3], &[1., 2., 3., 4., 5., 6.]);
        let sums = |axis, exclusive, reverse| found(CumSum { axis, exclusive, reverse }.eval(&[&x])).1;
        assert_eq!(sums(1, false, false), [1., 3., 6., 4., 9., 15.]);
        assert_eq!(sums(1, true, false), [0., 1., 3., 0., 4., 9.]);
        assert_eq!(sums(1, false, true), [6., 5., 3., 15., 11., 6.]);
        assert_eq!(sums(0, false, false), [1., 2., 3., 5., 7., 9.]);
        assert_eq!(
            found(CumSum { axis: 0, exclusive: false, reverse: false }.eval(&[&i64s(&[2], &[1, 2])])).1,
            [1., 3.]
        );
    }
}
