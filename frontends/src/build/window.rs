//! Windows that move over images, and pooling.

use qcc_ir::ValueId;
use qcc_ir::ops::{Extents, Pad, PadMode, Pool, PoolFn};

use super::Build;
use crate::refusal::Refusal;

/// A window and how it moves: one number for each spatial axis.
#[derive(Clone, Debug)]
pub(crate) struct Window {
    /// Extents of the window.
    pub(crate) kernel: Extents,
    /// Its steps.
    pub(crate) stride: Extents,
    /// The distance of its taps.
    pub(crate) dilation: Extents,
    /// Padding before each axis.
    pub(crate) before: Extents,
    /// Padding after each axis.
    pub(crate) after: Extents,
}

impl Window {
    /// The extent that the taps of axis `i` span.
    pub(crate) fn reach(&self, i: usize) -> usize {
        self.dilation[i] * self.kernel[i].saturating_sub(1) + 1
    }

    /// How often the window is placed along each axis. `ceil` adds a window that does not fit, where it starts inside
    /// the image or the padding before it.
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

    /// Widens the padding so that the last window fits.
    fn fit(&mut self, image: &[usize], steps: &[usize]) {
        for (i, &extent) in image.iter().enumerate() {
            let needed = (steps[i] - 1) * self.stride[i] + self.reach(i);
            self.after[i] = self.after[i].max(needed.saturating_sub(extent + self.before[i]));
        }
    }

    fn op(self, f: PoolFn) -> Pool {
        let Window { kernel, stride, dilation, before, after } = self;
        Pool { f, window: kernel, stride, before, after, dilation }
    }
}

/// Pools `x`; padding takes no part.
pub(crate) fn pool(
    n: &mut impl Build,
    f: PoolFn,
    x: ValueId,
    mut window: Window,
    ceil: bool,
) -> Result<ValueId, Refusal> {
    check(n, x, &window)?;
    let image: Extents = n.dims(x)[2..].into();
    let steps = window.steps(&image, ceil)?;
    window.fit(&image, &steps);
    n.add(window.op(f), &[x])
}

/// Averages `x`; padding counts as zeros, what `ceil` adds beyond it does not count.
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
    // Padding that counts is part of the image.
    let pads = |pads: &Extents| [0, 0].into_iter().chain(pads.iter().copied()).collect();
    let pad = Pad { before: pads(&window.before), after: pads(&window.after), mode: PadMode::Constant(0.0) };
    let padded = n.add(pad, &[x])?;
    let steps = window.steps(&n.dims(x)[2..], ceil)?;
    window.before.fill(0);
    window.after.fill(0);
    window.fit(&n.dims(padded)[2..], &steps);
    n.add(window.op(PoolFn::Average), &[padded])
}

fn check(n: &impl Build, x: ValueId, window: &Window) -> Result<(), Refusal> {
    if n.rank(x) != window.kernel.len() + 2 || window.kernel.contains(&0) || window.stride.contains(&0) {
        return Err(Refusal::Invalid(format!("a window {:?} for {}", window.kernel, n.ty(x))));
    }
    if (0..window.kernel.len()).any(|i| window.before[i].max(window.after[i]) >= window.reach(i)) {
        return Err(Refusal::Unsupported("padding as large as the window is not supported".into()));
    }
    Ok(())
}
