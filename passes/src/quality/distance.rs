//! The distance between expected and computed numbers.

// Not a branch, so that loops are vectorised.
use std::hint::select_unpredictable as select;
use std::ops::Range;

use qcc_ir::vector::vectorized;

/// The number of sums of each kind, to which elements are added in turn.
const LANES: usize = 16;

/// Accumulated sums from which distances are computed. The sums of parts add up to those of the whole.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Distance {
    signal: f64,
    noise: f64,
    other: f64,
    product: f64,
    /// The largest absolute difference.
    pub max_error: f32,
}

impl Distance {
    /// The distance between expected numbers and the computed ones.
    pub fn of(expected: &[f32], found: &[f32]) -> Self {
        let mut lanes = Lanes::default();
        vectorized(
            #[inline(always)]
            || {
                // A copy, which is in registers.
                let mut sums = lanes;
                let (xs, rest_x) = expected.as_chunks::<LANES>();
                let (ys, rest_y) = found.as_chunks::<LANES>();
                for (x, y) in xs.iter().zip(ys) {
                    for lane in 0..LANES {
                        sums.add(lane, x[lane], y[lane]);
                    }
                }
                for (lane, (&x, &y)) in rest_x.iter().zip(rest_y).enumerate() {
                    sums.add(lane, x, y);
                }
                lanes = sums;
            },
        );
        lanes.joined()
    }

    /// The distance between the slices `range` along `axis` of two tensors with these extents.
    pub fn of_part(expected: &[f32], found: &[f32], extents: &[usize], axis: usize, range: &Range<usize>) -> Self {
        let inner: usize = extents[axis + 1..].iter().product();
        let whole = extents[axis] * inner;
        let part = range.start * inner..range.end * inner;
        let mut all = Distance::default();
        for (x, y) in expected.chunks_exact(whole.max(1)).zip(found.chunks_exact(whole.max(1))) {
            all.add(Distance::of(&x[part.clone()], &y[part.clone()]));
        }
        all
    }

    /// Adds the sums of other elements.
    pub fn add(&mut self, d: Distance) {
        self.signal += d.signal;
        self.noise += d.noise;
        self.other += d.other;
        self.product += d.product;
        self.max_error = self.max_error.max(d.max_error);
    }

    /// The sum of the squares of the expected numbers.
    pub fn signal(&self) -> f64 {
        self.signal
    }

    /// Signal to quantization noise ratio in dB: infinite if there is no difference, minus infinite if a number is
    /// finite on one side only.
    pub fn sqnr(&self) -> f64 {
        match () {
            () if self.noise == 0.0 => f64::INFINITY,
            () if !self.noise.is_finite() => f64::NEG_INFINITY,
            () => 10.0 * libm::log10(self.signal / self.noise),
        }
    }

    /// The cosine similarity.
    pub fn cosine(&self) -> f64 {
        if self.noise == 0.0 { 1.0 } else { self.product / (self.signal * self.other).sqrt() }
    }
}

/// The sums of a [`Distance`] in lanes.
#[derive(Clone, Copy, Default)]
struct Lanes {
    signal: [f64; LANES],
    noise: [f64; LANES],
    other: [f64; LANES],
    product: [f64; LANES],
    max_error: [f64; LANES],
}

impl Lanes {
    #[inline(always)]
    fn add(&mut self, lane: usize, expected: f32, found: f32) {
        let (x, y) = (f64::from(expected), f64::from(found));
        // Equal infinities have no difference. An infinity on one side only makes the noise infinite or NaN.
        let difference = select(x == y, 0.0, x - y);
        self.noise[lane] += difference * difference;
        self.max_error[lane] = select(difference.abs() > self.max_error[lane], difference.abs(), self.max_error[lane]);
        let both = x.is_finite() & y.is_finite();
        let (x, y) = (select(both, x, 0.0), select(both, y, 0.0));
        self.signal[lane] += x * x;
        self.other[lane] += y * y;
        self.product[lane] += x * y;
    }

    fn joined(self) -> Distance {
        let mut all = Distance::default();
        for lane in 0..LANES {
            all.add(Distance {
                signal: self.signal[lane],
                noise: self.noise[lane],
                other: self.other[lane],
                product: self.product[lane],
                max_error: self.max_error[lane] as f32,
            });
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_add_up_to_the_whole() {
        let (x, y): (Vec<f32>, Vec<f32>) = (0..24).map(|i| (i as f32, i as f32 + (i % 5) as f32)).unzip();
        for axis in 0..3 {
            let extents = [2, 3, 4];
            let mut all = Distance::of_part(&x, &y, &extents, axis, &(0..1));
            all.add(Distance::of_part(&x, &y, &extents, axis, &(1..extents[axis])));
            assert_eq!(all, Distance::of(&x, &y));
        }
        let rows = Distance::of_part(&x, &y, &[2, 3, 4], 1, &(1..2));
        let picked = |v: &[f32]| [4..8, 16..20].into_iter().flat_map(|r| v[r].to_vec()).collect::<Vec<_>>();
        assert_eq!(rows, Distance::of(&picked(&x), &picked(&y)));
    }

    #[test]
    fn an_infinity_equals_only_itself() {
        let inf = f32::INFINITY;
        assert_eq!(Distance::of(&[inf, 1.0], &[inf, 1.0]).sqnr(), f64::INFINITY);
        assert_eq!(Distance::of(&[inf, 1.0], &[2.0, 1.0]).sqnr(), f64::NEG_INFINITY);
        assert_eq!(Distance::of(&[1.0], &[f32::NAN]).sqnr(), f64::NEG_INFINITY);
        assert_eq!(Distance::of(&[inf, 10.0], &[inf, 9.0]).sqnr(), 20.0);
    }
}
