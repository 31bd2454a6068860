//! Dynamic quantization.

use crate::ops::Granularity;
use crate::types::Tensor;

/// See [`crate::ops::DynamicQuantize`]. `x` is row-major.
pub(crate) fn quantize(granularity: Granularity, x: &Tensor) -> Tensor {
    let (dims, mut values) = (x.dims(), x.floats().into_owned());
    match granularity {
        Granularity::Axes { from, to } => {
            let (shared, inner) = (dims[from..to].iter().product::<usize>(), dims[to..].iter().product::<usize>());
            values.chunks_mut((shared * inner).max(1)).for_each(|block| with_zero_points(block, inner.max(1)));
        }
        Granularity::Groups(size) => {
            let row = dims.last().copied().unwrap_or(1).max(1);
            values.chunks_mut(row).flat_map(|row| row.chunks_mut(size)).for_each(symmetric);
        }
    }
    Tensor::from_vec(x.ty().shape.clone(), values)
}

/// The smallest scale: division by a smaller one could overflow `f32`.
const FINEST: f32 = f32::MIN_POSITIVE;

/// Asymmetric quantization; elements whose index is the same modulo `inner` share a scale.
fn with_zero_points(values: &mut [f32], inner: usize) {
    let mut ranges = vec![(0.0f32, 0.0f32); inner];
    for row in values.chunks_exact(inner) {
        ranges.iter_mut().zip(row).for_each(|((lo, hi), &x)| (*lo, *hi) = (lo.min(x), hi.max(x)));
    }
    let scale = |(lo, hi): &(f32, f32)| {
        let inverse = 255.0 / (hi - lo).max(FINEST * 255.0);
        (inverse, inverse.recip(), (-lo * inverse).round_ties_even())
    };
    let scales: Vec<(f32, f32, f32)> = ranges.iter().map(scale).collect();
    for row in values.chunks_exact_mut(inner) {
        for (x, (inverse, scale, zero)) in row.iter_mut().zip(&scales) {
            *x = (((*x * inverse).round_ties_even() + zero).clamp(0.0, 255.0) - zero) * scale;
        }
    }
}

fn symmetric(values: &mut [f32]) {
    let scale = (values.iter().fold(0.0f32, |most, x| most.max(x.abs())) / 127.0).max(FINEST);
    for x in values {
        *x = (*x / scale).round_ties_even() * scale;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Shape;

    fn rounded(granularity: Granularity, dims: &[usize], values: &[f32]) -> Vec<f32> {
        quantize(granularity, &Tensor::from_vec(Shape::known(dims), values.to_vec())).floats().into_owned()
    }

    fn axes(from: usize, to: usize) -> Granularity {
        Granularity::Axes { from, to }
    }

    #[test]
    fn elements_share_the_scale_of_their_group() {
        let x = [0.4, 255.0, 1.0, 0.4, 2.55, 0.01];
        assert_eq!(rounded(axes(0, 2), &[2, 3], &x), [0.0, 255.0, 1.0, 0.0, 3.0, 0.0]);
        let rows = rounded(axes(1, 2), &[2, 3], &x);
        assert_eq!(rows[..3], [0.0, 255.0, 1.0]);
        assert!((rows[3] - 0.4).abs() < 1e-6 && (rows[5] - 0.01).abs() < 1e-6, "{rows:?}");
        let columns = rounded(axes(0, 1), &[2, 3], &x);
        assert!((columns[0] - 0.4).abs() < 1e-6 && columns[1] == 255.0 && columns[4] == 3.0, "{columns:?}");
        let groups = rounded(Granularity::Groups(2), &[1, 5], &[0.4, 127.0, -1.27, 0.004, 0.5]);
        assert_eq!(groups[..2], [0.0, 127.0]);
        assert!((groups[2] + 1.27).abs() < 1e-6 && groups[3] == 0.0 && (groups[4] - 0.5).abs() < 1e-6, "{groups:?}");
    }

    #[test]
    fn zero_stays_zero() {
        assert_eq!(rounded(axes(0, 1), &[3], &[0.0; 3]), [0.0; 3]);
        assert_eq!(rounded(Granularity::Groups(2), &[3], &[0.0; 3]), [0.0; 3]);
        let x = rounded(axes(0, 1), &[3], &[-1.0, 0.0, 2.0]);
        assert_eq!(x[1], 0.0);
    }
}
