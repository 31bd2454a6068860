//! Operators that move elements. Elements are moved by their size, independent of their type.

use smallvec::{SmallVec, smallvec};

use super::walk::{Walk, strides};
use super::{by_width, result};
use crate::error::EvalError;
use crate::ops::*;
use crate::types::{Scalar, Tensor, TensorType};

pub(crate) fn reshape(op: &Reshape, x: &Tensor) -> Result<Tensors, EvalError> {
    let ty = result(op, &[x])?;
    let refuse = || EvalError::Type(crate::error::TypeError::Attribute(format!("{} cannot become {ty}", x.ty())));
    Ok(smallvec![x.retype(ty.clone()).ok_or_else(refuse)?])
}

/// A tensor of type `ty` whose elements are those of `x` in the order of `walk`.
fn rearranged(ty: TensorType, x: &Tensor, walk: &Walk<1>) -> Tensors {
    by_width!(ty.elem, T => smallvec![Tensor::of(ty, walk.copy::<T>(&x.view()))])
}

pub(crate) fn transpose(op: &Transpose, x: &Tensor) -> Result<Tensors, EvalError> {
    let (dims, from) = (x.dims(), strides(&x.dims()));
    let walk = Walk::new([0], op.perm.iter().map(|&a| (dims[a], [from[a]])));
    Ok(rearranged(result(op, &[x])?, x, &walk))
}

pub(crate) fn concat(op: &Concat, xs: &[&Tensor]) -> Result<Tensors, EvalError> {
    let ty = result(op, xs)?;
    let outer: usize = xs[0].dims()[..op.axis].iter().product();
    Ok(by_width!(ty.elem, T => {
        let views: SmallVec<[_; 8]> = xs.iter().map(|x| (x.view::<T>(), x.len() / outer.max(1))).collect();
        let mut out: Vec<T> = Vec::with_capacity(xs.iter().map(|x| x.len()).sum());
        for i in 0..outer {
            views.iter().for_each(|(x, run)| out.extend_from_slice(&x[i * run..(i + 1) * run]));
        }
        smallvec![Tensor::of(ty, out)]
    }))
}

pub(crate) fn slice(op: &Slice, x: &Tensor) -> Result<Tensors, EvalError> {
    let ty = result(op, &[x])?;
    let from = strides(&x.dims());
    let mut axes: SmallVec<[(usize, [isize; 1]); 6]> =
        x.dims().iter().zip(&from).map(|(&n, &stride)| (n, [stride])).collect();
    let mut start = 0;
    for r in &op.ranges {
        axes[r.axis] = (r.len, [from[r.axis] * r.step]);
        start += from[r.axis] * r.start as isize;
    }
    Ok(rearranged(ty, x, &Walk::new([start], axes)))
}

pub(crate) fn pad(op: &Pad, x: &Tensor) -> Result<Tensors, EvalError> {
    let ty = result(op, &[x])?;
    match op.mode {
        PadMode::Constant(value) => {
            let value = super::elementwise::cast(&ty.elem, &Tensor::scalar(value))?;
            Ok(by_width!(ty.elem, T => smallvec![pad_constant(op, ty, x, value[0].view::<T>()[0])]))
        }
        PadMode::Reflect | PadMode::Edge => {
            // For each axis in turn: the operand's index for each index of the result.
            let mut out = x.clone();
            for axis in (0..x.ty().rank()).filter(|&a| op.before[a] + op.after[a] > 0) {
                let extent = x.dims()[axis] as isize;
                let last = extent - 1;
                let source = |i: isize| match op.mode {
                    PadMode::Reflect if i < 0 => -i,
                    PadMode::Reflect if i > last => 2 * last - i,
                    _ => i.clamp(0, last),
                };
                let shown = -(op.before[axis] as isize)..extent + op.after[axis] as isize;
                let indices: Vec<usize> = shown.map(|i| source(i) as usize).collect();
                out = pick(&out, axis, &indices);
            }
            Ok(smallvec![out])
        }
    }
}

fn pad_constant<T: Scalar>(op: &Pad, ty: TensorType, x: &Tensor, value: T) -> Tensor {
    let mut out = vec![value; ty.shape.elements().unwrap_or_default()];
    let (from, to) = (strides(&x.dims()), strides(&ty.shape.extents().unwrap_or_default()));
    let start = to.iter().zip(&op.before).map(|(&stride, &n)| stride * n as isize).sum();
    let view = x.view::<T>();
    let axes = x.dims().into_iter().enumerate().map(|(a, n)| (n, [from[a], to[a]]));
    Walk::new([0, start], axes).runs(|run| match run.step {
        [1, 1] => out[run.start[1]..][..run.len].copy_from_slice(&view[run.start[0]..][..run.len]),
        [s, t] => (0..run.len as isize).for_each(|i| {
            out[(run.start[1] as isize + i * t) as usize] = view[(run.start[0] as isize + i * s) as usize];
        }),
    });
    Tensor::of(ty, out)
}

/// The slices of `x` at `indices` of an axis, concatenated.
pub(super) fn pick(x: &Tensor, axis: usize, indices: &[usize]) -> Tensor {
    let dims = x.dims();
    let ty = TensorType::new(x.ty().elem.clone(), x.ty().shape.with(axis, indices.len()));
    let inner = dims[axis + 1..].iter().product::<usize>();
    let outer = dims[..axis].iter().product::<usize>();
    by_width!(ty.elem, T => {
        let view = x.view::<T>();
        let mut out: Vec<T> = Vec::with_capacity(outer * indices.len() * inner);
        for image in (0..outer).map(|o| &view[o * dims[axis] * inner..][..dims[axis] * inner]) {
            match inner {
                1 => out.extend(indices.iter().map(|&i| image[i])),
                _ => indices.iter().for_each(|&i| out.extend_from_slice(&image[i * inner..][..inner])),
            }
        }
        Tensor::of(ty, out)
    })
}

pub(crate) fn expand(op: &Expand, x: &Tensor) -> Result<Tensors, EvalError> {
    let ty = result(op, &[x])?;
    let dims = super::extents(&ty)?;
    Ok(rearranged(ty, x, &Walk::broadcast(&dims, [&x.dims()])))
}

pub(crate) fn tile(op: &Tile, x: &Tensor) -> Result<Tensors, EvalError> {
    let from = strides(&x.dims());
    let axes = x.dims().into_iter().enumerate().flat_map(|(a, n)| [(op.repeats[a], [0]), (n, [from[a]])]);
    Ok(rearranged(result(op, &[x])?, x, &Walk::new([0], axes)))
}

pub(crate) fn reverse(op: &Reverse, x: &Tensor) -> Result<Tensors, EvalError> {
    let (dims, from) = (x.dims(), strides(&x.dims()));
    let start = op.axes.iter().map(|&a| from[a] * (dims[a] as isize - 1)).sum();
    let along = |a: usize| if op.axes.contains(&a) { -from[a] } else { from[a] };
    let walk = Walk::new([start], dims.iter().enumerate().map(|(a, &n)| (n, [along(a)])));
    Ok(rearranged(result(op, &[x])?, x, &walk))
}

pub(crate) fn depth_to_space(op: &DepthToSpace, x: &Tensor) -> Result<Tensors, EvalError> {
    let ty = result(op, &[x])?;
    let (d, b) = (x.dims(), op.block);
    let c = d[1] / (b * b);
    // The channel read as [b, b, C] or [C, b, b]: the operand's axes and those of the result, [N, C, H, b, W, b].
    let (parts, order) = match op.channel_first {
        false => ([d[0], b, b, c, d[2], d[3]], [0, 3, 4, 1, 5, 2]),
        true => ([d[0], c, b, b, d[2], d[3]], [0, 1, 4, 2, 5, 3]),
    };
    let from = strides(&parts);
    Ok(rearranged(ty, x, &Walk::new([0], order.map(|a| (parts[a], [from[a]])))))
}

pub(crate) fn space_to_depth(op: &SpaceToDepth, x: &Tensor) -> Result<Tensors, EvalError> {
    let ty = result(op, &[x])?;
    let (d, b) = (x.dims(), op.block);
    let parts = [d[0], d[1], d[2] / b, b, d[3] / b, b];
    let from = strides(&parts);
    Ok(rearranged(ty, x, &Walk::new([0], [0, 3, 5, 1, 2, 4].map(|a: usize| (parts[a], [from[a]])))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Elem, Shape};
    use smallvec::smallvec;

    fn count(dims: &[usize]) -> Tensor {
        Tensor::from_vec(Shape::known(dims), (0..dims.iter().product::<usize>()).map(|i| i as f32).collect())
    }

    fn check(op: impl Into<Op>, x: &Tensor, dims: &[usize], values: &[f32]) {
        let out = op.into().eval(&[x]).unwrap();
        assert_eq!(out[0].dims(), dims);
        assert_eq!(out[0].floats().as_ref(), values);
    }

    #[test]
    fn shapes_and_axes() {
        let x = count(&[2, 3]);
        check(Reshape { shape: Shape::known(&[3, 2]) }, &x, &[3, 2], &[0., 1., 2., 3., 4., 5.]);
        check(Transpose { perm: smallvec![1, 0] }, &x, &[3, 2], &[0., 3., 1., 4., 2., 5.]);
        check(
            Expand { shape: Shape::known(&[2, 2, 3]) },
            &x,
            &[2, 2, 3],
            &[0., 1., 2., 3., 4., 5., 0., 1., 2., 3., 4., 5.],
        );
        check(Tile { repeats: smallvec![2, 1] }, &x, &[4, 3], &[0., 1., 2., 3., 4., 5., 0., 1., 2., 3., 4., 5.]);
        check(Tile { repeats: smallvec![1, 2] }, &x, &[2, 6], &[0., 1., 2., 0., 1., 2., 3., 4., 5., 3., 4., 5.]);
        check(Reverse { axes: smallvec![1] }, &x, &[2, 3], &[2., 1., 0., 5., 4., 3.]);
        check(Reverse { axes: smallvec![0, 1] }, &x, &[2, 3], &[5., 4., 3., 2., 1., 0.]);
    }

    #[test]
    fn slices() {
        let x = count(&[2, 4]);
        let range = |axis, start, len, step| Range { axis, start, len, step };
        check(Slice { ranges: vec![range(1, 1, 2, 2)] }, &x, &[2, 2], &[1., 3., 5., 7.]);
        check(Slice { ranges: vec![range(0, 1, 1, 1), range(1, 3, 4, -1)] }, &x, &[1, 4], &[7., 6., 5., 4.]);
        check(Slice { ranges: vec![range(1, 0, 0, 1)] }, &x, &[2, 0], &[]);
    }

    #[test]
    fn concatenation_is_along_the_axis() {
        let (a, b) = (count(&[2, 1]), count(&[2, 2]));
        let out = Op::from(Concat { axis: 1 }).eval(&[&a, &b]).unwrap();
        assert_eq!(out[0].floats().as_ref(), [0., 0., 1., 1., 2., 3.]);
        let out = Op::from(Concat { axis: 0 }).eval(&[&b, &b]).unwrap();
        assert_eq!((out[0].dims(), out[0].len()), (vec![4, 2], 8));
    }

    #[test]
    fn pads() {
        let x = count(&[1, 3]);
        let pad = |mode| Pad { before: smallvec![0, 2], after: smallvec![1, 1], mode };
        check(pad(PadMode::Constant(9.0)), &x, &[2, 6], &[9., 9., 0., 1., 2., 9., 9., 9., 9., 9., 9., 9.]);
        check(pad(PadMode::Edge), &x, &[2, 6], &[0., 0., 0., 1., 2., 2., 0., 0., 0., 1., 2., 2.]);
        let reflect = Pad { before: smallvec![0, 2], after: smallvec![0, 1], mode: PadMode::Reflect };
        check(reflect, &x, &[1, 6], &[2., 1., 0., 1., 2., 1.]);
        let bytes = Tensor::from_vec(Shape::known(&[2]), vec![5i8, 6]);
        let op = Pad { before: smallvec![1], after: smallvec![1], mode: PadMode::Constant(f32::NEG_INFINITY) };
        assert_eq!(Op::from(op).eval(&[&bytes]).unwrap()[0].view::<i8>().as_ref(), [-128, 5, 6, -128]);
    }

    #[test]
    fn blocks_of_pixels() {
        let x = count(&[1, 8, 1, 1]);
        let d2s = |channel_first| DepthToSpace { block: 2, channel_first };
        check(d2s(false), &x, &[1, 2, 2, 2], &[0., 2., 4., 6., 1., 3., 5., 7.]);
        check(d2s(true), &x, &[1, 2, 2, 2], &[0., 1., 2., 3., 4., 5., 6., 7.]);
        let y = Op::from(d2s(false)).eval(&[&x]).unwrap();
        check(SpaceToDepth { block: 2 }, &y[0], &[1, 8, 1, 1], &[0., 1., 2., 3., 4., 5., 6., 7.]);
    }

    #[test]
    fn any_element_is_moved() {
        let x = Tensor::from_bools(Shape::known(&[2]), [true, false]);
        let out = Op::from(Reverse { axes: smallvec![0] }).eval(&[&x]).unwrap();
        assert_eq!((out[0].ty().elem.clone(), out[0].integers()), (Elem::Bool, Some(vec![0, 1])));
    }
}
