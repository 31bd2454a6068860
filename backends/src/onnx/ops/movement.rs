//! Operators that move elements. They accept integers and floats alike.

use qcc_ir::ops::{
    Concat, DepthToSpace, Expand, Pad, PadMode, Range, Reshape, Reverse, Slice, SpaceToDepth, Tile, Transpose,
};
use qcc_ir::{Dim, TensorType};

use super::super::call::Call;
use super::super::emit::{Emitter, Name, NodeContext, Unsupported};

/// Reshape.
pub(super) fn reshape(e: &mut Emitter<'_>, op: &Reshape, site: &NodeContext<'_>) -> Result<(), Unsupported> {
    let x = e.input(site, 0);
    e.reshape(&x, &site.outputs[0], &op.shape)
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
        end if end < 0 => i64::MIN + 1,
        end => end,
    };
    let inputs: [Name; 5] = [
        e.input(site, 0),
        e.list(ranges.iter().map(|r| r.start as i64)),
        e.list(ranges.iter().map(end)),
        e.list(ranges.iter().map(|r| r.axis as i64)),
        e.list(ranges.iter().map(|r| r.step as i64)),
    ];
    e.push(Call::new("Slice"), &inputs, &site.outputs);
    Ok(())
}

/// Slice, backwards.
pub(super) fn reverse(e: &mut Emitter<'_>, op: &Reverse, site: &NodeContext<'_>) -> Result<(), Unsupported> {
    let backwards = |&axis: &usize| {
        let len =
            site.operands[0].shape.dims()[axis].known().ok_or("it reverses an open extent; fix it with --shape")?;
        Ok(Range { axis, start: len.saturating_sub(1), len, step: -1 })
    };
    let ranges = op.axes.iter().map(backwards).collect::<Result<Vec<Range>, Unsupported>>()?;
    slice_ranges(e, &ranges, site)
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
        Dim::Known(n) => Ok(*n as i64),
        d if axis >= missing && x.shape.dims()[axis - missing] == *d => Ok(1),
        d => Err(Unsupported(format!("it repeats as often as the open extent {d}; fix it with --shape"))),
    };
    let extents = op.shape.dims().iter().enumerate().map(extent).collect::<Result<Vec<i64>, _>>()?;
    let inputs = [e.input(site, 0), e.list(extents)];
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
