//! Operators that compute or use indices.

use qcc_formats::tflite::{BuiltinOperator as B, Gather as GatherOptions, OneHot};
use qcc_ir::ops::{Binary, BinaryFn, Expand, Extents, Gather, GatherNd, ScatterFn, ScatterNd, Select, TopK};
use qcc_ir::{Elem, Shape, ValueId};

use super::super::node::NodeCx;
use super::Row;
use crate::build::{Build, Values, count_axis, extent, extents, one};
use crate::refusal::Refusal;

pub(super) const ROWS: &[Row] = &[
    (B::EMBEDDING_LOOKUP, embedding_lookup),
    (B::GATHER, gather),
    (B::GATHER_ND, gather_nd),
    (B::ONE_HOT, one_hot),
    (B::SCATTER_ND, scatter_nd),
    (B::TOPK_V2, top_k),
];

/// Input `i` as `I32` or `I64` indices.
fn indices(n: &mut NodeCx<'_, '_>, i: usize) -> Result<ValueId, Refusal> {
    let v = n.input(i)?;
    match n.ty(v).elem {
        Elem::I32 | Elem::I64 => Ok(v),
        Elem::I16 | Elem::U8 | Elem::I8 => n.cast(v, Elem::I32),
        _ => Err(Refusal::Invalid(format!("input {i} is {}; expected indices", n.ty(v)))),
    }
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
    let mut dims = n.dims(index)?;
    dims.push(1);
    let tuples = n.reshape(index, &dims)?;
    one(n.give(GatherNd { batch: axis }, &[x, tuples])?)
}

fn gather_nd(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let (x, index) = (n.input(0)?, indices(n, 1)?);
    one(n.give(GatherNd { batch: 0 }, &[x, index])?)
}

/// Adds the updates to a tensor of zeros.
fn scatter_nd(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let (index, updates) = (indices(n, 0)?, n.input(1)?);
    let shape = Shape::known(&extents(&n.integers(2)?)?);
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
    let (index, depth) = (indices(n, 0)?, n.integer(1)?);
    let (on, off, depth) = (n.input(2)?, n.input(3)?, extent(depth)?);
    let rank = n.rank(index) + 1;
    let axis = count_axis(o.axis.into(), rank)?;
    let mut dims = n.dims(index)?;
    dims.insert(axis, 1);
    let column = n.reshape(index, &dims)?;
    let mut places = Extents::from_elem(1, rank);
    places[axis] = depth;
    let elem = n.ty(index).elem.clone();
    let places = n.table_of(&elem, &places, |i| i as f64)?;
    let places = places.ok_or_else(|| Refusal::Invalid(format!("a depth of {depth}")))?;
    let here = n.add(Binary { f: BinaryFn::Equal }, &[column, places])?;
    one(n.give(Select {}, &[here, on, off])?)
}

/// Along the innermost axis.
fn top_k(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let (x, k) = (n.input(0)?, n.integer(1)?);
    let axis = n.axis(-1, x)?;
    let to = n.declared(0)?;
    let values = n.add_as(TopK { k: extent(k)?, axis, largest: true }, &[x], &to)?;
    let to = n.declared(1)?;
    let indices = n.cast(values.node.value(1), to)?;
    Ok(Values::from_slice(&[values, indices]))
}
