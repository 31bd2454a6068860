//! Attention layers of ONNX Runtime's optimizer.

use qcc_ir::ops::{BinaryFn, Concat, Expand, Gather, MatMul, Range, ReduceFn, Select, Slice, Softmax};
use qcc_ir::{Dim, Elem, Tensor, ValueId};

use super::super::node::NodeCx;
use super::Row;
use super::attention::behind;
use crate::build::attention::{self, join_heads, split_heads};
use crate::build::computed::counted;
use crate::build::control::slice_at;
use crate::build::index::triangle;
use crate::build::product::matmul;
use crate::build::{Build, Values, extent, norm};
use crate::refusal::Refusal;

pub(super) const ROWS: &[Row] = &[
    ("com.microsoft.Attention", attention),
    ("com.microsoft.EmbedLayerNormalization", embed_norm),
    ("com.microsoft.MultiHeadAttention", multi_head),
];

/// Attention of one input that a weight projects to queries, keys and values side by side.
fn attention(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let (x, weight, bias) = (n.input(0)?, n.input(1)?, n.optional(2));
    let sizes = n.ints("qkv_hidden_sizes")?;
    if n.flag("do_rotary", false)? || sizes.is_some_and(|s| s.iter().any(|&size| size != s[0])) {
        return Err(Refusal::Unsupported("rotary embeddings or values of another size are not supported here".into()));
    }
    let past = match n.optional(4) {
        Some(past) => [Some(slice_at(n, past, 0, 0)?), Some(slice_at(n, past, 0, 1)?)],
        None => [None; 2],
    };
    let mut all = matmul(n, x, weight)?;
    if let Some(bias) = bias {
        all = n.binary(BinaryFn::Add, all, bias)?;
    }
    let parts = thirds(n, all)?;
    let masks = [n.optional(3), n.optional(5)];
    let found = layer(n, parts, masks, past)?;
    if !n.names_output(1) {
        return Ok(found.into_iter().take(1).collect());
    }
    // Keys and values in one tensor.
    let (k, v) = (n.as_row(found[1])?, n.as_row(found[2])?);
    Ok(Values::from_iter([found[0], n.add(Concat { axis: 0 }, &[k, v])?]))
}

/// Queries, keys and values in separate inputs, to which biases and past keys and values are added.
fn multi_head(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let q = n.input(0)?;
    let (Some(k), Some(v)) = (n.optional(1), n.optional(2)) else {
        return Err(Refusal::Unsupported("packed queries, keys and values are not supported".into()));
    };
    let mut parts = [q, k, v];
    if let Some(bias) = n.optional(3) {
        for (part, bias) in parts.iter_mut().zip(thirds(n, bias)?) {
            *part = n.binary(BinaryFn::Add, *part, bias)?;
        }
    }
    let masks = [n.optional(4), n.optional(5)];
    let past = [n.optional(6), n.optional(7)];
    layer(n, parts, masks, past)
}

/// Three equal parts of the last axis.
fn thirds(n: &mut NodeCx<'_, '_>, v: ValueId) -> Result<[ValueId; 3], Refusal> {
    let axis = n.axis(-1, v)?;
    let whole = n.shape(v).dims()[axis].known().filter(|whole| whole.is_multiple_of(3));
    let len = whole.ok_or_else(|| Refusal::Invalid(format!("{} is not three parts", n.ty(v))))? / 3;
    let mut part = |i: usize| n.add(Slice { ranges: vec![Range { axis, start: i * len, len, step: 1 }] }, &[v]);
    Ok([part(0)?, part(1)?, part(2)?])
}

/// softmax(scale * Q * K^T + masks) * V, and the keys and values with past ones before them.
fn layer(
    n: &mut NodeCx<'_, '_>,
    parts: [ValueId; 3],
    [mask, added]: [Option<ValueId>; 2],
    past: [Option<ValueId>; 2],
) -> Result<Values, Refusal> {
    let heads = n.int("num_heads", 0)?;
    let (heads, causal) = (extent(heads)?, n.flag("unidirectional", false)?);
    let never = n.float("mask_filter_value", -10000.0)?;
    // A value of rank 4 is split already.
    let [q, k, v] = parts.map(|part| if n.rank(part) == 4 { Ok(part) } else { split_heads(n, part, heads) });
    let (q, mut k, mut v) = (q?, k?, v?);
    (k, v) = (behind(n, past[0], k)?, behind(n, past[1], v)?);
    let scale = n.optional_float("scale")?.filter(|&scale| scale != 0.0);
    let mut scores = attention::scores(n, q, k, scale)?;
    let never = n.scalar(never.into(), scores)?;
    let zero = n.scalar(0.0, scores)?;
    if let Some(mask) = mask {
        let mask = visible(n, mask, scores)?;
        let mask = n.add(Select {}, &[mask, zero, never])?;
        scores = n.binary(BinaryFn::Add, scores, mask)?;
    }
    if causal {
        let [rows, columns] = [2, 3].map(|axis| n.shape(scores).dims()[axis].clone());
        let past = columns.expr().minus(&rows.expr()).ok_or_else(|| Refusal::Open(n.shape(scores).clone()))?;
        let seen = triangle(n, &rows, &columns, past, false)?;
        let mask = n.add(Select {}, &[seen, zero, never])?;
        scores = n.binary(BinaryFn::Add, scores, mask)?;
    }
    if let Some(added) = added {
        scores = n.binary(BinaryFn::Add, scores, added)?;
    }
    let weights = n.add(Softmax { axis: 3, log: false }, &[scores])?;
    let y = n.add(MatMul { transpose_b: false }, &[weights, v])?;
    let y = join_heads(n, y)?;
    Ok(Values::from_iter([y, k, v]))
}

/// The visible keys of each query as truths that broadcast with the scores. A mask of ranks 2 and 3 is 1 for those, `[N, keys]`
/// or `[N, queries, keys]`; one of rank 1 has their number, `[N]`.
fn visible(n: &mut NodeCx<'_, '_>, mask: ValueId, scores: ValueId) -> Result<ValueId, Refusal> {
    let (dims, of) = (n.shape(mask).dims().to_vec(), n.shape(scores).dims().to_vec());
    let one = Dim::Known(1);
    match dims.as_slice() {
        [batch] if batch.agreed(&of[0]).is_some() => {
            let counts = n.reshape_to(mask, [batch.clone(), one.clone(), one.clone(), one].into_iter().collect())?;
            let places = counted(n, of[3].expr())?;
            let places = n.cast(places, n.ty(counts).elem.clone())?;
            n.binary(BinaryFn::Less, places, counts)
        }
        [batch, queries @ .., keys] if queries.len() < 2 => {
            let queries = queries.first().unwrap_or(&one).clone();
            let shape = [batch.clone(), one, queries, keys.clone()].into_iter().collect();
            let mask = n.cast(mask, Elem::Bool)?;
            n.reshape_to(mask, shape)
        }
        _ => Err(Refusal::Unsupported(format!("a mask {} is not supported", n.ty(mask)))),
    }
}

/// The normalized sum of the embeddings of words, positions and segments; the number of visible words; and that sum.
fn embed_norm(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let (words, segments) = (n.input(0)?, n.optional(1));
    let [word_table, place_table, scale, offset] = [n.input(2)?, n.input(3)?, n.input(5)?, n.input(6)?];
    let (segment_table, mask, places) = (n.optional(4), n.optional(7), n.optional(8));
    let (epsilon, masks) = (n.float("epsilon", 1e-12)?, n.int("mask_index_type", 1)?);
    let [batch, steps] = n.shape(words).dims() else {
        return Err(Refusal::Invalid(format!("words {}", n.ty(words))));
    };
    let (batch, steps) = (batch.clone(), steps.clone());
    let places = match places {
        Some(places) => places,
        None => {
            let line = counted(n, steps.expr())?;
            n.as_row(line)?
        }
    };
    let (word, place) =
        (n.add(Gather { axis: 0 }, &[word_table, words])?, n.add(Gather { axis: 0 }, &[place_table, places])?);
    let mut sum = n.binary(BinaryFn::Add, word, place)?;
    if let (Some(table), Some(segments)) = (segment_table, segments) {
        let segment = n.add(Gather { axis: 0 }, &[table, segments])?;
        sum = n.binary(BinaryFn::Add, sum, segment)?;
    }
    let y = norm::layer_norm(n, sum, 2, &Values::from_slice(&[scale, offset]), epsilon)?;
    let count = match mask {
        Some(mask) if masks == 1 => n.reduce(ReduceFn::Sum, mask, &[1], false)?,
        _ if n.names_output(1) && masks == 1 => {
            let none = n.add_constant(Tensor::scalar(0i32));
            n.add(Expand { shape: [batch].into_iter().collect() }, &[none])?
        }
        _ => y,
    };
    if n.names_output(1) && masks != 1 {
        return Err(Refusal::Unsupported("mask_index_type other than 1 is not supported".into()));
    }
    Ok(Values::from_iter([y, count, sum]))
}
