//! Convolutions of channels with filters of their own.

use rayon::prelude::*;
use rten_simd::ops::{BitOps, NumOps};
use rten_simd::{Isa, SimdOp};

use super::super::matrix::{Bias, Right};
use super::super::product::{READ, store, tasks};
use super::super::then::Then;
use super::geometry::Geometry;
use super::padded::{Padded, Plan};

/// The convolution of each channel of `x` with its own filter: its bias, if there is one, plus the products with the taps
/// of the window, in order; then a function of each element. Padding is 0.
pub(crate) fn depthwise(
    g: &Geometry,
    x: &[f32],
    weights: &[f32],
    bias: Option<&[f32]>,
    then: Option<Then>,
    out: &mut [f32],
) {
    let (positions, pixels, taps, channels) = (g.positions(), g.pixels(), g.taps(), g.groups);
    if out.is_empty() {
        return;
    }
    let plan = Plan::new(g, 1);
    let chunk = (g.batch * channels).div_ceil(tasks(out.len() * taps));
    out.par_chunks_mut(chunk * positions).enumerate().for_each(|(i, out)| {
        for part in plan.parts() {
            let (area, range) = (plan.area(&part), plan.range(&part));
            let planes = (i * chunk..).take(out.len() / positions).map(|plane| &x[plane * pixels..][..pixels]);
            area.each(planes, |k, columns| {
                let channel = (i * chunk + k) % channels;
                let (weights, start) = (&weights[channel * taps..][..taps], bias.map_or(0.0, |b| b[channel]));
                let out = &mut out[k * positions..][range.clone()];
                Sums { columns, weights, start, out }.dispatch();
                if let Some(then) = then {
                    then.apply(out);
                }
            });
        }
    });
}

/// The sums of one part of one channel.
struct Sums<'a> {
    columns: Padded<'a>,
    weights: &'a [f32],
    start: f32,
    out: &'a mut [f32],
}

impl SimdOp for Sums<'_> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) {
        match READ / isa.f32().len() {
            4 => self.run::<I, 4>(isa),
            8 => self.run::<I, 8>(isa),
            _ => self.run::<I, 16>(isa),
        }
    }
}

impl Sums<'_> {
    #[inline(always)]
    fn run<I: Isa, const WIDE: usize>(self, isa: I) {
        let (ops, columns) = (isa.f32(), self.columns);
        for first in (0..columns.cols()).step_by(READ) {
            let mut sums = [ops.splat(self.start); WIDE];
            for (tap, &weight) in self.weights.iter().enumerate() {
                let (line, weight) = (&columns.from(tap, first)[..READ], ops.splat(weight));
                for j in 0..WIDE {
                    sums[j] = ops.add(sums[j], ops.mul(weight, ops.load(&line[j * ops.len()..])));
                }
            }
            let places = columns.places(first..columns.cols().min(first + READ));
            store(isa, &sums, false, Bias::None, &places, self.out);
        }
    }
}
