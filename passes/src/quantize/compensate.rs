//! Rounding of the weights of a contraction in which later weights compensate the errors of earlier ones.
//!
//! The weights of an output are rounded in the order of the channels. Each is shifted before by what makes up best for
//! the errors so far, for activations with the second moments that calibration found. This is GPTQ (Frantar et al.,
//! 2023), in the form of LDLQ (Chee et al., QuIP, 2023), which gives the same weights without an inverse.

use qcc_ir::matrix::{View, multiply};
use qcc_ir::ops::Op;
use qcc_ir::target::BlockGrid;
use qcc_ir::{Affine, Elem, QuantParams, StorageType, Tensor};
use rayon::prelude::*;

use super::qparams::{block_qparams, in_block};
use crate::calibrate::Factor;

/// Outputs whose weights are rounded at once.
const OUTPUTS: usize = 512;

/// Channels for which the errors of earlier ones are summed at once, unless blocks are larger.
const CHANNELS: usize = 128;

/// A scale and a zero point.
type Map = (f32, i8);

/// How the weights of outputs are quantized.
#[derive(Clone, Copy)]
enum Grid<'a> {
    /// To 4 bits, with a scale and a zero point for each block of this size, which are searched.
    Blocks(usize, BlockGrid),
    /// To 8 bits, with a scale for each output.
    Channels(&'a [f32]),
}

/// Where the weights of outputs are in a tensor.
#[derive(Clone, Copy)]
struct Matrix {
    outputs: usize,
    /// The weights of an output.
    extent: usize,
    /// The outputs vary fastest.
    by_output: bool,
}

impl Matrix {
    /// The weight `w` of a product of matrices, with reduction axis `axis`.
    fn dense(w: &Tensor, axis: usize) -> Self {
        let dims = w.dims();
        Matrix { outputs: dims[1 - axis], extent: dims[axis], by_output: axis == 0 }
    }

    /// The weight `w` of a contraction: a product of matrices or a convolution without groups.
    fn of(op: &Op, w: &Tensor) -> Self {
        if let Op::MatMul(m) = op {
            return Matrix::dense(w, usize::from(m.transpose_b));
        }
        let outputs = w.dims()[0];
        Matrix { outputs, extent: w.len() / outputs.max(1), by_output: false }
    }

    /// The place of element `k` of an output, where each has `length` of them.
    fn place(self, output: usize, k: usize, length: usize) -> usize {
        if self.by_output { k * self.outputs + output } else { output * length + k }
    }
}

/// The weight `w`, a matrix, quantized to 4 bits with a scale and a zero point for each block of `size` elements along
/// `axis`, its reduction axis, for an activation with this `factor`. `None` if its channels are others.
pub(super) fn compensated_blocks(
    w: &Tensor,
    axis: usize,
    size: usize,
    grid: BlockGrid,
    factor: &Factor,
) -> Option<Tensor> {
    let (integers, blocks) = compensated(w, Matrix::dense(w, axis), Grid::Blocks(size, grid), factor)?;
    let (scales, zero_points): (Vec<f32>, Vec<i8>) = blocks.into_iter().unzip();
    let qparams = QuantParams::per_block_with_zero_points(StorageType::I4, axis, size, scales, zero_points);
    Some(Tensor::of(w.ty().with_elem(Elem::Quantized(qparams)), integers))
}

/// The weight `w` of a contraction quantized to 8 bits with these parameters: symmetric, for each output or for all. `None` if the
/// factor is of other channels.
pub(super) fn compensated_channels(op: &Op, w: &Tensor, qparams: &QuantParams, factor: &Factor) -> Option<Tensor> {
    let matrix = Matrix::of(op, w);
    let scales = match &qparams.map {
        Affine::PerTensor { scale, zero_point: 0 } => vec![*scale; matrix.outputs],
        Affine::PerAxis { scales, .. } if scales.len() == matrix.outputs => scales.to_vec(),
        _ => return None,
    };
    let grid = Grid::Channels(&scales);
    let (integers, _) = compensated(w, matrix, grid, factor).filter(|_| qparams.storage == StorageType::I8)?;
    Some(Tensor::of(w.ty().with_elem(Elem::Quantized(qparams.clone())), integers))
}

/// The integers, in the order of the weight, and the scales and zero points, in the order of quantization parameters.
fn compensated(w: &Tensor, matrix: Matrix, grid: Grid<'_>, factor: &Factor) -> Option<(Vec<i8>, Vec<Map>)> {
    let (reals, Matrix { outputs, extent, .. }) = (w.floats(), matrix);
    if factor.extent() != extent {
        return None;
    }
    let (size, blocks) = match grid {
        Grid::Blocks(size, grid) => (Some((size, grid)), extent.div_ceil(size)),
        Grid::Channels(_) => (None, 1),
    };
    let (mut integers, mut maps) = (vec![0i8; w.len()], vec![(0.0f32, 0i8); outputs * blocks]);
    let row = |output| Row {
        weights: (0..extent).map(|k| reals[matrix.place(output, k, extent)]).collect(),
        integers: Vec::with_capacity(extent),
        maps: match grid {
            Grid::Blocks(..) => Vec::with_capacity(blocks),
            Grid::Channels(scales) => vec![(scales[output], 0)],
        },
    };
    let upper = factor.upper();
    for first in (0..outputs).step_by(OUTPUTS) {
        let mut rows: Vec<Row> = (first..outputs.min(first + OUTPUTS)).into_par_iter().map(row).collect();
        round(&mut rows, size, &upper, factor.variances());
        for (output, row) in (first..).zip(rows) {
            let place = |k, length| matrix.place(output, k, length);
            row.integers.into_iter().enumerate().for_each(|(k, q)| integers[place(k, extent)] = q);
            row.maps.into_iter().enumerate().for_each(|(block, map)| maps[place(block, blocks)] = map);
        }
    }
    Some((integers, maps))
}

/// The weights of an output, the rounded ones, and scales and zero points: of all, or of the blocks so far.
struct Row {
    weights: Vec<f32>,
    integers: Vec<i8>,
    maps: Vec<Map>,
}

/// Rounds the weights of some outputs: to 4 bits in blocks of a size, else to 8 bits.
fn round(rows: &mut [Row], size: Option<(usize, BlockGrid)>, upper: &[f32], variances: &[f32]) {
    let extent = variances.len();
    let width = size.map_or(CHANNELS, |(size, _)| size * (CHANNELS / size).max(1));
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
        size: Option<(usize, BlockGrid)>,
        columns: std::ops::Range<usize>,
        shifted: &mut [f32],
        errors: &mut [f32],
        upper: &[f32],
        variances: &[f32],
    ) {
        let (mut scale, mut zero) = self.maps.first().copied().unwrap_or((1.0, 0));
        for (i, k) in columns.clone().enumerate() {
            let q = match size {
                Some((size, grid)) => {
                    if i % size == 0 {
                        let block = &shifted[i..shifted.len().min(i + size)];
                        (scale, zero) = block_qparams(block, &variances[k..], grid);
                        self.maps.push((scale, zero));
                    }
                    in_block(shifted[i], (scale, zero.into()))
                }
                None => {
                    // Within a step, so that sums of products fit where nearest integers do.
                    let exact = self.weights[k] / scale;
                    (shifted[i] / scale).round_ties_even().clamp(exact.floor(), exact.ceil()).clamp(-127.0, 127.0)
                }
            };
            let error = self.weights[k] - (q - f32::from(zero)) * scale;
            errors[k] = error;
            self.integers.push(q as i8);
            let factors = &upper[k * variances.len()..][k + 1..columns.end];
            shifted[i + 1..].iter_mut().zip(factors).for_each(|(x, u)| *x += error * u);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::qparams::per_channel;
    use super::*;
    use crate::calibrate::Moments;
    use qcc_ir::Shape;
    use qcc_ir::matrix::Windows;
    use qcc_ir::ops::{Conv, MatMul};
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
            let nearest = w.quantized(&super::super::weights::block_qparams(&w, axis, size, BlockGrid::Any));
            let compensated = compensated_blocks(&w, axis, size, BlockGrid::Any, &factor).unwrap();
            assert_eq!(compensated.ty().validate(), Ok(()));
            let (nearest, compensated) = (error(&x, &w, &nearest, axis), error(&x, &w, &compensated, axis));
            assert!(compensated < 0.5 * nearest, "{compensated} {nearest}");
            let op = Op::from(MatMul { transpose_b: axis == 1 });
            let largest = super::super::weights::magnitudes(&w, 1 - axis);
            let qparams = QuantParams::per_axis(StorageType::I8, 1 - axis, per_channel(&largest));
            let compensated = compensated_channels(&op, &w, &qparams, &factor).unwrap();
            let step = |(exact, rounded): (&f32, &f32)| {
                (exact - rounded).abs() * 127.0 / largest.iter().fold(0.0, |a, b| b.max(a))
            };
            assert!(w.floats().iter().zip(compensated.floats().iter()).map(step).all(|step| step < 1.001));
            let nearest = error(&x, &w, &w.quantized(&qparams), axis);
            let compensated = error(&x, &w, &compensated, axis);
            assert!(compensated < 0.5 * nearest, "8 bits: {compensated} {nearest}");
        }
    }

    /// The same for the filters of a convolution over a picture that varies slowly.
    #[test]
    fn filters_lose_less() {
        let noise = numbers(Shape::known(&[3, 20, 20]), 1);
        let mut sum = 0.0;
        let mut smooth = noise.floats().to_vec();
        for x in &mut smooth {
            sum = 0.9 * sum + *x;
            *x = sum;
        }
        let x = Tensor::from_vec(Shape::known(&[1, 3, 20, 20]), smooth);
        let (op, w) = (Conv::unit(2), numbers(Shape::known(&[6, 3, 3, 3]), 2));
        let windows = Windows::new(&op, &x, &[3, 3, 3]);
        let rows = windows.rows(0..windows.positions());
        let mut moments = Moments::new(27);
        moments.add(&rows);
        let qparams = QuantParams::per_axis(StorageType::I8, 0, per_channel(&super::super::weights::magnitudes(&w, 0)));
        let factor = moments.factor().unwrap();
        let compensated = compensated_channels(&op.into(), &w, &qparams, &factor).unwrap();
        let matrix = |w: &Tensor| Tensor::from_vec(Shape::known(&[6, 27]), w.floats().to_vec());
        let error = |rounded: &Tensor| error(&rows, &matrix(&w), &matrix(rounded), 1);
        let (nearest, compensated) = (error(&w.quantized(&qparams)), error(&compensated));
        assert!(compensated < 0.5 * nearest, "{compensated} {nearest}");
    }

    /// Without dependencies between channels every weight is rounded to the nearest.
    #[test]
    fn independent_channels_are_rounded_to_the_nearest() {
        let mut moments = Moments::new(32);
        (0..32).for_each(|k| moments.add(&std::array::from_fn::<f32, 32, _>(|i| if i == k { 1.0 } else { 0.0 })));
        let w = numbers(Shape::known(&[5, 32]), 3);
        let compensated = compensated_blocks(&w, 1, 16, BlockGrid::Any, &moments.factor().unwrap()).unwrap();
        let nearest = w.quantized(&super::super::weights::block_qparams(&w, 1, 16, BlockGrid::Any));
        assert_eq!(compensated.integers(), nearest.integers());
    }

    #[test]
    fn other_channels_are_refused() {
        let mut moments = Moments::new(32);
        moments.add(&[1.0; 32]);
        let factor = moments.factor().unwrap();
        let w = numbers(Shape::known(&[2, 48]), 1);
        assert!(compensated_blocks(&w, 1, 16, BlockGrid::Any, &factor).is_none());
    }
}
