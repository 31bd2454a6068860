//! Constants on grids.

use qcc_ir::ops::Op;
use qcc_ir::{Grid, Shape, Store, Tensor, scale_runs};

use super::grids::{block_scale, grid_of, per_channel};
use crate::calibrate::Range;

/// Largest magnitude for each index of `axis`.
pub(super) fn magnitudes(w: &Tensor, axis: usize) -> Vec<f32> {
    let dims = w.dims();
    let inner: usize = dims[axis + 1..].iter().product();
    let mut max = vec![0.0f32; dims[axis]];
    for (i, run) in w.reals().chunks(inner.max(1)).enumerate() {
        let m = &mut max[i % dims[axis]];
        *m = run.iter().fold(*m, |m, x| m.max(x.abs()));
    }
    max
}

/// The grid of a contraction's weight: symmetric, one scale for each index of `channel` where that is asked.
///
/// `input` is the scale of the activation and `bias` the bias: scales are enlarged where the bias would leave 32 bits.
pub(super) fn weight_grid(w: &Tensor, channel: Option<usize>, input: f32, bias: Option<&Tensor>) -> Grid {
    let limit = (1 << 30) as f32;
    let bias: Vec<f32> = bias.map(|b| b.reals().into_owned()).unwrap_or_default();
    match channel {
        Some(axis) => {
            let mut scales = per_channel(&magnitudes(w, axis));
            for (s, b) in scales.iter_mut().zip(&bias) {
                *s = s.max(b.abs() / (input * limit));
            }
            Grid::per_axis(Store::I8, axis, scales)
        }
        None => {
            let magnitude = w.reals().iter().fold(0.0f32, |m, x| m.max(x.abs()));
            let scale = bias.iter().fold(per_channel(&[magnitude])[0], |s, b| s.max(b.abs() / (input * limit)));
            Grid::per_tensor(Store::I8, scale, 0)
        }
    }
}

/// The grid of a weight in 4 bits with a scale for each run of `size` indices of `axis`.
pub(super) fn block_grid(w: &Tensor, axis: usize, size: usize) -> Grid {
    use rayon::prelude::*;
    let (dims, reals) = (w.dims(), w.reals());
    let (extent, inner) = (dims[axis], dims[axis + 1..].iter().product::<usize>());
    let outer: usize = dims[..axis].iter().product();
    let runs = extent.div_ceil(size);
    let scale = |place: usize| {
        let (row, column) = (place / inner, place % inner);
        let first = row / runs * extent + row % runs * size;
        let length = size.min(extent - row % runs * size);
        let run: Vec<f32> = (first..first + length).map(|k| reals[k * inner + column]).collect();
        block_scale(&run)
    };
    let scales: Vec<f32> = (0..outer * runs * inner).into_par_iter().map(scale).collect();
    Grid::per_block(Store::I4, axis, size, scales)
}

/// The grid of a bias: that of the accumulator. There is none of products with a weight in blocks.
pub(super) fn bias_grid(input: f32, weight: &Grid) -> Grid {
    match weight.tensor_map() {
        Some((scale, _)) => Grid::per_tensor(Store::I32, input * scale, 0),
        None => Grid::per_axis(Store::I32, 0, weight.scales().iter().map(|s| input * s).collect::<Vec<_>>()),
    }
}

/// The grid that spans a constant.
pub(super) fn constant_grid(t: &Tensor, store: Store) -> Grid {
    grid_of(constant_range(t), store, false)
}

/// The range of a constant.
pub(super) fn constant_range(t: &Tensor) -> Range {
    let values = t.reals();
    let end = |f: fn(f32, f32) -> f32| values.iter().copied().fold(0.0, f);
    Range { lo: end(f32::min), hi: end(f32::max) }
}

/// A weight's integers on a symmetric grid. Where a window is wider than one tap, neighbours are rounded against each
/// other until their errors cancel: neighbours of an image are alike, so that the sum of their errors is what counts.
pub(super) fn rounded(op: &Op, w: &Tensor, grid: &Grid) -> Tensor {
    let nearest = w.quantized(grid);
    let dims = w.dims();
    let taps: usize = dims.iter().skip(2).product();
    if !matches!(op, Op::Conv(_)) || taps < 2 || grid.store != Store::I8 {
        return nearest;
    }
    let (run, scales) = scale_runs(nearest.ty(), grid);
    let mut integers = nearest.view::<i8>().into_owned();
    let exact = w.reals();
    for (window, q) in integers.chunks_mut(taps).enumerate() {
        let scale = scales[(window * taps / run) % scales.len()];
        let mut errors: Vec<f32> =
            q.iter().zip(&exact[window * taps..]).map(|(&q, w)| f32::from(q) - w / scale).collect();
        let mut sum: f32 = errors.iter().sum();
        while sum.abs() > 0.5 {
            let against = sum.signum();
            let farthest = errors.iter().enumerate().max_by(|a, b| (a.1 * against).total_cmp(&(b.1 * against)));
            let Some((k, _)) = farthest.filter(|(k, _)| (-127..=127).contains(&(i32::from(q[*k]) - against as i32)))
            else {
                break;
            };
            q[k] -= against as i8;
            errors[k] -= against;
            sum -= against;
        }
    }
    Tensor::of(nearest.ty().clone(), integers)
}

/// The bias that makes up for what rounding the weight does to the mean of each output: `bias - (q - w) * mean(x)`,
/// summed over the products of that output. `means` are those of the activation's channels.
pub(super) fn corrected_bias(op: &Op, w: &Tensor, rounded: &Tensor, bias: &Tensor, means: &[f64]) -> Option<Tensor> {
    let dims = w.dims();
    // Products of one output, and the channel that the k-th of them reads, counted from the first of its group.
    let (outputs, products, groups) = match op {
        Op::Conv(c) => (dims[0], dims[1..].iter().product::<usize>(), c.groups),
        Op::MatMul(m) if m.transpose_b && dims.len() == 2 => (dims[0], dims[1], 1),
        _ => return None,
    };
    let (channels, taps) = (dims[1], products / dims[1].max(1));
    if means.len() != channels * groups || bias.len() != outputs {
        return None;
    }
    let (rounded, exact) = (rounded.reals(), w.reals());
    let shift = |o: usize| -> f64 {
        let first = o / (outputs / groups) * channels;
        let product = |k: usize| {
            let i = o * products + k;
            (f64::from(rounded[i]) - f64::from(exact[i])) * means[first + k / taps]
        };
        (0..products).map(product).sum()
    };
    let corrected = bias.reals().iter().enumerate().map(|(o, b)| (f64::from(*b) - shift(o)) as f32).collect();
    Some(Tensor::from_vec(Shape::known(&[outputs]), corrected))
}
