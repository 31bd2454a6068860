//! Convolutions of channels with filters of their own.

use rayon::prelude::*;
use rten_simd::ops::{BitOps, NumOps};
use rten_simd::{Isa, SimdOp};

use super::super::matrix::{Bias, Right};
use super::super::product::{READ, store, tasks};
use super::super::then::Then;
use super::geometry::Geometry;
use super::padded::{Padded, Plan};
use super::square;

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
    let square = square::window(g);
    let chunk = (g.batch * channels).div_ceil(tasks(out.len() * taps));
    out.par_chunks_mut(chunk * positions).enumerate().for_each(|(i, out)| {
        let parts = plan.parts();
        for part in &parts {
            let (area, range) = (plan.area(part), plan.range(part));
            let planes = (i * chunk..).take(out.len() / positions).map(|plane| &x[plane * pixels..][..pixels]);
            area.each(planes, |k, columns| {
                let channel = (i * chunk + k) % channels;
                let (weights, start) = (&weights[channel * taps..][..taps], bias.map_or(0.0, |b| b[channel]));
                // What follows a whole plane is computed later.
                let end = if parts.len() == 1 { out.len() } else { k * positions + range.end };
                let out = &mut out[k * positions + range.start..end];
                match square {
                    Some(square) => square.sums(columns, weights, start, out),
                    None => Sums { columns, weights, start, out: &mut out[..range.len()] }.dispatch(),
                }
                if let Some(then) = then {
                    then.apply(&mut out[..range.len()]);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::Conv;
    use crate::testing::numbers;
    use crate::types::{Shape, Tensor};
    use proptest::prelude::*;

    fn of(tensor: &Tensor) -> Vec<f32> {
        tensor.view::<f32>().into_owned()
    }

    proptest! {
        /// Products and sums are rounded separately, in the order of the taps.
        #[test]
        fn depthwise_adds_the_taps_in_order(
            (size, stride, channels) in (1..6usize, 1..3usize, 1..5usize),
            (height, width) in (5..24usize, 5..90usize),
            (before, after) in (0..3usize, 0..3usize),
            seed in 0..100u64,
        ) {
            let two = |n: usize| smallvec::smallvec![n, n];
            let op = Conv {
                stride: two(stride), before: two(before), after: two(after), dilation: two(1), groups: channels,
            };
            let shape = |dims: &[usize]| Shape::known(dims);
            let (x, w) = (numbers(shape(&[2, channels, height, width]), seed), numbers(shape(&[channels, 1, size, size]), seed + 1));
            let bias = of(&numbers(shape(&[channels]), seed + 2));
            let g = Geometry::of_conv(&op, &x.dims(), &w.dims());
            let (x, w) = (of(&x), of(&w));
            let mut found = vec![f32::NAN; 2 * channels * g.positions()];
            depthwise(&g, &x, &w, Some(&bias), Some(Then::Clamp { lo: -0.5, hi: 0.5 }), &mut found);
            let mut expected = Vec::new();
            for plane in 0..2 * channels {
                let (image, channel) = (&x[plane * height * width..], plane % channels);
                for (y, x) in (0..g.steps[1]).flat_map(|y| (0..g.steps[2]).map(move |x| (y, x))) {
                    let mut sum = bias[channel];
                    for tap in 0..size * size {
                        let (y, x) = (y * stride + tap / size, x * stride + tap % size);
                        let inside = (before..before + height).contains(&y) && (before..before + width).contains(&x);
                        let pixel = if inside { image[(y - before) * width + x - before] } else { 0.0 };
                        sum += w[channel * size * size + tap] * pixel;
                    }
                    expected.push(sum.clamp(-0.5, 0.5));
                }
            }
            let bits = |all: &[f32]| all.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
            prop_assert_eq!(bits(&found), bits(&expected));
        }
    }
}
