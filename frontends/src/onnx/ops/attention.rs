//! Attention.

use qcc_ir::ops::{BinaryFn, Concat, Expand, Extents, MatMul, Reduce, ReduceFn, Select, Softmax, UnaryFn};
use qcc_ir::{Elem, Shape, ValueId};

use super::super::node::NodeCx;
use super::Row;
use crate::build::attention::{join_heads, masked, repeated, split_heads};
use crate::build::index::triangle;
use crate::build::{Build, Values, extent};
use crate::refusal::Refusal;

pub(super) const ROWS: &[Row] = &[("Attention", attention)];

/// softmax(scale * Q * K^T + mask) * V. The result is zero for a query without visible keys.
fn attention(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let (q, k, v) = (n.input(0)?, n.input(1)?, n.input(2)?);
    let (q_heads, kv_heads) = (n.int("q_num_heads", 0)?, n.int("kv_num_heads", 0)?);
    let flat = n.rank(q) == 3;
    let (q, k, v) = match flat {
        true => {
            let (q_heads, kv_heads) = (extent(q_heads)?, extent(kv_heads)?);
            (split_heads(n, q, q_heads)?, split_heads(n, k, kv_heads)?, split_heads(n, v, kv_heads)?)
        }
        false => (q, k, v),
    };
    let (k, v) = (behind(n, 4, k)?, behind(n, 5, v)?);
    let (&[_, _, rows, depth], &[_, _, columns, _]) = (n.dims(q)?.as_slice(), n.dims(k)?.as_slice()) else {
        return Err(Refusal::Invalid(format!("a query {} and a key {}", n.ty(q), n.ty(k))));
    };
    let scale = n.optional_float("scale")?.unwrap_or(1.0 / (depth as f32).sqrt());
    let scale = n.scalar(scale.into(), q)?;
    let scaled = n.binary(BinaryFn::Mul, q, scale)?;
    let shared = repeated(n, k, q)?;
    let raw = n.add(MatMul { transpose_b: true }, &[scaled, shared])?;
    let capped = capped(n, raw)?;
    let (scores, seen) = visible(n, capped, [rows, columns])?;
    let weights = n.add(Softmax { axis: 3, log: false }, &[scores])?;
    let weights = match seen {
        Some(seen) => without_blind(n, weights, seen)?,
        None => weights,
    };
    // Softmax is always computed in F32 or wider.
    n.optional_int("softmax_precision")?;
    let shared = repeated(n, v, q)?;
    let y = n.add(MatMul { transpose_b: false }, &[weights, shared])?;
    let y = if flat { join_heads(n, y)? } else { y };
    let shown = match n.int("qk_matmul_output_mode", 0)? {
        0 => raw,
        1 => capped,
        2 => scores,
        3 => weights,
        _ => return Err(Refusal::Attribute { name: "qk_matmul_output_mode".into(), problem: "not a known mode" }),
    };
    Ok(Values::from_iter([y, k, v, shown]))
}

/// Keys or values appended to the past ones of input `i`.
pub(super) fn behind(n: &mut NodeCx<'_, '_>, i: usize, new: ValueId) -> Result<ValueId, Refusal> {
    match n.optional(i) {
        Some(past) => n.add(Concat { axis: 2 }, &[past, new]),
        None => Ok(new),
    }
}

/// c * tanh(x / c), if softcap c is given.
fn capped(n: &mut NodeCx<'_, '_>, x: ValueId) -> Result<ValueId, Refusal> {
    let cap = n.float("softcap", 0.0)?;
    if cap <= 0.0 {
        return Ok(x);
    }
    let cap = n.scalar(cap.into(), x)?;
    let small = n.binary(BinaryFn::Div, x, cap)?;
    let tanh = n.unary(UnaryFn::Tanh, small)?;
    n.binary(BinaryFn::Mul, tanh, cap)
}

/// The offset of a query's position from its index: the number of past keys, equal for all or one for each batch
/// element.
enum Offset {
    Known(i64),
    Each(ValueId),
}

/// The scores with minus infinity for invisible keys, and the visibility mask, if there is one.
fn visible(
    n: &mut NodeCx<'_, '_>,
    scores: ValueId,
    [rows, columns]: [usize; 2],
) -> Result<(ValueId, Option<ValueId>), Refusal> {
    let past = n.optional(4).map(|past| n.dims(past).map(|dims| dims.get(2).copied().unwrap_or(0))).transpose()?;
    let lengths = if n.opset() >= 24 { n.optional(6) } else { None };
    let lengths = lengths.map(|v| n.reshape(v, &[n.dims(v)?.iter().product(), 1, 1, 1])).transpose()?;
    let offset = match (past, lengths) {
        (None, Some(lengths)) => {
            let rows = n.scalar(rows as f64, lengths)?;
            Offset::Each(n.binary(BinaryFn::Sub, lengths, rows)?)
        }
        (past, _) => Offset::Known(past.unwrap_or(0) as i64),
    };
    let windows = n.opset() >= 25;
    let (left, right) =
        if windows { (n.int("left_window_size", -1)?, n.int("right_window_size", -1)?) } else { (-1, -1) };
    let mut seen: Vec<ValueId> = Vec::new();
    if n.flag("is_causal", false)? {
        seen.push(within(n, &offset, 0, false, [rows, columns])?);
    }
    if left >= 0 {
        seen.push(within(n, &offset, -left, true, [rows, columns])?);
    }
    if right >= 0 {
        seen.push(within(n, &offset, right, false, [rows, columns])?);
    }
    if let Some(lengths) = lengths {
        let places = n.table(&[columns], |i| i as i64)?;
        seen.push(n.binary(BinaryFn::Less, places, lengths)?);
    }
    let mut scores = scores;
    if let Some(mask) = n.optional(3) {
        // Masks are added in the type of the scores.
        let mask = if n.ty(mask).elem == Elem::Bool { mask } else { n.cast(mask, n.ty(scores).elem.clone())? };
        let mask = filled_up(n, mask, columns)?;
        if n.ty(mask).elem == Elem::Bool {
            seen.push(mask);
        } else {
            scores = masked(n, scores, mask)?;
            let never = n.scalar(f64::NEG_INFINITY, mask)?;
            seen.push(n.binary(BinaryFn::NotEqual, mask, never)?);
        }
    }
    let all = seen.into_iter().map(Ok).reduce(|a, b| n.binary(BinaryFn::And, a?, b?)).transpose()?;
    Ok((all.map_or(Ok(scores), |all| masked(n, scores, all))?, all))
}

/// True where key position minus query position is at most the offset plus `bound` (`above`: at least).
fn within(
    n: &mut NodeCx<'_, '_>,
    offset: &Offset,
    bound: i64,
    above: bool,
    [rows, columns]: [usize; 2],
) -> Result<ValueId, Refusal> {
    let offset = match offset {
        Offset::Known(offset) => {
            return triangle(n, &rows.into(), &columns.into(), offset.saturating_add(bound), above);
        }
        Offset::Each(offset) => *offset,
    };
    let distances = n.table(&[rows, columns], |i| (i % columns) as i64 - (i / columns) as i64)?;
    let bound = n.scalar(bound as f64, offset)?;
    let bound = n.binary(BinaryFn::Add, offset, bound)?;
    n.binary(if above { BinaryFn::GreaterEqual } else { BinaryFn::LessEqual }, distances, bound)
}

/// A mask extended to all keys: keys that it does not cover are invisible.
fn filled_up(n: &mut NodeCx<'_, '_>, mask: ValueId, columns: usize) -> Result<ValueId, Refusal> {
    let mut dims = n.dims(mask)?;
    let Some(&last) = dims.last() else { return Err(Refusal::Invalid(format!("a mask {}", n.ty(mask)))) };
    let missing = columns.saturating_sub(last);
    if missing == 0 {
        return Ok(mask);
    }
    let axis = dims.len() - 1;
    dims[axis] = missing;
    let never = if n.ty(mask).elem == Elem::Bool { 0.0 } else { f64::NEG_INFINITY };
    let never = n.scalar(never, mask)?;
    let never = n.add(Expand { shape: Shape::known(&dims) }, &[never])?;
    n.add(Concat { axis }, &[mask, never])
}

/// Attention weights, 0 for queries without visible keys.
fn without_blind(n: &mut NodeCx<'_, '_>, weights: ValueId, seen: ValueId) -> Result<ValueId, Refusal> {
    let axis = n.rank(seen) - 1;
    let columns = n.dims(seen)?[axis];
    let sees = |row: &[u8]| row.contains(&1);
    if n.constant(seen).is_some_and(|t| t.data().chunks(columns.max(1)).all(sees)) {
        return Ok(weights);
    }
    let axes = Extents::from_elem(axis, 1);
    let some = n.add(Reduce { f: ReduceFn::Any, axes, keep: true }, &[seen])?;
    let zero = n.scalar(0.0, weights)?;
    n.add(Select {}, &[some, weights, zero])
}
