//! Operators that compute or use indices.

use qcc_ir::ops::{
    ArgReduce, BinaryFn, Concat, CumSum, Expand, Extents, Gather, GatherElements, GatherNd, Range, Reverse, ScatterFn,
    Select, Slice, TopK,
};
use qcc_ir::{Dim, Elem, Shape, Tensor, ValueId};

use super::super::node::NodeCx;
use super::Row;
use crate::build::index::{self, Places};
use crate::build::{Build, Operands, Values, computed, count_axis, extent, one, unique};
use crate::refusal::Refusal;

pub(super) const ROWS: &[Row] = &[
    ("ArgMax", |n| arg_reduce(n, true)),
    ("ArgMin", |n| arg_reduce(n, false)),
    ("Compress", compress),
    ("CumProd", cum_prod),
    ("CumSum", cum_sum),
    ("Gather", gather),
    ("GatherElements", gather_elements),
    ("GatherND", gather_nd),
    ("NonZero", non_zero),
    ("OneHot", one_hot),
    ("ReverseSequence", reverse_sequence),
    ("Scatter", scatter_elements),
    ("ScatterElements", scatter_elements),
    ("ScatterND", scatter_nd),
    ("TopK", top_k),
    ("Unique", different),
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
    let (exclusive, reverse) = (n.flag("exclusive", false)?, n.flag("reverse", false)?);
    if let Some(axis) = n.computed(1)? {
        return one(computed::by_axis(n, x, axis, |n, axis| n.add(CumSum { axis, exclusive, reverse }, &[x]))?);
    }
    let axis = n.integer(1)?;
    let axis = n.axis(axis, x)?;
    one(n.add(CumSum { axis, exclusive, reverse }, &[x])?)
}

/// The slices of an axis, or the elements, where a constant condition holds. A condition that is shorter than the axis
/// leaves out the rest.
fn compress(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let mut x = n.input(0)?;
    let condition = n.integers(1)?;
    let axis = match n.optional_int("axis")? {
        Some(axis) => n.axis(axis, x)?,
        None => {
            let count = n.dims(x)?.iter().product();
            x = n.reshape(x, &[count])?;
            0
        }
    };
    let kept: Vec<i64> = (0..condition.len() as i64).filter(|&i| condition[i as usize] != 0).collect();
    let kept = n.add_constant(Tensor::from_vec(Shape::known(&[kept.len()]), kept));
    one(n.add(Gather { axis }, &[x, kept])?)
}

/// Running products: after each step every element is the product of twice as many elements.
fn cum_prod(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let x = n.input(0)?;
    let axis = n.integer(1)?;
    let axis = n.axis(axis, x)?;
    let (exclusive, reverse) = (n.flag("exclusive", false)?, n.flag("reverse", false)?);
    let flip = |n: &mut NodeCx<'_, '_>, v| match reverse {
        true => n.add(Reverse { axes: Extents::from_elem(axis, 1) }, &[v]),
        false => Ok(v),
    };
    let extent = n.dims(x)?[axis];
    let mut y = flip(n, x)?;
    if exclusive {
        y = delayed(n, y, axis, 1)?;
    }
    let mut reach = 1;
    while reach < extent {
        let before = delayed(n, y, axis, reach)?;
        y = n.binary(BinaryFn::Mul, y, before)?;
        reach *= 2;
    }
    one(flip(n, y)?)
}

/// `x` moved along an axis by `by` elements, with ones before it.
fn delayed(n: &mut NodeCx<'_, '_>, x: ValueId, axis: usize, by: usize) -> Result<ValueId, Refusal> {
    let mut dims = n.dims(x)?;
    let extent = dims[axis];
    dims[axis] = by.min(extent);
    let one = n.scalar(1.0, x)?;
    let ones = n.add(Expand { shape: Shape::known(&dims) }, &[one])?;
    let Some(len) = extent.checked_sub(by).filter(|&len| len > 0) else { return Ok(ones) };
    let rest = n.add(Slice { ranges: vec![Range { axis, start: 0, len, step: 1 }] }, &[x])?;
    n.add(Concat { axis }, &[ones, rest])
}

/// The first elements of each sequence in reverse order; their number is given for each sequence.
fn reverse_sequence(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let (x, lens) = (n.input(0)?, n.input(1)?);
    let (batch, time) = (n.int("batch_axis", 1)?, n.int("time_axis", 0)?);
    let (batch, time) = (n.axis(batch, x)?, n.axis(time, x)?);
    one(index::reversed(n, x, lens, batch, time)?)
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

/// The different elements; of a tensor of several axes, those of all of them.
fn different(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let x = n.input(0)?;
    let axis = n.optional_int("axis")?;
    if axis.is_some() && n.rank(x) != 1 {
        return Err(Refusal::Unsupported("the different slices of an axis are not supported".into()));
    }
    axis.map_or(Ok(0), |axis| n.axis(axis, x))?;
    let sorted = n.flag("sorted", true)?;
    let count = Shape::count(n.shape(x).dims()).ok_or_else(|| Refusal::Open(n.shape(x).clone()))?;
    let x = n.reshape_to(x, [count].into_iter().collect())?;
    let found = unique::unique(n, x, sorted)?;
    Ok(found.into_iter().take(n.outputs().max(1)).collect())
}

/// `k` is an attribute before opset 10, then an input. With `sorted` 0 any order is valid.
fn top_k(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let x = n.input(0)?;
    let axis = n.int("axis", -1)?;
    let axis = n.axis(axis, x)?;
    let (largest, _) = (n.flag("largest", true)?, n.flag("sorted", true)?);
    let k = if n.opset() >= 10 {
        index::count_sorted(n, 1)?
    } else {
        let k = n.optional_int("k")?.ok_or(Refusal::Attribute { name: "k".into(), problem: "is missing" })?;
        extent(k)?.into()
    };
    n.add_all(TopK { k, axis, largest }, &[x])
}

/// `on` where the index along the new axis equals the given one, `off` elsewhere. Negative indices count from the end.
fn one_hot(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let (indices, values) = (n.input(0)?, n.input(2)?);
    let axis = n.int("axis", -1)?;
    let axis = count_axis(axis, n.rank(indices) + 1)?;
    if n.computed(1)?.is_some() {
        return computed_one_hot(n, indices, axis, values);
    }
    let depth = n.optional_constant(1)?.ok_or(Refusal::MissingInput(1))?;
    let [depth] = *depth.floats() else { return Err(Refusal::Invalid("depth is no scalar".into())) };
    let depth = extent(depth as i64)?;
    let mut dims = n.shape(indices).dims().to_vec();
    dims.insert(axis, Dim::Known(1));
    let mut along = Extents::from_elem(1, dims.len());
    let indices = n.reshape_to(indices, dims.into_iter().collect())?;
    along[axis] = depth;
    let mut hits: Option<ValueId> = None;
    for first in [0, -(depth as i64)] {
        let places = n.table(&along, |i| first + i as i64)?;
        let places = n.cast(places, n.ty(indices).elem.clone())?;
        let hit = n.binary(BinaryFn::Equal, indices, places)?;
        hits = Some(hits.map_or(Ok(hit), |other| n.binary(BinaryFn::Or, other, hit))?);
    }
    let hits = hits.ok_or_else(|| Refusal::Invalid("no places".into()))?;
    one(off_or_on(n, hits, values)?)
}

/// The second of two values where there is a hit, else the first.
fn off_or_on(n: &mut NodeCx<'_, '_>, hits: ValueId, values: ValueId) -> Result<ValueId, Refusal> {
    if n.dims(values)?.as_slice() != [2] {
        return Err(Refusal::Invalid(format!("values is {}; expected two of them", n.ty(values))));
    }
    let mut value = |start| -> Result<ValueId, Refusal> {
        let v = n.add(Slice { ranges: vec![Range { axis: 0, start, len: 1, step: 1 }] }, &[values])?;
        n.reshape(v, &[])
    };
    let (off, on) = (value(0)?, value(1)?);
    n.add(Select {}, &[hits, on, off])
}

/// As [`one_hot`], with a depth that is known at run time only.
fn computed_one_hot(n: &mut NodeCx<'_, '_>, indices: ValueId, axis: usize, values: ValueId) -> Result<Values, Refusal> {
    let depth = n.input(1)?;
    let extent = computed::one_defined(n, depth)?;
    let mut dims = n.shape(indices).dims().to_vec();
    dims.insert(axis, Dim::Known(1));
    let rank = dims.len();
    let indices = n.reshape_to(indices, dims.into_iter().collect())?;
    let indices = n.cast(indices, Elem::I64)?;
    let places = computed::counted(n, extent.clone())?;
    let along: Shape = (0..rank)
        .map(|a| if a == axis { computed::open(extent.clone()) } else { Ok(Dim::Known(1)) })
        .collect::<Result<_, _>>()?;
    let places = n.reshape_to(places, along)?;
    let depth = n.cast(depth, Elem::I64)?;
    let depth = n.reshape(depth, &[])?;
    let from_end = n.binary(BinaryFn::Sub, places, depth)?;
    let hit = n.binary(BinaryFn::Equal, indices, places)?;
    let other = n.binary(BinaryFn::Equal, indices, from_end)?;
    let hits = n.binary(BinaryFn::Or, hit, other)?;
    one(off_or_on(n, hits, values)?)
}

fn non_zero(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let x = n.input(0)?;
    one(index::non_zero(n, x)?)
}
