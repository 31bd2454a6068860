//! Rotary position embeddings.

use qcc_ir::ops::{BinaryFn, Concat, Gather, Range, Slice};
use qcc_ir::{Dim, ValueId};

use super::super::node::NodeCx;
use super::Row;
use crate::build::attention::heads_apart;
use crate::build::{Build, Values, extent, one};
use crate::refusal::Refusal;

pub(super) const ROWS: &[Row] = &[
    ("RotaryEmbedding", |n| {
        let tables = [n.input(1)?, n.input(2)?];
        let positions = n.optional(3);
        rotary(n, tables, positions)
    }),
    ("com.microsoft.RotaryEmbedding", |n| {
        let tables = [n.input(2)?, n.input(3)?];
        let positions = n.input(1)?;
        if n.optional_float("scale")?.is_some_and(|scale| scale != 1.0) || n.flag("is_packed_batching", false)? {
            return Err(Refusal::Unsupported("a scale or packed batches are not supported".into()));
        }
        let scalar = n.dims(positions)?.iter().product::<usize>() == 1;
        let positions = if scalar { offsets(n, positions)? } else { positions };
        rotary(n, tables, Some(positions))
    }),
];

/// The positions from the first one on, for each step of x `[N, S, D]` or `[N, heads, S, depth]`.
fn offsets(n: &mut NodeCx<'_, '_>, first: ValueId) -> Result<ValueId, Refusal> {
    let x = n.input(0)?;
    let dims = n.dims(x)?;
    let steps = dims[dims.len().saturating_sub(2)];
    let places = n.table(&[1, steps], |i| i as i64)?;
    let places = n.cast(places, n.ty(first).elem.clone())?;
    let first = n.reshape(first, &[])?;
    n.binary(BinaryFn::Add, places, first)
}

/// Rotates pairs of the first `rotary_embedding_dim` elements of each head of x `[N, heads, S, depth]` or `[N, S, heads *
/// depth]` by the angles of the positions. Tables of cosines and sines are `[positions, pairs]`, or `[N, S, pairs]` without
/// positions.
fn rotary(n: &mut NodeCx<'_, '_>, tables: [ValueId; 2], positions: Option<ValueId>) -> Result<Values, Refusal> {
    let x = n.input(0)?;
    let (interleaved, heads) = (n.flag("interleaved", false)?, n.int("num_heads", 0)?);
    let part = n.int("rotary_embedding_dim", 0)?;
    let (mut heads, part) = (extent(heads)?, extent(part)?);
    let dims = n.shape(x).dims().to_vec();
    if let (3, 0, Some(all), Some(pairs)) =
        (dims.len(), heads, dims.last().and_then(Dim::known), n.shape(tables[0]).dims().last().and_then(Dim::known))
    {
        // It follows from the tables.
        heads = all / (2 * pairs).max(1);
    }
    // Heads behind steps: [N, S, heads, depth].
    let split = match (dims.len(), heads) {
        (4, _) => n.transpose(x, &[0, 2, 1, 3])?,
        (3, 1..) => heads_apart(n, x, heads)?,
        _ => return Err(Refusal::Invalid(format!("{heads} heads for {}", n.ty(x)))),
    };
    let depth = n.shape(split).dims()[3].known().ok_or_else(|| Refusal::Open(n.shape(x).clone()))?;
    let part = if part == 0 { depth } else { part };
    if part > depth || !part.is_multiple_of(2) {
        return Err(Refusal::Invalid(format!("{part} of {depth} elements are rotated")));
    }
    let pairs = part / 2;
    let angles = angles(n, tables, positions, pairs)?;
    let y = turned(n, split, angles, pairs, interleaved)?;
    one(if dims.len() == 4 { n.transpose(y, &[0, 2, 1, 3])? } else { n.reshape_to(y, n.shape(x).clone())? })
}

/// Heads `[N, S, heads, depth]` of which so many pairs of elements are rotated by angles, `[N or 1, S, 1, pairs]`.
pub(super) fn turned(
    n: &mut NodeCx<'_, '_>,
    split: ValueId,
    [cos, sin]: [ValueId; 2],
    pairs: usize,
    interleaved: bool,
) -> Result<ValueId, Refusal> {
    let depth = n.shape(split).dims()[3].known().ok_or_else(|| Refusal::Open(n.shape(split).clone()))?;
    let part = 2 * pairs;
    let mut pieces = Values::new();
    let [real, imaginary] = [0, 1].map(|i| match interleaved {
        true => Range { axis: 3, start: i, len: pairs, step: if pairs > 1 { 2 } else { 1 } },
        false => Range { axis: 3, start: i * pairs, len: pairs, step: 1 },
    });
    let (a, b) = (n.add(Slice { ranges: vec![real] }, &[split])?, n.add(Slice { ranges: vec![imaginary] }, &[split])?);
    let mut of_pairs = |x, y, f| {
        let (x, y) = (n.binary(BinaryFn::Mul, x, cos)?, n.binary(BinaryFn::Mul, y, sin)?);
        n.binary(f, x, y)
    };
    let (re, im) = (of_pairs(a, b, BinaryFn::Sub)?, of_pairs(b, a, BinaryFn::Add)?);
    if interleaved {
        let mut apart = n.shape(re).dims().to_vec();
        apart.push(Dim::Known(1));
        let apart: qcc_ir::Shape = apart.into_iter().collect();
        let both = [n.reshape_to(re, apart.clone())?, n.reshape_to(im, apart)?];
        let both = n.add(Concat { axis: 4 }, &both)?;
        pieces.push(n.reshape_to(both, n.shape(split).with(3, Dim::Known(part)))?);
    } else {
        pieces.extend([re, im]);
    }
    if part < depth {
        let rest = Range { axis: 3, start: part, len: depth - part, step: 1 };
        pieces.push(n.add(Slice { ranges: vec![rest] }, &[split])?);
    }
    if let [only] = *pieces { Ok(only) } else { n.add(Concat { axis: 3 }, &pieces) }
}

/// Cosines and sines as `[N or 1, S, 1, pairs]`.
pub(super) fn angles(
    n: &mut NodeCx<'_, '_>,
    tables: [ValueId; 2],
    positions: Option<ValueId>,
    pairs: usize,
) -> Result<[ValueId; 2], Refusal> {
    let mut all = Values::new();
    for table in tables {
        let rows = match positions {
            Some(positions) => n.add(Gather { axis: 0 }, &[table, positions])?,
            None => table,
        };
        let mut dims = n.shape(rows).dims().to_vec();
        if dims.len() != 3 || dims[2].known().is_none_or(|d| d < pairs) {
            return Err(Refusal::Invalid(format!("angles {} for {pairs} pairs", n.ty(rows))));
        }
        let whole = dims[2] == Dim::Known(pairs);
        let range = Range { axis: 2, start: 0, len: pairs, step: 1 };
        let rows = if whole { rows } else { n.add(Slice { ranges: vec![range] }, &[rows])? };
        dims[2] = pairs.into();
        dims.insert(2, Dim::Known(1));
        all.push(n.reshape_to(rows, dims.into_iter().collect())?);
    }
    Ok([all[0], all[1]])
}
