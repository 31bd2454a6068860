//! Padding with elements of the tensor.

use qcc_ir::ValueId;
use qcc_ir::ops::{Concat, Extents, Range, Slice, Tile};

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
    let extent = n.dims(x)?[axis];
    if before == 0 && after == 0 {
        return Ok(x);
    }
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

/// A slice; `None` if it has no elements.
fn piece<B: Build>(n: &mut B, x: ValueId, range: Range) -> Result<Option<ValueId>, Refusal> {
    if range.len == 0 {
        return Ok(None);
    }
    n.add(Slice { ranges: vec![range] }, &[x]).map(Some)
}
