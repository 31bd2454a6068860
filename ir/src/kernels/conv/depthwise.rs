//! Convolutions of channels with filters of their own.

use std::ops::Range;

use rten_simd::ops::{BitOps, NumOps};
use rten_simd::{Isa, SimdOp};
use smallvec::SmallVec;

use super::super::matrix::gather;
use super::geometry::{Geometry, Tap};
use crate::vector::LANES;

/// A convolution of one channel with its own filter: `start` plus the products with the taps inside the image, in order.
pub(crate) struct Depthwise<'a> {
    pub(crate) geometry: &'a Geometry,
    pub(crate) taps: &'a [Tap],
    pub(crate) plane: &'a [f32],
    pub(crate) weights: &'a [f32],
    pub(crate) start: f32,
    /// The plane of the result.
    pub(crate) out: &'a mut [f32],
}

/// A tap at one line of the result.
struct Source {
    weight: f32,
    /// The pixel at the first step. Padding in front wraps around.
    first: usize,
    inside: Range<usize>,
}

impl SimdOp for Depthwise<'_> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) {
        let Depthwise { geometry: g, taps, plane, weights, start, out } = self;
        let [_, height, width] = g.steps;
        let mut sources: SmallVec<[Source; 16]> = SmallVec::new();
        for (i, out) in out.chunks_exact_mut(width).enumerate() {
            sources.clear();
            let corner = [i / height * g.stride[0], i % height * g.stride[1]];
            let mut all = 0..width;
            for (tap, &weight) in taps.iter().zip(weights) {
                if let Some(row) = g.row(tap, corner).filter(|_| !tap.inside.is_empty()) {
                    let first = (row * g.image[2] + tap.offset[2]).wrapping_sub(g.before[2]);
                    all = all.start.max(tap.inside.start)..all.end.min(tap.inside.end);
                    sources.push(Source { weight, first, inside: tap.inside.clone() });
                }
            }
            let all = all.start..all.end.max(all.start);
            for step in (0..all.start).chain(all.end..width) {
                let mut sum = start;
                for Source { weight, first, inside } in &sources {
                    if inside.contains(&step) {
                        sum += weight * plane[first.wrapping_add(step * g.stride[2])];
                    }
                }
                out[step] = sum;
            }
            let lanes = isa.f32().len();
            for step in all.clone().step_by(lanes) {
                // The last vector overlaps the one before, where there is one.
                let step = step.min(all.end.saturating_sub(lanes).max(all.start));
                let len = lanes.min(all.end - step);
                inner(isa, start, &sources, plane, (step * g.stride[2], g.stride[2]), &mut out[step..step + len]);
            }
        }
    }
}

/// At most one vector of a line to which all taps are inside the image. `place` is the offset of the first pixel and the
/// distance of pixels.
#[inline(always)]
fn inner<I: Isa>(isa: I, start: f32, sources: &[Source], plane: &[f32], place: (usize, usize), out: &mut [f32]) {
    let ops = isa.f32();
    let (offset, stride) = place;
    let mut sum = ops.splat(start);
    for source in sources {
        let from = &plane[source.first.wrapping_add(offset)..];
        let x = if stride == 1 && out.len() == ops.len() {
            ops.load(from)
        } else {
            let mut x = [0.0; LANES];
            gather(isa, &mut x[..out.len()], from, stride);
            ops.load(&x)
        };
        sum = ops.add(sum, ops.mul(ops.splat(source.weight), x));
    }
    if out.len() == ops.len() {
        return ops.store(sum, out);
    }
    let mut whole = [0.0; LANES];
    ops.store(sum, &mut whole);
    out.iter_mut().zip(whole).for_each(|(to, sum)| *to = sum);
}
