//! Operations that move elements.

use qcc_ir::ops::{
    Concat, DepthToSpace, Expand, Extents, Pad, PadMode, Range, Reverse, Slice, SpaceToDepth, Tile, broadcast,
};
use qcc_ir::{Shape, ValueId};

use super::super::node::NodeCx;
use super::Row;
use crate::build::index::range;
use crate::build::{Build, Values, count_axes, count_axis, extent, extents, one};
use crate::refusal::Refusal;

pub(super) const ROWS: &[Row] = &[
    ("Broadcast", expand),
    ("Concat", |n| {
        let values = n.all_inputs()?;
        let first = *values.first().ok_or(Refusal::MissingInput(0))?;
        let axis = n.axis_of("axis", 0, first)?;
        one(n.add(Concat { axis }, &values)?)
    }),
    ("DepthToSpace", |n| {
        let channel_first = match n.text("mode") {
            Some("blocks_first") => false,
            Some("depth_first") => true,
            _ => return Err(Refusal::Attribute { name: "mode".into(), problem: "not a known mode" }),
        };
        let block = extent(n.number("block_size")?.unwrap_or(1))?;
        let x = n.input(0)?;
        one(n.add(DepthToSpace { block, channel_first }, &[x])?)
    }),
    ("Pad", pad),
    ("Reshape", reshape),
    ("Reverse", |n| {
        if n.text("mode") != Some("index") {
            return Err(Refusal::Attribute { name: "mode".into(), problem: "not index" });
        }
        let x = n.input(0)?;
        let axes = n.axes(1, x)?;
        one(n.add(Reverse { axes }, &[x])?)
    }),
    ("Slice", slice),
    ("SpaceToDepth", |n| {
        if n.text("mode") != Some("blocks_first") {
            return Err(Refusal::Unsupported("channels before blocks are not supported".into()));
        }
        let block = extent(n.number("block_size")?.unwrap_or(1))?;
        let x = n.input(0)?;
        one(n.add(SpaceToDepth { block }, &[x])?)
    }),
    ("Split", |n| {
        let x = n.input(0)?;
        let (axis, parts) = (n.axis_at(1, x)?, extent(n.required("num_splits")?)?);
        let whole = n.dims(x)?[axis];
        if parts == 0 || parts != n.outputs() || !whole.is_multiple_of(parts) {
            return Err(Refusal::Invalid(format!("{parts} parts of axis {axis} of {}", n.ty(x))));
        }
        split(n, x, axis, &vec![whole / parts; parts])
    }),
    ("Squeeze", squeeze),
    ("StridedSlice", strided_slice),
    ("Tile", |n| {
        let (mut x, repeats) = (n.input(0)?, extents(&n.integers(1)?)?);
        let rank = n.rank(x).max(repeats.len());
        let filled = |dims: &[usize]| -> Vec<usize> { [&vec![1; rank - dims.len()], dims].concat() };
        x = n.reshape(x, &filled(&n.dims(x)?))?;
        one(n.add(Tile { repeats: filled(&repeats).into() }, &[x])?)
    }),
    ("Transpose", |n| {
        let (x, order) = (n.input(0)?, n.integers(1)?);
        let rank = n.rank(x);
        let perm: Extents = match order.is_empty() {
            true => (0..rank).rev().collect(),
            false => order.iter().map(|&a| count_axis(a, rank)).collect::<Result<_, _>>()?,
        };
        one(n.transpose(x, &perm)?)
    }),
    ("Unsqueeze", |n| {
        let (x, axes) = (n.input(0)?, n.integers(1)?);
        let rank = n.rank(x) + axes.len();
        if rank > 8 {
            return Err(Refusal::Unsupported(format!("rank {rank} is not supported; 8 is the most")));
        }
        let axes = count_axes(&axes, rank)?;
        let mut dims = n.dims(x)?;
        axes.iter().for_each(|&axis| dims.insert(axis, 1));
        one(n.reshape(x, &dims)?)
    }),
    ("VariadicSplit", |n| {
        let x = n.input(0)?;
        let (axis, lengths) = (n.axis_at(1, x)?, n.integers(2)?);
        let known: i64 = lengths.iter().filter(|&&l| l >= 0).fold(0, |sum, &l| sum.saturating_add(l));
        let whole = n.dims(x)?[axis];
        let rest = |l: i64| if l == -1 { extent(whole as i64 - known) } else { extent(l) };
        let lengths = lengths.iter().map(|&l| rest(l)).collect::<Result<Vec<usize>, _>>()?;
        let all = lengths.iter().try_fold(0usize, |sum, &l| sum.checked_add(l));
        if all != Some(whole) || lengths.len() != n.outputs() {
            return Err(Refusal::Invalid(format!("parts {lengths:?} of axis {axis} of {}", n.ty(x))));
        }
        split(n, x, axis, &lengths)
    }),
];

fn split(n: &mut NodeCx<'_, '_>, x: ValueId, axis: usize, lengths: &[usize]) -> Result<Values, Refusal> {
    let mut start = 0;
    let part = |&len: &usize| {
        let range = Range { axis, start, len, step: 1 };
        start += len;
        n.add(Slice { ranges: vec![range] }, &[x])
    };
    lengths.iter().map(part).collect()
}

/// 0 copies the extent of x at its position (`special_zero`), -1 is inferred.
fn reshape(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let keeps = n.flag("special_zero", false)?;
    let (x, pattern) = (n.input(0)?, n.integers(1)?);
    let old = n.dims(x)?;
    let count: usize = old.iter().product();
    let odd = |n: &NodeCx<'_, '_>| Refusal::Invalid(format!("{} does not reshape to {pattern:?}", n.ty(x)));
    let mut dims: Vec<usize> = Vec::with_capacity(pattern.len());
    for (i, &d) in pattern.iter().enumerate() {
        dims.push(match d {
            0 if keeps => *old.get(i).ok_or_else(|| odd(n))?,
            -1 => 1,
            d => extent(d)?,
        });
    }
    let mut open = pattern.iter().enumerate().filter(|(_, d)| **d == -1).map(|(i, _)| i);
    if let Some(i) = open.next() {
        let known =
            dims.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).filter(|&k| k > 0 && count.is_multiple_of(k));
        dims[i] = count / known.ok_or_else(|| odd(n))?;
    }
    if open.next().is_some() {
        return Err(odd(n));
    }
    one(n.reshape(x, &dims)?)
}

/// Without axes, all axes of extent 1 are removed.
fn squeeze(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    n.ignore(&["allow_axis_skip"]);
    let x = n.input(0)?;
    let dims = n.dims(x)?;
    let axes: Extents = match n.inputs() > 1 {
        true => n.axes(1, x)?,
        false => (0..dims.len()).filter(|&a| dims[a] == 1).collect(),
    };
    if let Some(&axis) = axes.iter().find(|&&a| dims[a] != 1) {
        return Err(Refusal::Invalid(format!("axis {axis} of {} is squeezed", n.ty(x))));
    }
    let kept: Vec<usize> = (0..dims.len()).filter(|a| !axes.contains(a)).map(|a| dims[a]).collect();
    one(n.reshape(x, &kept)?)
}

fn slice(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let x = n.input(0)?;
    let (start, stop, step) = (n.integers(1)?, n.integers(2)?, n.integers(3)?);
    let axes: Vec<usize> = match n.inputs() > 4 {
        true => n.integers(4)?.iter().map(|&a| count_axis(a, n.rank(x))).collect::<Result<_, _>>()?,
        false => (0..start.len()).collect(),
    };
    let dims = n.dims(x)?;
    if [stop.len(), step.len(), axes.len()] != [start.len(); 3] || axes.iter().any(|&a| a >= dims.len()) {
        return Err(Refusal::Invalid(format!("ranges of {} axes for {}", axes.len(), n.ty(x))));
    }
    let mut ranges = Vec::with_capacity(axes.len());
    for (i, &axis) in axes.iter().enumerate() {
        ranges.push(range(axis, dims[axis], start[i], stop[i], step[i])?);
    }
    sliced(n, x, ranges)
}

/// The ranges of a slice, by ascending axis; empty if it is all of x.
fn sliced(n: &mut NodeCx<'_, '_>, x: ValueId, mut ranges: Vec<Range>) -> Result<Values, Refusal> {
    let dims = n.dims(x)?;
    ranges.sort_by_key(|r| r.axis);
    ranges.retain(|r| r.start != 0 || r.len != dims[r.axis] || r.step != 1);
    one(if ranges.is_empty() { x } else { n.add(Slice { ranges }, &[x])? })
}

/// Masks mark ignored bounds (1), new axes, and axes that are removed by selecting one element.
fn strided_slice(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let mut mask = |name: &'static str| Ok::<_, Refusal>(n.list(name)?.iter().map(|&m| m != 0).collect::<Vec<bool>>());
    let (begins, ends) = (mask("begin_mask")?, mask("end_mask")?);
    let (new, shrink, ellipsis) = (mask("new_axis_mask")?, mask("shrink_axis_mask")?, mask("ellipsis_mask")?);
    if ellipsis.contains(&true) {
        return Err(Refusal::Unsupported("an ellipsis in a slice is not supported".into()));
    }
    let set = |mask: &[bool], i: usize| mask.get(i) == Some(&true);
    let x = n.input(0)?;
    let (begin, end) = (n.integers(1)?, n.integers(2)?);
    let stride = if n.inputs() > 3 { n.integers(3)? } else { vec![1; begin.len()] };
    if end.len() != begin.len() || stride.len() != begin.len() {
        return Err(Refusal::Invalid("begin, end and strides differ in length".into()));
    }
    let (dims, mut axis, mut shape, mut ranges) = (n.dims(x)?, 0, Vec::new(), Vec::new());
    for i in 0..begin.len() {
        if set(&new, i) {
            shape.push(1);
            continue;
        }
        let extent =
            *dims.get(axis).ok_or_else(|| Refusal::Invalid(format!("a slice of more axes than {}", n.ty(x))))?;
        if set(&shrink, i) {
            let at = count_axis(begin[i], extent)?;
            ranges.push(Range { axis, start: at, len: 1, step: 1 });
        } else {
            let back = stride[i] < 0;
            let from = if !set(&begins, i) {
                begin[i]
            } else if back {
                i64::from(i32::MAX)
            } else {
                0
            };
            let to = if !set(&ends, i) {
                end[i]
            } else if back {
                -i64::from(i32::MAX)
            } else {
                i64::from(i32::MAX)
            };
            let range = range(axis, extent, from, to, stride[i])?;
            shape.push(range.len);
            ranges.push(range);
        }
        axis += 1;
    }
    shape.extend(&dims[axis..]);
    let part = sliced(n, x, ranges)?[0];
    one(n.reshape(part, &shape)?)
}

fn pad(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let mode = n.text("pad_mode");
    let (x, before, after) = (n.input(0)?, extents(&n.integers(1)?)?, extents(&n.integers(2)?)?);
    let mode = match mode {
        Some("constant") if n.inputs() > 3 => PadMode::Constant(n.real(3)?),
        Some("constant") => PadMode::Constant(0.0),
        Some("edge") => PadMode::Edge,
        Some("reflect") => PadMode::Reflect,
        Some(other) => return Err(Refusal::Unsupported(format!("padding in mode {other} is not supported"))),
        None => return Err(Refusal::Attribute { name: "pad_mode".into(), problem: "is missing" }),
    };
    one(n.add(Pad { before: before.into(), after: after.into(), mode }, &[x])?)
}

/// To a given shape, or to the common shape of both.
fn expand(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let mode = n.text("mode");
    if n.inputs() > 2 {
        return Err(Refusal::UnreadInput(2));
    }
    let (x, target) = (n.input(0)?, Shape::known(&extents(&n.integers(1)?)?));
    let shape = match mode {
        None | Some("numpy") => target,
        Some("bidirectional") => broadcast(&n.ty(x).shape, &target)?,
        Some(other) => return Err(Refusal::Unsupported(format!("broadcasting in mode {other} is not supported"))),
    };
    one(if n.ty(x).shape == shape { x } else { n.add(Expand { shape }, &[x])? })
}
