//! Pooled samples of boxes of images.

use rayon::prelude::*;
use smallvec::{SmallVec, smallvec};

use super::{extents, result, widened};
use crate::error::EvalError;
use crate::ops::{PoolFn, RoiAlign, Tensors};
use crate::types::{Elem, Tensor};

/// See [`RoiAlign`].
pub(crate) fn roi_align(op: &RoiAlign, operands: &[&Tensor]) -> Result<Tensors, EvalError> {
    let (x, boxes, of) = (operands[0], operands[1], operands[2]);
    if x.ty().elem == Elem::F16 {
        let boxes = super::elementwise::cast(&Elem::F32, boxes)?.swap_remove(0);
        return widened(x, |x| roi_align(op, &[x, &boxes, of]));
    }
    let ty = result(op, operands)?;
    let dims = extents(x.ty())?;
    let (images, channels, image) = (dims[0], dims[1], dims[2] * dims[3]);
    let of = of.integers().unwrap_or_default();
    if let Some(&index) = of.iter().find(|&&i| !(0..images as i64).contains(&i)) {
        return Err(EvalError::Index { index, extent: images });
    }
    let (x, boxes) = (x.view::<f32>(), boxes.view::<f32>());
    let bins = op.size[0] * op.size[1];
    let mut out = vec![0.0; of.len() * channels * bins];
    let each = out.par_chunks_mut((channels * bins).max(1)).zip(boxes.par_chunks(4)).zip(&of);
    each.for_each(|((out, corners), &of)| {
        let along = [0, 1].map(|axis| op.along(corners, axis, dims[2 + axis]));
        let first = of as usize * channels * image;
        for (bin, taps) in (0..bins).map(|bin| (bin, op.taps(&along, bin, dims[3]))) {
            for c in 0..channels {
                let image = &x[first + c * image..][..image];
                out[c * bins + bin] = op.pooled(taps.iter().map(|&(at, weight)| weight * image[at]), &along);
            }
        }
    });
    Ok(smallvec![Tensor::of(ty, out)])
}

/// The samples of a box along one axis: of each, its two elements and their weights, which are 0 far outside the image.
struct Along {
    /// The number of samples of a bin.
    samples: usize,
    taps: Vec<[(usize, f32); 2]>,
}

impl RoiAlign {
    /// The samples of a box along an axis, 0 for y, on which the image has `extent` elements.
    fn along(&self, corners: &[f32], axis: usize, extent: usize) -> Along {
        let offset = if self.half_pixel { 0.5 } else { 0.0 };
        let [start, end] = [corners[1 - axis], corners[3 - axis]].map(|at| at * self.scale - offset);
        let length = if self.half_pixel { end - start } else { (end - start).max(1.0) };
        let bin = length / self.size[axis] as f32;
        let samples = if self.samples > 0 { self.samples } else { bin.ceil().max(0.0) as usize };
        let at = |i: usize| {
            let (bins, sample) = ((i / samples) as f32, (i % samples) as f32);
            start + bins * bin + (sample + 0.5) * bin / samples as f32
        };
        let taps = (0..self.size[axis] * samples).map(|i| two_taps(at(i), extent)).collect();
        Along { samples, taps }
    }

    /// The elements of an image and their weights for all samples of a bin.
    fn taps(&self, along: &[Along; 2], bin: usize, width: usize) -> SmallVec<[(usize, f32); 16]> {
        let [rows, columns] = [(0, bin / self.size[1]), (1, bin % self.size[1])]
            .map(|(axis, bin)| along[axis].taps[bin * along[axis].samples..][..along[axis].samples].iter().flatten());
        let row = |&(y, a): &(usize, f32)| columns.clone().map(move |&(x, b)| (y * width + x, a * b));
        rows.flat_map(row).collect()
    }

    /// The value of a bin, by the products of its samples; 0 if it has none.
    fn pooled(&self, products: impl Iterator<Item = f32>, along: &[Along; 2]) -> f32 {
        match self.f {
            PoolFn::Average => products.sum::<f32>() / (along[0].samples * along[1].samples).max(1) as f32,
            PoolFn::Max => products.reduce(f32::max).unwrap_or_default(),
        }
    }
}

/// The two elements around a position, and their weights.
fn two_taps(at: f32, extent: usize) -> [(usize, f32); 2] {
    let last = extent as f32 - 1.0;
    let inside = f32::from(u8::from((-1.0..=extent as f32).contains(&at)));
    let at = at.clamp(0.0, last);
    let low = at.floor();
    let t = at - low;
    [(low as usize, (1.0 - t) * inside), ((low + 1.0).min(last) as usize, t * inside)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::Evaluate;
    use crate::types::Shape;

    fn aligned(op: RoiAlign, corners: [f32; 4]) -> Vec<f32> {
        let x = Tensor::from_vec(Shape::known(&[1, 1, 4, 4]), (0..16).map(|v| v as f32).collect());
        let boxes = Tensor::from_vec(Shape::known(&[1, 4]), corners.to_vec());
        let of = Tensor::from_vec(Shape::known(&[1]), vec![0i64]);
        op.eval(&[&x, &boxes, &of]).unwrap()[0].floats().into_owned()
    }

    #[test]
    fn samples_of_bins() {
        let op = |samples, half_pixel, size: [usize; 2], f| RoiAlign {
            f,
            size: size.into_iter().collect(),
            samples,
            scale: 1.0,
            half_pixel,
        };
        let mean = PoolFn::Average;
        // The centres of elements 5, 6, 9 and 10.
        assert_eq!(aligned(op(1, true, [2, 2], mean), [1.0, 1.0, 3.0, 3.0]), [5.0, 6.0, 9.0, 10.0]);
        assert_eq!(aligned(op(2, true, [1, 1], mean), [1.0, 1.0, 3.0, 3.0]), [7.5]);
        assert_eq!(aligned(op(0, true, [1, 1], mean), [1.0, 1.0, 3.0, 3.0]), [7.5]);
        assert_eq!(aligned(op(1, false, [1, 1], mean), [1.0, 1.0, 1.0, 1.0]), [7.5]);
        // Beyond the edge, and far beyond it.
        assert_eq!(aligned(op(1, true, [1, 1], mean), [-1.0, 0.0, 1.0, 1.0]), [0.0]);
        assert_eq!(aligned(op(1, true, [1, 1], mean), [4.0, 3.0, 5.0, 4.0]), [15.0]);
        assert_eq!(aligned(op(1, true, [1, 1], mean), [9.0, 3.0, 10.0, 4.0]), [0.0]);
        // A bin without samples, and the largest product.
        assert_eq!(aligned(op(0, true, [1, 1], mean), [2.0, 2.0, 2.0, 2.0]), [0.0]);
        assert_eq!(aligned(op(1, false, [1, 1], PoolFn::Max), [1.0, 1.0, 2.0, 2.0]), [2.5]);
    }
}
