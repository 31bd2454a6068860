//! Operators that compute or use indices.

use qcc_ir::ops::{
    BinaryFn, Concat, CumSum, Extents, Gather, GatherElements, GatherNd, OpenSlice, ScatterFn, Select, TopK, broadcast,
};
use qcc_ir::{Dim, Elem, Shape, ValueId};

use super::super::node::{NodeCx, Operand};
use super::super::schema::Number;
use super::Row;
use super::parts::parts;
use crate::build::control::slice_at;
use crate::build::index::{Places, bucket, non_zero, part, within};
use crate::build::{Build, Values, extent, one};
use crate::refusal::Refusal;

pub(super) const ROWS: &[Row] = &[
    ("_unsafe_index", index),
    ("argsort", |n| {
        let sorted = sort(n)?;
        one(sorted[1])
    }),
    ("bucketize", bucketize),
    ("cumsum", cumsum),
    ("embedding", embedding),
    ("gather", |n| {
        let (x, axis, indices) = along(n)?;
        one(n.add(GatherElements { axis }, &[x, indices])?)
    }),
    ("index", index),
    ("index_add", index_add),
    ("index_copy", |n| {
        let (x, places, source) = slices(n)?;
        one(places.update(n, ScatterFn::Replace, x, source)?)
    }),
    ("index_fill", index_fill),
    ("index_put", index_put),
    ("index_reduce", |n| {
        let updates = slices(n)?;
        reduced(n, updates)
    }),
    ("index_select", |n| {
        let (x, axis, indices) = along(n)?;
        one(n.add(Gather { axis }, &[x, indices])?)
    }),
    ("masked_scatter", |_| Err(Refusal::Unsupported("masked_scatter is not supported".into()))),
    ("nonzero", |n| {
        let x = n.input()?;
        let indices = non_zero(n, x)?;
        one(n.transpose(indices, &[1, 0])?)
    }),
    ("one_hot", one_hot),
    ("scatter", scatter),
    ("scatter_add", |n| {
        let (x, places, updates) = elements(n)?;
        one(places.update(n, ScatterFn::Add, x, updates)?)
    }),
    ("scatter_reduce", |n| {
        let updates = elements(n)?;
        reduced(n, updates)
    }),
    ("select_scatter", |n| put(n)),
    ("slice_scatter", |n| put(n)),
    ("sort", sort),
    ("take_along_dim", |n| {
        let (x, indices) = (n.input()?, n.tensor("indices")?);
        let axis = n.required_int("dim")?;
        let axis = n.axis(axis, x)?;
        one(n.add(GatherElements { axis }, &[x, indices])?)
    }),
    ("topk", |n| {
        let x = n.input()?;
        let (k, axis) = (n.required_int("k")?, n.int("dim", -1)?);
        let (axis, largest) = (n.axis(axis, x)?, n.flag("largest", true)?);
        n.flag("sorted", true)?;
        n.add_all(TopK { k: extent(k)?.into(), axis, largest }, &[x])
    }),
];

/// self, dim and index.
fn along(n: &mut NodeCx<'_, '_>) -> Result<(ValueId, usize, ValueId), Refusal> {
    let (x, indices) = (n.input()?, n.tensor("index")?);
    let axis = n.required_int("dim")?;
    let axis = n.axis(axis, x)?;
    Ok((x, axis, indices))
}

fn embedding(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let (weight, indices) = (n.tensor("weight")?, n.tensor("indices")?);
    one(n.add(Gather { axis: 0 }, &[weight, indices])?)
}

fn cumsum(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let x = n.input()?;
    let elem = match n.dtype("dtype")? {
        Some(elem) => elem,
        None if n.ty(x).elem.is_float() => n.ty(x).elem.clone(),
        None => Elem::I64,
    };
    let x = n.cast(x, elem)?;
    let axis = n.required_int("dim")?;
    let axis = n.axis(axis, x)?;
    one(n.add(CumSum { axis, exclusive: false, reverse: false }, &[x])?)
}

/// All elements along an axis, sorted.
fn sort(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let x = n.input()?;
    let axis = n.int("dim", -1)?;
    let (axis, largest) = (n.axis(axis, x)?, n.flag("descending", false)?);
    n.flag("stable", false)?;
    let k = n.shape(x).dims()[axis].clone();
    n.add_all(TopK { k, axis, largest }, &[x])
}

/// The index tensors of advanced indexing: one for each indexed axis, broadcast to a common shape.
struct Indices {
    /// The indexed axes, ascending.
    axes: Extents,
    /// One integer tensor for each.
    tensors: Values,
    /// Their common shape.
    shape: Shape,
}

impl Indices {
    /// Masks become the indices of their true elements.
    fn read(n: &mut NodeCx<'_, '_>, x: ValueId) -> Result<Indices, Refusal> {
        let mut axes = Extents::new();
        let mut tensors = Values::new();
        let mut axis = 0;
        for given in n.optionals("indices")? {
            let Some(v) = given else {
                axis += 1;
                continue;
            };
            if matches!(n.ty(v).elem, Elem::Bool | Elem::U8) {
                let places = non_zero(n, v)?;
                for i in 0..n.rank(v) {
                    axes.push(axis);
                    axis += 1;
                    tensors.push(slice_at(n, places, 0, i)?);
                }
                continue;
            }
            axes.push(axis);
            axis += 1;
            let wide = if matches!(n.ty(v).elem, Elem::I32 | Elem::I64) { v } else { n.cast(v, Elem::I64)? };
            tensors.push(wide);
        }
        if axis > n.rank(x) || axes.is_empty() {
            return Err(Refusal::Invalid(format!("{axis} indices for {}", n.ty(x))));
        }
        let mut shape = Shape::scalar();
        for (&v, &axis) in tensors.iter().zip(&axes) {
            shape = broadcast(&shape, &n.ty(v).shape)?;
            if let Some(extent) = n.shape(x).dims()[axis].known() {
                within(n, v, &[extent])?;
            }
        }
        Ok(Indices { axes, tensors, shape })
    }

    fn side_by_side(&self) -> bool {
        self.axes.windows(2).all(|w| w[0] + 1 == w[1])
    }

    /// The permutation that moves the indexed axes to the front.
    fn in_front(&self, rank: usize) -> Extents {
        self.axes.iter().copied().chain((0..rank).filter(|a| !self.axes.contains(a))).collect()
    }

    /// The tuples along a last axis. Negative indices count from the end.
    fn tuples(&self, n: &mut NodeCx<'_, '_>) -> Result<ValueId, Refusal> {
        let mut columns = Values::new();
        for &v in &self.tensors {
            let v = n.cast(v, Elem::I64)?;
            let v = n.expand_to(v, self.shape.clone())?;
            columns.push(n.column(v)?);
        }
        match *columns {
            [only] => Ok(only),
            _ => n.add(Concat { axis: self.shape.rank() }, &columns),
        }
    }
}

/// Advanced indexing: the axes of the indices replace the indexed axes, or come first if those are not adjacent.
fn index(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let x = n.input()?;
    let indices = Indices::read(n, x)?;
    if let ([axis], [v]) = (indices.axes.as_slice(), indices.tensors.as_slice()) {
        return one(n.add(Gather { axis: *axis }, &[x, *v])?);
    }
    let order = indices.in_front(n.rank(x));
    let x = n.transpose(x, &order)?;
    let tuples = indices.tuples(n)?;
    let y = n.add(GatherNd { batch: 0 }, &[x, tuples])?;
    if !indices.side_by_side() {
        return one(y);
    }
    let (first, count) = (indices.axes[0], indices.shape.rank());
    let before = count..count + first;
    let perm: Extents = before.clone().chain(0..count).chain(before.end..n.rank(y)).collect();
    one(n.transpose(y, &perm)?)
}

/// Self with the elements at indices replaced or added to.
fn index_put(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let (x, values) = (n.input()?, n.tensor("values")?);
    let f = if n.flag("accumulate", false)? { ScatterFn::Add } else { ScatterFn::Replace };
    let values = n.cast(values, n.ty(x).elem.clone())?;
    // A mask with a single value: the mask need not be constant.
    if let [Some(mask)] = n.optionals("indices")?.as_slice()
        && n.ty(*mask).elem == Elem::Bool
        && n.shape(values).elements() == Some(1)
        && n.rank(*mask) <= n.rank(x)
    {
        let mut dims = n.shape(*mask).dims().to_vec();
        dims.resize(n.rank(x), Dim::Known(1));
        let mask = n.reshape_to(*mask, dims.into_iter().collect())?;
        let value = n.reshape(values, &[])?;
        let value = if f == ScatterFn::Add { n.binary(BinaryFn::Add, x, value)? } else { value };
        return one(n.add(Select {}, &[mask, value, x])?);
    }
    let indices = Indices::read(n, x)?;
    let order = indices.in_front(n.rank(x));
    let dims = n.shape(x).dims().to_vec();
    let (first, count) = (indices.axes[0], indices.shape.rank());
    // The axes of the indices come first, or replace those that they index.
    let before = if indices.side_by_side() { first } else { 0 };
    let others = order[indices.axes.len()..].iter().map(|&a| dims[a].clone());
    let mut wanted: Vec<Dim> = others.collect();
    wanted.splice(before..before, indices.shape.dims().iter().cloned());
    let values = n.expand_to(values, wanted.iter().cloned().collect())?;
    let to_front: Extents = (before..before + count).chain(0..before).chain(before + count..wanted.len()).collect();
    let values = n.transpose(values, &to_front)?;
    let tuples = indices.tuples(n)?;
    let whole = n.transpose(x, &order)?;
    let y = Places::tuples(n, whole, tuples)?.update(n, f, whole, values)?;
    let mut back = order.clone();
    order.iter().enumerate().for_each(|(i, &a)| back[a] = i);
    one(n.transpose(y, &back)?)
}

/// The destinations of an index tensor for single elements, and the updates: the source, cropped to the extents of the
/// index, or a number.
fn elements(n: &mut NodeCx<'_, '_>) -> Result<(ValueId, Places, ValueId), Refusal> {
    let (x, axis, indices) = along(n)?;
    let shape = n.shape(indices).clone();
    let elem = n.ty(x).elem.clone();
    let updates = match n.optional("src")? {
        Some(src) if n.rank(src) != shape.rank() => {
            return Err(Refusal::Invalid(format!("updates {} at {}", n.ty(src), n.ty(indices))));
        }
        Some(src) => shape.dims().iter().enumerate().try_fold(src, |src, (axis, len)| {
            let whole = n.shape(src).dims()[axis] == *len;
            let slice = OpenSlice { axis, start: 0.into(), len: len.expr() };
            if whole { Ok(src) } else { part(n, src, slice) }
        })?,
        None => {
            let value = n.number("value")?.unwrap_or(Number::Int(0));
            let value = n.constant_of(value, &elem)?;
            n.expand_to(value, shape)?
        }
    };
    Ok((x, Places::elements(n, x, axis, indices)?, updates))
}

/// The destinations of a vector of indices along an axis, and the updates.
fn slices(n: &mut NodeCx<'_, '_>) -> Result<(ValueId, Places, ValueId), Refusal> {
    let (x, axis, indices) = along(n)?;
    let source = n.tensor("source")?;
    Ok((x, Places::slices(n, axis, indices)?, source))
}

fn scatter(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let (x, places, updates) = elements(n)?;
    let f = match n.text("reduce", "")? {
        "" => ScatterFn::Replace,
        "add" => ScatterFn::Add,
        "multiply" => ScatterFn::Mul,
        other => return Err(Refusal::Unsupported(format!("a scatter with reduction {other} is not supported"))),
    };
    one(places.update(n, f, x, updates)?)
}

/// Writes one number at a vector of indices along an axis.
fn index_fill(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let (x, axis, indices) = along(n)?;
    let value = n.optional_operand("value")?.unwrap_or(Operand::Number(Number::Int(0)));
    let value = n.as_value(value, &n.ty(x).elem.clone())?;
    let count = Shape::count(n.shape(indices).dims()).ok_or_else(|| Refusal::Open(n.shape(indices).clone()))?;
    let value = n.expand_to(value, n.shape(x).with(axis, count))?;
    one(Places::slices(n, axis, indices)?.update(n, ScatterFn::Replace, x, value)?)
}

fn index_add(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let (x, places, source) = slices(n)?;
    let alpha = n.number("alpha")?.unwrap_or(Number::Int(1));
    let source = match alpha.float() {
        1.0 => source,
        _ => {
            let alpha = n.constant_of(alpha, &n.ty(source).elem.clone())?;
            n.binary(BinaryFn::Mul, source, alpha)?
        }
    };
    one(places.update(n, ScatterFn::Add, x, source)?)
}

/// Reduces updates of the same index with each other and, with `include_self`, with the element of self.
fn reduced(n: &mut NodeCx<'_, '_>, (x, places, updates): (ValueId, Places, ValueId)) -> Result<Values, Refusal> {
    let reduce = n.text("reduce", "")?;
    let (f, neutral) = match reduce {
        "sum" | "mean" => (ScatterFn::Add, 0.0),
        "prod" => (ScatterFn::Mul, 1.0),
        "amin" => (ScatterFn::Min, f64::INFINITY),
        "amax" => (ScatterFn::Max, f64::NEG_INFINITY),
        other => return Err(Refusal::Unsupported(format!("a scatter with reduction {other} is not supported"))),
    };
    let shape = n.shape(updates).clone();
    let included = n.flag("include_self", true)?;
    let fill = |n: &mut NodeCx<'_, '_>, base: ValueId, value: f64| {
        let value = n.scalar(value, base)?;
        let value = n.expand_to(value, shape.clone())?;
        places.update(n, ScatterFn::Replace, base, value)
    };
    let base = if included { x } else { fill(n, x, neutral)? };
    let y = places.update(n, f, base, updates)?;
    if reduce != "mean" {
        return one(y);
    }
    let one_each = n.scalar(1.0, x)?;
    let ones = n.expand_to(one_each, n.shape(x).clone())?;
    let counts = if included { ones } else { fill(n, ones, 0.0)? };
    let more = n.expand_to(one_each, shape.clone())?;
    let counts = places.update(n, ScatterFn::Add, counts, more)?;
    let f = if n.ty(x).elem.is_float() { BinaryFn::Div } else { BinaryFn::FloorDiv };
    one(n.binary(f, y, counts)?)
}

/// Self with a part replaced: `slice_scatter`, `select_scatter`.
fn put(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let (x, src) = (n.input()?, n.tensor("src")?);
    let all = parts(n, x)?;
    let part = all.first().ok_or_else(|| Refusal::Invalid("a part that is none".into()))?;
    let src = n.cast(src, n.ty(x).elem.clone())?;
    one(super::put::put_part(n, part, x, src)?)
}

/// 1 where the index along the new last axis equals the given one, 0 elsewhere.
fn one_hot(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let x = n.input()?;
    let classes = n.int("num_classes", -1)?;
    if classes < 0 {
        return Err(Refusal::Unsupported(format!("one_hot with num_classes {classes} is not supported")));
    }
    let places = n.table(&[extent(classes)?], |i| i as i64)?;
    let x = n.column(x)?;
    let x = n.cast(x, Elem::I64)?;
    let hits = n.binary(BinaryFn::Equal, x, places)?;
    one(n.cast(hits, Elem::I64)?)
}

/// The number of boundaries less than (`right`: less than or equal to) each element.
fn bucketize(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let (x, boundaries) = (n.input()?, n.tensor("boundaries")?);
    let f = if n.flag("right", false)? { BinaryFn::GreaterEqual } else { BinaryFn::Greater };
    let elem = if n.flag("out_int32", false)? { Elem::I32 } else { Elem::I64 };
    one(bucket(n, x, boundaries, f, elem)?)
}
