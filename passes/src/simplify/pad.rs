//! Folds padding into other operators.

use qcc_ir::ops::{Clamp, Conv, Op, OpKind, Pad, PadMode, Pool, PoolFn, Range, Slice};
use qcc_ir::{Graph, NodeId};

use crate::pattern::{Match, become_op, extents, is_known, when};
use crate::{Rule, Skip};

pub(super) const RULES: &[Rule] = &[
    Rule { name: "pad-into-conv", anchor: &[OpKind::Conv], apply: pad_into_conv },
    Rule { name: "taps-in-padding", anchor: &[OpKind::Conv], apply: taps_in_padding },
    Rule { name: "pad-into-max-pool", anchor: &[OpKind::Pool], apply: pad_into_max_pool },
];

/// Matches a constant padding of spatial axes only.
fn spatial_padding(g: &Graph, node: NodeId) -> Match<(&Pad, f32)> {
    let Op::Pad(pad) = g.op(node) else { return Err(Skip::NoMatch) };
    let PadMode::Constant(value) = pad.mode else { return Err(Skip::NoMatch) };
    when(pad.before[..2] == [0, 0] && pad.after[..2] == [0, 0])?;
    Ok((pad, value))
}

/// Folds zero padding into a convolution.
fn pad_into_conv(g: &mut Graph, at: NodeId) -> Result<(), Skip> {
    let Op::Conv(conv) = g.op(at) else { return Err(Skip::NoMatch) };
    let mut operands = g.operands(at);
    let padded = operands[0].node;
    let (pad, value) = spatial_padding(g, padded)?;
    when(value == 0.0)?;
    let sum = |inner: &[usize], outer: &[usize]| inner.iter().zip(&outer[2..]).map(|(a, b)| a + b).collect();
    let op = Conv { before: sum(&conv.before, &pad.before), after: sum(&conv.after, &pad.after), ..conv.clone() };
    operands[0] = g.operands(padded)[0];
    become_op(g, at, op, &operands, &[padded])
}

/// Removes taps at the ends of a window that only read padding.
fn taps_in_padding(g: &mut Graph, at: NodeId) -> Result<(), Skip> {
    let Op::Conv(conv) = g.op(at) else { return Err(Skip::NoMatch) };
    let (mut op, mut operands) = (conv.clone(), g.operands(at));
    when(is_known(g, operands[1]))?;
    let (image, window, result) = (extents(g, operands[0])?, extents(g, operands[1])?, extents(g, at.value(0))?);
    let mut ranges = Vec::new();
    for i in 0..conv.stride.len() {
        let axis = 2 + i;
        let reads = |tap: &usize| conv.reads(i, *tap, image[axis], result[axis]) > 0;
        let first = (0..window[axis]).find(reads).ok_or(Skip::NoMatch)?;
        let len = (first..window[axis]).rev().find(reads).map_or(1, |last| last - first + 1);
        if len == window[axis] {
            continue;
        }
        let reach = conv.dilation[i] * (len - 1) + 1;
        let last = (result[axis] - 1) * conv.stride[i] + reach;
        op.before[i] = conv.before[i].checked_sub(first * conv.dilation[i]).ok_or(Skip::NoMatch)?;
        op.after[i] = last.saturating_sub(op.before[i] + image[axis]);
        let places = (op.before[i] + image[axis] + op.after[i] - reach) / conv.stride[i] + 1;
        when(places == result[axis])?;
        ranges.push(Range { axis, start: first, len, step: 1 });
    }
    when(!ranges.is_empty())?;
    let origin = g.origin(operands[1].node).clone();
    operands[1] = g.add1(Slice { ranges: ranges.into_iter().collect() }, &[operands[1]], origin)?;
    become_op(g, at, op, &operands, &[])
}

/// Folds padding into a max-pool, which ignores its own padding: padding with the smallest number, or with 0 after a
/// clamp to non-negative numbers.
fn pad_into_max_pool(g: &mut Graph, at: NodeId) -> Result<(), Skip> {
    let Op::Pool(pool) = g.op(at) else { return Err(Skip::NoMatch) };
    when(pool.f == PoolFn::Max)?;
    let padded = g.operands(at)[0].node;
    let (pad, value) = spatial_padding(g, padded)?;
    let x = g.operands(padded)[0];
    let not_negative = matches!(g.producer(x), Op::Clamp(Clamp { lo, .. }) if *lo >= 0.0);
    when(value <= f32::MIN || (value == 0.0 && not_negative))?;
    let sum = |inner: &[usize], outer: &[usize]| inner.iter().zip(&outer[2..]).map(|(a, b)| a + b).collect();
    let op = Pool { before: sum(&pool.before, &pad.before), after: sum(&pool.after, &pad.after), ..pool.clone() };
    // Every window must contain an element of the image.
    let image = extents(g, x)?;
    let reaches = |i: usize| {
        let reach = op.window[i];
        op.dilation[i] == 1 && op.before[i] < reach && op.after[i] < reach && image[2 + i] > 0
    };
    when((0..op.window.len()).all(reaches))?;
    become_op(g, at, op, &[x], &[padded])
}
