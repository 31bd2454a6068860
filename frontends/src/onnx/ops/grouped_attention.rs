//! Attention of decoders as ONNX Runtime has it: rotated queries and keys, and heads of keys that several queries share.

use qcc_ir::diagnostic::Diagnostic;
use qcc_ir::ops::{BinaryFn, Extents, MatMul, Range, Select, Slice, Softmax};
use qcc_ir::{Dim, Elem, Expr, Tensor, ValueId};

use super::super::node::NodeCx;
use super::Row;
use super::attention::{behind, capped};
use super::rotary::{angles, turned};
use crate::build::attention::{heads_apart, join_heads, masked, repeated, scores};
use crate::build::computed::counted;
use crate::build::{Build, Values, extent};
use crate::refusal::Refusal;

pub(super) const ROWS: &[Row] = &[("com.microsoft.GroupQueryAttention", grouped)];

/// softmax(scale * Q * K^T + mask) * V, where a query sees the keys up to its own position. Queries are the last ones of
/// each sequence, and its keys are the first of the past ones and the new ones. Results: the values, and all keys and values.
fn grouped(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let (heads, shared) = (extent(n.int("num_heads", 0)?)?, extent(n.int("kv_num_heads", 0)?)?);
    let [q, k, v] = parts(n, heads, shared)?;
    let past = [n.optional(3), n.optional(4)];
    let lengths = n.input(5)?;
    // The largest of the lengths.
    n.optional(6);
    let [batch, steps] = [0, 1].map(|axis| n.shape(q).dims()[axis].clone());
    let first = first_positions(n, lengths, &batch, &steps)?;
    let places = counted(n, steps.expr())?;
    let own = n.binary(BinaryFn::Add, first, places)?;
    let (q, k) = rotated(n, [q, k], own)?;
    let [q, k, v] = [q, k, v].map(|x| n.transpose(x, &[0, 2, 1, 3]));
    let (q, k, v) = (q?, behind(n, past[0], k?)?, behind(n, past[1], v?)?);
    let scale = n.optional_float("scale")?.filter(|&scale| scale != 0.0);
    let scores = scores(n, q, k, scale)?;
    let mut scores = capped(n, scores)?;
    if let Some(bias) = n.optional(10) {
        scores = masked(n, scores, bias)?;
    }
    let before = past[0].map_or(Dim::Known(0), |past| n.shape(past).dims()[2].clone());
    let seen = visible(n, first, own, [&before, &steps])?;
    let scores = masked(n, scores, seen)?;
    let weights = n.add(Softmax { axis: 3, log: false }, &[scores])?;
    let all = repeated(n, v, q)?;
    let y = n.add(MatMul { transpose_b: false }, &[weights, all])?;
    if batch != Dim::Known(1) && past[0].is_some() {
        let message =
            "the sequences of a batch are taken to have the same length: new keys and values follow all past ones";
        n.note_here(Diagnostic::warning("same-lengths", message));
    }
    Ok(Values::from_iter([join_heads(n, y)?, k, v]))
}

/// Queries, keys and values as `[N, S, heads, depth]`, from separate inputs or side by side in the first one.
fn parts(n: &mut NodeCx<'_, '_>, heads: usize, shared: usize) -> Result<[ValueId; 3], Refusal> {
    if n.optional(11).is_some() || n.flag("smooth_softmax", false)? {
        return Err(Refusal::Unsupported("softmax with a sink is not supported here".into()));
    }
    let q = n.input(0)?;
    let widths = [heads, shared, shared];
    let found = match (n.optional(1), n.optional(2)) {
        (Some(k), Some(v)) => [q, k, v],
        _ => {
            let whole = n.shape(q).dims().last().and_then(Dim::known);
            let all = heads + 2 * shared;
            let depth = whole.filter(|w| all > 0 && w.is_multiple_of(all)).map(|whole| whole / all);
            let depth = depth.ok_or_else(|| Refusal::Invalid(format!("{all} heads for {}", n.ty(q))))?;
            let mut part = |start: usize, count: usize| {
                let range = Range { axis: 2, start: start * depth, len: count * depth, step: 1 };
                n.add(Slice { ranges: vec![range] }, &[q])
            };
            [part(0, heads)?, part(heads, shared)?, part(heads + shared, shared)?]
        }
    };
    let [q, k, v] = std::array::from_fn(|i| heads_apart(n, found[i], widths[i]));
    Ok([q?, k?, v?])
}

/// The position of the first query of each sequence, `[N, 1]`: `lengths` are those of all keys less 1, and padding behind the
/// first queries has none before it.
fn first_positions(n: &mut NodeCx<'_, '_>, lengths: ValueId, batch: &Dim, steps: &Dim) -> Result<ValueId, Refusal> {
    let lengths = n.reshape_to(lengths, [batch.clone(), 1.into()].into_iter().collect())?;
    let lengths = n.cast(lengths, Elem::I64)?;
    let less = Expr::from(-1).plus(&steps.expr()).ok_or_else(|| Refusal::Open(n.shape(lengths).clone()))?;
    let less = n.add_whole(vec![less], Extents::new())?;
    let first = n.binary(BinaryFn::Sub, lengths, less)?;
    let zero = n.add_constant(Tensor::scalar(0i64));
    n.binary(BinaryFn::Max, first, zero)
}

/// Queries and keys rotated by their positions, if that is asked for.
fn rotated(n: &mut NodeCx<'_, '_>, [q, k]: [ValueId; 2], own: ValueId) -> Result<(ValueId, ValueId), Refusal> {
    let tables = [n.optional(7), n.optional(8)];
    let (given, interleaved) = (n.optional(9), n.flag("rotary_interleaved", false)?);
    if !n.flag("do_rotary", false)? {
        return Ok((q, k));
    }
    let [Some(cos), Some(sin)] = tables else { return Err(Refusal::MissingInput(7)) };
    let pairs = n.shape(cos).dims().last().and_then(Dim::known);
    let pairs = pairs.ok_or_else(|| Refusal::Open(n.shape(cos).clone()))?;
    let angles = angles(n, [cos, sin], Some(given.unwrap_or(own)), pairs)?;
    Ok((turned(n, q, angles, pairs, interleaved)?, turned(n, k, angles, pairs, interleaved)?))
}

/// The keys that each query sees, `[N, 1, queries, keys]`: of the past ones those before the first position, of the new ones
/// those up to its own, and of both those in the window.
fn visible(
    n: &mut NodeCx<'_, '_>,
    first: ValueId,
    own: ValueId,
    [before, steps]: [&Dim; 2],
) -> Result<ValueId, Refusal> {
    let window = n.int("local_window_size", -1)?;
    let keys = before.expr().plus(&steps.expr()).ok_or_else(|| Refusal::Open(n.shape(own).clone()))?;
    let (places, past) = (counted(n, keys)?, n.add_whole(vec![before.expr()], Extents::new())?);
    let is_past = n.binary(BinaryFn::Less, places, past)?;
    let counts = n.binary(BinaryFn::Less, places, first)?;
    let new = n.binary(BinaryFn::Sub, places, past)?;
    let new = n.binary(BinaryFn::Add, new, first)?;
    let positions = n.add(Select {}, &[is_past, places, new])?;
    // `[N, keys]` beside `[N, queries, 1]`.
    let [positions, counts, own] = [(positions, 1), (counts, 1), (own, 2)].map(|(v, axis)| {
        let mut dims = n.shape(v).dims().to_vec();
        dims.insert(axis, 1.into());
        n.reshape_to(v, dims.into_iter().collect())
    });
    let (positions, own) = (positions?, own?);
    let is_new = n.binary(BinaryFn::LessEqual, past, places)?;
    let valid = n.binary(BinaryFn::Or, is_new, counts?)?;
    let before_own = n.binary(BinaryFn::LessEqual, positions, own)?;
    let mut seen = n.binary(BinaryFn::And, valid, before_own)?;
    if window >= 0 {
        let window = n.add_constant(Tensor::scalar(window));
        let end = n.binary(BinaryFn::Add, positions, window)?;
        let near = n.binary(BinaryFn::Less, own, end)?;
        seen = n.binary(BinaryFn::And, seen, near)?;
    }
    let mut dims = n.shape(seen).dims().to_vec();
    dims.insert(1, 1.into());
    n.reshape_to(seen, dims.into_iter().collect())
}
