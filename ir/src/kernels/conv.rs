//! Convolutions of `F32`; those of `F16` are computed in `F32`.

mod depthwise;
mod geometry;
mod padded;
mod square;
mod windows;

use std::ops::Range;

use rayon::prelude::*;
use smallvec::{SmallVec, smallvec};

use super::all_widened;
use super::gemm::{Term, contract, gemm_then};
use super::matrix::{Bias, View};
use super::product::{FEW_ROWS, multiply_rows, tasks};
use super::then::Then;
use crate::error::EvalError;
use crate::ops::{Conv, ConvTranspose, Tensors};
use crate::types::{Elem, Tensor};
pub(crate) use depthwise::depthwise;
pub(crate) use geometry::Geometry;
use geometry::Piece;
pub(crate) use padded::Padded;
use padded::{Pixel, Plan, Positions};
pub use windows::Windows;

/// For each image, group and term of the weight's reduction axis in turn, `emit` receives image, group, term, positions
/// and the accumulators there, one row for each filter of the group. The planes are tensors of the same size.
pub(crate) fn conv_sums(
    g: &Geometry,
    planes: &[&[f32]],
    w: &[f32],
    terms: &[Term],
    mut emit: impl FnMut(usize, usize, usize, Range<usize>, &[f32]),
) -> Result<(), EvalError> {
    let (depth, size) = (g.channels * g.taps(), g.channels * g.pixels());
    let plan = Plan::new(g, 1);
    let mut sums = Vec::new();
    for i in 0..g.batch * g.groups {
        let images: SmallVec<[&[f32]; 2]> = planes.iter().map(|x| &x[i * size..][..size]).collect();
        let group = i % g.groups;
        let weights = View::new(&w[group * g.filters * depth..][..g.filters * depth], g.filters, depth);
        let mut emit = |term, cols, sums: &[f32]| emit(i / g.groups, group, term, cols, sums);
        if g.is_pointwise() {
            let columns: SmallVec<[View<'_>; 2]> =
                images.iter().map(|x| View::new(x, g.channels, g.pixels())).collect();
            contract(weights, &columns, terms, emit)?;
            continue;
        }
        for part in plan.parts() {
            let positions = plan.range(&part);
            sums.resize(g.filters * positions.len(), 0.0);
            for (i, term) in terms.iter().enumerate() {
                plan.area(&part).with(images[term.plane], 0.0, |columns| {
                    let weights = weights.block(0..g.filters, term.inner.clone());
                    product_of_rows(&mut sums, weights, columns.block(term.inner.clone()));
                });
                emit(i, positions.clone(), &sums);
            }
        }
    }
    Ok(())
}

pub(crate) fn conv(op: &Conv, operands: &[&Tensor], then: Option<Then>) -> Result<Tensors, EvalError> {
    if operands[0].ty().elem == Elem::F16 {
        return all_widened(operands, |wide| conv(op, wide, then));
    }
    let (x, w) = (operands[0].view::<f32>(), operands[1].view::<f32>());
    let bias = operands.get(2).map(|b| b.view::<f32>());
    let g = Geometry::of_conv(op, &operands[0].dims(), &operands[1].dims());
    let (channels, positions) = (g.groups * g.filters, g.positions());
    let mut out = vec![0.0f32; g.batch * channels * positions];
    if out.is_empty() {
        // Empty result.
    } else if g.channels == 1 && g.filters == 1 {
        depthwise(&g, &x, &w, bias.as_deref(), then, &mut out);
    } else {
        let (depth, per_group) = (g.channels * g.taps(), g.filters * positions);
        let images = x.chunks_exact(g.channels * g.pixels());
        for (i, (out, image)) in out.chunks_exact_mut(per_group).zip(images).enumerate() {
            let filters = i % g.groups * g.filters..(i % g.groups + 1) * g.filters;
            let weights = View::new(&w[filters.start * depth..filters.end * depth], g.filters, depth);
            let bias = bias.as_ref().map(|b| &b[filters]);
            if g.is_pointwise() {
                let image = View::new(image, depth, positions);
                gemm_then(out, weights, image, bias.map_or(Bias::None, Bias::Rows), then)?;
            } else {
                windowed(&g, out, (weights, image), bias.map_or(Bias::None, Bias::After), then)?;
            }
        }
    }
    Ok(smallvec![Tensor::from_vec(g.shape(channels, g.steps, operands[0].ty().rank()), out)])
}

/// The product of filters with what is under the window in an image. Parts of the image are tasks.
fn windowed(
    g: &Geometry,
    out: &mut [f32],
    (weights, image): (View<'_>, &[f32]),
    bias: Bias<'_>,
    then: Option<Then>,
) -> Result<(), EvalError> {
    let (depth, positions) = (weights.cols(), g.positions());
    if positions == 1 {
        let taps = g.table();
        let pixels: Vec<Option<usize>> = taps.iter().map(|tap| g.pixel(tap, 0)).collect();
        let under = |plane: &[f32]| pixels.iter().map(|pixel| pixel.map_or(0.0, |at| plane[at])).collect::<Vec<_>>();
        let column: Vec<f32> = image.chunks_exact(g.pixels()).take(g.channels).flat_map(under).collect();
        return gemm_then(out, weights, View::new(&column, depth, 1), bias, then);
    }
    in_parts(g, out, image, 0.0, |rows, columns| multiply_rows(rows, weights, columns, bias, then));
    Ok(())
}

/// Calls `f` for each part of an image, with the positions there of each row of `out` and with what is under the window as
/// a matrix. Around the image there is `padding`. Parts are tasks.
pub(crate) fn in_parts<T: Pixel, O: Send>(
    g: &Geometry,
    out: &mut [O],
    image: &[T],
    padding: T,
    f: impl Fn(Vec<&mut [O]>, Padded<'_, T>) + Sync,
) {
    let positions = g.positions();
    let plan = Plan::new(g, tasks(g.filters * positions * g.channels * g.taps()));
    let mut parts: Vec<(Positions, Vec<&mut [O]>)> =
        plan.parts().into_iter().map(|part| (part, Vec::with_capacity(g.filters))).collect();
    for mut row in out.chunks_exact_mut(positions) {
        for (part, rows) in &mut parts {
            let (own, rest) = row.split_at_mut(plan.range(part).len());
            rows.push(own);
            row = rest;
        }
    }
    parts.into_par_iter().for_each(|(part, rows)| plan.area(&part).with(image, padding, |columns| f(rows, columns)));
}

/// A product without a bias. Rows are tasks.
fn product_of_rows(out: &mut [f32], a: View<'_>, b: Padded<'_>) {
    let width = out.len() / a.rows();
    let chunk = a.rows().div_ceil(tasks(out.len() * a.cols())).next_multiple_of(FEW_ROWS);
    out.par_chunks_mut(chunk * width).enumerate().for_each(|(i, out)| {
        let rows = i * chunk..(i * chunk + out.len() / width);
        multiply_rows(out.chunks_exact_mut(width).collect(), a.block(rows, 0..a.cols()), b, Bias::None, None);
    });
}

/// Adds a transposed convolution to `out` (`[batch, channels, pixels]`): each product of the weight with a term of the
/// operand's channels is added at the window's position.
pub(crate) fn transpose_sums<T: Copy + From<f32> + std::ops::AddAssign>(
    g: &Geometry,
    x: &[f32],
    w: &[f32],
    terms: &[Term],
    out: &mut [T],
) -> Result<(), EvalError> {
    let (depth, taps, positions, pixels) = (g.filters, g.table(), g.positions(), g.pixels());
    let wide = g.channels * taps.len();
    for (i, image) in x.chunks_exact((depth * positions).max(1)).enumerate() {
        let weights = &w[i % g.groups * depth * wide..][..depth * wide];
        let out = &mut out[i * g.channels * pixels..][..g.channels * pixels];
        let columns = [View::new(image, depth, positions)];
        contract(View::new(weights, depth, wide).transposed(), &columns, terms, |_, cols, sums| {
            let lines = g.lines(cols.clone());
            for (row, sums) in sums.chunks_exact(cols.len()).enumerate() {
                let plane = &mut out[row / taps.len() * pixels..][..pixels];
                lines.iter().for_each(|line| {
                    g.pieces(&taps[row % taps.len()], line, |Piece { at, len, from }| {
                        let Some(from) = from else { return };
                        let pixels = plane[from..].iter_mut().step_by(g.stride[2]);
                        pixels.zip(&sums[at..at + len]).for_each(|(p, &s)| *p += T::from(s));
                    });
                });
            }
        })?;
    }
    Ok(())
}

pub(crate) fn conv_transpose(op: &ConvTranspose, operands: &[&Tensor]) -> Result<Tensors, EvalError> {
    if operands[0].ty().elem == Elem::F16 {
        return all_widened(operands, |wide| conv_transpose(op, wide));
    }
    let (x, w) = (operands[0].view::<f32>(), operands[1].view::<f32>());
    let g = Geometry::of_transpose(op, &operands[0].dims(), &operands[1].dims());
    let (channels, pixels) = (g.groups * g.channels, g.pixels());
    let mut out = vec![0.0f32; g.batch * channels * pixels];
    if let Some(bias) = operands.get(2) {
        let bias = bias.view::<f32>();
        out.chunks_exact_mut(pixels).enumerate().for_each(|(i, plane)| plane.fill(bias[i % channels]));
    }
    transpose_sums(&g, &x, &w, &[Term { plane: 0, inner: 0..g.filters }], &mut out)?;
    Ok(smallvec![Tensor::from_vec(g.shape(channels, g.image, operands[0].ty().rank()), out)])
}

#[cfg(test)]
mod tests {
    use super::super::gemm::gemm;
    use super::*;
    use crate::ops::{Extents, Operator};
    use crate::testing::numbers;
    use crate::types::{Shape, TensorType};
    use proptest::prelude::*;

    /// Small integers, whose sums of products are exact.
    fn tensor(dims: &[usize], seed: usize) -> Tensor {
        let value = |i: usize| ((i * 7919 + seed * 31) % 17) as f32 - 8.0;
        Tensor::from_vec(Shape::known(dims), (0..dims.iter().product()).map(value).collect())
    }

    fn shape_of(op: &impl Operator, operands: &[&Tensor]) -> Option<Vec<usize>> {
        let types: Vec<&TensorType> = operands.iter().map(|t| t.ty()).collect();
        Some(op.infer(&types).ok()?[0].shape.extents()?.to_vec())
    }

    /// All index vectors below `dims`, in row-major order.
    fn indices(dims: &[usize]) -> Vec<Vec<usize>> {
        dims.iter().fold(vec![vec![]], |all, &d| {
            all.iter().flat_map(|head| (0..d).map(move |i| [head.as_slice(), &[i]].concat())).collect()
        })
    }

    fn flat(index: &[usize], dims: &[usize]) -> usize {
        index.iter().zip(dims).fold(0, |at, (i, d)| at * d + i)
    }

    /// The definition: each result is the sum over all channels and taps.
    fn naive(op: &Conv, x: &Tensor, w: &Tensor, bias: &[f32], y: &[usize]) -> Vec<f32> {
        let (dx, dw, vx, vw) = (x.dims(), w.dims(), x.view::<f32>(), w.view::<f32>());
        let at = |index: &[usize]| {
            let mut sum = bias[index[1]];
            for tap in indices(&dw[1..]) {
                let channel = index[1] / (dw[0] / op.groups) * dw[1] + tap[0];
                let pixel: Option<Vec<usize>> = (0..dx.len() - 2)
                    .map(|i| (index[2 + i] * op.stride[i] + tap[1 + i] * op.dilation[i]).checked_sub(op.before[i]))
                    .collect();
                let Some(pixel) = pixel else { continue };
                if pixel.iter().zip(&dx[2..]).any(|(p, d)| p >= d) {
                    continue;
                }
                let from = [&[index[0], channel], pixel.as_slice()].concat();
                sum += vx[flat(&from, &dx)] * vw[flat(&[&[index[1]], tap.as_slice()].concat(), &dw)];
            }
            sum
        };
        indices(y).iter().map(|i| at(i)).collect()
    }

    fn axis() -> impl Strategy<Value = [usize; 6]> {
        (1..9usize, 1..4usize, 1..4usize, 1..3usize, 0..3usize, 0..3usize)
            .prop_map(|(x, k, s, d, before, after)| [x, k, s, d, before, after])
    }

    fn column(axes: &[[usize; 6]], i: usize) -> Extents {
        axes.iter().map(|a| a[i]).collect()
    }

    /// Sums of several blocks of the reduction axis have the bits of those of a matrix without columns between lines.
    #[test]
    fn deep_windows_have_the_bits_of_a_product() {
        let op = Conv { before: smallvec![1, 1], after: smallvec![1, 1], ..Conv::unit(2) };
        let (x, w) = (numbers(Shape::known(&[1, 60, 12, 45]), 1), numbers(Shape::known(&[19, 60, 3, 3]), 2));
        let bias = numbers(Shape::known(&[19]), 3);
        let found = conv(&op, &[&x, &w, &bias], None).unwrap();
        let windows = Windows::new(&op, &x, &w.dims()[1..]);
        let (all, depth, filters) = (windows.positions(), w.len() / 19, w.view::<f32>());
        let (rows, mut sums) = (windows.rows(0..all), vec![0.0; 19 * all]);
        let columns = View::new(&rows, all, depth).transposed();
        gemm(&mut sums, View::new(&filters, 19, depth), columns, Bias::After(&bias.view::<f32>())).unwrap();
        let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&found[0].view::<f32>()), bits(&sums));
    }

    proptest! {
        #[test]
        fn conv_is_the_sum_over_channels_and_taps(
            axes in prop::collection::vec(axis(), 1..4),
            (batch, groups, channels, filters) in (1..3usize, 1..4usize, 1..4usize, 1..4usize),
        ) {
            let op = Conv {
                stride: column(&axes, 2),
                before: column(&axes, 4),
                after: column(&axes, 5),
                dilation: column(&axes, 3),
                groups,
            };
            let x = tensor(&[&[batch, groups * channels], column(&axes, 0).as_slice()].concat(), 1);
            let w = tensor(&[&[groups * filters, channels], column(&axes, 1).as_slice()].concat(), 2);
            let bias = tensor(&[groups * filters], 3);
            if let Some(y) = shape_of(&op, &[&x, &w, &bias]) {
                let found = conv(&op, &[&x, &w, &bias], None).unwrap();
                prop_assert_eq!(found[0].dims(), y.clone());
                let expected = naive(&op, &x, &w, &bias.view::<f32>(), &y);
                prop_assert_eq!(found[0].view::<f32>().to_vec(), expected.clone());
                // The products of the rows of windows and the filters are the same.
                if groups == 1 {
                    let windows = Windows::new(&op, &x, &w.dims()[1..]);
                    let (all, depth) = (windows.positions(), w.len() / filters);
                    let mut products = vec![0.0; all * filters];
                    let (filter, biases) = (w.view::<f32>(), bias.view::<f32>());
                    let weights = View::new(&filter, filters, depth).transposed();
                    let rows = windows.rows(0..all);
                    gemm(&mut products, View::new(&rows, all, depth), weights, Bias::Cols(&biases)).unwrap();
                    let each = all / batch;
                    let place = |i: usize| (i / filters / each * filters + i % filters) * each + i / filters % each;
                    prop_assert!(products.iter().enumerate().all(|(i, y)| *y == expected[place(i)]));
                }
            }
        }

        /// <conv(x, w), y> = <x, conv_transpose(y, w)>: the definition of the transposed convolution.
        #[test]
        fn conv_transpose_is_the_adjoint_of_conv(
            axes in prop::collection::vec(axis(), 1..4),
            (batch, groups, channels, filters) in (1..3usize, 1..3usize, 1..4usize, 1..4usize),
        ) {
            let op = Conv {
                stride: column(&axes, 2),
                before: column(&axes, 4),
                after: column(&axes, 5),
                dilation: column(&axes, 3),
                groups,
            };
            let x = tensor(&[&[batch, groups * channels], column(&axes, 0).as_slice()].concat(), 1);
            let w = tensor(&[&[groups * filters, channels], column(&axes, 1).as_slice()].concat(), 2);
            if let Some(dims) = shape_of(&op, &[&x, &w]) {
                let y = tensor(&dims, 5);
                let mut transposed = ConvTranspose {
                    stride: op.stride.clone(),
                    before: op.before.clone(),
                    after: op.after.clone(),
                    extra: Extents::from_elem(0, axes.len()),
                    dilation: op.dilation.clone(),
                    groups,
                };
                for (i, a) in axes.iter().enumerate() {
                    let covered = (dims[2 + i] - 1) * a[2] + a[3] * (a[1] - 1) + 1;
                    transposed.extra[i] = a[0] + a[4] + a[5] - covered;
                }
                let back = conv_transpose(&transposed, &[&y, &w]).unwrap();
                prop_assert_eq!(back[0].dims(), x.dims());
                let dot = |a: &Tensor, b: &Tensor| -> f32 {
                    a.view::<f32>().iter().zip(b.view::<f32>().iter()).map(|(a, b)| a * b).sum()
                };
                let forth = conv(&op, &[&x, &w], None).unwrap();
                prop_assert_eq!(dot(&forth[0], &y), dot(&x, &back[0]));
            }
        }
    }

    #[test]
    fn wide_images_are_made_in_blocks() {
        let op = Conv { before: smallvec![1, 1], after: smallvec![1, 1], ..Conv::unit(2) };
        let (x, w, bias) = (tensor(&[1, 3, 70, 91], 1), tensor(&[2, 3, 3, 3], 2), tensor(&[2], 3));
        let found = conv(&op, &[&x, &w, &bias], None).unwrap();
        assert_eq!(found[0].view::<f32>().to_vec(), naive(&op, &x, &w, &bias.view::<f32>(), &[1, 2, 70, 91]));
    }
}
