//! Attention: masks, and key/value heads shared by several query heads.

use qcc_ir::ops::{BinaryFn, Expand, MatMul, Select};
use qcc_ir::{Dim, Elem, ValueId};

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

/// `[N, S, heads * depth]` as `[N, S, heads, depth]`.
pub(crate) fn heads_apart(n: &mut impl Build, x: ValueId, heads: usize) -> Result<ValueId, Refusal> {
    let dims = n.shape(x).dims().to_vec();
    let width = dims.get(2).and_then(Dim::known).filter(|w| heads > 0 && dims.len() == 3 && w.is_multiple_of(heads));
    let width = width.ok_or_else(|| Refusal::Invalid(format!("{heads} heads for {}", n.ty(x))))?;
    let apart = [dims[0].clone(), dims[1].clone(), heads.into(), (width / heads).into()].into_iter().collect();
    n.reshape_to(x, apart)
}

/// `[N, S, heads * depth]` as `[N, heads, S, depth]`.
pub(crate) fn split_heads(n: &mut impl Build, x: ValueId, heads: usize) -> Result<ValueId, Refusal> {
    let apart = heads_apart(n, x, heads)?;
    n.transpose(apart, &[0, 2, 1, 3])
}

/// scale * Q * K^T of heads `[N, heads, S, depth]`, of which those of the keys may be shared; the root of the depth divides
/// where no scale is given.
pub(crate) fn scores(n: &mut impl Build, q: ValueId, k: ValueId, scale: Option<f32>) -> Result<ValueId, Refusal> {
    let depth = n.shape(q).dims()[3].known().ok_or_else(|| Refusal::Open(n.shape(q).clone()))?;
    let scale = n.scalar(scale.unwrap_or(1.0 / (depth as f32).sqrt()).into(), q)?;
    let scaled = n.binary(BinaryFn::Mul, q, scale)?;
    let shared = repeated(n, k, q)?;
    n.add(MatMul { transpose_b: true }, &[scaled, shared])
}

/// `[N, heads, S, depth]` as `[N, S, heads * depth]`.
pub(crate) fn join_heads(n: &mut impl Build, y: ValueId) -> Result<ValueId, Refusal> {
    let y = n.transpose(y, &[0, 2, 1, 3])?;
    let dims = n.shape(y).dims().to_vec();
    let width = dims[2].times(&dims[3]).ok_or_else(|| Refusal::Open(n.shape(y).clone()))?;
    n.reshape_to(y, [dims[0].clone(), dims[1].clone(), width].into_iter().collect())
}

/// Key or value heads, each repeated for the query heads that share it.
pub(crate) fn repeated(n: &mut impl Build, v: ValueId, query: ValueId) -> Result<ValueId, Refusal> {
    let (mut dims, wanted) = (n.shape(v).dims().to_vec(), n.shape(query).dims());
    let Some(at) = dims.len().checked_sub(3).filter(|_| dims.len() == wanted.len()) else { return Ok(v) };
    if dims[at] == wanted[at] {
        return Ok(v);
    }
    let unfit = || Refusal::Invalid(format!("heads {} for {}", n.ty(v), n.ty(query)));
    let (Some(heads), Some(asked)) = (dims[at].known(), wanted[at].known()) else { return Err(unfit()) };
    if heads == 0 || !asked.is_multiple_of(heads) {
        return Err(unfit());
    }
    dims.insert(at + 1, Dim::Known(1));
    let apart = n.reshape_to(v, dims.iter().cloned().collect())?;
    dims[at + 1] = Dim::Known(asked / heads);
    let repeated = n.add(Expand { shape: dims.iter().cloned().collect() }, &[apart])?;
    dims.remove(at + 1);
    dims[at] = Dim::Known(asked);
    n.reshape_to(repeated, dims.into_iter().collect())
}
