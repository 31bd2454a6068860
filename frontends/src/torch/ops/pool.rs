//! Pooling.

use qcc_ir::ops::{BinaryFn, Concat, Extents, MatMul, PoolFn, Range, ReduceFn, Slice};
use qcc_ir::{Dim, ValueId};

use super::super::node::NodeCx;
use super::Row;
use super::conv::{batched, per_axis};
use crate::build::window::{Window, average_with_padding, pool};
use crate::build::{Build, Values, extent};
use crate::refusal::Refusal;

pub(super) const ROWS: &[Row] = &[
    ("_adaptive_avg_pool2d", |n| adaptive(n, 2, PoolFn::Average)),
    ("_adaptive_avg_pool3d", |n| adaptive(n, 3, PoolFn::Average)),
    ("adaptive_avg_pool1d", |n| adaptive(n, 1, PoolFn::Average)),
    ("adaptive_avg_pool2d", |n| adaptive(n, 2, PoolFn::Average)),
    ("adaptive_avg_pool3d", |n| adaptive(n, 3, PoolFn::Average)),
    ("adaptive_max_pool1d", |n| adaptive(n, 1, PoolFn::Max)),
    ("adaptive_max_pool2d", |n| adaptive(n, 2, PoolFn::Max)),
    ("adaptive_max_pool3d", |n| adaptive(n, 3, PoolFn::Max)),
    ("avg_pool1d", |n| average(n, 1)),
    ("avg_pool2d", |n| average(n, 2)),
    ("avg_pool3d", |n| average(n, 3)),
    ("max_pool1d", |n| max(n, 1)),
    ("max_pool1d_with_indices", |n| max(n, 1)),
    ("max_pool2d", |n| max(n, 2)),
    ("max_pool2d_with_indices", |n| max(n, 2)),
    ("max_pool3d", |n| max(n, 3)),
    ("max_pool3d_with_indices", |n| max(n, 3)),
];

/// Maximum number of windows of different sizes, which become separate operators.
const MOST_PARTS: usize = 1024;

fn window(n: &mut NodeCx<'_, '_>, x: ValueId, spatial: usize) -> Result<(Window, bool), Refusal> {
    let kernel = per_axis(n, "kernel_size", spatial, 0)?;
    // The default stride is the window size.
    let stride = per_axis(n, "stride", spatial, 0)?;
    let stride = if stride.iter().all(|&s| s == 0) { kernel.clone() } else { stride };
    let padding = per_axis(n, "padding", spatial, 0)?;
    let dilation = per_axis(n, "dilation", spatial, 1)?;
    let ceil = n.flag("ceil_mode", false)?;
    let mut window = Window { kernel, stride, dilation, before: padding.clone(), after: padding };
    if ceil {
        let dims = n.shape(x).dims();
        for (i, extent) in dims[dims.len().saturating_sub(spatial)..].iter().enumerate() {
            // A window that is larger than the image with its padding is a partial one.
            let room = extent.known().map_or(usize::MAX, |extent| extent + window.before[i] + window.after[i]);
            if window.dilation[i] == 1 && window.kernel[i] > room && room + window.stride[i] > window.kernel[i] {
                window.kernel[i] = room;
            }
        }
    }
    Ok((window, ceil))
}

fn max(n: &mut NodeCx<'_, '_>, spatial: usize) -> Result<Values, Refusal> {
    let x = n.tensor("self")?;
    let (window, ceil) = window(n, x, spatial)?;
    batched(n, x, spatial, |n, x| pool(n, PoolFn::Max, x, window, ceil))
}

fn average(n: &mut NodeCx<'_, '_>, spatial: usize) -> Result<Values, Refusal> {
    let x = n.tensor("self")?;
    let (window, ceil) = window(n, x, spatial)?;
    let counted = n.flag("count_include_pad", true)?;
    let divisor = n.optional_int("divisor_override")?;
    if divisor.is_some() && ceil {
        return Err(Refusal::Unsupported("divisor_override with ceil_mode is not supported".into()));
    }
    let area: usize = window.kernel.iter().product();
    batched(n, x, spatial, |n, x| {
        if !counted && divisor.is_none() {
            return pool(n, PoolFn::Average, x, window, ceil);
        }
        let mean = average_with_padding(n, x, window, ceil)?;
        let Some(divisor) = divisor else { return Ok(mean) };
        let factor = n.scalar(area as f64 / divisor as f64, mean)?;
        n.binary(BinaryFn::Mul, mean, factor)
    })
}

/// Windows that cover the image: result `i` of an axis covers `floor(i * in / out)..ceil((i + 1) * in / out)`.
fn adaptive(n: &mut NodeCx<'_, '_>, spatial: usize, f: PoolFn) -> Result<Values, Refusal> {
    let x = n.tensor("self")?;
    let asked = n.ints("output_size")?;
    let asked = if asked.len() == 1 { vec![asked[0]; spatial] } else { asked };
    if asked.len() != spatial {
        return Err(Refusal::Argument { name: "output_size".into(), problem: "does not have an extent for each axis" });
    }
    let mut sizes = Extents::new();
    for size in asked {
        sizes.push(extent(size)?);
    }
    batched(n, x, spatial, |n, x| cover(n, x, &sizes, f))
}

fn cover(n: &mut NodeCx<'_, '_>, x: ValueId, sizes: &[usize], f: PoolFn) -> Result<ValueId, Refusal> {
    let shape = n.shape(x).clone();
    let spatial = shape.dims().get(2..).unwrap_or_default();
    if spatial.len() != sizes.len() || spatial.contains(&Dim::Known(0)) || sizes.contains(&0) {
        return Err(Refusal::Invalid(format!("windows {sizes:?} for {}", n.ty(x))));
    }
    if sizes.iter().all(|&s| s == 1) {
        let axes: Extents = (2..n.rank(x)).collect();
        return n.reduce(if f == PoolFn::Max { ReduceFn::Max } else { ReduceFn::Mean }, x, &axes, true);
    }
    let image: Option<Extents> = spatial.iter().map(Dim::known).collect();
    let image = image.ok_or(Refusal::Open(shape))?;
    if image.iter().zip(sizes).all(|(i, s)| i.is_multiple_of(*s)) {
        let kernel: Extents = image.iter().zip(sizes).map(|(i, s)| i / s).collect();
        let none = Extents::from_elem(0, sizes.len());
        let dilation = Extents::from_elem(1, sizes.len());
        let window = Window { stride: kernel.clone(), kernel, dilation, before: none.clone(), after: none };
        return pool(n, f, x, window, false);
    }
    let mut y = x;
    for (i, (&extent, &size)) in image.iter().zip(sizes).enumerate().filter(|(_, (e, s))| e != s) {
        y = match f {
            PoolFn::Average => means_along(n, y, 2 + i, extent, size)?,
            PoolFn::Max => maxima_along(n, y, 2 + i, extent, size)?,
        };
    }
    Ok(y)
}

fn span(i: usize, extent: usize, size: usize) -> (usize, usize) {
    (i * extent / size, ((i + 1) * extent).div_ceil(size))
}

/// A product with the matrix of window weights.
fn means_along(
    n: &mut NodeCx<'_, '_>,
    x: ValueId,
    axis: usize,
    extent: usize,
    size: usize,
) -> Result<ValueId, Refusal> {
    let weight = |i: usize| {
        let (start, end) = span(i % size, extent, size);
        if (start..end).contains(&(i / size)) { 1.0 / (end - start) as f64 } else { 0.0 }
    };
    let elem = n.ty(x).elem.clone();
    let weights = n.table_of(&elem, &[extent, size], weight)?;
    let weights = weights.ok_or_else(|| Refusal::Unsupported(format!("means of {}", n.ty(x))))?;
    let mut perm: Extents = (0..n.rank(x)).collect();
    let last = perm.len() - 1;
    perm.swap(axis, last);
    let x = n.transpose(x, &perm)?;
    let y = n.add(MatMul { transpose_b: false }, &[x, weights])?;
    n.transpose(y, &perm)
}

fn maxima_along(
    n: &mut NodeCx<'_, '_>,
    x: ValueId,
    axis: usize,
    extent: usize,
    size: usize,
) -> Result<ValueId, Refusal> {
    if size > MOST_PARTS {
        return Err(Refusal::Unsupported(format!("maxima of {size} windows of different sizes are too many")));
    }
    let mut parts = Values::new();
    for i in 0..size {
        let (start, end) = span(i, extent, size);
        let part = n.add(Slice { ranges: vec![Range { axis, start, len: end - start, step: 1 }] }, &[x])?;
        parts.push(n.reduce(ReduceFn::Max, part, &[axis], true)?);
    }
    n.add(Concat { axis }, &parts)
}
