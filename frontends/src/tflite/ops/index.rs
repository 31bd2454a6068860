//! Operators that compute or use indices.

use qcc_formats::tflite::{Bucketize, BuiltinOperator as B, Gather as GatherOptions, OneHot, ReverseSequence};
use qcc_ir::ops::{BinaryFn, Expand, Gather, GatherNd, ScatterFn, ScatterNd, Select, TopK};
use qcc_ir::{Dim, Elem, Shape, Tensor, ValueId};

use super::super::counted::Block;
use super::super::node::NodeCx;
use super::Row;
use super::movement::plain;
use crate::build::index::{block_between, bucket, count_sorted, diagonal_matrix, non_zero, reversed, with_diagonal};
use crate::build::one_hot::hits;
use crate::build::unique::unique;
use crate::build::{Build, Operands, Values, count_axis, one};
use crate::refusal::Refusal;

pub(super) const ROWS: &[Row] = &[
    (B::BUCKETIZE, bucketize),
    (B::DYNAMIC_UPDATE_SLICE, dynamic_update_slice),
    (B::EMBEDDING_LOOKUP, embedding_lookup),
    (B::GATHER, gather),
    (B::GATHER_ND, gather_nd),
    (B::MATRIX_DIAG, |n| {
        let x = n.input(0)?;
        plain(n, x)?;
        one(diagonal_matrix(n, x)?)
    }),
    (B::MATRIX_SET_DIAG, |n| {
        let (x, vectors) = (n.input(0)?, n.input(1)?);
        plain(n, x)?;
        one(with_diagonal(n, x, vectors)?)
    }),
    (B::ONE_HOT, one_hot),
    (B::REVERSE_SEQUENCE, reverse_sequence),
    (B::SCATTER_ND, scatter_nd),
    (B::SPARSE_TO_DENSE, sparse_to_dense),
    (B::TOPK_V2, top_k),
    (B::UNIQUE, |n| {
        let x = n.input(0)?;
        plain(n, x)?;
        let [values, _, places, _] = unique(n, x, false)?;
        let to = n.declared(1)?;
        Ok(Values::from_slice(&[values, n.cast(places, to)?]))
    }),
    (B::WHERE, |n| {
        let x = n.input(0)?;
        if n.ty(x).elem.qparams().is_some() {
            return Err(Refusal::Unsupported("the kernel compares stored integers, whatever their zero point".into()));
        }
        let columns = non_zero(n, x)?;
        one(n.transpose(columns, &[1, 0])?)
    }),
];

/// Input `i` as `I32` or `I64` indices.
pub(super) fn indices(n: &mut NodeCx<'_, '_>, i: usize) -> Result<ValueId, Refusal> {
    let v = n.input(i)?;
    match n.ty(v).elem {
        Elem::I32 | Elem::I64 => Ok(v),
        Elem::I16 | Elem::U8 | Elem::I8 => n.cast(v, Elem::I32),
        _ => Err(Refusal::Invalid(format!("input {i} is {}; expected indices", n.ty(v)))),
    }
}

/// A block of an operand is replaced.
fn dynamic_update_slice(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let (x, block, starts) = (n.input(0)?, n.input(1)?, indices(n, 2)?);
    let is_plain = n.ty(x).elem.qparams().is_none();
    if let Some(y) = if is_plain { block_between(n, x, block, starts)? } else { None } {
        return one(y);
    }
    one(n.with_block(Block { x, block, starts, readers: 1 })?)
}

fn gather(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let o: GatherOptions = n.options()?;
    let (x, index) = (n.input(0)?, indices(n, 1)?);
    let axis = n.axis(o.axis.into(), x)?;
    let batch = i64::from(o.batch_dims) + if o.batch_dims < 0 { n.rank(index) as i64 } else { 0 };
    if batch == 0 {
        return one(n.give(Gather { axis }, &[x, index])?);
    }
    if usize::try_from(batch) != Ok(axis) {
        return Err(Refusal::Unsupported(format!("axis {axis} with {batch} batch axes is not supported")));
    }
    let tuples = n.column(index)?;
    one(n.give(GatherNd { batch: axis }, &[x, tuples])?)
}

fn gather_nd(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let (x, index) = (n.input(0)?, indices(n, 1)?);
    one(n.give(GatherNd { batch: 0 }, &[x, index])?)
}

/// Adds the updates to a tensor of zeros.
fn scatter_nd(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let (index, updates) = (indices(n, 0)?, n.input(1)?);
    let shape = n.shape_at(2)?;
    let zero = n.scalar(0.0, updates)?;
    let zeros = n.add(Expand { shape }, &[zero])?;
    one(n.give(ScatterNd { f: ScatterFn::Add }, &[zeros, index, updates])?)
}

/// Gathers rows of a table, which may be quantized.
fn embedding_lookup(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let (index, table) = (indices(n, 0)?, n.input(1)?);
    let to = n.declared(0)?;
    let table = if n.ty(table).elem == to { table } else { n.real(table)? };
    one(n.give(Gather { axis: 0 }, &[table, index])?)
}

/// `on` where the position along a new axis equals the index, else `off`.
fn one_hot(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let o: OneHot = n.options()?;
    let (index, on, off) = (indices(n, 0)?, n.input(2)?, n.input(3)?);
    let axis = count_axis(o.axis.into(), n.rank(index) + 1)?;
    let here = hits(n, index, 1, axis)?;
    one(n.give(Select {}, &[here, on, off])?)
}

/// Along the innermost axis.
fn top_k(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let x = n.input(0)?;
    let axis = n.axis(-1, x)?;
    let (values, indices) = (n.declared(0)?, n.declared(1)?);
    let k = count_sorted(n, 1)?;
    let values = n.add_as(TopK { k, axis, largest: true }, &[x], &values)?;
    Ok([values, n.cast(values.node.value(1), indices)?].into_iter().collect())
}

/// The number of the boundaries that are less than each element or equal to it.
fn bucketize(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let o: Bucketize = n.options()?;
    let x = n.input(0)?;
    let boundaries = Tensor::from_vec(Shape::known(&[o.boundaries.len()]), o.boundaries);
    // Integers are compared as floating-point numbers.
    let x = n.real(x)?;
    let x = n.cast(x, Elem::F32)?;
    let boundaries = n.add_constant(boundaries);
    let to = n.declared(0)?;
    one(bucket(n, x, boundaries, BinaryFn::GreaterEqual, to)?)
}

/// The first elements of each sequence in reverse order.
fn reverse_sequence(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let o: ReverseSequence = n.options()?;
    let (x, lens) = (n.input(0)?, n.input(1)?);
    plain(n, x)?;
    let (batch, time) = (n.axis(o.batch_dim.into(), x)?, n.axis(o.seq_dim.into(), x)?);
    one(reversed(n, x, lens, batch, time)?)
}

/// Values at index tuples, and a default elsewhere.
fn sparse_to_dense(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let (places, shape, values, default) = (indices(n, 0)?, n.shape_at(1)?, n.input(2)?, n.input(3)?);
    let count = match n.shape(places).dims() {
        [] => Dim::Known(1),
        [count, ..] => count.clone(),
    };
    let tuples = [count.clone(), Dim::Known(shape.rank())].into_iter().collect();
    let places = n.reshape_to(places, tuples)?;
    let list: Shape = [count].into_iter().collect();
    let values = match n.rank(values) {
        0 => n.add(Expand { shape: list }, &[values])?,
        _ => values,
    };
    let empty = n.add(Expand { shape }, &[default])?;
    one(n.give(ScatterNd { f: ScatterFn::Replace }, &[empty, places, values])?)
}
