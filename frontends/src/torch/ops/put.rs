//! Writes through views: the base tensor with the viewed part replaced.

use qcc_ir::ops::{Concat, Gather, Range, Slice};
use qcc_ir::{Shape, Tensor, ValueId};
use smallvec::SmallVec;

use super::super::node::NodeCx;
use super::{movement, parts};
use crate::build::Build;
use crate::refusal::Refusal;

/// `whole` with the part that the node's view covers, `old`, replaced by `new`.
pub(in super::super) fn put(
    n: &mut NodeCx<'_, '_>,
    index: usize,
    whole: ValueId,
    old: ValueId,
    new: ValueId,
) -> Result<ValueId, Refusal> {
    let dims = n.dims(whole)?;
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
            n.reshape(new, &dims)
        }
        "transpose" | "t" | "permute" | "swapaxes" | "swapdims" | "movedim" | "numpy_T" | "mT" => {
            let perm = movement::permutation(n, whole)?;
            let mut inverse = perm.clone();
            perm.iter().enumerate().for_each(|(i, &a)| inverse[a] = i);
            n.transpose(new, &inverse)
        }
        "slice" | "select" | "narrow" | "split" | "split_with_sizes" | "chunk" | "tensor_split" | "unbind" => {
            let all = parts::parts(n, whole)?;
            let part = *all.get(index).ok_or_else(|| Refusal::Invalid("a part that is none".into()))?;
            put_range(n, part, whole, new)
        }
        other => Err(Refusal::Unsupported(format!(
            "writing in place through {other} ({}) is not supported; use the out-of-place operator",
            n.ty(old)
        ))),
    }
}

/// Concatenates the part before the range, the new part, and the part after it; for a range with steps, each element is
/// selected from the old or the new tensor.
pub(super) fn put_range(n: &mut NodeCx<'_, '_>, part: Range, whole: ValueId, new: ValueId) -> Result<ValueId, Refusal> {
    let mut dims = n.dims(whole)?;
    let extent = dims[part.axis];
    dims[part.axis] = part.len;
    let new = n.reshape(new, &dims)?;
    if part.step != 1 && part.len > 1 {
        let mut sources: Vec<i64> = (0..extent as i64).collect();
        for i in 0..part.len {
            sources[(part.start as isize + i as isize * part.step) as usize] = (extent + i) as i64;
        }
        let sources = n.add_constant(Tensor::from_vec(Shape::known(&[extent]), sources));
        let both = n.add(Concat { axis: part.axis }, &[whole, new])?;
        return n.add(Gather { axis: part.axis }, &[both, sources]);
    }
    let end = part.start + part.len;
    let mut pieces: SmallVec<[ValueId; 3]> = SmallVec::new();
    if part.start > 0 {
        let range = Range { axis: part.axis, start: 0, len: part.start, step: 1 };
        pieces.push(n.add(Slice { ranges: vec![range] }, &[whole])?);
    }
    if part.len > 0 {
        pieces.push(new);
    }
    if end < extent {
        let range = Range { axis: part.axis, start: end, len: extent - end, step: 1 };
        pieces.push(n.add(Slice { ranges: vec![range] }, &[whole])?);
    }
    match pieces[..] {
        [] => Ok(whole),
        [only] => Ok(only),
        _ => n.add(Concat { axis: part.axis }, &pieces),
    }
}
