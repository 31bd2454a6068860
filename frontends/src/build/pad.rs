//! Padding with elements of the tensor.

use qcc_ir::ops::{BinaryFn, Concat, Expand, Extents, Gather, OpenSlice, Range, Slice, Tile, UnaryFn};
use qcc_ir::{Dim, Expr, ValueId};

use super::computed::counted;
use super::index::part;
use super::{Build, Values};
use crate::refusal::Refusal;

/// The elements that are added at the ends of an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Beyond {
    /// The axis repeated (wrap).
    Wrapped,
    /// The mirror image, edge included (symmetric).
    Mirrored,
}

/// Pads an axis of `x` by `before` and `after` elements.
pub(crate) fn continued(
    n: &mut impl Build,
    x: ValueId,
    axis: usize,
    [before, after]: [usize; 2],
    beyond: Beyond,
) -> Result<ValueId, Refusal> {
    if before == 0 && after == 0 {
        return Ok(x);
    }
    let extent = n.extent(x, axis)?;
    if extent == 0 || (beyond == Beyond::Mirrored && before.max(after) > extent) {
        return Err(Refusal::Invalid(format!("{before} and {after} elements beyond the {extent} along axis {axis}")));
    }
    let part = |n: &mut _, start: usize, len: usize| piece(n, x, Range { axis, start, len, step: 1 });
    let mirrored = |n: &mut _, start: usize, len: usize| {
        piece(n, x, Range { axis, start, len, step: if len > 1 { -1 } else { 1 } })
    };
    let mut pieces = Values::new();
    match beyond {
        Beyond::Wrapped => {
            pieces.extend(part(n, extent - before % extent, before % extent)?);
            let mut repeats = Extents::from_elem(1, n.rank(x));
            repeats[axis] = before / extent + 1 + after / extent;
            pieces.push(if repeats[axis] > 1 { n.add(Tile { repeats }, &[x])? } else { x });
            pieces.extend(part(n, 0, after % extent)?);
        }
        Beyond::Mirrored => {
            pieces.extend(mirrored(n, before.saturating_sub(1), before)?);
            pieces.push(x);
            pieces.extend(mirrored(n, extent - 1, after)?);
        }
    }
    if pieces.len() == 1 { Ok(pieces[0]) } else { n.add(Concat { axis }, &pieces) }
}

/// Padding of axes with a number, by amounts before and after that follow from open extents: parts filled with it are
/// concatenated, and what negative amounts take away is cut off.
pub(crate) fn filled(
    n: &mut impl Build,
    mut x: ValueId,
    pads: &[(usize, [Expr; 2])],
    value: ValueId,
) -> Result<ValueId, Refusal> {
    if n.ty(x).elem.qparams().is_some() {
        return Err(Refusal::Open(n.shape(x).clone()));
    }
    let value = n.reshape(value, &[])?;
    for (axis, pads) in pads {
        let too_large = || Refusal::Open(n.shape(x).clone());
        let extent = n.shape(x).dims()[*axis].expr();
        let whole = extent.plus(&pads[0]).and_then(|e| e.plus(&pads[1])).ok_or_else(too_large)?;
        let added = pads.each_ref().map(|pad| pad.larger(&Expr::default()).ok_or_else(too_large));
        let [front, back] = added;
        let (front, back) = (front?, back?);
        let cut = front.minus(&pads[0]).ok_or_else(too_large)?;
        let cuts = cut != Expr::default() || back != pads[1];
        let [front, back] = [front, back].map(|pad| {
            let pad = Dim::of(pad).filter(|pad| *pad != Dim::Known(0));
            pad.map(|pad| n.add(Expand { shape: n.shape(x).with(*axis, pad) }, &[value])).transpose()
        });
        let parts: Values = front?.into_iter().chain([x]).chain(back?).collect();
        if parts.len() > 1 {
            x = n.add(Concat { axis: *axis }, &parts)?;
        }
        if cuts {
            x = part(n, x, OpenSlice { axis: *axis, start: cut, len: whole })?;
        }
    }
    Ok(x)
}

/// The elements beyond the ends of an open axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Past {
    /// The mirror image without the edge.
    Reflected,
    /// The edge.
    Edge,
    /// The axis repeated.
    Wrapped,
}

impl Past {
    /// The mode of this name, in ONNX or PyTorch; `None` for a constant.
    pub(crate) fn named(mode: &str) -> Result<Option<Past>, Refusal> {
        Ok(match mode {
            "constant" => None,
            "reflect" => Some(Past::Reflected),
            "edge" | "replicate" => Some(Past::Edge),
            "wrap" | "circular" => Some(Past::Wrapped),
            other => return Err(Refusal::Unsupported(format!("padding in mode {other} is not supported"))),
        })
    }
}

/// Padding of axes by amounts before and after that follow from open extents. The place of each element is computed;
/// negative amounts leave elements out.
pub(crate) fn gathered(
    n: &mut impl Build,
    mut x: ValueId,
    pads: &[(usize, [Expr; 2])],
    past: Past,
) -> Result<ValueId, Refusal> {
    for (axis, [before, after]) in pads {
        let too_large = || Refusal::Open(n.shape(x).clone());
        let extent = n.shape(x).dims()[*axis].expr();
        let whole = extent.plus(before).and_then(|e| e.plus(after)).ok_or_else(too_large)?;
        let last = extent.minus(&1.into()).ok_or_else(too_large)?;
        if whole == extent && *before == Expr::default() {
            continue;
        }
        let places = counted(n, whole)?;
        let [before, extent, last] = [before.clone(), extent, last].map(|e| n.add_whole(vec![e], Extents::new()));
        let mut at = n.binary(BinaryFn::Sub, places, before?)?;
        match past {
            Past::Reflected => {
                at = n.unary(UnaryFn::Abs, at)?;
                let last = last?;
                let behind = n.binary(BinaryFn::Sub, last, at)?;
                let behind = n.unary(UnaryFn::Abs, behind)?;
                at = n.binary(BinaryFn::Sub, last, behind)?;
            }
            Past::Edge => {
                let first = n.scalar(0.0, at)?;
                at = n.binary(BinaryFn::Max, at, first)?;
                at = n.binary(BinaryFn::Min, at, last?)?;
            }
            Past::Wrapped => at = n.binary(BinaryFn::FloorMod, at, extent?)?,
        }
        x = n.add(Gather { axis: *axis }, &[x, at])?;
    }
    Ok(x)
}

/// A slice; `None` if it has no elements.
fn piece<B: Build>(n: &mut B, x: ValueId, range: Range) -> Result<Option<ValueId>, Refusal> {
    if range.len == 0 {
        return Ok(None);
    }
    n.add(Slice { ranges: vec![range] }, &[x]).map(Some)
}
