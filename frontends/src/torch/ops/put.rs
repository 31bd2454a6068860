//! Writes through views: the base tensor with the viewed part replaced.

use qcc_ir::ops::{Concat, Gather, OpenSlice};
use qcc_ir::{Shape, Tensor, ValueId};
use smallvec::SmallVec;

use super::super::node::NodeCx;
use super::parts::Part;
use super::{movement, parts};
use crate::build::Build;
use crate::build::computed::open;
use crate::build::index::part as piece;
use crate::refusal::Refusal;

/// `whole` with the part that the node's view covers, `old`, replaced by `new`.
pub(in super::super) fn put(
    n: &mut NodeCx<'_, '_>,
    index: usize,
    whole: ValueId,
    old: ValueId,
    new: ValueId,
) -> Result<ValueId, Refusal> {
    match n.op() {
        "alias"
        | "detach"
        | "detach_"
        | "dropout"
        | "feature_dropout"
        | "alpha_dropout"
        | "feature_alpha_dropout"
        | "lift_fresh" => Ok(new),
        "view" | "view_as" | "reshape" | "reshape_as" | "flatten" | "ravel" | "unflatten" | "squeeze" | "unsqueeze" => {
            n.reshape_to(new, n.shape(whole).clone())
        }
        "transpose" | "t" | "permute" | "swapaxes" | "swapdims" | "movedim" | "numpy_T" | "mT" => {
            let perm = movement::permutation(n, whole)?;
            let mut inverse = perm.clone();
            perm.iter().enumerate().for_each(|(i, &a)| inverse[a] = i);
            n.transpose(new, &inverse)
        }
        "slice" | "select" | "narrow" | "split" | "split_with_sizes" | "chunk" | "tensor_split" | "unbind" => {
            let all = parts::parts(n, whole)?;
            let part = all.get(index).ok_or_else(|| Refusal::Invalid("a part that is none".into()))?;
            put_part(n, part, whole, new)
        }
        other => Err(Refusal::Unsupported(format!(
            "writing in place through {other} ({}) is not supported; use the out-of-place operator",
            n.ty(old)
        ))),
    }
}

/// Concatenates the part before the range, the new part, and the part after it; for a range with steps, each element is
/// selected from the old or the new tensor.
pub(super) fn put_part(n: &mut NodeCx<'_, '_>, part: &Part, whole: ValueId, new: ValueId) -> Result<ValueId, Refusal> {
    let shape = n.shape(whole).clone();
    let axis = part.axis;
    let new = n.reshape_to(new, shape.with(axis, open(part.len.clone())?))?;
    if part.step != 1 && part.len != 1.into() {
        return put_steps(n, part, whole, new);
    }
    let extent = shape.dims()[axis].expr();
    let end = part.start.plus(&part.len);
    let after = end.as_ref().and_then(|end| extent.minus(end));
    let (Some(end), Some(after)) = (end, after) else { return Err(Refusal::Open(shape)) };
    let mut pieces: SmallVec<[ValueId; 3]> = SmallVec::new();
    if part.start != 0.into() {
        pieces.push(piece(n, whole, OpenSlice { axis, start: 0.into(), len: part.start.clone() })?);
    }
    if part.len != 0.into() {
        pieces.push(new);
    }
    if after != 0.into() {
        pieces.push(piece(n, whole, OpenSlice { axis, start: end, len: after })?);
    }
    match pieces[..] {
        [] => Ok(whole),
        [only] => Ok(only),
        _ => n.add(Concat { axis }, &pieces),
    }
}

/// As [`put_part`], for a range with steps, whose extents must be known.
fn put_steps(n: &mut NodeCx<'_, '_>, part: &Part, whole: ValueId, new: ValueId) -> Result<ValueId, Refusal> {
    let extent = n.known_extent(whole, part.axis)?;
    let part = part.known().ok_or_else(|| Refusal::Open(n.shape(new).clone()))?;
    let mut sources: Vec<i64> = (0..extent as i64).collect();
    for i in 0..part.len {
        sources[(part.start as isize + i as isize * part.step) as usize] = (extent + i) as i64;
    }
    let sources = n.add_constant(Tensor::from_vec(Shape::known(&[extent]), sources));
    let both = n.add(Concat { axis: part.axis }, &[whole, new])?;
    n.add(Gather { axis: part.axis }, &[both, sources])
}
