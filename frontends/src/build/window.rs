//! Sliding windows and pooling.

use qcc_ir::ops::{BinaryFn, Conv, ConvTranspose, Extents, Gather, Pad, PadMode, Pool, PoolFn, Range, Slice};
use qcc_ir::{Dim, Expr, Tensor, ValueId};

use super::Build;
use super::computed::counted;
use crate::refusal::Refusal;

/// A sliding window: one number for each spatial axis.
#[derive(Clone, Debug)]
pub(crate) struct Window {
    /// Extents of the window.
    pub(crate) kernel: Extents,
    /// Strides.
    pub(crate) stride: Extents,
    /// Dilations.
    pub(crate) dilation: Extents,
    /// Padding before each axis.
    pub(crate) before: Extents,
    /// Padding after each axis.
    pub(crate) after: Extents,
}

impl Window {
    /// The extent of the dilated window along axis `i`.
    pub(crate) fn reach(&self, i: usize) -> usize {
        self.dilation[i] * self.kernel[i].saturating_sub(1) + 1
    }

    /// The number of window positions along each axis. `ceil` adds a partial window if it starts inside the image or
    /// the padding before it.
    fn steps(&self, image: &[usize], ceil: bool) -> Result<Extents, Refusal> {
        let steps = image.iter().enumerate().map(|(i, &extent)| {
            let room = (extent + self.before[i] + self.after[i]).checked_sub(self.reach(i))?;
            let stride = self.stride[i];
            let steps = room / stride + 1;
            let more = ceil && room % stride != 0 && steps * stride < extent + self.before[i];
            Some(steps + usize::from(more))
        });
        let too_small = || Refusal::Invalid(format!("an image {image:?} smaller than the window {:?}", self.kernel));
        steps.collect::<Option<_>>().ok_or_else(too_small)
    }

    /// The number of window positions along axis `i` of this extent, without partial windows; less than 1 if there is none.
    fn positions(&self, i: usize, extent: &Dim) -> Option<Expr> {
        let padding = (self.before[i] + self.after[i]) as i64;
        let room = extent.expr().plus(&(padding - self.reach(i) as i64).into())?;
        room.floor_div(self.stride[i] as i64)?.plus(&1.into())
    }

    /// Extends the padding so that the last window fits. For an open extent, `ceil` pads by as much as a window may lack,
    /// if all windows then start inside the image.
    fn fit_all(&mut self, image: &[Dim], ceil: bool) -> Result<(), Refusal> {
        let known: Option<Extents> = image.iter().map(Dim::known).collect();
        if let Some(image) = known {
            let steps = self.steps(&image, ceil)?;
            self.fit(&image, &steps);
            return Ok(());
        }
        for i in (0..image.len()).filter(|_| ceil) {
            if self.after[i] + self.stride[i] > self.reach(i) {
                return Err(Refusal::Open(image.iter().cloned().collect()));
            }
            self.after[i] += self.stride[i] - 1;
        }
        Ok(())
    }

    /// Extends the padding so that the last window fits.
    fn fit(&mut self, image: &[usize], steps: &[usize]) {
        for (i, &extent) in image.iter().enumerate() {
            let needed = (steps[i] - 1) * self.stride[i] + self.reach(i);
            self.after[i] = self.after[i].max(needed.saturating_sub(extent + self.before[i]));
        }
    }

    /// Pooling with this window.
    pub(crate) fn op(self, f: PoolFn) -> Pool {
        let Window { kernel, stride, dilation, before, after } = self;
        Pool { f, window: kernel, stride, before, after, dilation }
    }
}

/// Pools `x`; padding is ignored.
pub(crate) fn pool(
    n: &mut impl Build,
    f: PoolFn,
    x: ValueId,
    mut window: Window,
    ceil: bool,
) -> Result<ValueId, Refusal> {
    check(n, x, &window)?;
    window.fit_all(&n.shape(x).dims()[2..], ceil)?;
    n.add(window.op(f), &[x])
}

/// Average pooling that counts padding as zeros; what `ceil` adds beyond the padding is not counted.
pub(crate) fn average_with_padding(
    n: &mut impl Build,
    x: ValueId,
    mut window: Window,
    ceil: bool,
) -> Result<ValueId, Refusal> {
    if (window.before.iter().chain(&window.after)).all(|&p| p == 0) {
        return pool(n, PoolFn::Average, x, window, ceil);
    }
    check(n, x, &window)?;
    // Counted padding becomes part of the image.
    let pads = |pads: &Extents| [0, 0].into_iter().chain(pads.iter().copied()).collect();
    let pad = Pad { before: pads(&window.before), after: pads(&window.after), mode: PadMode::Constant(0.0) };
    let padded = n.add(pad, &[x])?;
    if ceil {
        let steps = window.steps(&n.dims(x)?[2..], ceil)?;
        window.before.fill(0);
        window.after.fill(0);
        window.fit(&n.dims(padded)?[2..], &steps);
    } else {
        window.before.fill(0);
        window.after.fill(0);
        window.fit_all(&n.shape(padded).dims()[2..], false)?;
    }
    n.add(window.op(PoolFn::Average), &[padded])
}

/// Sums of `x` over a window; padding counts as zeros. A depthwise convolution with ones.
pub(crate) fn sums(n: &mut impl Build, x: ValueId, mut window: Window, ceil: bool) -> Result<ValueId, Refusal> {
    check(n, x, &window)?;
    let image: Extents = n.dims(x)?[2..].into();
    let steps = window.steps(&image, ceil)?;
    window.fit(&image, &steps);
    let groups = n.dims(x)?[1];
    let shape: Extents = [groups, 1].into_iter().chain(window.kernel.iter().copied()).collect();
    let elem = n.ty(x).elem.clone();
    let ones = n.table_of(&elem, &shape, |_| 1.0)?;
    let ones = ones.ok_or_else(|| Refusal::Unsupported(format!("sums of {elem}")))?;
    let Window { stride, dilation, before, after, .. } = window;
    n.add(Conv { stride, before, after, dilation, groups }, &[x, ones])
}

/// The elements of each window: `[N, C * window, positions]` (im2col).
pub(crate) fn columns(n: &mut impl Build, x: ValueId, window: &Window) -> Result<ValueId, Refusal> {
    let spatial = window.kernel.len();
    moves(n, x, window, n.rank(x).saturating_sub(2))?;
    let open = || Refusal::Open(n.shape(x).clone());
    let dims = n.shape(x).dims().to_vec();
    let steps =
        (0..spatial).map(|i| window.positions(i, &dims[2 + i]).ok_or_else(open)).collect::<Result<Vec<_>, _>>()?;
    if steps.iter().any(|steps| steps.constant().is_some_and(|steps| steps < 1)) {
        return Err(Refusal::Invalid(format!("{} smaller than the window {:?}", n.ty(x), window.kernel)));
    }
    let taps: i64 = window.kernel.iter().product::<usize>() as i64;
    let rows = dims[1].expr().times(&taps.into()).and_then(Dim::of).ok_or_else(open)?;
    let positions = steps.iter().try_fold(Expr::from(1), |all, steps| all.times(steps)).and_then(Dim::of);
    let columns = [dims[0].clone(), rows, positions.ok_or_else(open)?].into_iter().collect();
    let pads = |pads: &Extents| [0, 0].into_iter().chain(pads.iter().copied()).collect();
    let pad = Pad { before: pads(&window.before), after: pads(&window.after), mode: PadMode::Constant(0.0) };
    let unpadded = window.before.iter().chain(&window.after).all(|&p| p == 0);
    let mut y = if unpadded { x } else { n.add(pad, &[x])? };
    for (i, steps) in steps.iter().enumerate() {
        let taps = n.table(&[window.kernel[i], 1], |tap| (tap * window.dilation[i]) as i64)?;
        let (count, stride) = (counted(n, steps.clone())?, n.add_constant(Tensor::scalar(window.stride[i] as i64)));
        let starts = n.binary(BinaryFn::Mul, count, stride)?;
        let places = n.binary(BinaryFn::Add, taps, starts)?;
        y = n.add(Gather { axis: 2 + 2 * i }, &[y, places])?;
    }
    let taps_first: Extents =
        [0, 1].into_iter().chain((0..2 * spatial).map(|i| 2 + i % spatial * 2 + i / spatial)).collect();
    let y = n.transpose(y, &taps_first)?;
    n.reshape_to(y, columns)
}

/// For each tap of the window its position, and what it reads at all window positions, minus infinity beside the image;
/// and the number of window positions along each axis.
pub(crate) fn padded_taps(
    n: &mut impl Build,
    x: ValueId,
    window: &Window,
    ceil: bool,
) -> Result<(Vec<(Extents, ValueId)>, Extents), Refusal> {
    check(n, x, window)?;
    let image: Extents = n.dims(x)?[2..].into();
    let steps = window.steps(&image, ceil)?;
    let mut window = window.clone();
    window.fit(&image, &steps);
    let pads = |pads: &Extents| [0, 0].into_iter().chain(pads.iter().copied()).collect();
    let mode = PadMode::Constant(f32::NEG_INFINITY);
    let pad = Pad { before: pads(&window.before), after: pads(&window.after), mode };
    let unpadded = window.before.iter().chain(&window.after).all(|&p| p == 0);
    let padded = if unpadded { x } else { n.add(pad, &[x])? };
    let mut taps = Vec::new();
    for i in 0..window.kernel.iter().product() {
        let mut tap = Extents::from_elem(0, window.kernel.len());
        let mut rest = i;
        for (at, &extent) in tap.iter_mut().zip(&window.kernel).rev() {
            *at = rest % extent;
            rest /= extent;
        }
        let range = |a: usize| {
            let step = if steps[a] > 1 { window.stride[a] as isize } else { 1 };
            Range { axis: 2 + a, start: tap[a] * window.dilation[a], len: steps[a], step }
        };
        let ranges: Vec<Range> = (0..steps.len()).map(range).collect();
        taps.push((tap, n.add(Slice { ranges }, &[padded])?));
    }
    Ok((taps, steps))
}

/// The inverse of `columns` with overlapping elements summed (col2im): a transposed convolution with one tap per
/// channel.
pub(crate) fn image_of_columns(
    n: &mut impl Build,
    x: ValueId,
    image: &[usize],
    window: &Window,
) -> Result<ValueId, Refusal> {
    let (dims, taps) = (n.shape(x).dims().to_vec(), window.kernel.iter().fold(1, |n: usize, &k| n.saturating_mul(k)));
    moves(n, x, window, image.len())?;
    let steps = window.steps(image, false)?;
    let [batch, Dim::Known(channels), Dim::Known(places)] = dims.as_slice() else {
        return Err(if dims.len() == 3 {
            Refusal::Open(n.shape(x).clone())
        } else {
            Refusal::Invalid(format!("columns {}", n.ty(x)))
        });
    };
    let (channels, places) = (*channels, *places);
    if taps == 0 || !channels.is_multiple_of(taps) || places != steps.iter().product::<usize>() {
        return Err(Refusal::Invalid(format!("columns {} of an image {image:?}", n.ty(x))));
    }
    let steps_apart = steps.iter().map(|&steps| Dim::Known(steps));
    let apart = [batch.clone(), channels.into()].into_iter().chain(steps_apart).collect();
    let x = n.reshape_to(x, apart)?;
    let shape: Extents = [channels, 1].into_iter().chain(window.kernel.iter().copied()).collect();
    let elem = n.ty(x).elem.clone();
    let weight = n.table_of(&elem, &shape, |i| u8::from(i / taps % taps == i % taps).into())?;
    let weight = weight.ok_or_else(|| Refusal::Unsupported(format!("sums of columns of {elem}")))?;
    let extra = |i: usize| {
        let covered = (steps[i] - 1) * window.stride[i] + window.reach(i);
        (image[i] + window.before[i] + window.after[i]).saturating_sub(covered)
    };
    let op = ConvTranspose {
        stride: window.stride.clone(),
        before: window.before.clone(),
        after: window.after.clone(),
        extra: (0..image.len()).map(extra).collect(),
        dilation: window.dilation.clone(),
        groups: channels / taps,
    };
    n.add(op, &[x, weight])
}

/// Fails unless the window is not empty and has this number of spatial axes.
fn moves(n: &impl Build, x: ValueId, window: &Window, spatial: usize) -> Result<(), Refusal> {
    if spatial != window.kernel.len() || window.kernel.contains(&0) || window.stride.contains(&0) {
        return Err(Refusal::Invalid(format!("a window {:?} for {}", window.kernel, n.ty(x))));
    }
    Ok(())
}

fn check(n: &impl Build, x: ValueId, window: &Window) -> Result<(), Refusal> {
    moves(n, x, window, n.rank(x).saturating_sub(2))?;
    if (0..window.kernel.len()).any(|i| window.before[i].max(window.after[i]) >= window.reach(i)) {
        return Err(Refusal::Unsupported("padding as large as the window is not supported".into()));
    }
    Ok(())
}
