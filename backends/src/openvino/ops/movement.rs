//! Operators that move elements.

use qcc_formats::openvino::{Operation, Port};
use qcc_ir::ops::{
    Concat, DepthToSpace, Op, OpenSlice, Pad, PadMode, Range, Reverse, Slice, SpaceToDepth, Symbolic, Tile, Transpose,
};
use qcc_ir::{Dim, Elem, Expr, Graph, Shape, TensorType, ValueId};

use super::super::emit::{Emitter, NodeContext, Unsupported, attribute};
use crate::extents;

/// Reshape.
pub(super) fn reshape(e: &mut Emitter<'_>, site: &NodeContext) -> Result<Port, Unsupported> {
    let (x, y) = (e.operand(site, 0), &site.results[0]);
    e.reshape_from(x, &site.operands[0].shape, y)
}

/// Integers that follow from open extents.
pub(super) fn symbolic(e: &mut Emitter<'_>, op: &Symbolic, site: &NodeContext) -> Result<Port, Unsupported> {
    let (mut values, y) = (extents::list(e, &op.values)?, &site.results[0]);
    if op.narrow {
        values = e.convert(values, &TensorType::new(Elem::I32, Shape::known(&[op.values.len()])));
    }
    Ok(if op.shape.len() == 1 { values } else { e.reshape(values, y) })
}

/// Slice of an axis by open extents.
pub(super) fn open_slice(e: &mut Emitter<'_>, op: &OpenSlice, site: &NodeContext) -> Result<Port, Unsupported> {
    let stop = op.start.plus(&op.len).ok_or("its end is too large to compute")?;
    let (start, stop) = (extents::value(e, &op.start)?, extents::value(e, &stop)?);
    let inputs = [e.operand(site, 0), start, stop, e.indices(&[1]), e.axes(&[op.axis])];
    Ok(e.op(Operation("Slice", 8), &[], &inputs, &site.results[0]))
}

/// Transpose.
pub(super) fn transpose(e: &mut Emitter<'_>, op: &Transpose, site: &NodeContext) -> Port {
    let (x, y) = (e.operand(site, 0), &site.results[0]);
    if !is_taken_for_shuffle(e.graph, site.values[0]) {
        let inputs = [x, e.axes(&op.perm)];
        return e.op(Operation("Transpose", 1), &[], &inputs, y);
    }
    let first = || std::iter::once(Dim::Known(1));
    let wider =
        |ty: &TensorType| TensorType::new(ty.elem.clone(), first().chain(ty.shape.dims().iter().cloned()).collect());
    let perm: Vec<usize> = std::iter::once(0).chain(op.perm.iter().map(|&axis| axis + 1)).collect();
    let inputs = [x, e.axes(&[0])];
    let x = e.op(Operation("Unsqueeze", 1), &[], &inputs, &wider(&site.operands[0]));
    let inputs = [x, e.axes(&perm)];
    let turned = e.op(Operation("Transpose", 1), &[], &inputs, &wider(y));
    let inputs = [turned, e.axes(&[0])];
    e.op(Operation("Squeeze", 1), &[], &inputs, y)
}

/// True where the plugin takes `v`, which a transposition reads, for the groups of a shuffle of channels
/// (ShuffleChannelsFusion): it fails where the axis of the groups is open.
fn is_taken_for_shuffle(graph: &Graph, v: ValueId) -> bool {
    let Op::Reshape(_) = graph.producer(v) else { return false };
    let (from, to) = (&graph.ty(graph.operands(v.node)[0]).shape, &graph.ty(v).shape);
    let is_open = |d: &Dim| d.known().is_none();
    from.rank() == 4 && matches!(to.rank(), 4 | 5) && !from.dims()[1..].iter().any(is_open) && is_open(&to.dims()[1])
}

/// Concat.
pub(super) fn concat(e: &mut Emitter<'_>, op: &Concat, site: &NodeContext) -> Port {
    let inputs = e.operands(site);
    e.op(Operation("Concat", 1), &[attribute("axis", op.axis)], &inputs, &site.results[0])
}

/// Slice. Ranges with steps come first, on their own: the plugin groups StridedSlices of one value that differ along one axis,
/// and forgets the steps along others.
pub(super) fn slice(e: &mut Emitter<'_>, op: &Slice, site: &NodeContext) -> Port {
    let (mut x, mut y) = (e.operand(site, 0), site.results[0].clone());
    y.shape = site.operands[0].shape.clone();
    let (stepped, plain): (Vec<&Range>, Vec<&Range>) = op.ranges.iter().partition(|r| r.step != 1);
    for ranges in [stepped, plain].into_iter().filter(|ranges| !ranges.is_empty()) {
        let start: Vec<i64> = ranges.iter().map(|r| r.start as i64).collect();
        // A negative stop counts from the end of the axis: a range with negative step that ends at the first element stops
        // before `-extent`.
        let stop = |r: &&Range| match r.start as i64 + r.step as i64 * r.len as i64 {
            stop if stop < 0 => -OPEN,
            stop => stop,
        };
        let stop: Vec<i64> = ranges.iter().map(stop).collect();
        let step: Vec<i64> = ranges.iter().map(|r| r.step as i64).collect();
        let axes: Vec<usize> = ranges.iter().map(|r| r.axis).collect();
        y.shape = ranges.iter().fold(y.shape, |shape, r| shape.with(r.axis, r.len));
        x = strided(e, x, &y, [&start, &stop, &step], &axes);
    }
    x
}

/// Slice, backwards from the last element.
pub(super) fn reverse(e: &mut Emitter<'_>, op: &Reverse, site: &NodeContext) -> Port {
    let last = |axis: usize| site.operands[0].shape.dims()[axis].known().map_or(OPEN, |n| n as i64 - 1);
    let axes: Vec<usize> = op.axes.to_vec();
    let start: Vec<i64> = axes.iter().map(|&a| last(a)).collect();
    let x = e.operand(site, 0);
    strided(e, x, &site.results[0], [&start, &vec![-OPEN; axes.len()], &vec![-1; axes.len()]], &axes)
}

/// Larger than any extent.
const OPEN: i64 = i32::MAX as i64;

/// StridedSlice where possible: the plugin groups Slices of one value in a way that fails next to GatherElements.
fn strided(e: &mut Emitter<'_>, x: Port, y: &TensorType, [start, stop, step]: [&[i64]; 3], axes: &[usize]) -> Port {
    if step.iter().all(|&s| s > 0) {
        let rank = y.rank();
        let spread = |values: &[i64], other: i64| -> Vec<i64> {
            let at = |axis: usize| axes.iter().position(|&a| a == axis);
            (0..rank).map(|axis| at(axis).map_or(other, |i| values[i])).collect()
        };
        let inputs = [x, e.indices(&spread(start, 0)), e.indices(&spread(stop, 0))];
        let inputs = [inputs.as_slice(), &[e.indices(&spread(step, 1))]].concat();
        // A mask of 1 means the whole axis.
        let masks: Vec<String> = spread(&vec![0; axes.len()], 1).iter().map(i64::to_string).collect();
        let masks = masks.join(",");
        let none = "";
        let masks = [
            attribute("begin_mask", &masks),
            attribute("end_mask", &masks),
            attribute("new_axis_mask", none),
            attribute("shrink_axis_mask", none),
            attribute("ellipsis_mask", none),
        ];
        return e.op(Operation("StridedSlice", 1), &masks, &inputs, y);
    }
    let inputs = [x, e.indices(start), e.indices(stop), e.indices(step), e.axes(axes)];
    e.op(Operation("Slice", 8), &[], &inputs, y)
}

/// Pad.
pub(super) fn pad(e: &mut Emitter<'_>, op: &Pad, site: &NodeContext) -> Result<Port, Unsupported> {
    let (mode, value) = match op.mode {
        PadMode::Constant(value) => ("constant", Some(value)),
        PadMode::Reflect => ("reflect", None),
        PadMode::Edge => ("edge", None),
    };
    let mut inputs = vec![e.operand(site, 0), e.axes(&op.before), e.axes(&op.after)];
    if let Some(value) = value {
        inputs.push(e.scalar_of(&site.operands[0].elem, value)?);
    }
    Ok(e.op(Operation("Pad", 1), &[attribute("pad_mode", mode)], &inputs, &site.results[0]))
}

/// Broadcast. Open extents keep their values.
pub(super) fn expand(e: &mut Emitter<'_>, site: &NodeContext) -> Result<Port, Unsupported> {
    let (x, y) = (&site.operands[0].shape, &site.results[0].shape);
    let behind = |axis: usize| (axis + x.rank()).checked_sub(y.rank()).map(|a| &x.dims()[a]);
    let repeats = y.dims().iter().enumerate().map(|(axis, d)| match d.known() {
        None if behind(axis) == Some(d) => Expr::from(1),
        _ => d.expr(),
    });
    let repeats: Vec<Expr> = repeats.collect();
    let inputs = [e.operand(site, 0), extents::list(e, &repeats)?];
    Ok(e.op(Operation("Broadcast", 3), &[attribute("mode", "bidirectional")], &inputs, &site.results[0]))
}

/// Tile.
pub(super) fn tile(e: &mut Emitter<'_>, op: &Tile, site: &NodeContext) -> Port {
    let inputs = [e.operand(site, 0), e.axes(&op.repeats)];
    e.op(Operation("Tile", 1), &[], &inputs, &site.results[0])
}

/// DepthToSpace.
pub(super) fn depth_to_space(e: &mut Emitter<'_>, op: &DepthToSpace, site: &NodeContext) -> Port {
    let mode = if op.channel_first { "depth_first" } else { "blocks_first" };
    let x = e.operand(site, 0);
    let data = [attribute("block_size", op.block), attribute("mode", mode)];
    e.op(Operation("DepthToSpace", 1), &data, &[x], &site.results[0])
}

/// SpaceToDepth.
pub(super) fn space_to_depth(e: &mut Emitter<'_>, op: &SpaceToDepth, site: &NodeContext) -> Port {
    let x = e.operand(site, 0);
    let data = [attribute("block_size", op.block), attribute("mode", "blocks_first")];
    e.op(Operation("SpaceToDepth", 1), &data, &[x], &site.results[0])
}
