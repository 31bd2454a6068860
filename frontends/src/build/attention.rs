//! Attention: masks, and key/value heads shared by several query heads.

use qcc_ir::ops::{BinaryFn, Expand, Select};
use qcc_ir::{Elem, Shape, ValueId};

use super::Build;
use crate::refusal::Refusal;

/// Scores where a boolean mask is true, minus infinity elsewhere; or scores plus an additive mask.
pub(crate) fn masked(n: &mut impl Build, scores: ValueId, mask: ValueId) -> Result<ValueId, Refusal> {
    if n.ty(mask).elem != Elem::Bool {
        let mask = n.cast(mask, n.ty(scores).elem.clone())?;
        return n.binary(BinaryFn::Add, scores, mask);
    }
    let never = n.scalar(f64::NEG_INFINITY, scores)?;
    n.add(Select {}, &[mask, scores, never])
}

/// Key or value heads, each repeated for the query heads that share it.
pub(crate) fn repeated(n: &mut impl Build, v: ValueId, query: ValueId) -> Result<ValueId, Refusal> {
    let (mut dims, wanted) = (n.dims(v)?, n.dims(query)?);
    let Some(at) = dims.len().checked_sub(3).filter(|_| dims.len() == wanted.len()) else { return Ok(v) };
    if dims[at] == wanted[at] {
        return Ok(v);
    }
    if dims[at] == 0 || !wanted[at].is_multiple_of(dims[at]) {
        return Err(Refusal::Invalid(format!("heads {} for {}", n.ty(v), n.ty(query))));
    }
    let times = wanted[at] / dims[at];
    dims.insert(at + 1, 1);
    let apart = n.reshape(v, &dims)?;
    dims[at + 1] = times;
    let repeated = n.add(Expand { shape: Shape::known(&dims) }, &[apart])?;
    dims.remove(at + 1);
    dims[at] *= times;
    n.reshape(repeated, &dims)
}
