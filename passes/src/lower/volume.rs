//! Lowering of images with three spatial axes: the first one, the depth, is moved to the batch.

use qcc_ir::ops::{Conv, Pool, window_steps};
use qcc_ir::{Dim, Shape, ValueId};
use smallvec::SmallVec;

use super::build::{Build, Built, MOST_TAPS};
use crate::Skip;
use crate::pattern::when;

/// A convolution without padding: its taps along the depth become channels.
pub(super) fn conv(b: &mut Build<'_>, op: &Conv, operands: &[ValueId]) -> Built {
    let (batch, x, w) = (batch(b, operands[0])?, b.spatial(operands[0])?, b.extents(operands[1])?);
    let (groups, taps) = (op.groups, w[2]);
    when(taps <= MOST_TAPS).map_err(|_| Skip::because("its window has too many taps"))?;
    let depth = window_steps(x[0], taps, op.dilation[0], op.stride[0]).ok_or(Skip::NoMatch)?;
    let slabs = b.transpose(operands[0], DEPTH_BESIDE_BATCH)?;
    let mut parts = Vec::with_capacity(taps);
    for tap in 0..taps {
        let part = b.every(slabs, 1, tap * op.dilation[0], depth, op.stride[0])?;
        // For each group, the channels of all taps.
        parts.push(b.reshape(part, shape(&[&batch, &Dim::Known(depth)], &[groups, w[1], x[1] * x[2]])?)?);
    }
    let stacked = b.concat(2, &parts)?;
    let image = b.reshape(stacked, shape(&[&batch, &Dim::Known(depth)], &[groups * taps * w[1], x[1], x[2]])?)?;
    let weight = b.transpose(operands[1], DEPTH_BESIDE_BATCH)?;
    let weight = b.reshape(weight, Shape::known(&[w[0], taps * w[1], w[3], w[4]]))?;
    let flat = Conv {
        stride: op.stride[1..].into(),
        before: op.before[1..].into(),
        after: op.after[1..].into(),
        dilation: op.dilation[1..].into(),
        groups,
    };
    let y = b.op(flat, &[&[image, weight], &operands[2..]].concat())?;
    let small = b.spatial(y)?;
    let y = b.reshape(y, shape(&[&batch], &[depth, w[0], small[0], small[1]])?)?;
    b.transpose(y, DEPTH_BESIDE_BATCH)
}

/// Pooling without padding: first within each slice, then over the slices of each window.
pub(super) fn pool(b: &mut Build<'_>, op: &Pool, x: ValueId) -> Built {
    let (batch, extents) = (batch(b, x)?, b.spatial(x)?);
    let &[slabs, height, width] = extents.as_slice() else { return Err(Skip::NoMatch) };
    let channels = b.ty(x).shape.dims()[1].known().ok_or(Skip::NoMatch)?;
    let apart = b.transpose(x, DEPTH_BESIDE_BATCH)?;
    let images = b.reshape(apart, shape(&[&batch, &Dim::Known(slabs)], &[channels, height, width])?)?;
    let flat = Pool {
        f: op.f,
        window: op.window[1..].into(),
        stride: op.stride[1..].into(),
        before: op.before[1..].into(),
        after: op.after[1..].into(),
        dilation: op.dilation[1..].into(),
    };
    let pooled = b.op(flat, &[images])?;
    let small = b.spatial(pooled)?;
    let pooled = b.reshape(pooled, shape(&[&batch], &[slabs, channels, small[0], small[1]])?)?;
    let y = b.pool_along(op.f, pooled, 1, [op.window[0], op.stride[0], op.dilation[0]])?;
    b.transpose(y, DEPTH_BESIDE_BATCH)
}

/// The extent of the batch, which may be open.
fn batch(b: &Build<'_>, x: ValueId) -> Result<Dim, Skip> {
    b.ty(x).shape.dims().first().cloned().ok_or(Skip::NoMatch)
}

/// A shape whose first extent is a product.
fn shape(first: &[&Dim], others: &[usize]) -> Result<Shape, Skip> {
    let first: SmallVec<[Dim; 2]> = first.iter().map(|&d| d.clone()).collect();
    let first = Shape::count(&first).ok_or(Skip::because("its batch is too large"))?;
    Ok(std::iter::once(first).chain(others.iter().map(|&n| n.into())).collect())
}

/// `[N, C, D, H, W]` to `[N, D, C, H, W]`, and back.
const DEPTH_BESIDE_BATCH: &[usize] = &[0, 2, 1, 3, 4];
