//! Convolutions of `F32`. One or two spatial axes are treated as three with leading extents of 1.

use std::ops::Range;

use smallvec::smallvec;

use super::gemm::{Columns, Term, contract, gemm};
use super::matrix::{Bias, View};
use crate::error::EvalError;
use crate::ops::{Conv, ConvTranspose, Tensors};
use crate::types::{Shape, Tensor};
use crate::vector::vectorized;

/// Geometry of a convolution: extents and strides over depth, height and width.
#[derive(Clone, Debug)]
pub(crate) struct Geometry {
    /// Images.
    pub(crate) batch: usize,
    /// Groups of channels.
    pub(crate) groups: usize,
    /// Channels of each group of the image that the window moves over.
    pub(crate) channels: usize,
    /// Channels of each group of the other tensor.
    pub(crate) filters: usize,
    /// Spatial extents of the image that the window moves over.
    pub(crate) image: [usize; 3],
    /// Number of positions of the window.
    pub(crate) steps: [usize; 3],
    window: [usize; 3],
    stride: [usize; 3],
    before: [usize; 3],
    dilation: [usize; 3],
}

/// `values`, padded in front with `fill` to three.
fn three(values: &[usize], fill: usize) -> [usize; 3] {
    let mut all = [fill; 3];
    for (a, &v) in all[3 - values.len()..].iter_mut().zip(values) {
        *a = v;
    }
    all
}

impl Geometry {
    /// The geometry of a convolution of images `x` with filters `w`, whose result has the extents `y`.
    pub(crate) fn of_conv(op: &Conv, x: &[usize], w: &[usize]) -> Self {
        let (image, window) = (three(&x[2..], 1), three(&w[2..], 1));
        let (stride, dilation) = (three(&op.stride, 1), three(&op.dilation, 1));
        let (before, after) = (three(&op.before, 0), three(&op.after, 0));
        let steps = std::array::from_fn(|i| {
            (image[i] + before[i] + after[i] - dilation[i] * (window[i] - 1) - 1) / stride[i] + 1
        });
        let filters = w[0] / op.groups;
        Geometry {
            batch: x[0],
            groups: op.groups,
            channels: w[1],
            filters,
            image,
            steps,
            window,
            stride,
            before,
            dilation,
        }
    }

    /// The geometry of a transposed convolution: the window moves over the result, with one position for each element
    /// of the operand.
    pub(crate) fn of_transpose(op: &ConvTranspose, x: &[usize], w: &[usize]) -> Self {
        let (steps, window) = (three(&x[2..], 1), three(&w[2..], 1));
        let (stride, dilation) = (three(&op.stride, 1), three(&op.dilation, 1));
        let (before, after, extra) = (three(&op.before, 0), three(&op.after, 0), three(&op.extra, 0));
        let image = std::array::from_fn(|i| {
            (steps[i] - 1) * stride[i] + dilation[i] * (window[i] - 1) + 1 + extra[i] - before[i] - after[i]
        });
        let filters = w[0] / op.groups;
        Geometry {
            batch: x[0],
            groups: op.groups,
            channels: w[1],
            filters,
            image,
            steps,
            window,
            stride,
            before,
            dilation,
        }
    }

    /// Elements of one channel of the image that the window moves over.
    pub(crate) fn pixels(&self) -> usize {
        self.image.iter().product()
    }

    /// Number of positions of the window.
    pub(crate) fn positions(&self) -> usize {
        self.steps.iter().product()
    }

    /// Number of taps of the window.
    pub(crate) fn taps(&self) -> usize {
        self.window.iter().product()
    }

    /// True where the window has one tap and reads each pixel once: the patches are the image itself.
    fn is_pointwise(&self) -> bool {
        self.taps() == 1 && self.image == self.steps && self.stride == [1; 3] && self.before == [0; 3]
    }

    /// The shape of a result with `channels` and the given spatial extents, of which the last `rank` count.
    pub(crate) fn shape(&self, channels: usize, extents: [usize; 3], rank: usize) -> Shape {
        [self.batch, channels].into_iter().chain(extents[5 - rank..].iter().copied()).collect()
    }

    /// Index of a tap along each axis.
    fn tap(&self, index: usize) -> [usize; 3] {
        let [_, height, width] = self.window;
        [index / (height * width), index / width % height, index % width]
    }

    /// The pixel that a tap reads along one axis; `None` for padding.
    fn pixel(&self, axis: usize, step: usize, tap: usize) -> Option<usize> {
        let padded = step * self.stride[axis] + tap * self.dilation[axis];
        padded.checked_sub(self.before[axis]).filter(|&p| p < self.image[axis])
    }

    /// The steps along the width at which a tap is inside the image.
    fn inside(&self, tap: usize) -> Range<usize> {
        let (offset, before, stride) = (tap * self.dilation[2], self.before[2], self.stride[2]);
        let first = before.saturating_sub(offset).div_ceil(stride);
        let end = (self.image[2] + before).saturating_sub(offset).div_ceil(stride);
        first.min(self.steps[2])..end.clamp(first.min(self.steps[2]), self.steps[2])
    }

    /// Visits the runs of consecutive positions in `cols` along the width, for one tap. `visit` receives the run as a
    /// range of positions relative to `cols.start`; where the tap is inside the image in depth and height, the index of
    /// that image row; and the step along the width at which the run starts.
    fn runs(&self, tap: [usize; 3], cols: Range<usize>, mut visit: impl FnMut(Range<usize>, Option<usize>, usize)) {
        let [_, height, width] = self.steps;
        let mut at = cols.start;
        while at < cols.end {
            let (line, step) = (at / width, at % width);
            let run = (width - step).min(cols.end - at);
            let z = self.pixel(0, line / height, tap[0]);
            let y = self.pixel(1, line % height, tap[1]);
            let row = z.zip(y).map(|(z, y)| z * self.image[1] + y);
            visit(at - cols.start..at - cols.start + run, row, step);
            at += run;
        }
    }
}

/// The patches under the window as columns: one row for each channel and tap, one column for each position.
pub(crate) struct Patches<'a> {
    geometry: &'a Geometry,
    image: &'a [f32],
}

impl Patches<'_> {
    fn fill(&self, row: usize, cols: Range<usize>, out: &mut [f32]) {
        let g = self.geometry;
        let (channel, tap) = (row / g.taps(), g.tap(row % g.taps()));
        let (plane, width, stride) = (&self.image[channel * g.pixels()..], g.image[2], g.stride[2]);
        let inside = g.inside(tap[2]);
        g.runs(tap, cols, |run, line, step| {
            let out = &mut out[run];
            let (from, to) = (inside.start.max(step), inside.end.min(step + out.len()));
            let Some(line) = line.filter(|_| from < to) else { return out.fill(0.0) };
            let first = line * width + from * stride + tap[2] * g.dilation[2] - g.before[2];
            out[..from - step].fill(0.0);
            out[to - step..].fill(0.0);
            gather(&mut out[from - step..to - step], &plane[first..], stride);
        });
    }
}

/// `out[i] = x[i * stride]`
fn gather(out: &mut [f32], x: &[f32], stride: usize) {
    if stride == 1 {
        return out.copy_from_slice(&x[..out.len()]);
    }
    strided(out, x, stride, |o, v| *o = v);
}

/// Calls `f` with `out[i]` and `x[i * stride]`.
#[inline(always)]
fn strided(out: &mut [f32], x: &[f32], stride: usize, f: impl Fn(&mut f32, f32)) {
    let Some((last, rest)) = out.split_last_mut() else { return };
    // All elements but the last are followed by a whole stride.
    let end = x[rest.len() * stride];
    match stride {
        1 => rest.iter_mut().zip(x).for_each(|(o, &v)| f(o, v)),
        2 => rest.iter_mut().zip(x.as_chunks::<2>().0).for_each(|(o, v)| f(o, v[0])),
        _ => rest.iter_mut().zip(x.chunks_exact(stride)).for_each(|(o, v)| f(o, v[0])),
    }
    f(last, end);
}

impl Columns for Patches<'_> {
    fn cols(&self) -> usize {
        self.geometry.positions()
    }

    fn block<'s>(&'s self, rows: Range<usize>, cols: Range<usize>, scratch: &'s mut Vec<f32>) -> View<'s> {
        let size = rows.len() * cols.len();
        if scratch.len() < size {
            scratch.resize(size, 0.0);
        }
        for (out, row) in scratch.chunks_exact_mut(cols.len()).zip(rows.clone()) {
            self.fill(row, cols.clone(), out);
        }
        View::new(&scratch[..size], rows.len(), cols.len())
    }
}

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
    for i in 0..g.batch * g.groups {
        let images = planes.iter().map(|x| &x[i * size..][..size]);
        let group = i % g.groups;
        let weights = View::new(&w[group * g.filters * depth..][..g.filters * depth], g.filters, depth);
        let emit = |term, cols, sums: &[f32]| emit(i / g.groups, group, term, cols, sums);
        if g.is_pointwise() {
            let columns: Vec<View<'_>> = images.map(|x| View::new(x, g.channels, g.pixels())).collect();
            contract(weights, &columns, terms, emit)?;
        } else {
            let columns: Vec<Patches<'_>> = images.map(|image| Patches { geometry: g, image }).collect();
            contract(weights, &columns, terms, emit)?;
        }
    }
    Ok(())
}

/// Adds to `out` (one plane) the products of one channel's plane with the taps of its own filter.
pub(crate) fn depthwise(g: &Geometry, plane: &[f32], taps: &[f32], out: &mut [f32]) {
    for (index, &weight) in taps.iter().enumerate() {
        let tap = g.tap(index);
        let inside = g.inside(tap[2]);
        g.runs(tap, 0..g.positions(), |run, line, _| {
            let Some(line) = line.filter(|_| !inside.is_empty()) else { return };
            let first = line * g.image[2] + inside.start * g.stride[2] + tap[2] * g.dilation[2] - g.before[2];
            let out = &mut out[run][inside.clone()];
            let plane = &plane[first..];
            vectorized(
                #[inline(always)]
                || strided(out, plane, g.stride[2], |o, v| *o += weight * v),
            );
        });
    }
}

pub(crate) fn conv(op: &Conv, operands: &[&Tensor]) -> Result<Tensors, EvalError> {
    let (x, w) = (operands[0].view::<f32>(), operands[1].view::<f32>());
    let bias = operands.get(2).map(|b| b.view::<f32>());
    let g = Geometry::of_conv(op, &operands[0].dims(), &operands[1].dims());
    let (channels, positions) = (g.groups * g.filters, g.positions());
    let mut out = vec![0.0f32; g.batch * channels * positions];
    if out.is_empty() {
        // Empty result.
    } else if g.channels == 1 && g.filters == 1 {
        for (i, (out, plane)) in out.chunks_exact_mut(positions).zip(x.chunks_exact(g.pixels())).enumerate() {
            let channel = i % channels;
            out.fill(bias.as_ref().map_or(0.0, |b| b[channel]));
            depthwise(&g, plane, &w[channel * g.taps()..][..g.taps()], out);
        }
    } else if g.is_pointwise() {
        let (per_image, per_group) = (g.channels * positions, g.filters * positions);
        for (i, (out, image)) in out.chunks_exact_mut(per_group).zip(x.chunks_exact(per_image)).enumerate() {
            let first = i % g.groups * g.filters;
            let weights = View::new(&w[first * g.channels..][..g.filters * g.channels], g.filters, g.channels);
            let bias = bias.as_ref().map_or(Bias::None, |b| Bias::Rows(&b[first..first + g.filters]));
            gemm(out, weights, View::new(image, g.channels, positions), bias)?;
        }
    } else {
        let whole = [Term { plane: 0, inner: 0..g.channels * g.taps() }];
        conv_sums(&g, &[&x], &w, &whole, |image, group, _, cols, sums| {
            for (f, sums) in sums.chunks_exact(cols.len()).enumerate() {
                let channel = group * g.filters + f;
                let out = &mut out[(image * channels + channel) * positions..][cols.clone()];
                let bias = bias.as_ref().map_or(0.0, |b| b[channel]);
                out.iter_mut().zip(sums).for_each(|(o, s)| *o = s + bias);
            }
        })?;
    }
    Ok(smallvec![Tensor::from_vec(g.shape(channels, g.steps, operands[0].ty().rank()), out)])
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
    let (depth, taps, positions, pixels) = (g.filters, g.taps(), g.positions(), g.pixels());
    let wide = g.channels * taps;
    for (i, image) in x.chunks_exact((depth * positions).max(1)).enumerate() {
        let weights = &w[i % g.groups * depth * wide..][..depth * wide];
        let out = &mut out[i * g.channels * pixels..][..g.channels * pixels];
        let columns = [View::new(image, depth, positions)];
        contract(View::new(weights, depth, wide).transposed(), &columns, terms, |_, cols, sums| {
            for (row, sums) in sums.chunks_exact(cols.len()).enumerate() {
                let plane = &mut out[row / taps * pixels..][..pixels];
                let tap = g.tap(row % taps);
                scatter(g, tap, cols.clone(), sums, plane);
            }
        })?;
    }
    Ok(())
}

/// Adds the products at some positions to the pixels of a tap.
fn scatter<T: Copy + From<f32> + std::ops::AddAssign>(
    g: &Geometry,
    tap: [usize; 3],
    cols: Range<usize>,
    sums: &[f32],
    plane: &mut [T],
) {
    let inside = g.inside(tap[2]);
    g.runs(tap, cols, |run, line, step| {
        let sums = &sums[run];
        let (from, to) = (inside.start.max(step), inside.end.min(step + sums.len()));
        let Some(line) = line.filter(|_| from < to) else { return };
        let first = line * g.image[2] + from * g.stride[2] + tap[2] * g.dilation[2] - g.before[2];
        let pixels = plane[first..].iter_mut().step_by(g.stride[2]);
        pixels.zip(&sums[from - step..to - step]).for_each(|(p, &s)| *p += T::from(s));
    });
}

pub(crate) fn conv_transpose(op: &ConvTranspose, operands: &[&Tensor]) -> Result<Tensors, EvalError> {
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
    use super::*;
    use crate::ops::{Extents, Operator};
    use crate::types::TensorType;
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
                let found = conv(&op, &[&x, &w, &bias]).unwrap();
                prop_assert_eq!(found[0].dims(), y.clone());
                prop_assert_eq!(found[0].view::<f32>().to_vec(), naive(&op, &x, &w, &bias.view::<f32>(), &y));
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
                let forth = conv(&op, &[&x, &w]).unwrap();
                prop_assert_eq!(dot(&forth[0], &y), dot(&x, &back[0]));
            }
        }
    }

    #[test]
    fn wide_images_are_made_in_blocks() {
        let op = Conv { before: smallvec![1, 1], after: smallvec![1, 1], ..Conv::unit(2) };
        let (x, w, bias) = (tensor(&[1, 3, 70, 91], 1), tensor(&[2, 3, 3, 3], 2), tensor(&[2], 3));
        let found = conv(&op, &[&x, &w, &bias]).unwrap();
        assert_eq!(found[0].view::<f32>().to_vec(), naive(&op, &x, &w, &bias.view::<f32>(), &[1, 2, 70, 91]));
    }
}
