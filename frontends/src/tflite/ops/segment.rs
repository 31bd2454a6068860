//! Reductions of rows of one segment: each row names its segment.

use qcc_formats::tflite::BuiltinOperator as B;
use qcc_ir::ops::{BinaryFn, Expand, OpenSlice, ScatterFn, ScatterNd};
use qcc_ir::{Elem, Expr, Tensor, ValueId};

use super::super::node::NodeCx;
use super::Row;
use super::index::indices;
use super::movement::plain;
use crate::build::index::part;
use crate::build::{Build, Operands, Values, computed, one};
use crate::refusal::Refusal;

pub(super) const ROWS: &[Row] = &[
    (B::SEGMENT_SUM, segment_sum),
    (B::UNSORTED_SEGMENT_MAX, |n| unsorted(n, ScatterFn::Max)),
    (B::UNSORTED_SEGMENT_MIN, |n| unsorted(n, ScatterFn::Min)),
    (B::UNSORTED_SEGMENT_PROD, |n| unsorted(n, ScatterFn::Mul)),
    (B::UNSORTED_SEGMENT_SUM, |n| unsorted(n, ScatterFn::Add)),
];

/// Segments are numbered in ascending order: the last row belongs to the last one.
fn segment_sum(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let (x, segments) = (n.input(0)?, indices(n, 1)?);
    plain(n, x)?;
    let [rows] = n.shape(segments).dims() else {
        return Err(Refusal::Invalid(format!("segments {}; expected a list", n.ty(segments))));
    };
    let start = rows.expr().plus(&(-1).into()).ok_or_else(|| Refusal::Open(n.shape(segments).clone()))?;
    let last = part(n, segments, OpenSlice { axis: 0, start, len: 1.into() })?;
    let one_more = n.scalar(1.0, last)?;
    let count = n.binary(BinaryFn::Add, last, one_more)?;
    let count = computed::one_defined(n, count)?;
    one(reduced(n, ScatterFn::Add, x, segments, count)?)
}

/// Segments in any order; rows of negative ones belong to none.
fn unsorted(n: &mut NodeCx<'_, '_>, f: ScatterFn) -> Result<Values, Refusal> {
    let (x, segments) = (n.input(0)?, indices(n, 1)?);
    plain(n, x)?;
    let count = n.extents(2)?.into_iter().next().ok_or(Refusal::MissingInput(2))?;
    let known = n.constant(segments).and_then(Tensor::integers);
    if known.is_some_and(|known| known.iter().all(|&s| s >= 0)) {
        return one(reduced(n, f, x, segments, count)?);
    }
    // A segment before the first one takes the rows that belong to none.
    let (none, first) = (n.scalar(-1.0, segments)?, n.scalar(1.0, segments)?);
    let segments = n.binary(BinaryFn::Max, segments, none)?;
    let segments = n.binary(BinaryFn::Add, segments, first)?;
    let more = count.plus(&1.into()).ok_or_else(|| Refusal::Unsupported(format!("{count} segments")))?;
    let y = reduced(n, f, x, segments, more)?;
    one(part(n, y, OpenSlice { axis: 0, start: 1.into(), len: count })?)
}

/// The rows of `x` of each segment as one row; that of a segment without rows is the neutral element.
fn reduced(
    n: &mut NodeCx<'_, '_>,
    f: ScatterFn,
    x: ValueId,
    segments: ValueId,
    count: Expr,
) -> Result<ValueId, Refusal> {
    let (dims, own) = (n.shape(x).dims().to_vec(), n.shape(segments).dims().to_vec());
    if own.len() > dims.len() {
        return Err(Refusal::Invalid(format!("segments {} of {}", n.ty(segments), n.ty(x))));
    }
    let is_float = n.ty(x).elem == Elem::F32;
    let least = if is_float { f64::from(f32::MIN) } else { f64::from(i32::MIN) };
    let most = if is_float { f64::from(f32::MAX) } else { f64::from(i32::MAX) };
    let neutral = match f {
        ScatterFn::Mul => 1.0,
        ScatterFn::Max => least,
        ScatterFn::Min => most,
        ScatterFn::Add | ScatterFn::Replace => 0.0,
    };
    let neutral = n.scalar(neutral, x)?;
    let first = computed::shape_of(&[count])?;
    let shape = first.dims().iter().chain(&dims[own.len()..]).cloned().collect();
    let empty = n.add(Expand { shape }, &[neutral])?;
    let tuples = n.column(segments)?;
    n.add(ScatterNd { f }, &[empty, tuples, x])
}
