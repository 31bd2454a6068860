//! The distance between expected and computed numbers.

use std::ops::Range;

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
        let mut d = Distance::default();
        for (&x, &y) in expected.iter().zip(found) {
            // Equal infinities have no difference. An infinity on one side only makes the noise infinite or NaN.
            let difference = if x == y { 0.0 } else { f64::from(x) - f64::from(y) };
            d.noise += difference * difference;
            d.max_error = d.max_error.max(difference.abs() as f32);
            if x.is_finite() && y.is_finite() {
                d.signal += f64::from(x) * f64::from(x);
                d.other += f64::from(y) * f64::from(y);
                d.product += f64::from(x) * f64::from(y);
            }
        }
        d
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
