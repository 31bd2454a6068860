//! Sampling of images at computed positions.

use smallvec::{SmallVec, smallvec};

use super::elementwise::cast;
use super::resize::keys;
use super::walk::strides;
use super::{extents, result, widened};
use crate::error::EvalError;
use crate::ops::*;
use crate::types::{Elem, Tensor};

/// Elements and their weights.
type Taps = SmallVec<[(usize, f32); 16]>;

pub(crate) fn grid_sample(op: &GridSample, x: &Tensor, at: &Tensor) -> Result<Tensors, EvalError> {
    if x.ty().elem == Elem::F16 {
        return widened(x, |x| grid_sample(op, x, at));
    }
    let ty = result(op, &[x, at])?;
    let (dims, at) = (extents(x.ty())?, cast(&Elem::F32, at)?.swap_remove(0));
    let (spatial, channels) = (&dims[2..], dims[1]);
    let step: SmallVec<[usize; 4]> = strides(spatial).into_iter().map(|s| s as usize).collect();
    let image: usize = spatial.iter().product();
    let (x, at) = (x.view::<f32>(), at.view::<f32>());
    let positions = at.len() / (spatial.len() * dims[0]).max(1);
    let mut out = vec![0.0; dims[0] * channels * positions];
    for (n, at) in at.chunks_exact((positions * spatial.len()).max(1)).enumerate() {
        for (p, at) in at.chunks_exact(spatial.len()).enumerate() {
            let mut taps: Taps = smallvec![(0, 1.0)];
            for ((&at, &extent), step) in at.iter().rev().zip(spatial).zip(&step) {
                let along = op.taps(at, extent);
                taps = taps.iter().flat_map(|t| along.iter().map(|a| (t.0 + a.0 * step, t.1 * a.1))).collect();
            }
            for c in n * channels..(n + 1) * channels {
                let image = &x[c * image..(c + 1) * image];
                out[c * positions + p] = taps.iter().map(|&(at, weight)| weight * image[at]).sum();
            }
        }
    }
    Ok(smallvec![Tensor::of(ty, out)])
}

impl GridSample {
    /// The elements and weights of a position along one axis, without zeros outside the image.
    fn taps(&self, at: f32, extent: usize) -> Taps {
        let size = extent as f32;
        let at = match self.align_corners {
            true => (at + 1.0) * 0.5 * (size - 1.0),
            false => ((at + 1.0) * size - 1.0) * 0.5,
        };
        let first = at.floor();
        let t = at - first;
        let tap = |at: f32, weight: f32| Some((self.inside(at, extent)?, weight));
        match self.mode {
            SampleMode::Nearest => tap(at.round_ties_even(), 1.0).into_iter().collect(),
            SampleMode::Linear => [tap(first, 1.0 - t), tap(first + 1.0, t)].into_iter().flatten().collect(),
            SampleMode::Cubic => {
                (-1i8..).zip(keys(-0.75, t)).filter_map(|(i, weight)| tap(first + f32::from(i), weight)).collect()
            }
        }
    }

    /// The element at an integer position; `None` for zeros outside the image.
    fn inside(&self, at: f32, extent: usize) -> Option<usize> {
        let last = extent as f32 - 1.0;
        let at = match self.outside {
            Outside::Zero if at < 0.0 || at > last => return None,
            Outside::Zero | Outside::Edge => at,
            Outside::Reflect if self.align_corners => mirrored(at, 0.0, last),
            Outside::Reflect => mirrored(at, -0.5, last + 1.0),
        };
        Some(at.clamp(0.0, last) as usize)
    }
}

/// Reflects a position at the ends of `lo..=lo + span` until it is within.
fn mirrored(at: f32, lo: f32, span: f32) -> f32 {
    if span == 0.0 {
        return lo;
    }
    lo + span - ((at - lo).rem_euclid(2.0 * span) - span).abs()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::Evaluate;
    use crate::types::Shape;

    fn sampled(mode: SampleMode, outside: Outside, align_corners: bool, at: &[f32]) -> Vec<f32> {
        let x = Tensor::from_vec(Shape::known(&[1, 1, 4]), vec![1f32, 2.0, 4.0, 8.0]);
        let positions = Tensor::from_vec(Shape::known(&[1, at.len(), 1]), at.to_vec());
        GridSample { mode, outside, align_corners }.eval(&[&x, &positions]).unwrap()[0].floats().into_owned()
    }

    #[test]
    fn positions_between_elements() {
        use SampleMode::*;
        let ends = [-1.0, -1.0 / 3.0, 1.0 / 3.0, 1.0];
        assert_eq!(sampled(Linear, Outside::Edge, true, &ends), [1.0, 2.0, 4.0, 8.0]);
        let inner = [-0.75, -0.25, 0.25, 0.75];
        assert_eq!(sampled(Linear, Outside::Zero, false, &inner), [1.0, 2.0, 4.0, 8.0]);
        assert_eq!(sampled(Linear, Outside::Zero, false, &[-0.5, 0.0, -1.0]), [1.5, 3.0, 0.5]);
        assert_eq!(sampled(Nearest, Outside::Edge, false, &[-0.5, 0.0, 0.5]), [1.0, 4.0, 4.0]);
        // -0.09375 0.59375 0.59375 -0.09375
        assert_eq!(sampled(Cubic, Outside::Edge, false, &[0.0]), [-0.84375 + 3.5625]);
    }

    #[test]
    fn positions_outside() {
        let nearest = |outside, align, at: &[f32]| sampled(SampleMode::Nearest, outside, align, at);
        // Elements -2, -1, 4, 5 and 9.
        let ends = [-1.75, -1.25, 1.25, 1.75, 3.75];
        assert_eq!(nearest(Outside::Zero, false, &ends), [0.0; 5]);
        assert_eq!(nearest(Outside::Edge, false, &ends), [1.0, 1.0, 8.0, 8.0, 8.0]);
        assert_eq!(nearest(Outside::Reflect, false, &ends), [2.0, 1.0, 8.0, 4.0, 2.0]);
        let centres = [-7.0 / 3.0, -5.0 / 3.0, 5.0 / 3.0, 7.0 / 3.0, 5.0];
        assert_eq!(nearest(Outside::Reflect, true, &centres), [4.0, 2.0, 4.0, 2.0, 8.0]);
        let far = [f32::NAN, f32::INFINITY, -1e30];
        assert!(nearest(Outside::Reflect, false, &far).iter().all(|v| [1.0, 2.0, 4.0, 8.0].contains(v)));
    }

    #[test]
    fn innermost_axis_comes_first() {
        let x = Tensor::from_vec(Shape::known(&[1, 2, 2, 3]), (0..12).map(|v| v as f32).collect());
        let at = Tensor::from_vec(Shape::known(&[1, 1, 2, 2]), vec![1f32, -1.0, 0.0, 1.0]);
        let op = GridSample { mode: SampleMode::Linear, outside: Outside::Zero, align_corners: true };
        let out = op.eval(&[&x, &at]).unwrap();
        assert_eq!((out[0].dims(), out[0].floats().into_owned()), (vec![1, 2, 1, 2], vec![2.0, 4.0, 8.0, 10.0]));
    }
}
