//! Reshapes, slices and expansions whose extents may be open or known at run time only.

use qcc_ir::ops::{Expand, Extents, OpenSlice, Slice, broadcast};
use qcc_ir::{Dim, Expr, Shape, ValueId};

use super::index::{open_range, open_steps, part, range, strided};
use super::{Build, Operands, computed, count_axes, count_axis, extent};
use crate::refusal::Refusal;

/// `x` in the shape at operand `i`: -1 is what the other extents leave, and 0, if `copies`, the extent of `x`.
pub(crate) fn reshape(n: &mut impl Operands, x: ValueId, i: usize, copies: bool) -> Result<ValueId, Refusal> {
    match n.computed(i)? {
        Some(asked) => computed::reshaped(n, x, asked, copies),
        None => {
            let asked = n.whole(i)?;
            reshaped(n, x, &asked, copies)
        }
    }
}

/// As [`reshape`], to a shape that is known or follows from open extents.
pub(crate) fn reshaped(n: &mut impl Build, x: ValueId, asked: &[Expr], copies: bool) -> Result<ValueId, Refusal> {
    let old = n.shape(x).dims();
    let shown = || qcc_ir::diagnostic::list(asked);
    let mut dims = Vec::new();
    for (i, d) in asked.iter().enumerate() {
        dims.push(match d.constant() {
            Some(0) if copies => old.get(i).cloned().ok_or_else(|| {
                Refusal::Invalid(format!("shape {} copies extent {i} of a value of rank {}", shown(), old.len()))
            })?,
            Some(-1) => Dim::Known(1),
            Some(d) => extent(d)?.into(),
            None => Dim::of(d.clone()).ok_or_else(|| Refusal::Invalid(format!("a shape {}", shown())))?,
        });
    }
    let open: Vec<usize> = (0..asked.len()).filter(|&i| asked[i] == (-1).into()).collect();
    match *open {
        [] => {}
        [open] => {
            dims[open] = match the_rest(old, &dims) {
                Some(extent) => extent,
                // What the others leave is a number that only the run gives.
                None if n.shape(x).is_open() => {
                    let count = Extents::from_elem(asked.len(), 1);
                    let asked = n.add_whole(asked.to_vec(), count)?;
                    return computed::reshaped(n, x, asked, copies);
                }
                None => {
                    return Err(Refusal::Invalid(format!("{} elements do not fill the shape {}", n.ty(x), shown())));
                }
            };
        }
        _ => return Err(Refusal::Invalid(format!("shape {} leaves more than one extent open", shown()))),
    }
    n.reshape_to(x, dims.into_iter().collect())
}

/// The extent of the one axis that takes what the others leave of all elements. An open number of elements is taken to be a
/// multiple of what it is divided by: runtimes refuse others.
fn the_rest(old: &[Dim], others: &[Dim]) -> Option<Dim> {
    let (mut total, mut by) = (Shape::count(old)?.expr(), 1i64);
    for extent in others {
        match (total.exact_div(&extent.expr()), extent.known()) {
            (Some(rest), _) => total = rest,
            (None, Some(known)) => by = by.checked_mul(i64::try_from(known).ok()?)?,
            (None, None) => return None,
        }
    }
    let divides = by > 0 && total.constant().is_none_or(|total| total % by == 0);
    Dim::of(total.floor_div(by).filter(|_| divides)?)
}

/// The extents of `x` without these axes, which must have extent 1; an open one is assumed to have it, which `assumed`
/// reports.
pub(crate) fn squeezed(
    n: &impl Build,
    x: ValueId,
    axes: &[i64],
    mut assumed: impl FnMut(String),
) -> Result<Shape, Refusal> {
    let mut dims = n.shape(x).dims().to_vec();
    for &a in count_axes(axes, dims.len())?.iter().rev() {
        let extent = dims.remove(a);
        if extent.agreed(&Dim::Known(1)).is_none() {
            return Err(Refusal::Invalid(format!("axis {a} of {} has not extent 1", n.ty(x))));
        }
        if extent != Dim::Known(1) {
            assumed(format!("axis {a} of {} is removed: {extent} must be 1, other sizes fail at run time", n.ty(x)));
        }
    }
    Ok(dims.into_iter().collect())
}

/// The extents of `x` without the axes of extent 1. Open ones are assumed to be larger, which `assumed` reports.
pub(crate) fn squeezed_all(n: &impl Build, x: ValueId, mut assumed: impl FnMut(String)) -> Shape {
    let (ty, mut left) = (n.ty(x), Vec::new());
    for (a, extent) in ty.shape.dims().iter().enumerate().filter(|(_, extent)| **extent != Dim::Known(1)) {
        if extent.known().is_none() && extent.expr().bounds().0.is_none_or(|least| least <= 1) {
            assumed(format!("axis {a} of {ty} stays: where {extent} is 1, the source removes it"));
        }
        left.push(extent.clone());
    }
    left.into_iter().collect()
}

/// The extents of `x` with axes of extent 1 at these places of the result.
pub(crate) fn unsqueezed(n: &impl Build, x: ValueId, axes: &[i64]) -> Result<Shape, Refusal> {
    let mut dims = n.shape(x).dims().to_vec();
    for &a in &count_axes(axes, dims.len() + axes.len())? {
        dims.insert(a, Dim::Known(1));
    }
    Ok(dims.into_iter().collect())
}

/// A slice of an axis: negative positions count from the end, all are clamped to the axis.
#[derive(Clone, Debug)]
pub(crate) struct Cut {
    pub(crate) axis: usize,
    pub(crate) start: Expr,
    pub(crate) end: Expr,
    pub(crate) step: i64,
}

/// The slice of one element, which must be inside an axis of this extent. An open position counts from the front.
pub(crate) fn element(axis: usize, extent: &Dim, at: &Expr) -> Result<Cut, Refusal> {
    let large = || Refusal::Unsupported(format!("element {at} of an axis of {extent}"));
    let start = match (extent.known(), at.constant()) {
        (Some(extent), Some(at)) => (count_axis(at, extent)? as i64).into(),
        _ if at.bounds().1.is_some_and(|most| most < 0) => extent.expr().plus(at).ok_or_else(large)?,
        _ => at.clone(),
    };
    let end = start.plus(&1.into()).ok_or_else(large)?;
    Ok(Cut { axis, start, end, step: 1 })
}

/// The part of `x` that these slices select, each of another axis.
pub(crate) fn sliced(n: &mut impl Build, x: ValueId, cuts: &[Cut]) -> Result<ValueId, Refusal> {
    let (mut ranges, mut open) = (Vec::new(), Vec::<(OpenSlice, i64)>::new());
    let dims = n.shape(x).dims();
    for Cut { axis, start, end, step } in cuts {
        match (dims[*axis].known(), start.constant(), end.constant()) {
            (Some(extent), Some(start), Some(end)) => {
                let r = range(*axis, extent, start, end, *step)?;
                ranges.extend((r.start != 0 || r.step != 1 || r.len != extent).then_some(r));
            }
            _ if *step == 1 => open.extend(open_range(*axis, &dims[*axis], start, end)?.map(|part| (part, 1))),
            _ => {
                let slice = open_steps(*axis, &dims[*axis], [start, end], *step)?;
                open.push((slice.ok_or_else(|| Refusal::Open(n.shape(x).clone()))?, *step));
            }
        }
    }
    ranges.sort_by_key(|r| r.axis);
    let mut y = if ranges.is_empty() { x } else { n.add(Slice { ranges }, &[x])? };
    for (slice, step) in open {
        y = if step == 1 { part(n, y, slice)? } else { strided(n, y, &slice, step)? };
    }
    Ok(y)
}

/// `x` broadcast with a shape: the result may be larger than that.
pub(crate) fn expanded(n: &mut impl Build, x: ValueId, asked: &Shape) -> Result<ValueId, Refusal> {
    let shape = broadcast(n.shape(x), asked)?;
    expanded_to(n, x, shape)
}

/// `x` broadcast to a shape.
pub(crate) fn expanded_to(n: &mut impl Build, x: ValueId, shape: Shape) -> Result<ValueId, Refusal> {
    if n.ty(x).shape == shape { Ok(x) } else { n.add(Expand { shape }, &[x]) }
}

/// The extents of `x`, as a list of `I64`.
pub(crate) fn shape(n: &mut impl Build, x: ValueId) -> Result<ValueId, Refusal> {
    let values: Vec<Expr> = n.shape(x).dims().iter().map(Dim::expr).collect();
    let count = values.len();
    n.add_whole(values, Extents::from_elem(count, 1))
}
