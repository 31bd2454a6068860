//! Lowering of operators that move elements.

use qcc_ir::ops::{Concat, DepthToSpace, Expand, Gather, Op, OpKind, PadMode, SpaceToDepth, Tile};
use qcc_ir::{Dim, NodeId, Shape, Tensor, ValueId};

use super::build::{Build, Built, made_by};
use crate::Skip;

/// Reorders channels from `[C, b, b]` to `[b, b, C]`: in the weight of the preceding convolution, or by a Gather.
pub(super) fn depth_to_space(b: &mut Build<'_>, node: NodeId) -> Built {
    let &Op::DepthToSpace(DepthToSpace { block, channel_first }) = b.g.op(node) else { return Err(Skip::NoMatch) };
    let x = b.g.operands(node)[0];
    if !b.ty(x).elem.is_float() {
        let dims = b.extents(x)?;
        let (n, c, h, w) = (dims[0], dims[1] / (block * block), dims[2], dims[3]);
        let (apart, order) = match channel_first {
            true => ([n, c, block, block, h, w], [0, 1, 4, 2, 5, 3]),
            false => ([n, block, block, c, h, w], [0, 3, 4, 1, 5, 2]),
        };
        return rearranged(b, x, &apart, &order, &[n, c, h * block, w * block]);
    }
    if !channel_first {
        return Err(Skip::NoMatch);
    }
    let channels = b.ty(x).shape.dims()[1].known().ok_or(Skip::NoMatch)?;
    let area = block * block;
    let order: Vec<i32> =
        (0..channels).map(|c| (c % (channels / area) * area + c / (channels / area)) as i32).collect();
    let order = b.constant(Tensor::from_vec(Shape::known(&[channels]), order));
    let ordered = match reordered_conv(b, x, order)? {
        Some(y) => y,
        None => b.op(Gather { axis: 1 }, &[x, order])?,
    };
    b.op(DepthToSpace { block, channel_first: false }, &[ordered])
}

/// Moves blocks of pixels to channels, `[b, b, C]`.
pub(super) fn space_to_depth(b: &mut Build<'_>, node: NodeId) -> Built {
    let &Op::SpaceToDepth(SpaceToDepth { block }) = b.g.op(node) else { return Err(Skip::NoMatch) };
    let x = b.g.operands(node)[0];
    let dims = b.extents(x)?;
    let (n, c, h, w) = (dims[0], dims[1], dims[2] / block, dims[3] / block);
    rearranged(b, x, &[n, c, h, block, w, block], &[0, 3, 5, 1, 2, 4], &[n, c * block * block, h, w])
}

/// Splits axes by a reshape, transposes, and reshapes the result.
fn rearranged(b: &mut Build<'_>, x: ValueId, apart: &[usize], order: &[usize], dims: &[usize]) -> Built {
    let x = b.reshape(x, Shape::known(apart))?;
    let x = b.transpose(x, order)?;
    b.reshape(x, Shape::known(dims))
}

/// The convolution that produces `x`, with its output channels reordered, if `x` has no other user and the weight is
/// constant.
fn reordered_conv(b: &mut Build<'_>, x: ValueId, order: ValueId) -> Result<Option<ValueId>, Skip> {
    let Some(conv) = made_by(b.g, x, OpKind::Conv).filter(|_| b.g.only_user(x).is_some()) else { return Ok(None) };
    let (op, mut operands) = (b.g.op(conv).clone(), b.g.operands(conv));
    let constant = operands[1..].iter().all(|&o| b.g.constant(o).is_some());
    if !constant || !matches!(&op, Op::Conv(c) if c.groups == 1) {
        return Ok(None);
    }
    for o in &mut operands[1..] {
        *o = b.op(Gather { axis: 0 }, &[*o, order])?;
    }
    b.op(op, &operands).map(Some)
}

/// Slices the edges, repeats them, and concatenates them to the operand.
pub(super) fn pad_edge(b: &mut Build<'_>, node: NodeId) -> Built {
    let Op::Pad(op) = b.g.op(node) else { return Err(Skip::NoMatch) };
    if op.mode != PadMode::Edge {
        return Err(Skip::NoMatch);
    }
    let (op, mut x) = (op.clone(), b.g.operands(node)[0]);
    for axis in 0..op.before.len() {
        let shape = b.ty(x).shape.clone();
        let (before, after) = (op.before[axis], op.after[axis]);
        let edge = |b: &mut Build<'_>, at: &Dim, count: usize| {
            let one = b.part(x, axis, at, &Dim::Known(1))?;
            if count == 1 { Ok(one) } else { b.op(Expand { shape: shape.with(axis, count) }, &[one]) }
        };
        let last = shape.dims()[axis].map(|e| e.minus(&1.into()));
        let mut parts = Vec::new();
        if before > 0 {
            parts.push(edge(b, &Dim::Known(0), before)?);
        }
        parts.push(x);
        if after > 0 {
            parts.push(edge(b, &last.ok_or(Skip::NoMatch)?, after)?);
        }
        x = b.concat(axis, &parts)?;
    }
    Ok(x)
}

/// The number of operands of a Concat that every target takes.
const MOST_CONCATENATED: usize = 10;

/// Concatenates operands of many axes as `[outer, axis and inner]`.
fn concat_two_axes(b: &mut Build<'_>, node: NodeId, axis: usize) -> Built {
    let whole = b.ty(node.value(0)).shape.clone();
    if whole.rank() <= 2 {
        return Err(Skip::NoMatch);
    }
    let mut flat = Vec::new();
    for part in b.g.operands(node) {
        let (outer, rest) = b.ty(part).shape.dims().split_at(axis);
        let [Some(outer), Some(rest)] = [outer, rest].map(Shape::count) else { return Err(Skip::NoMatch) };
        flat.push(b.reshape(part, [outer, rest].into_iter().collect())?);
    }
    let y = b.concat(1, &flat)?;
    b.reshape(y, whole)
}

/// Concatenates groups of operands, and then the results.
pub(super) fn concat(b: &mut Build<'_>, node: NodeId) -> Built {
    let &Op::Concat(Concat { axis }) = b.g.op(node) else { return Err(Skip::NoMatch) };
    let operands = b.g.operands(node);
    let mut parts: Vec<ValueId> = operands.to_vec();
    if parts.len() <= MOST_CONCATENATED {
        return concat_two_axes(b, node, axis);
    }
    while parts.len() > 1 {
        let groups = parts.chunks(MOST_CONCATENATED).map(|group| b.concat(axis, group));
        parts = groups.collect::<Result<_, Skip>>()?;
    }
    parts.pop().ok_or(Skip::NoMatch)
}

/// Repeats one axis after the other: an Expand of `[outer, 1, inner]`.
pub(super) fn tile(b: &mut Build<'_>, node: NodeId) -> Built {
    let Op::Tile(Tile { repeats }) = b.g.op(node) else { return Err(Skip::NoMatch) };
    let (repeats, mut x) = (repeats.clone(), b.g.operands(node)[0]);
    let mut extents = b.extents(x)?;
    for (axis, &times) in repeats.iter().enumerate().filter(|(_, times)| **times != 1) {
        let (outer, inner) = (extents[..axis].iter().product(), extents[axis..].iter().product());
        x = b.reshape(x, Shape::known(&[outer, 1, inner]))?;
        x = b.op(Expand { shape: Shape::known(&[outer, times, inner]) }, &[x])?;
        extents[axis] *= times;
    }
    b.reshape(x, Shape::known(&extents))
}
