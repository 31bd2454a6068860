//! Attention.

use qcc_ir::ops::{BinaryFn, Concat, Expand, Extents, MatMul, Reduce, ReduceFn, Select, Softmax, UnaryFn};
use qcc_ir::{Dim, Elem, Expr, Shape, ValueId};

use super::super::node::NodeCx;
use super::Row;
use crate::build::attention::{join_heads, masked, repeated, scores, split_heads};
use crate::build::computed::counted;
use crate::build::index::{beside_computed, triangle};
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
    let past = [n.optional(4), n.optional(5)];
    let (k, v) = (behind(n, past[0], k)?, behind(n, past[1], v)?);
    let ([_, _, rows, _], [_, _, columns, _]) = (n.shape(q).dims(), n.shape(k).dims()) else {
        return Err(Refusal::Invalid(format!("a query {} and a key {}", n.ty(q), n.ty(k))));
    };
    let places = [rows.clone(), columns.clone()];
    let scale = n.optional_float("scale")?;
    let raw = scores(n, q, k, scale)?;
    let capped = capped(n, raw)?;
    let (masked, seen) = visible(n, capped, &places)?;
    let weights = n.add(Softmax { axis: 3, log: false }, &[masked])?;
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
        2 => masked,
        3 => weights,
        _ => return Err(Refusal::unknown_mode("qk_matmul_output_mode")),
    };
    Ok(Values::from_iter([y, k, v, shown]))
}

/// Keys or values appended to past ones.
pub(super) fn behind(n: &mut NodeCx<'_, '_>, past: Option<ValueId>, new: ValueId) -> Result<ValueId, Refusal> {
    match past {
        Some(past) => n.add(Concat { axis: 2 }, &[past, new]),
        None => Ok(new),
    }
}

/// c * tanh(x / c), if softcap c is given.
pub(super) fn capped(n: &mut NodeCx<'_, '_>, x: ValueId) -> Result<ValueId, Refusal> {
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
    All(Expr),
    Each(ValueId),
}

/// The scores with minus infinity for invisible keys, and the visibility mask, if there is one.
fn visible(n: &mut NodeCx<'_, '_>, scores: ValueId, places: &[Dim; 2]) -> Result<(ValueId, Option<ValueId>), Refusal> {
    let past = n.optional(4).and_then(|past| Some(n.shape(past).dims().get(2)?.expr()));
    let lengths = if n.opset() >= 24 { n.optional(6) } else { None };
    let lengths = lengths.map(|v| {
        let batch = Shape::count(n.shape(v).dims()).ok_or_else(|| Refusal::Open(n.shape(v).clone()))?;
        n.reshape_to(v, [batch, 1.into(), 1.into(), 1.into()].into_iter().collect())
    });
    let lengths = lengths.transpose()?;
    let offset = match (past, lengths) {
        (None, Some(lengths)) => {
            let rows = n.add_whole(vec![places[0].expr()], Extents::new())?;
            let rows = n.cast(rows, n.ty(lengths).elem.clone())?;
            Offset::Each(n.binary(BinaryFn::Sub, lengths, rows)?)
        }
        (past, _) => Offset::All(past.unwrap_or_default()),
    };
    let windows = n.opset() >= 25;
    let (left, right) =
        if windows { (n.int("left_window_size", -1)?, n.int("right_window_size", -1)?) } else { (-1, -1) };
    let mut seen: Vec<ValueId> = Vec::new();
    if n.flag("is_causal", false)? {
        seen.push(within(n, &offset, 0, false, places)?);
    }
    if left >= 0 {
        seen.push(within(n, &offset, -left, true, places)?);
    }
    if right >= 0 {
        seen.push(within(n, &offset, right, false, places)?);
    }
    if let Some(lengths) = lengths {
        let keys = counted(n, places[1].expr())?;
        seen.push(n.binary(BinaryFn::Less, keys, lengths)?);
    }
    let mut scores = scores;
    if let Some(mask) = n.optional(3) {
        // Masks are added in the type of the scores.
        let mask = if n.ty(mask).elem == Elem::Bool { mask } else { n.cast(mask, n.ty(scores).elem.clone())? };
        let mask = filled_up(n, mask, &places[1])?;
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
    [rows, columns]: &[Dim; 2],
) -> Result<ValueId, Refusal> {
    let offset = match offset {
        Offset::All(offset) => {
            let far = || Refusal::Unsupported(format!("a window of {bound} is too large"));
            return triangle(n, rows, columns, offset.plus(&bound.into()).ok_or_else(far)?, above);
        }
        Offset::Each(offset) => *offset,
    };
    let bound = n.scalar(bound as f64, offset)?;
    let bound = n.binary(BinaryFn::Add, offset, bound)?;
    beside_computed(n, [rows, columns], bound, if above { BinaryFn::GreaterEqual } else { BinaryFn::LessEqual })
}

/// A mask extended to all keys: keys that it does not cover are invisible. An open number of keys is that of the mask, unless
/// they are known to differ.
fn filled_up(n: &mut NodeCx<'_, '_>, mask: ValueId, columns: &Dim) -> Result<ValueId, Refusal> {
    let mut dims = n.shape(mask).dims().to_vec();
    let Some(last) = dims.last() else { return Err(Refusal::Invalid(format!("a mask {}", n.ty(mask)))) };
    let missing = columns.expr().minus(&last.expr()).and_then(|missing| missing.constant()).unwrap_or(0);
    if missing <= 0 {
        return Ok(mask);
    }
    let axis = dims.len() - 1;
    dims[axis] = extent(missing)?.into();
    let never = if n.ty(mask).elem == Elem::Bool { 0.0 } else { f64::NEG_INFINITY };
    let never = n.scalar(never, mask)?;
    let never = n.add(Expand { shape: dims.into_iter().collect() }, &[never])?;
    n.add(Concat { axis }, &[mask, never])
}

/// Attention weights, 0 for queries without visible keys.
fn without_blind(n: &mut NodeCx<'_, '_>, weights: ValueId, seen: ValueId) -> Result<ValueId, Refusal> {
    let axis = n.rank(seen) - 1;
    let sees = |row: &[u8]| row.contains(&1);
    if n.constant(seen).is_some_and(|t| t.data().chunks(t.dims()[axis].max(1)).all(sees)) {
        return Ok(weights);
    }
    let axes = Extents::from_elem(axis, 1);
    let some = n.add(Reduce { f: ReduceFn::Any, axes, keep: true }, &[seen])?;
    let zero = n.scalar(0.0, weights)?;
    n.add(Select {}, &[some, weights, zero])
}
