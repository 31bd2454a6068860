//! Lowering of pooled samples of boxes: each sample of a bin gathers its four elements, for all bins at once.

use qcc_ir::ops::{BinaryFn, Gather, Op, PoolFn, RoiAlign, UnaryFn};
use qcc_ir::{Dim, Elem, NodeId, Shape, Tensor, ValueId};

use super::build::{Build, Built, MOST_TAPS};
use crate::Skip;
use crate::pattern::when;

/// One of the two elements around samples, for each box and bin along an axis: `[boxes, bins]`.
#[derive(Clone, Copy)]
struct Tap {
    /// Their indices along the axis, in `I32`.
    index: ValueId,
    weight: ValueId,
}

pub(super) fn roi_align(b: &mut Build<'_>, node: NodeId) -> Built {
    let Op::RoiAlign(op) = b.g.op(node) else { return Err(Skip::NoMatch) };
    let (op, operands) = (op.clone(), b.g.operands(node));
    when(op.samples > 0).map_err(|_| Skip::because("the number of samples depends on the boxes (sampling_ratio 0)"))?;
    when(4 * op.samples * op.samples <= MOST_TAPS).map_err(|_| Skip::because("its bins have too many samples"))?;
    let [images, channels, height, width] = b.ty(operands[0]).shape.dims() else { return Err(Skip::NoMatch) };
    let [images, channels, height, width] = [images, channels, height, width].map(Dim::clone);
    let boxes = b.ty(node.value(0)).shape.dims()[0].clone();
    let bins: Shape = [boxes.clone(), op.size[0].into(), op.size[1].into()].into_iter().collect();

    let corners = b.cast(operands[1], Elem::F32)?;
    let corners = b.scale(corners, op.scale)?;
    let corners = b.shift(corners, if op.half_pixel { -0.5 } else { 0.0 })?;
    let columns = along(b, &op, corners, 1, &width)?;
    let rows = along(b, &op, corners, 0, &height)?;

    // The first element of the image of each box.
    let image = Shape::count(&[height.clone(), width.clone()]).ok_or(Skip::NoMatch)?;
    let first = match images {
        Dim::Known(1) => None,
        _ => {
            let of = b.cast(operands[2], Elem::I32)?;
            let of = b.reshape(of, [boxes.clone(), 1.into(), 1.into()].into_iter().collect())?;
            let image = b.count(&image)?;
            Some(b.mul(of, image)?)
        }
    };
    let elements = Shape::count(&[images, image]).ok_or(Skip::NoMatch)?;
    let channels_last = b.transpose(operands[0], &[0, 2, 3, 1])?;
    let elements = b.reshape(channels_last, [elements, channels].into_iter().collect())?;
    let width = b.count(&width)?;
    let mut pooled: Option<ValueId> = None;
    for row in &rows {
        let index = b.mul(row.index, width)?;
        let index = b.unsqueeze(index, 2)?;
        let index = if let Some(first) = first { b.add(index, first)? } else { index };
        let weight = b.unsqueeze(row.weight, 2)?;
        for column in &columns {
            let [x, across] = [b.unsqueeze(column.index, 1)?, b.unsqueeze(column.weight, 1)?];
            let (at, weight) = (b.add(index, x)?, b.mul(weight, across)?);
            let taken = b.op(Gather { axis: 0 }, &[elements, at])?;
            let weight = b.cast(weight, b.ty(taken).elem.clone())?;
            let weight = b.reshape(weight, bins.dims().iter().cloned().chain([1.into()]).collect())?;
            let product = b.mul(taken, weight)?;
            pooled = Some(match (pooled, op.f) {
                (None, _) => product,
                (Some(sum), PoolFn::Average) => b.add(sum, product)?,
                (Some(most), PoolFn::Max) => b.binary(BinaryFn::Max, most, product)?,
            });
        }
    }
    let pooled = pooled.ok_or(Skip::NoMatch)?;
    b.transpose(pooled, &[0, 3, 1, 2])
}

/// The taps of all samples of a bin along an axis, 0 for y, of `extent` elements.
fn along(b: &mut Build<'_>, op: &RoiAlign, corners: ValueId, axis: usize, extent: &Dim) -> Result<Vec<Tap>, Skip> {
    let (start, end) = (b.slice(corners, 1, 1 - axis, 1)?, b.slice(corners, 1, 3 - axis, 1)?);
    let mut length = b.sub(end, start)?;
    if !op.half_pixel {
        let one = b.scalar(1.0, length)?;
        length = b.binary(BinaryFn::Max, length, one)?;
    }
    let bin = b.scale(length, 1.0 / op.size[axis] as f32)?;
    let extent = b.count_as_float(extent)?;
    let last = b.shift(extent, -1.0)?;
    // Each of them is a part of the mean along both axes.
    let part = if op.f == PoolFn::Average { 1.0 / op.samples as f32 } else { 1.0 };
    let mut taps = Vec::with_capacity(2 * op.samples);
    for sample in 0..op.samples {
        let centre = (sample as f32 + 0.5) / op.samples as f32;
        let places = (0..op.size[axis]).map(|i| i as f32 + centre).collect();
        let places = b.constant(Tensor::from_vec(Shape::known(&[1, op.size[axis]]), places));
        let at = b.mul(bin, places)?;
        let at = b.add(at, start)?;
        let (zero, before) = (b.scalar(0.0, at)?, b.scalar(-1.0, at)?);
        let after_start = b.binary(BinaryFn::LessEqual, before, at)?;
        let before_end = b.binary(BinaryFn::LessEqual, at, extent)?;
        let inside = b.binary(BinaryFn::And, after_start, before_end)?;
        let inside = b.cast(inside, Elem::F32)?;
        let inside = b.scale(inside, part)?;
        let at = b.binary(BinaryFn::Max, at, zero)?;
        let at = b.binary(BinaryFn::Min, at, last)?;
        let low = b.unary(UnaryFn::Floor, at)?;
        let t = b.sub(at, low)?;
        let far = b.mul(t, inside)?;
        let near = b.sub(inside, far)?;
        let high = b.shift(low, 1.0)?;
        let high = b.binary(BinaryFn::Min, high, last)?;
        for (index, weight) in [(low, near), (high, far)] {
            taps.push(Tap { index: b.cast(index, Elem::I32)?, weight });
        }
    }
    Ok(taps)
}
