//! Attention.

use qcc_ir::Dim;
use qcc_ir::ops::{BinaryFn, MatMul, Softmax};

use super::super::node::NodeCx;
use super::Row;
use crate::build::attention::{masked, repeated};
use crate::build::index::triangle;
use crate::build::{Build, Values, one};
use crate::refusal::Refusal;

pub(super) const ROWS: &[Row] =
    &[("_scaled_dot_product_flash_attention_for_cpu", attention), ("scaled_dot_product_attention", attention)];

/// softmax(scale * query * key^T + mask) * value. A boolean mask or `is_causal` excludes keys.
fn attention(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let [query, key, value] = [n.tensor("query")?, n.tensor("key")?, n.tensor("value")?];
    let mask = n.optional("attn_mask")?;
    let causal = n.flag("is_causal", false)?;
    let [.., rows, Dim::Known(depth)] = n.shape(query).dims() else {
        return Err(Refusal::Invalid(format!("a query {}", n.ty(query))));
    };
    let (rows, depth) = (rows.clone(), *depth);
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
    let columns = n.shape(key).dims()[n.rank(key) - 2].clone();
    let causal = if causal { Some(triangle(n, &rows, &columns, 0, false)?) } else { None };
    for mask in [mask, causal].into_iter().flatten() {
        scores = masked(n, scores, mask)?;
    }
    let axis = n.rank(scores) - 1;
    let weights = n.add(Softmax { axis, log: false }, &[scores])?;
    one(n.add(MatMul { transpose_b: false }, &[weights, value])?)
}
