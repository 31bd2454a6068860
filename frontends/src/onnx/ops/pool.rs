//! Pooling.

use qcc_ir::ops::{Extents, Pad, PadMode, Pool, PoolFn, ReduceFn};

use super::super::node::NodeCx;
use super::Row;
use super::window::Window;
use crate::build::{Build, Values, extents, one};
use crate::refusal::Refusal;

pub(super) const ROWS: &[Row] = &[
    ("AveragePool", average),
    ("GlobalAveragePool", |n| global(n, ReduceFn::Mean)),
    ("GlobalMaxPool", |n| global(n, ReduceFn::Max)),
    ("MaxPool", max),
];

fn global(n: &mut NodeCx<'_, '_>, f: ReduceFn) -> Result<Values, Refusal> {
    let x = n.input(0)?;
    let spatial: Extents = (2..n.rank(x)).collect();
    if spatial.is_empty() {
        return Err(Refusal::Invalid(format!("pooling over {}", n.ty(x))));
    }
    one(n.reduce(f, x, &spatial, true)?)
}

fn max(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    // It orders the indices, which are the second result: not supported.
    n.int("storage_order", 0)?;
    let (window, ceil) = read(n)?;
    pool(n, PoolFn::Max, window, ceil)
}

fn average(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let counted = n.flag("count_include_pad", false)?;
    let (mut window, ceil) = read(n)?;
    if !counted || (window.before.iter().chain(&window.after)).all(|&p| p == 0) {
        return pool(n, PoolFn::Average, window, ceil);
    }
    // Padding that counts is part of the image.
    let x = n.input(0)?;
    let pads = |pads: &Extents| [0, 0].into_iter().chain(pads.iter().copied()).collect();
    let pad = Pad { before: pads(&window.before), after: pads(&window.after), mode: PadMode::Constant(0.0) };
    let padded = n.add(pad, &[x])?;
    // A window that `ceil_mode` adds has to start inside the image or the padding before it, not in that after it.
    let steps = steps(&window, &n.dims(x)[2..], ceil)?;
    window.before.fill(0);
    window.after.fill(0);
    fit(&mut window, &n.dims(padded)[2..], &steps);
    one(n.add(op(PoolFn::Average, window), &[padded])?)
}

/// The window, and `ceil_mode`.
fn read(n: &mut NodeCx<'_, '_>) -> Result<(Window, bool), Refusal> {
    let x = n.input(0)?;
    let dims = n.dims(x);
    let kernel = n.ints("kernel_shape")?;
    let kernel = kernel.ok_or(Refusal::Attribute { name: "kernel_shape".into(), problem: "is missing" })?;
    let kernel = Extents::from_vec(extents(kernel)?);
    if dims.len() != kernel.len() + 2 || kernel.contains(&0) {
        return Err(Refusal::Invalid(format!("a window {kernel:?} for {}", n.ty(x))));
    }
    let ceil = n.flag("ceil_mode", false)?;
    let window = Window::read(n, kernel)?.resolve(&dims[2..]);
    for i in 0..window.kernel.len() {
        if window.before[i].max(window.after[i]) >= window.reach(i) {
            return Err(Refusal::Unsupported("padding as large as the window is not supported".into()));
        }
    }
    Ok((window, ceil))
}

fn pool(n: &mut NodeCx<'_, '_>, f: PoolFn, mut window: Window, ceil: bool) -> Result<Values, Refusal> {
    let x = n.input(0)?;
    let image: Extents = n.dims(x)[2..].into();
    let steps = steps(&window, &image, ceil)?;
    fit(&mut window, &image, &steps);
    one(n.add(op(f, window), &[x])?)
}

/// How often the window is placed along each axis.
fn steps(window: &Window, image: &[usize], ceil: bool) -> Result<Extents, Refusal> {
    let steps = image.iter().enumerate().map(|(i, &extent)| {
        let room = (extent + window.before[i] + window.after[i]).checked_sub(window.reach(i))?;
        let stride = window.stride[i];
        let steps = room / stride + 1;
        let more = ceil && room % stride != 0 && steps * stride < extent + window.before[i];
        Some(steps + usize::from(more))
    });
    let too_small = || Refusal::Invalid(format!("an image {image:?} smaller than the window {:?}", window.kernel));
    steps.collect::<Option<_>>().ok_or_else(too_small)
}

/// Widens the padding so that the last window fits.
fn fit(window: &mut Window, image: &[usize], steps: &[usize]) {
    for (i, &extent) in image.iter().enumerate() {
        let needed = (steps[i] - 1) * window.stride[i] + window.reach(i);
        window.after[i] = window.after[i].max(needed.saturating_sub(extent + window.before[i]));
    }
}

fn op(f: PoolFn, window: Window) -> Pool {
    let Window { kernel, stride, dilation, before, after, .. } = window;
    Pool { f, window: kernel, stride, before, after, dilation }
}
