//! Resampling of images, one axis after the other.

use std::borrow::Cow;

use smallvec::smallvec;

use super::elementwise::{cast, wrapped};
use super::index::around;
use super::{extents, movement, widened};
use crate::error::EvalError;
use crate::ops::*;
use crate::types::{Elem, Tensor, TensorType};

/// The operand's elements that an element of the result is computed from, and their weights.
type Taps<const N: usize> = [(usize, f32); N];

pub(crate) fn resize(op: &Resize, x: &Tensor) -> Result<Tensors, EvalError> {
    // Stored integers are resized too, so only the shape is inferred.
    let shape = op.infer(&[&x.ty().with_elem(Elem::F32)])?.swap_remove(0).shape;
    let ty = TensorType::new(x.ty().elem.clone(), shape);
    if let ResizeMode::Nearest(rounding) = op.mode {
        return resize_nearest(op, rounding, x);
    }
    match &ty.elem {
        Elem::F32 => {}
        Elem::F16 => return widened(x, |x| resize(op, x)),
        elem if elem.is_integer() => {
            let wide = resize(op, &cast(&Elem::F32, x)?[0])?;
            let rounded = wide[0].floats().iter().map(|v| v.round() as i64).collect::<Vec<_>>();
            return Ok(smallvec![wrapped(ty, rounded.into_iter())]);
        }
        elem => return Err(super::unfit(Resize::NAME, elem)),
    }
    let (dims, op) = (extents(x.ty())?, &Known::of(op, x)?);
    let (mut values, mut shape) = (x.view::<f32>(), dims.clone());
    // The innermost axis first, while the image is smallest, since this step does not vectorise.
    for (axis, &size) in (2..).zip(&op.sizes).collect::<Vec<_>>().into_iter().rev() {
        let at: Vec<f32> = (0..size).map(|i| position(op, axis, i, &dims)).collect();
        if !at.iter().copied().eq((0..dims[axis]).map(|i| i as f32)) {
            let (extent, around) = (dims[axis], around(&shape, axis));
            values = Cow::Owned(match op.mode {
                ResizeMode::Cubic { a } => resample(&values, around, &taps(&at, |at| cubic(a, at, extent))),
                _ => resample(&values, around, &taps(&at, |at| linear(at, extent))),
            });
        }
        shape[axis] = size;
    }
    Ok(smallvec![Tensor::of(ty, values.into_owned())])
}

/// The numbers of an operator whose extents are known.
pub(super) struct Known {
    pub(super) sizes: Extents,
    scales: Vec<f32>,
    coordinates: Coordinates,
    mode: ResizeMode,
}

impl Known {
    pub(super) fn of(op: &Resize, x: &Tensor) -> Result<Known, EvalError> {
        let known = op.sizes().zip(op.scales(&x.ty().shape.dims()[2..]));
        let (sizes, scales) = known.ok_or(EvalError::Unknown("an open extent"))?;
        Ok(Known { sizes, scales, coordinates: op.coordinates, mode: op.mode })
    }
}

fn resize_nearest(op: &Resize, rounding: Nearest, x: &Tensor) -> Result<Tensors, EvalError> {
    let (dims, op) = (extents(x.ty())?, &Known::of(op, x)?);
    let mut out = x.clone();
    for (axis, &size) in (2..).zip(&op.sizes) {
        let index = |i| nearest(position(op, axis, i, &dims), rounding, dims[axis]);
        let indices: Vec<usize> = (0..size).map(index).collect();
        if !indices.iter().copied().eq(0..dims[axis]) {
            out = movement::pick(&out, axis, &indices);
        }
    }
    Ok(smallvec![out])
}

fn taps<const N: usize>(at: &[f32], f: impl Fn(f32) -> Taps<N>) -> Vec<Taps<N>> {
    at.iter().map(|&at| f(at)).collect()
}

/// The position of index `i` of the result on an axis of the operand.
pub(super) fn position(op: &Known, axis: usize, i: usize, dims: &[usize]) -> f32 {
    op.coordinates.position(i, op.scales[axis - 2], [dims[axis], op.sizes[axis - 2]])
}

fn nearest(at: f32, rounding: Nearest, extent: usize) -> usize {
    (rounding.round(at).max(0.0) as usize).min(extent - 1)
}

/// The element `offset` steps from the one at or before a position, clamped to the axis.
fn beside(at: f32, offset: isize, extent: usize) -> usize {
    (at.floor() as isize).saturating_add(offset).clamp(0, extent as isize - 1) as usize
}

fn linear(at: f32, extent: usize) -> Taps<2> {
    let t = at - at.floor();
    [(beside(at, 0, extent), 1.0 - t), (beside(at, 1, extent), t)]
}

fn cubic(a: f32, at: f32, extent: usize) -> Taps<4> {
    let weights = keys(a, at - at.floor());
    std::array::from_fn(|i| (beside(at, i as isize - 1, extent), weights[i]))
}

/// Keys' kernel at the distances 1 + t, t, 1 - t and 2 - t.
pub(super) fn keys(a: f32, t: f32) -> [f32; 4] {
    let near = |d: f32| ((a + 2.0) * d - (a + 3.0)) * d * d + 1.0;
    let far = |d: f32| ((a * d - 5.0 * a) * d + 8.0 * a) * d - 4.0 * a;
    [far(1.0 + t), near(t), near(1.0 - t), far(2.0 - t)]
}

/// Replaces an axis with `extent` elements, `inner` of the image after it, by weighted sums along it.
fn resample<const N: usize>(x: &[f32], [outer, extent, inner]: [usize; 3], taps: &[Taps<N>]) -> Vec<f32> {
    let mut out = Vec::with_capacity(outer * taps.len() * inner);
    for image in x.chunks_exact((extent * inner).max(1)) {
        if inner == 1 {
            out.extend(taps.iter().map(|taps| taps.iter().map(|&(at, weight)| weight * image[at]).sum::<f32>()));
            continue;
        }
        for taps in taps {
            let rows = taps.map(|(at, weight)| (&image[at * inner..][..inner], weight));
            out.extend((0..inner).map(|i| rows.iter().map(|(row, weight)| weight * row[i]).sum::<f32>()));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::Evaluate;
    use crate::types::Shape;

    fn resized(x: &[f32], size: usize, mode: ResizeMode, coordinates: Coordinates) -> Vec<f32> {
        let scale = vec![size as f32 / x.len() as f32];
        let op = Resize { size: Shape::known(&[size]), scale: scale.clone(), mode, coordinates };
        let row = Tensor::from_vec(Shape::known(&[1, 1, x.len()]), x.to_vec());
        let out = op.eval(&[&row]).unwrap();
        // The same axis with another inside it.
        let op = Resize { size: Shape::known(&[size, 1]), scale: vec![scale[0], 1.0], mode, coordinates };
        let column = Tensor::from_vec(Shape::known(&[1, 1, x.len(), 1]), x.to_vec());
        assert_eq!(op.eval(&[&column]).unwrap()[0].data(), out[0].data());
        out[0].floats().into_owned()
    }

    #[test]
    fn nearest_elements() {
        let nearest = |rounding, coordinates| resized(&[1., 2.], 4, ResizeMode::Nearest(rounding), coordinates);
        assert_eq!(nearest(Nearest::PreferFloor, Coordinates::HalfPixel), [1., 1., 2., 2.]);
        assert_eq!(nearest(Nearest::Floor, Coordinates::Asymmetric), [1., 1., 2., 2.]);
        assert_eq!(nearest(Nearest::Ceil, Coordinates::Asymmetric), [1., 2., 2., 2.]);
        assert_eq!(nearest(Nearest::PreferFloor, Coordinates::Asymmetric), [1., 1., 2., 2.]);
        assert_eq!(nearest(Nearest::PreferCeil, Coordinates::Asymmetric), [1., 2., 2., 2.]);
        assert_eq!(nearest(Nearest::Floor, Coordinates::HalfPixelForNearest), [1., 1., 2., 2.]);
        assert_eq!(
            resized(&[1., 2., 3., 4.], 2, ResizeMode::Nearest(Nearest::PreferFloor), Coordinates::HalfPixel),
            [1., 3.]
        );
    }

    #[test]
    fn linear_between_elements() {
        let linear = |coordinates| resized(&[1., 2.], 4, ResizeMode::Linear, coordinates);
        assert_eq!(linear(Coordinates::HalfPixel), [1., 1.25, 1.75, 2.]);
        assert_eq!(linear(Coordinates::Asymmetric), [1., 1.5, 2., 2.]);
        let corners = linear(Coordinates::AlignCorners);
        assert!(corners.iter().zip([1., 4. / 3., 5. / 3., 2.]).all(|(a, b)| (a - b).abs() < 1e-6));
        assert_eq!(resized(&[3., 4.], 1, ResizeMode::Linear, Coordinates::PytorchHalfPixel), [3.]);
        assert_eq!(resized(&[3., 4.], 1, ResizeMode::Linear, Coordinates::HalfPixel), [3.5]);
    }

    #[test]
    fn cubic_interpolation_reproduces_lines() {
        // Away from the edge a cubic with a = -0.5 reproduces a line.
        let line: Vec<f32> = (0..8).map(|v| v as f32).collect();
        let out = resized(&line, 16, ResizeMode::Cubic { a: -0.5 }, Coordinates::HalfPixel);
        for (i, v) in out.iter().enumerate().skip(4).take(8) {
            assert!((v - ((i as f32 + 0.5) / 2.0 - 0.5)).abs() < 1e-5, "{out:?}");
        }
        // Half way: -0.09375 0.59375 0.59375 -0.09375 with a = -0.75.
        let step = resized(&[0., 0., 1., 1.], 7, ResizeMode::Cubic { a: -0.75 }, Coordinates::AlignCorners);
        assert_eq!(step, [0., -0.09375, 0., 0.5, 1., 1.09375, 1.]);
    }

    #[test]
    fn integers_round() {
        let op = Resize {
            size: Shape::known(&[4]),
            scale: vec![2.0],
            mode: ResizeMode::Linear,
            coordinates: Coordinates::HalfPixel,
        };
        let x = Tensor::from_vec(Shape::known(&[1, 1, 2]), vec![-10i8, 8]);
        assert_eq!(op.eval(&[&x]).unwrap()[0].view::<i8>().as_ref(), [-10, -6, 4, 8]);
    }

    /// As ONNX Runtime rounds them: the scale of 14 to 19 elements is a rounded quotient.
    #[test]
    fn positions_near_half_way_are_half_way() {
        let at = Coordinates::HalfPixel.position(9, 19.0 / 14.0, [14, 19]);
        assert!(at > 6.5);
        assert_eq!(
            [Nearest::PreferFloor, Nearest::PreferCeil, Nearest::Floor, Nearest::Ceil].map(|f| f.round(at)),
            [6., 7., 6., 7.]
        );
        assert_eq!([Nearest::PreferFloor, Nearest::PreferCeil].map(|f| f.round(20.500_002)), [21., 21.]);
        assert_eq!([Nearest::PreferFloor, Nearest::PreferCeil].map(|f| f.round(-0.5)), [-1., 0.]);
    }
}
