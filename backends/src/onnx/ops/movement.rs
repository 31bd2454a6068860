//! Operators that move elements. They accept integers and floats alike.

use qcc_formats::onnx::DataType;
use qcc_ir::ops::{
    Concat, DepthToSpace, Expand, OpenSlice, Pad, PadMode, Range, Reshape, Reverse, Slice, SpaceToDepth, Symbolic,
    Tile, Transpose,
};
use qcc_ir::{Dim, Elem, Expr, Shape, TensorType};

use super::super::call::Call;
use super::super::emit::{Emitter, NodeContext, Unsupported};
use crate::extents;

/// Reshape.
pub(super) fn reshape(e: &mut Emitter<'_>, op: &Reshape, site: &NodeContext<'_>) -> Result<(), Unsupported> {
    let (mut x, mut own) = (e.input(site, 0), site.operands[0].clone());
    if let Some(axis) = own.shape.removed_axis(&op.shape) {
        own = TensorType::new(own.elem, own.shape.without(axis));
        let (squeezed, axes) = (e.scratch(site, &own), e.list([axis as i64]));
        e.push(Call::new("Squeeze"), &[x, axes], std::slice::from_ref(&squeezed));
        x = squeezed;
    }
    e.reshape(&x, Some(&own.shape), &site.outputs[0], &op.shape)
}

/// Integers that follow from open extents.
pub(super) fn symbolic(e: &mut Emitter<'_>, op: &Symbolic, site: &NodeContext<'_>) -> Result<(), Unsupported> {
    let mut values = extents::list(e, &op.values)?;
    let shape = Shape::known(&op.shape);
    if op.shape.len() != 1 {
        let wide = if op.narrow {
            e.scratch(site, &TensorType::new(Elem::I64, shape.clone()))
        } else {
            site.outputs[0].clone()
        };
        e.reshape(&values, None, &wide, &shape)?;
        values = wide;
    }
    let to = if op.narrow { DataType::Int32 } else { DataType::Int64 };
    match (op.narrow, op.shape.len()) {
        (true, _) => e.push(Call::new("Cast").int("to", i32::from(to)), &[values], &site.outputs),
        (false, 1) => e.push(Call::new("Identity"), &[values], &site.outputs),
        (false, _) => {}
    }
    Ok(())
}

/// The operand, where something uses the result: extents are computed from the operand.
pub(super) fn define(e: &mut Emitter<'_>, site: &NodeContext<'_>) -> Result<(), Unsupported> {
    let v = site.node.value(0);
    if e.graph.is_output(v) || e.graph.readers(v).len() > 0 {
        e.push_at(Call::new("Identity"), site);
    }
    Ok(())
}

/// Slice of an axis by open extents.
pub(super) fn open_slice(e: &mut Emitter<'_>, op: &OpenSlice, site: &NodeContext<'_>) -> Result<(), Unsupported> {
    let end = op.start.plus(&op.len).ok_or("its end is too large to compute")?;
    let (start, end) = (extents::value(e, &op.start)?, extents::value(e, &end)?);
    let inputs = [e.input(site, 0), start, end, e.list([op.axis as i64])];
    e.push(Call::new("Slice"), &inputs, &site.outputs);
    Ok(())
}

/// Transpose.
pub(super) fn transpose(e: &mut Emitter<'_>, op: &Transpose, site: &NodeContext<'_>) -> Result<(), Unsupported> {
    e.push_at(Call::new("Transpose").sizes("perm", op.perm.iter().copied()), site);
    Ok(())
}

/// Concat.
pub(super) fn concat(e: &mut Emitter<'_>, op: &Concat, site: &NodeContext<'_>) -> Result<(), Unsupported> {
    e.push_at(Call::new("Concat").size("axis", op.axis), site);
    Ok(())
}

/// Slice.
pub(super) fn slice(e: &mut Emitter<'_>, op: &Slice, site: &NodeContext<'_>) -> Result<(), Unsupported> {
    slice_ranges(e, &op.ranges, site)
}

fn slice_ranges(e: &mut Emitter<'_>, ranges: &[Range], site: &NodeContext<'_>) -> Result<(), Unsupported> {
    let end = |r: &Range| match r.start as i64 + r.step as i64 * r.len as i64 {
        // A literal end before the first element would count from the end of the axis.
        end if end < 0 => BEFORE,
        end => end,
    };
    strided(e, site, ranges.iter().map(|r| [r.start as i64, end(r), r.axis as i64, r.step as i64]))
}

/// An end before the first element.
const BEFORE: i64 = i64::MIN + 1;

/// Slice, with the start, end, axis and step of each range.
fn strided(
    e: &mut Emitter<'_>,
    site: &NodeContext<'_>,
    ranges: impl Iterator<Item = [i64; 4]>,
) -> Result<(), Unsupported> {
    let ranges: Vec<[i64; 4]> = ranges.collect();
    let mut inputs = vec![e.input(site, 0)];
    inputs.extend((0..4).map(|i| e.list(ranges.iter().map(|r| r[i]))));
    e.push(Call::new("Slice"), &inputs, &site.outputs);
    Ok(())
}

/// Slice, from the last element backwards.
pub(super) fn reverse(e: &mut Emitter<'_>, op: &Reverse, site: &NodeContext<'_>) -> Result<(), Unsupported> {
    strided(e, site, op.axes.iter().map(|&axis| [-1, BEFORE, axis as i64, -1]))
}

/// Pad.
pub(super) fn pad(e: &mut Emitter<'_>, op: &Pad, site: &NodeContext<'_>) -> Result<(), Unsupported> {
    let mut inputs = vec![e.input(site, 0), e.list(op.before.iter().chain(&op.after).map(|&p| p as i64))];
    let mode = match op.mode {
        PadMode::Constant(value) => {
            inputs.push(e.number(&site.operands[0].elem, value)?);
            "constant"
        }
        PadMode::Reflect => "reflect",
        PadMode::Edge => "edge",
    };
    e.push(Call::new("Pad").string("mode", mode), &inputs, &site.outputs);
    Ok(())
}

/// Expand. An extent that stays open keeps the operand's extent.
pub(super) fn expand(e: &mut Emitter<'_>, op: &Expand, site: &NodeContext<'_>) -> Result<(), Unsupported> {
    let x: &TensorType = &site.operands[0];
    let missing = op.shape.rank() - x.rank();
    let extent = |(axis, d): (usize, &Dim)| match d {
        d if d.known().is_none() && axis >= missing && x.shape.dims()[axis - missing] == *d => 1.into(),
        d => d.expr(),
    };
    let repeats: Vec<Expr> = op.shape.dims().iter().enumerate().map(extent).collect();
    let inputs = [e.input(site, 0), extents::list(e, &repeats)?];
    e.push(Call::new("Expand"), &inputs, &site.outputs);
    Ok(())
}

/// Tile.
pub(super) fn tile(e: &mut Emitter<'_>, op: &Tile, site: &NodeContext<'_>) -> Result<(), Unsupported> {
    let inputs = [e.input(site, 0), e.list(op.repeats.iter().map(|&r| r as i64))];
    e.push(Call::new("Tile"), &inputs, &site.outputs);
    Ok(())
}

/// DepthToSpace.
pub(super) fn depth_to_space(
    e: &mut Emitter<'_>,
    op: &DepthToSpace,
    site: &NodeContext<'_>,
) -> Result<(), Unsupported> {
    let mode = if op.channel_first { "CRD" } else { "DCR" };
    e.push_at(Call::new("DepthToSpace").size("blocksize", op.block).string("mode", mode), site);
    Ok(())
}

/// SpaceToDepth.
pub(super) fn space_to_depth(
    e: &mut Emitter<'_>,
    op: &SpaceToDepth,
    site: &NodeContext<'_>,
) -> Result<(), Unsupported> {
    e.push_at(Call::new("SpaceToDepth").size("blocksize", op.block), site);
    Ok(())
}
