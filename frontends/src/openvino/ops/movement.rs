//! Operations that move elements.

use qcc_ir::diagnostic::list;
use qcc_ir::ops::{Concat, DepthToSpace, Extents, Pad, PadMode, Range, Reverse, Slice, SpaceToDepth};
use qcc_ir::{Dim, Expr, ValueId};

use super::super::node::NodeCx;
use super::Row;
use crate::build::movement::{self, Cut};
use crate::build::pad::filled;
use crate::build::{Build, Operands, Values, computed, count_axes, count_axis, extent, extents, one};
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
            _ => return Err(Refusal::unknown_mode("mode")),
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
        let whole = n.extent(x, axis)?;
        if parts == 0 || parts != n.outputs() || !whole.is_multiple_of(parts) {
            return Err(Refusal::Invalid(format!("{parts} parts of axis {axis} of {}", n.ty(x))));
        }
        split(n, x, axis, &vec![whole / parts; parts])
    }),
    ("Squeeze", squeeze),
    ("StridedSlice", strided_slice),
    ("Tile", |n| {
        let (mut x, mut repeats) = (n.input(0)?, n.extents(1)?);
        let rank = n.rank(x).max(repeats.len());
        repeats.splice(0..0, vec![1.into(); rank - repeats.len()]);
        let ones = vec![Dim::Known(1); rank - n.rank(x)];
        let filled = ones.into_iter().chain(n.shape(x).dims().iter().cloned()).collect();
        x = n.reshape_to(x, filled)?;
        one(computed::tiled(n, x, &repeats)?)
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
        let x = n.input(0)?;
        if let Some(axes) = n.computed(1)? {
            return one(computed::unsqueezed(n, x, axes)?);
        }
        let axes = n.integers(1)?;
        let rank = n.rank(x) + axes.len();
        if rank > 8 {
            return Err(Refusal::Unsupported(format!("rank {rank} is not supported; 8 is the most")));
        }
        let shape = movement::unsqueezed(n, x, &axes)?;
        one(n.reshape_to(x, shape)?)
    }),
    ("VariadicSplit", variadic_split),
];

/// One length may be -1: the rest of the axis.
fn variadic_split(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let x = n.input(0)?;
    let axis = n.axis_at(1, x)?;
    let whole = n.shape(x).dims()[axis].clone();
    let mut lengths = match n.computed(2)? {
        Some(asked) => computed::lengths(n, &whole, asked)?,
        None => n.whole(2)?,
    };
    let given = lengths.iter().filter(|l| **l != (-1).into()).try_fold(Expr::default(), |sum, l| sum.plus(l));
    let rest = given.and_then(|given| whole.expr().minus(&given)).ok_or_else(|| Refusal::Open(n.shape(x).clone()))?;
    lengths.iter_mut().filter(|l| **l == (-1).into()).for_each(|l| *l = rest.clone());
    let odd = || Refusal::Invalid(format!("parts {} of axis {axis} of {}", list(&lengths), n.ty(x)));
    if lengths.len() != n.outputs() {
        return Err(odd());
    }
    let numbers = lengths.iter().map(Expr::constant).collect::<Option<Vec<i64>>>();
    let (Some(whole), Some(numbers)) = (whole.known(), numbers) else {
        return computed::parts(n, x, axis, &lengths);
    };
    let numbers = numbers.into_iter().map(extent).collect::<Result<Vec<usize>, _>>()?;
    let all = numbers.iter().try_fold(0usize, |sum, &l| sum.checked_add(l));
    if all == Some(whole) { split(n, x, axis, &numbers) } else { Err(odd()) }
}

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
    let x = n.input(0)?;
    one(movement::reshape(n, x, 1, keeps)?)
}

/// Without axes, all axes of extent 1 are removed.
fn squeeze(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    n.ignore(&["allow_axis_skip"]);
    let x = n.input(0)?;
    if let Some(axes) = n.computed(1)? {
        return one(computed::squeezed(n, x, axes)?);
    }
    let axes = n.optional_integers(1)?;
    let mut assumed = 0;
    let shape = match axes {
        // The runtime refuses other extents as well.
        Some(axes) => movement::squeezed(n, x, &axes, |_| assumed += 1)?,
        None => movement::squeezed_all(n, x, |_| assumed += 1),
    };
    n.assume(assumed);
    one(n.reshape_to(x, shape)?)
}

fn slice(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let x = n.input(0)?;
    if n.computed(1)?.is_some() || n.computed(2)?.is_some() {
        return one(computed_slice(n, x)?);
    }
    let (start, stop, step) = (n.whole(1)?, n.whole(2)?, n.integers(3)?);
    let axes = slice_axes(n, x, start.len())?;
    if [stop.len(), step.len()] != [start.len(); 2] {
        return Err(Refusal::Invalid(format!("ranges of {} axes for {}", axes.len(), n.ty(x))));
    }
    let ends = start.into_iter().zip(stop).zip(step);
    let cut = |(axis, ((start, end), step))| Cut { axis, start, end, step };
    let cuts: Vec<Cut> = axes.into_iter().zip(ends).map(cut).collect();
    one(movement::sliced(n, x, &cuts)?)
}

/// The axes of `count` ranges of a Slice: its last input, else the first axes.
fn slice_axes(n: &mut NodeCx<'_, '_>, x: ValueId, count: usize) -> Result<Vec<usize>, Refusal> {
    let axes = n.optional_integers(4)?.unwrap_or_else(|| (0..count as i64).collect());
    if axes.len() != count {
        return Err(Refusal::Invalid(format!("{count} ranges of {} axes for {}", axes.len(), n.ty(x))));
    }
    count_axes(&axes, n.rank(x))?;
    axes.iter().map(|&axis| n.axis(axis, x)).collect()
}

/// A slice whose starts or ends are known at run time only.
fn computed_slice(n: &mut NodeCx<'_, '_>, x: ValueId) -> Result<ValueId, Refusal> {
    let lists = [n.input(1)?, n.input(2)?].map(|v| computed::list(n, v));
    let [starts, ends] = [lists[0].clone()?, lists[1].clone()?];
    let (count, steps) = (n.dims(starts)?[0], n.integers(3)?);
    let axes = slice_axes(n, x, count)?;
    if [n.dims(ends)?[0], steps.len()] != [count; 2] {
        return Err(Refusal::Invalid(format!("ranges of {count} axes for {}", n.ty(x))));
    }
    let mut y = x;
    for (i, (axis, step)) in axes.into_iter().zip(steps).enumerate() {
        let ends = [computed::position(n, starts, i)?, computed::position(n, ends, i)?];
        y = computed::slice(n, y, axis, ends, step)?;
    }
    Ok(y)
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
    let (begin, end) = (n.whole(1)?, n.whole(2)?);
    let stride = n.optional_integers(3)?.unwrap_or_else(|| vec![1; begin.len()]);
    if end.len() != begin.len() || stride.len() != begin.len() {
        return Err(Refusal::Invalid("begin, end and strides differ in length".into()));
    }
    let (mut axis, mut cuts, mut removed, mut added) = (0, Vec::new(), Vec::new(), Vec::new());
    for i in 0..begin.len() {
        if set(&new, i) {
            added.push(axis);
            continue;
        }
        let dim = n.shape(x).dims().get(axis).cloned();
        let dim = dim.ok_or_else(|| Refusal::Invalid(format!("a slice of more axes than {}", n.ty(x))))?;
        cuts.push(if set(&shrink, i) {
            removed.push(axis);
            movement::element(axis, &dim, &begin[i])?
        } else {
            let far = i64::from(if stride[i] < 0 { -i32::MAX } else { i32::MAX });
            let first = if stride[i] < 0 { i64::from(i32::MAX) } else { 0 };
            let start = if set(&begins, i) { first.into() } else { begin[i].clone() };
            let end = if set(&ends, i) { far.into() } else { end[i].clone() };
            Cut { axis, start, end, step: stride[i] }
        });
        axis += 1;
    }
    let part = movement::sliced(n, x, &cuts)?;
    let mut dims = Vec::new();
    for (a, dim) in n.shape(part).dims().iter().enumerate() {
        dims.extend(added.iter().filter(|&&new| new == a).map(|_| Dim::Known(1)));
        dims.extend((!removed.contains(&a)).then(|| dim.clone()));
    }
    dims.extend(added.iter().filter(|&&new| new == n.rank(part)).map(|_| Dim::Known(1)));
    one(n.reshape_to(part, dims.into_iter().collect())?)
}

fn pad(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let mode = n.text("pad_mode");
    let (x, before, after) = (n.input(0)?, n.extents(1)?, n.extents(2)?);
    let mode = match mode {
        Some("constant") if n.inputs() > 3 => PadMode::Constant(n.real(3)?),
        Some("constant") => PadMode::Constant(0.0),
        Some("edge") => PadMode::Edge,
        Some("reflect") => PadMode::Reflect,
        Some(other) => return Err(Refusal::Unsupported(format!("padding in mode {other} is not supported"))),
        None => return Err(Refusal::Attribute { name: "pad_mode".into(), problem: "is missing" }),
    };
    let numbers = |pads: &[Expr]| pads.iter().map(Expr::constant).collect::<Option<Vec<i64>>>();
    if let (Some(before), Some(after)) = (numbers(&before), numbers(&after)) {
        let (before, after) = (extents(&before)?.into(), extents(&after)?.into());
        return one(n.add(Pad { before, after, mode }, &[x])?);
    }
    let PadMode::Constant(number) = mode else { return Err(Refusal::Open(n.shape(x).clone())) };
    if [before.len(), after.len()] != [n.rank(x); 2] {
        return Err(Refusal::Invalid(format!("{} and {} pads for {}", before.len(), after.len(), n.ty(x))));
    }
    let pads: Vec<_> = before.into_iter().zip(after).map(|(before, after)| [before, after]).enumerate().collect();
    let number = n.scalar(number.into(), x)?;
    one(filled(n, x, &pads, number)?)
}

/// To a given shape, or to the common shape of both.
fn expand(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let mode = n.text("mode");
    if n.inputs() > 2 {
        return Err(Refusal::UnreadInput(2));
    }
    let (x, target) = (n.input(0)?, n.shape_at(1)?);
    match mode {
        None | Some("numpy") => one(movement::expanded_to(n, x, target)?),
        Some("bidirectional") => one(movement::expanded(n, x, &target)?),
        Some(other) => Err(Refusal::Unsupported(format!("broadcasting in mode {other} is not supported"))),
    }
}
