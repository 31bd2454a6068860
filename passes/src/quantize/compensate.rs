//! Rounding of the weights of a matrix product in which later weights compensate the errors of earlier ones.
//!
//! The weights of an output are rounded in the order of the channels. Each is shifted before by what makes up best for
//! the errors so far, for activations with the second moments that calibration found. This is GPTQ (Frantar et al.,
//! 2023), in the form of LDLQ (Chee et al., QuIP, 2023), which gives the same weights without an inverse.

use qcc_ir::matrix::{View, multiply};
use qcc_ir::{Elem, QuantParams, StorageType, Tensor};
use rayon::prelude::*;

use super::qparams::block_scale;
use crate::calibrate::Factor;

/// Outputs whose weights are rounded at once.
const OUTPUTS: usize = 512;

/// Channels for which the errors of earlier ones are summed at once, unless blocks are larger.
const CHANNELS: usize = 128;

/// The weight `w`, a matrix, quantized to 4 bits with a scale for each block of `size` elements along `axis`, its
/// reduction axis, for an activation with this `factor`. `None` if its channels are others.
pub(super) fn compensated_blocks(w: &Tensor, axis: usize, size: usize, factor: &Factor) -> Option<Tensor> {
    let (dims, reals) = (w.dims(), w.floats());
    let (extent, outputs) = (dims[axis], dims[1 - axis]);
    if factor.extent() != extent {
        return None;
    }
    let blocks = extent.div_ceil(size);
    // The place of an element of an output in a matrix that has `length` elements for each.
    let place = |output: usize, k: usize, length: usize| match axis {
        1 => output * length + k,
        _ => k * outputs + output,
    };
    let (mut integers, mut scales) = (vec![0i8; w.len()], vec![0.0f32; outputs * blocks]);
    let upper = factor.upper();
    for first in (0..outputs).step_by(OUTPUTS) {
        let rows = (first..outputs.min(first + OUTPUTS)).into_par_iter();
        let row = |output| Row {
            weights: (0..extent).map(|k| reals[place(output, k, extent)]).collect(),
            integers: Vec::with_capacity(extent),
            scales: Vec::with_capacity(blocks),
        };
        let mut rows: Vec<Row> = rows.map(row).collect();
        round(&mut rows, size, &upper, factor.variances());
        for (output, row) in (first..).zip(rows) {
            row.integers.into_iter().enumerate().for_each(|(k, q)| integers[place(output, k, extent)] = q);
            row.scales.into_iter().enumerate().for_each(|(block, s)| scales[place(output, block, blocks)] = s);
        }
    }
    let qparams = QuantParams::per_block(StorageType::I4, axis, size, scales);
    Some(Tensor::of(w.ty().with_elem(Elem::Quantized(qparams)), integers))
}

/// The weights of an output, and the rounded ones.
struct Row {
    weights: Vec<f32>,
    integers: Vec<i8>,
    scales: Vec<f32>,
}

/// Rounds the weights of some outputs.
fn round(rows: &mut [Row], size: usize, upper: &[f32], variances: &[f32]) {
    let extent = variances.len();
    let width = size * (CHANNELS / size).max(1);
    let mut errors = vec![0.0f32; rows.len() * extent];
    for start in (0..extent).step_by(width) {
        let columns = start..extent.min(start + width);
        let mut shifts = vec![0.0f32; rows.len() * columns.len()];
        if start > 0 {
            let known = View::new(&errors, rows.len(), extent).block(0..rows.len(), 0..start);
            multiply(&mut shifts, known, View::new(upper, extent, extent).block(0..start, columns.clone()));
        }
        let parts = shifts.par_chunks_mut(columns.len()).zip(errors.par_chunks_mut(extent));
        rows.par_iter_mut().zip(parts).for_each(|(row, (shifted, errors))| {
            shifted.iter_mut().zip(&row.weights[columns.clone()]).for_each(|(shift, weight)| *shift += weight);
            row.round(size, columns.clone(), shifted, errors, upper, variances);
        });
    }
}

impl Row {
    /// Rounds the weights of some channels, whose shifted values are given, and stores their errors.
    fn round(
        &mut self,
        size: usize,
        columns: std::ops::Range<usize>,
        shifted: &mut [f32],
        errors: &mut [f32],
        upper: &[f32],
        variances: &[f32],
    ) {
        let (lo, hi) = StorageType::I4.range();
        let mut scale = 1.0;
        for (i, k) in columns.clone().enumerate() {
            if i % size == 0 {
                scale = block_scale(&shifted[i..shifted.len().min(i + size)], &variances[k..]);
                self.scales.push(scale);
            }
            let q = (shifted[i] * (1.0 / scale)).round_ties_even().clamp(lo as f32, hi as f32);
            let error = self.weights[k] - q * scale;
            errors[k] = error;
            self.integers.push(q as i8);
            let factors = &upper[k * variances.len()..][k + 1..columns.end];
            shifted[i + 1..].iter_mut().zip(factors).for_each(|(x, u)| *x += error * u);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calibrate::Moments;
    use qcc_ir::Shape;
    use qcc_ir::testing::numbers;

    /// The error of the product of `x` and a weight that is rounded.
    fn error(x: &[f32], w: &Tensor, rounded: &Tensor, axis: usize) -> f64 {
        let (dims, exact, rounded) = (w.dims(), w.floats(), rounded.floats());
        let (extent, outputs) = (dims[axis], dims[1 - axis]);
        let place = |output: usize, k: usize| if axis == 1 { output * extent + k } else { k * outputs + output };
        let off = |row: &[f32], output: usize| -> f64 {
            let off = |(k, x): (usize, &f32)| f64::from(x * (exact[place(output, k)] - rounded[place(output, k)]));
            row.iter().enumerate().map(off).sum()
        };
        x.chunks(extent).flat_map(|row| (0..outputs).map(move |output| off(row, output).powi(2))).sum()
    }

    /// Activations whose channels depend on each other lose less than half of the energy that rounding to the nearest
    /// loses, whichever way the weight is stored and however many outputs it has.
    #[test]
    fn dependent_channels_lose_less() {
        const EXTENT: usize = 64;
        let (few, mix) = (numbers(Shape::known(&[200, 12]), 1), numbers(Shape::known(&[12, EXTENT]), 2));
        let (few, mix) = (few.floats(), mix.floats());
        let dot = |row: &[f32], k: usize| -> f32 {
            row.iter().zip(mix.iter().skip(k).step_by(EXTENT)).map(|(a, b)| a * b).sum()
        };
        let x: Vec<f32> = few.chunks(12).flat_map(|row| (0..EXTENT).map(move |k| dot(row, k))).collect();
        let mut moments = Moments::new(EXTENT);
        moments.add(&x);
        let factor = moments.factor().unwrap();
        for (dims, axis, size) in [([11, EXTENT], 1, 32), ([EXTENT, 8], 0, 16), ([3, EXTENT], 1, 48)] {
            let w = numbers(Shape::known(&dims), 3);
            let nearest = w.quantized(&super::super::weights::block_qparams(&w, axis, size));
            let compensated = compensated_blocks(&w, axis, size, &factor).unwrap();
            assert_eq!(compensated.ty().validate(), Ok(()));
            let (nearest, compensated) = (error(&x, &w, &nearest, axis), error(&x, &w, &compensated, axis));
            assert!(compensated < 0.5 * nearest, "{compensated} {nearest}");
        }
    }

    /// Without dependencies between channels every weight is rounded to the nearest.
    #[test]
    fn independent_channels_are_rounded_to_the_nearest() {
        let mut moments = Moments::new(32);
        (0..32).for_each(|k| moments.add(&std::array::from_fn::<f32, 32, _>(|i| if i == k { 1.0 } else { 0.0 })));
        let w = numbers(Shape::known(&[5, 32]), 3);
        let compensated = compensated_blocks(&w, 1, 16, &moments.factor().unwrap()).unwrap();
        let nearest = w.quantized(&super::super::weights::block_qparams(&w, 1, 16));
        assert_eq!(compensated.integers(), nearest.integers());
    }

    #[test]
    fn other_channels_are_refused() {
        let mut moments = Moments::new(32);
        moments.add(&[1.0; 32]);
        let factor = moments.factor().unwrap();
        let w = numbers(Shape::known(&[2, 48]), 1);
        assert!(compensated_blocks(&w, 1, 16, &factor).is_none());
    }
}
