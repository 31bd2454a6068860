//! Attention.

use qcc_ir::ops::{BinaryFn, MatMul, Softmax};
use qcc_ir::{Elem, ValueId};

use super::super::node::NodeCx;
use super::super::schema::Number;
use super::Row;
use crate::build::index::triangle;
use crate::build::{Build, Values, one};
use crate::refusal::Refusal;

pub(super) const ROWS: &[Row] =
    &[("_scaled_dot_product_flash_attention_for_cpu", attention), ("scaled_dot_product_attention", attention)];

/// softmax(scale * query * key^T + mask) * value. Where a mask of truth values, or `is_causal`, says no, nothing is
/// looked at.
fn attention(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let [query, key, value] = [n.tensor("query")?, n.tensor("key")?, n.tensor("value")?];
    let mask = n.optional("attn_mask")?;
    let causal = n.flag("is_causal", false)?;
    let &[.., rows, depth] = n.dims(query).as_slice() else {
        return Err(Refusal::Invalid(format!("a query {}", n.ty(query))));
    };
    let scale = n.float("scale", 1.0 / (depth as f64).sqrt())?;
    if n.float("dropout_p", 0.0)? != 0.0 {
        return Err(Refusal::Unsupported("attention with dropout: call model.eval() before the export".into()));
    }
    let (key, value) = match n.flag("enable_gqa", false)? {
        true => (repeated(n, key, query)?, repeated(n, value, query)?),
        false => (key, value),
    };
    let scale = n.scalar(scale, query)?;
    let query = n.binary(BinaryFn::Mul, query, scale)?;
    let mut scores = n.add(MatMul { transpose_b: true }, &[query, key])?;
    let columns = n.dims(key)[n.rank(key) - 2];
    let causal = if causal { Some(triangle(n, rows, columns, 0, false)?) } else { None };
    for mask in [mask, causal].into_iter().flatten() {
        scores = masked(n, scores, mask)?;
    }
    let axis = n.rank(scores) - 1;
    let weights = n.add(Softmax { axis, log: false }, &[scores])?;
    one(n.add(MatMul { transpose_b: false }, &[weights, value])?)
}

fn masked(n: &mut NodeCx<'_, '_>, scores: ValueId, mask: ValueId) -> Result<ValueId, Refusal> {
    let elem = n.ty(scores).elem.clone();
    if n.ty(mask).elem != Elem::Bool {
        let mask = n.cast(mask, elem)?;
        return n.binary(BinaryFn::Add, scores, mask);
    }
    let never = n.constant_of(Number::Float(f64::NEG_INFINITY), &elem)?;
    n.add(qcc_ir::ops::Select {}, &[mask, scores, never])
}

/// Heads that several heads of the query share, repeated side by side.
fn repeated(n: &mut NodeCx<'_, '_>, v: ValueId, query: ValueId) -> Result<ValueId, Refusal> {
    let (mut dims, wanted) = (n.dims(v), n.dims(query));
    let Some(at) = dims.len().checked_sub(3).filter(|_| dims.len() == wanted.len()) else { return Ok(v) };
    if dims[at] == 0 || !wanted[at].is_multiple_of(dims[at]) {
        return Err(Refusal::Invalid(format!("heads {} for {}", n.ty(v), n.ty(query))));
    }
    let times = wanted[at] / dims[at];
    dims.insert(at + 1, 1);
    let apart = n.reshape(v, &dims)?;
    dims[at + 1] = times;
    let repeated = n.expand(apart, &dims)?;
    dims.remove(at + 1);
    dims[at] *= times;
    n.reshape(repeated, &dims)
}
