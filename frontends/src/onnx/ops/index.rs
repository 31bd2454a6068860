//! Operators that compute or use indices.

use qcc_ir::ValueId;
use qcc_ir::ops::{
    ArgReduce, BinaryFn, CumSum, Extents, Gather, GatherElements, GatherNd, Range, Reverse, ScatterFn, Select, Slice,
    TopK,
};

use super::super::node::NodeCx;
use super::Row;
use crate::build::index::{self, Places};
use crate::build::{Build, Values, count_axis, extent, one};
use crate::refusal::Refusal;

pub(super) const ROWS: &[Row] = &[
    ("ArgMax", |n| arg_reduce(n, true)),
    ("ArgMin", |n| arg_reduce(n, false)),
    ("CumSum", cum_sum),
    ("Gather", gather),
    ("GatherElements", gather_elements),
    ("GatherND", gather_nd),
    ("NonZero", non_zero),
    ("OneHot", one_hot),
    ("Scatter", scatter_elements),
    ("ScatterElements", scatter_elements),
    ("ScatterND", scatter_nd),
    ("TopK", top_k),
];

fn arg_reduce(n: &mut NodeCx<'_, '_>, largest: bool) -> Result<Values, Refusal> {
    let mut x = n.input(0)?;
    let axis = n.int("axis", 0)?;
    let axis = n.axis(axis, x)?;
    let keep = n.flag("keepdims", true)?;
    let last = n.flag("select_last_index", false)?;
    if last {
        x = n.add(Reverse { axes: Extents::from_elem(axis, 1) }, &[x])?;
    }
    let index = n.add(ArgReduce { axis, largest, keep }, &[x])?;
    if !last {
        return one(index);
    }
    let end = n.scalar(n.dims(x)?[axis] as f64 - 1.0, index)?;
    one(n.binary(BinaryFn::Sub, end, index)?)
}

fn cum_sum(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let x = n.input(0)?;
    let axis = n.integer(1)?;
    let axis = n.axis(axis, x)?;
    let (exclusive, reverse) = (n.flag("exclusive", false)?, n.flag("reverse", false)?);
    one(n.add(CumSum { axis, exclusive, reverse }, &[x])?)
}

fn gather(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let (x, indices) = (n.input(0)?, n.input(1)?);
    let axis = n.int("axis", 0)?;
    let axis = n.axis(axis, x)?;
    one(n.add(Gather { axis }, &[x, indices])?)
}

fn gather_elements(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let (x, indices) = (n.input(0)?, n.input(1)?);
    let axis = n.int("axis", 0)?;
    let axis = n.axis(axis, x)?;
    one(n.add(GatherElements { axis }, &[x, indices])?)
}

fn gather_nd(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let (x, indices) = (n.input(0)?, n.input(1)?);
    let batch = n.int("batch_dims", 0)?;
    one(n.add(GatherNd { batch: extent(batch)? }, &[x, indices])?)
}

fn reduction(n: &mut NodeCx<'_, '_>) -> Result<ScatterFn, Refusal> {
    Ok(match n.string("reduction", "none")? {
        "none" => ScatterFn::Replace,
        "add" => ScatterFn::Add,
        "mul" => ScatterFn::Mul,
        "min" => ScatterFn::Min,
        "max" => ScatterFn::Max,
        _ => return Err(Refusal::Attribute { name: "reduction".into(), problem: "not a known reduction" }),
    })
}

fn scatter_nd(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let (x, indices, updates) = (n.input(0)?, n.input(1)?, n.input(2)?);
    let f = reduction(n)?;
    one(Places::tuples(n, x, indices)?.update(n, f, x, updates)?)
}

fn scatter_elements(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let (x, indices, updates) = (n.input(0)?, n.input(1)?, n.input(2)?);
    let axis = n.int("axis", 0)?;
    let axis = n.axis(axis, x)?;
    let f = reduction(n)?;
    one(Places::elements(n, x, axis, indices)?.update(n, f, x, updates)?)
}

/// `k` is an attribute before opset 10, then an input. With `sorted` 0 any order is valid.
fn top_k(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let x = n.input(0)?;
    let axis = n.int("axis", -1)?;
    let axis = n.axis(axis, x)?;
    let k = if n.opset() < 10 {
        n.optional_int("k")?.ok_or(Refusal::Attribute { name: "k".into(), problem: "is missing" })?
    } else {
        n.integer(1)?
    };
    let largest = n.flag("largest", true)?;
    n.flag("sorted", true)?;
    n.add_all(TopK { k: extent(k)?, axis, largest }, &[x])
}

/// `on` where the index along the new axis equals the given one, `off` elsewhere. Negative indices count from the end.
fn one_hot(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let (indices, values) = (n.input(0)?, n.input(2)?);
    let axis = n.int("axis", -1)?;
    let axis = count_axis(axis, n.rank(indices) + 1)?;
    let depth = n.optional_constant(1)?.ok_or(Refusal::MissingInput(1))?;
    let [depth] = *depth.reals() else { return Err(Refusal::Invalid("depth is no scalar".into())) };
    let depth = extent(depth as i64)?;
    if n.dims(values)?.as_slice() != [2] {
        return Err(Refusal::Invalid(format!("values is {}; expected two of them", n.ty(values))));
    }
    let mut dims = n.dims(indices)?;
    dims.insert(axis, 1);
    let indices = n.reshape(indices, &dims)?;
    let mut along = Extents::from_elem(1, dims.len());
    along[axis] = depth;
    let mut hits: Option<ValueId> = None;
    for first in [0, -(depth as i64)] {
        let places = n.table(&along, |i| first + i as i64)?;
        let places = n.cast(places, n.ty(indices).elem.clone())?;
        let hit = n.binary(BinaryFn::Equal, indices, places)?;
        hits = Some(hits.map_or(Ok(hit), |other| n.binary(BinaryFn::Or, other, hit))?);
    }
    let mut value = |start| -> Result<ValueId, Refusal> {
        let v = n.add(Slice { ranges: vec![Range { axis: 0, start, len: 1, step: 1 }] }, &[values])?;
        n.reshape(v, &[])
    };
    let (off, on) = (value(0)?, value(1)?);
    let hits = hits.ok_or_else(|| Refusal::Invalid("no places".into()))?;
    one(n.add(Select {}, &[hits, on, off])?)
}

/// For constants only: the shape of the result depends on the values.
fn non_zero(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let x = n.optional_constant(0)?.ok_or(Refusal::MissingInput(0))?;
    one(n.add_constant(index::non_zero(&x)))
}
