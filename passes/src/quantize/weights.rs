//! Quantization of weights, biases and other constants.

use qcc_ir::ops::Op;
use qcc_ir::target::BlockGrid;
use qcc_ir::{Dim, QuantParams, Runs, Shape, StorageType, Tensor};
use rayon::prelude::*;
use smallvec::SmallVec;

use super::qparams::{self, per_channel, qparams_of};
use crate::calibrate::Range;
use crate::rounding::{against_each_other, places};

/// The largest magnitude for each index of `axis`.
pub(super) fn magnitudes(w: &Tensor, axis: usize) -> Vec<f32> {
    let dims = w.dims();
    let inner: usize = dims[axis + 1..].iter().product();
    let mut max = vec![0.0f32; dims[axis]];
    for (i, run) in w.floats().chunks(inner.max(1)).enumerate() {
        let m = &mut max[i % dims[axis]];
        *m = run.iter().fold(*m, |m, x| m.max(x.abs()));
    }
    max
}

/// For each index of `axis`, the largest magnitude of the sum of two adjacent products of equal sign in the
/// accumulation order of a contraction: along its channels, and from the last channel of a tap to the first channel of
/// the next. `largest` is the largest activation of each channel.
fn pair_magnitudes(op: &Op, w: &Tensor, axis: usize, largest: &[f32]) -> Vec<f32> {
    let (dims, reals) = (w.dims(), w.floats());
    let summed = match op {
        Op::Conv(_) => 1,
        Op::MatMul(m) if m.transpose_b => dims.len() - 1,
        Op::MatMul(_) => dims.len() - 2,
        _ => 0,
    };
    let inside = |axis: usize| dims[axis + 1..].iter().product::<usize>().max(1);
    let (inner, run) = (inside(summed), inside(axis));
    let size = dims[summed] * inner;
    let sum =
        |x: f32, y: f32, factors: [f32; 2]| if x * y > 0.0 { (x * factors[0] + y * factors[1]).abs() } else { 0.0 };
    let mut max = vec![0.0f32; dims[axis]];
    // Each block has all channels.
    for (i, block) in reals.chunks_exact(size.max(1)).enumerate() {
        // For grouped convolutions, channels are counted from the first of the group.
        let first = match op {
            Op::Conv(c) => i / (dims[0] / c.groups.max(1)).max(1) * dims[1],
            _ => 0,
        };
        let largest = &largest[first..first + dims[summed]];
        let mut add = |at: usize, sum: f32| {
            let m = &mut max[(i * size + at) / run % dims[axis]];
            *m = m.max(sum);
        };
        let mut of_block = 0.0f32;
        for (channel, factors) in largest.windows(2).enumerate() {
            let factors = [factors[0], factors[1]];
            let (row, next) = block[channel * inner..][..2 * inner].split_at(inner);
            let sums = row.iter().zip(next).map(|(&x, &y)| sum(x, y, factors));
            match axis < summed {
                true => of_block = sums.fold(of_block, f32::max),
                false => sums.enumerate().for_each(|(tap, sum)| add(channel * inner + tap, sum)),
            }
        }
        if let (Op::Conv(_), [first, ..], [.., last]) = (op, largest, largest) {
            let across = block[size - inner..].iter().zip(&block[1..inner]);
            of_block = across.map(|(&x, &y)| sum(x, y, [*last, *first])).fold(of_block, f32::max);
        }
        if axis < summed {
            add(0, of_block);
        }
    }
    max
}

/// Lower bounds of the scales of a weight, besides its own range.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Bounds<'a> {
    /// The axis of per-channel scales.
    pub(super) channel: Option<usize>,
    /// For kernels that accumulate pairs of products in saturating 16-bit integers: the largest sum that fits, and the
    /// largest quantized activation of each channel.
    pub(super) pairs: Option<(i32, &'a [f32])>,
    /// For 32-bit accumulators: the scale of the activation, and the bias, which must fit.
    pub(super) sums: Option<(f32, &'a Tensor)>,
}

/// The quantization parameters of the weight of a contraction: symmetric, with the smallest scales within the bounds.
pub(super) fn weight_qparams(op: &Op, w: &Tensor, bounds: Bounds<'_>) -> QuantParams {
    let axis = bounds.channel.unwrap_or(0);
    let mut largest = magnitudes(w, axis);
    if let Some((limit, factors)) = bounds.pairs {
        // The margin covers the rounding of both weights at the largest activations.
        let most = 255.0 * ((limit / 255) as f32 - 2.0);
        let sums = pair_magnitudes(op, w, axis, factors).into_iter().map(|m| m / most * 127.0);
        largest.iter_mut().zip(sums).for_each(|(m, sum)| *m = m.max(sum));
    }
    let least: Vec<f32> = bounds.sums.map_or_else(Vec::new, |(input, bias)| {
        let limit = input * (1 << 30) as f32;
        bias.floats().iter().map(|b| b.abs() / limit).collect()
    });
    match bounds.channel {
        Some(axis) => {
            let mut scales = per_channel(&largest);
            scales.iter_mut().zip(&least).for_each(|(scale, least)| *scale = scale.max(*least));
            QuantParams::per_axis(StorageType::I8, axis, scales)
        }
        None => {
            let magnitude = largest.into_iter().fold(0.0, f32::max);
            QuantParams::per_tensor(StorageType::I8, least.into_iter().fold(per_channel(&[magnitude])[0], f32::max), 0)
        }
    }
}

/// Block-wise 4-bit quantization parameters: one scale and zero point for each block of `size` elements along `axis`.
pub(super) fn block_qparams(w: &Tensor, axis: usize, size: usize, grid: BlockGrid) -> QuantParams {
    let (dims, reals) = (w.dims(), w.floats());
    let (extent, inner) = (dims[axis], dims[axis + 1..].iter().product::<usize>());
    let outer: usize = dims[..axis].iter().product();
    let runs = extent.div_ceil(size);
    let alike = vec![1.0; size];
    let block = |place: usize| {
        let (row, column) = (place / inner, place % inner);
        let first = row / runs * extent + row % runs * size;
        let length = size.min(extent - row % runs * size);
        if inner == 1 {
            return qparams::block_qparams(&reals[first..first + length], &alike, grid);
        }
        let run: Vec<f32> = (first..first + length).map(|k| reals[k * inner + column]).collect();
        qparams::block_qparams(&run, &alike, grid)
    };
    let (scales, zero_points): (Vec<f32>, Vec<i8>) = (0..outer * runs * inner).into_par_iter().map(block).unzip();
    QuantParams::per_block_with_zero_points(StorageType::I4, axis, size, scales, zero_points)
}

/// The quantization parameters of a bias: those of the accumulator. Block-wise quantized weights have none.
pub(super) fn bias_qparams(input: f32, weight: &QuantParams) -> QuantParams {
    match weight.tensor_map() {
        Some((scale, _)) => QuantParams::per_tensor(StorageType::I32, input * scale, 0),
        None => {
            QuantParams::per_axis(StorageType::I32, 0, weight.scales().iter().map(|s| input * s).collect::<Vec<_>>())
        }
    }
}

/// The quantization parameters that cover a constant.
pub(super) fn constant_qparams(t: &Tensor, storage: StorageType) -> QuantParams {
    qparams_of(constant_range(t), storage, false)
}

/// The range of a constant.
pub(super) fn constant_range(t: &Tensor) -> Range {
    let values = t.floats();
    let end = |f: fn(f32, f32) -> f32| values.iter().copied().fold(0.0, f);
    Range { lo: end(f32::min), hi: end(f32::max) }
}

/// The quantized weight, for symmetric parameters. For convolution windows of more than one tap, the rounding errors of
/// the taps of a window are balanced: neighbouring elements of an image are similar, so the sum of the errors matters.
pub(super) fn rounded(op: &Op, w: &Tensor, qparams: &QuantParams) -> Tensor {
    let nearest = w.quantized(qparams);
    let dims = w.dims();
    let taps: usize = dims.iter().skip(2).product();
    if !matches!(op, Op::Conv(_)) || taps < 2 {
        return nearest;
    }
    cancelled(w, &nearest, qparams, w.len() / taps, |window| (window * taps..(window + 1) * taps).collect())
}

/// The quantized weight `near`, with the rounding errors of each output along `axis` balanced. Without statistics,
/// activations are assumed to be similar or of one sign.
pub(super) fn rounded_by_output(w: &Tensor, near: &Tensor, qparams: &QuantParams, axis: usize) -> Tensor {
    let dims = w.dims();
    let run = dims[axis + 1..].iter().product();
    cancelled(w, near, qparams, dims[axis], |output| places(output, dims[axis], run, w.len()))
}

/// Balances the rounding errors within each group of elements, for 8-bit weights. `places` returns the indices of a
/// group.
fn cancelled(
    w: &Tensor,
    near: &Tensor,
    qparams: &QuantParams,
    groups: usize,
    places: impl Fn(usize) -> Vec<usize> + Sync,
) -> Tensor {
    if qparams.storage != StorageType::I8 {
        return near.clone();
    }
    let runs = Runs::new(near.ty(), qparams);
    let (exact, mut integers) = (w.floats(), near.view::<i8>().into_owned());
    let error = |k: usize| f32::from(integers[k]) - exact[k] / runs.at(k / runs.length()).0;
    let turned = |group: usize| -> Vec<(usize, i8)> {
        let places = places(group);
        let errors: SmallVec<[f32; 32]> = places.iter().map(|&k| error(k)).collect();
        // Each turn changes the sum by one: none brings a small sum closer to 0.
        if errors.iter().map(|&e| f64::from(e)).sum::<f64>().abs() < 0.49 {
            return Vec::new();
        }
        let others: SmallVec<[f32; 32]> = errors.iter().map(|e| e - e.signum()).collect();
        let turned = against_each_other(&errors, &others).into_iter();
        turned.map(|i| (places[i], integers[places[i]] - errors[i].signum() as i8)).collect()
    };
    let turned: Vec<(usize, i8)> = (0..groups).into_par_iter().flat_map_iter(turned).collect();
    turned.into_iter().for_each(|(k, q)| integers[k] = q);
    Tensor::of(near.ty().clone(), integers)
}

/// The share of the input channels with nonzero weights whose weights have an SQNR below 3 dB after rounding: inputs
/// with weights that are small compared to others with the same scale.
pub(super) fn lost_inputs(op: &Op, w: &Tensor, rounded: &Tensor) -> f64 {
    let (dims, exact, rounded) = (w.dims(), w.floats(), rounded.floats());
    let (summed, outputs_per_group) = match op {
        Op::Conv(c) => (1, dims[0] / c.groups.max(1)),
        Op::MatMul(m) if m.transpose_b => (dims.len() - 1, dims[0]),
        Op::MatMul(_) => (dims.len() - 2, dims[0]),
        _ => (0, dims[0]),
    };
    let inside = |axis: usize| dims[axis + 1..].iter().product::<usize>().max(1);
    let (run, group) = (inside(summed), inside(0) * outputs_per_group.max(1));
    let mut energy = vec![(0f64, 0f64); exact.len().div_ceil(group) * dims[summed]];
    for (i, (x, r)) in exact.iter().zip(rounded.iter()).enumerate() {
        let (signal, noise) = &mut energy[i / group * dims[summed] + i / run % dims[summed]];
        *signal += f64::from(*x).powi(2);
        *noise += f64::from(x - r).powi(2);
    }
    let used = energy.iter().filter(|(signal, _)| *signal > 0.0);
    let (count, lost) =
        used.fold((0usize, 0usize), |(n, lost), (signal, noise)| (n + 1, lost + usize::from(2.0 * noise > *signal)));
    lost as f64 / count.max(1) as f64
}

/// The bias that compensates the shift of the output means by weight rounding: `bias - sum((q - w) * mean(x))` over the
/// products of each output. `means` are the means of the activation channels. `shares` is, for each tap, the share of
/// outputs for which it is inside the image.
pub(super) fn corrected_bias(
    op: &Op,
    w: &Tensor,
    rounded: &Tensor,
    bias: &Tensor,
    means: &[f64],
    shares: &[f64],
) -> Option<Tensor> {
    let dims = w.dims();
    // The number of outputs, of products for each output, and of groups.
    let (outputs, products, groups) = match op {
        Op::Conv(c) => (dims[0], dims[1..].iter().product::<usize>(), c.groups),
        Op::MatMul(m) if m.transpose_b && dims.len() == 2 => (dims[0], dims[1], 1),
        _ => return None,
    };
    let (channels, taps) = (dims[1], products / dims[1].max(1));
    if means.len() != channels * groups || shares.len() != taps || bias.len() != outputs {
        return None;
    }
    let (rounded, exact) = (rounded.floats(), w.floats());
    let shift = |o: usize| -> f64 {
        let first = o / (outputs / groups) * channels;
        let product = |k: usize| {
            let i = o * products + k;
            (f64::from(rounded[i]) - f64::from(exact[i])) * means[first + k / taps] * shares[k % taps]
        };
        (0..products).map(product).sum()
    };
    let corrected = bias.floats().iter().enumerate().map(|(o, b)| (f64::from(*b) - shift(o)) as f32).collect();
    Some(Tensor::from_vec(Shape::known(&[outputs]), corrected))
}

/// For each tap of a window, the share of outputs for which it reads the image and not padding.
pub(super) fn shares(op: &Op, w: &Tensor, image: &Shape, result: &Shape) -> Vec<f64> {
    let spatial = |shape: &Shape| shape.dims().get(2..)?.iter().map(Dim::known).collect::<Option<Vec<usize>>>();
    let (Op::Conv(conv), Some(image), Some(result)) = (op, spatial(image), spatial(result)) else { return vec![1.0] };
    w.dims()[2..].iter().enumerate().fold(vec![1.0], |outer, (i, &window)| {
        let (extent, places) = (image[i], result[i]);
        let along = |tap| conv.reads(i, tap, extent, places) as f64 / places.max(1) as f64;
        outer.iter().flat_map(|share| (0..window).map(move |tap| share * along(tap))).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use qcc_ir::ops::{Conv, ConvTranspose, MatMul};
    use qcc_ir::testing::numbers;

    fn ops() -> impl Strategy<Value = (Op, usize)> {
        let deconvolution = ConvTranspose {
            stride: [1, 1].into_iter().collect(),
            before: [0, 0].into_iter().collect(),
            after: [0, 0].into_iter().collect(),
            extra: [0, 0].into_iter().collect(),
            dilation: [1, 1].into_iter().collect(),
            groups: 1,
        };
        prop_oneof![
            Just((Conv::unit(2).into(), 0)),
            Just((deconvolution.into(), 1)),
            Just((MatMul { transpose_b: true }.into(), 0)),
            Just((MatMul { transpose_b: false }.into(), 1)),
        ]
    }

    /// Input channels are counted on the axis of each operator, within each group.
    #[test]
    fn lost_inputs_are_those_of_the_operator() {
        let lost = |op: &Op, dims: &[usize], w: &[f32], rounded: &[f32]| {
            let tensor = |x: &[f32]| Tensor::from_vec(Shape::known(dims), x.to_vec());
            lost_inputs(op, &tensor(w), &tensor(rounded))
        };
        let (w, rounded) = ([8.0, 1.0, 4.0, 1.0], [8.0, 0.0, 4.0, 0.0]);
        let grouped = Op::from(Conv { groups: 2, ..Conv::unit(2) });
        assert_eq!(lost(&Conv::unit(2).into(), &[2, 2, 1, 1], &w, &rounded), 0.5);
        assert_eq!(lost(&Conv::unit(2).into(), &[1, 2, 1, 2], &w, &rounded), 0.0, "taps are of one input");
        assert_eq!(lost(&grouped, &[2, 2, 1, 1], &w, &[8.0, 1.0, 4.0, 0.0]), 0.25);
        assert_eq!(lost(&MatMul { transpose_b: true }.into(), &[2, 2], &w, &rounded), 0.5);
        assert_eq!(lost(&MatMul { transpose_b: false }.into(), &[2, 2], &w, &rounded), 0.0);
        assert_eq!(lost(&MatMul { transpose_b: false }.into(), &[2, 2], &w, &[8.0, 1.0, 0.0, 0.0]), 0.5);
    }

    proptest! {
        /// The sum of two adjacent products with the largest activation fits in 16 bits, however weights are rounded.
        #[test]
        fn pairs_fit_into_16_bits((op, axis) in ops(), extents in prop::array::uniform4(1usize..5), seed: u64, all: bool) {
            let rank = if matches!(op, Op::MatMul(_)) { 2 } else { 4 };
            let noise = numbers(Shape::known(&extents[..rank]), seed);
            let of_one_sign = noise.floats().iter().map(|x| x.abs().sqrt() + 0.1).collect();
            let w = Tensor::from_vec(noise.ty().shape.clone(), of_one_sign);
            let factors = vec![255.0; w.dims()[1 - axis]];
            let bounds = Bounds { channel: all.then_some(axis), pairs: Some((i16::MAX.into(), &factors)), sums: None };
            let qparams = weight_qparams(&op, &w, bounds);
            let q = rounded(&op, &w, &qparams);
            let (dims, q) = (w.dims(), q.view::<i8>().into_owned());
            let at = |index: &[usize]| {
                i32::from(q[index.iter().zip(&dims).fold(0, |at, (i, extent)| at * extent + i)])
            };
            // The products of one output in the accumulation order of kernels: channels innermost.
            for output in 0..dims[axis] {
                let products: Vec<i32> = match op {
                    Op::MatMul(_) => (0..dims[1 - axis])
                        .map(|k| if axis == 0 { at(&[output, k]) } else { at(&[k, output]) })
                        .collect(),
                    _ => (0..dims[2])
                        .flat_map(|y| (0..dims[3]).map(move |x| (y, x)))
                        .flat_map(|(y, x)| (0..dims[1 - axis]).map(move |c| (c, y, x)))
                        .map(|(c, y, x)| if axis == 0 { at(&[output, c, y, x]) } else { at(&[c, output, y, x]) })
                        .collect(),
                };
                let across = matches!(op, Op::Conv(_));
                for (k, pair) in products.windows(2).enumerate() {
                    let same_tap = (k + 1) % dims[1 - axis] != 0;
                    if same_tap || across {
                        prop_assert!(255 * (pair[0] + pair[1]) <= i32::from(i16::MAX), "{pair:?}");
                    }
                }
            }
        }
    }
}
