//! Operations that compute or use indices.

use qcc_ir::Elem;
use qcc_ir::ops::{BinaryFn, Gather, GatherElements, GatherNd, ScatterFn, Select, TopK};

use super::super::node::NodeCx;
use super::Row;
use crate::build::index::{Places, count_sorted, non_zero};
use crate::build::one_hot::hits;
use crate::build::range::range;
use crate::build::{Build, Operands, Values, count_axis, extent, movement, one};
use crate::refusal::Refusal;

pub(super) const ROWS: &[Row] = &[
    ("Gather", gather),
    ("GatherElements", |n| {
        let (x, indices) = (n.input(0)?, n.input(1)?);
        let axis = n.axis_of("axis", 0, x)?;
        one(n.add(GatherElements { axis }, &[x, indices])?)
    }),
    ("GatherND", |n| {
        let batch = extent(n.number("batch_dims")?.unwrap_or(0))?;
        let (x, indices) = (n.input(0)?, n.input(1)?);
        one(n.add(GatherNd { batch }, &[x, indices])?)
    }),
    ("NonZero", |n| {
        let to = n.element("output_type")?.unwrap_or(Elem::I64);
        let x = n.input(0)?;
        let places = non_zero(n, x)?;
        one(n.cast(places, to)?)
    }),
    ("OneHot", one_hot),
    ("Range", |n| {
        let to = n.element("output_type")?;
        let terms = [n.input(0)?, n.input(1)?, n.input(2)?];
        let numbers = range(n, terms)?;
        one(to.map_or(Ok(numbers), |to| n.cast(numbers, to))?)
    }),
    ("ScatterElementsUpdate", scatter_elements),
    ("ScatterNDUpdate", |n| {
        let (f, x, indices, updates) = (scatter(n)?, n.input(0)?, n.input(1)?, n.input(2)?);
        let places = Places::tuples(n, x, indices)?;
        one(places.update(n, f, x, updates)?)
    }),
    ("ScatterUpdate", |n| {
        let (x, indices, updates) = (n.input(0)?, n.input(1)?, n.input(2)?);
        let axis = n.axis_at(3, x)?;
        if n.rank(indices) != 1 {
            return Err(Refusal::Unsupported(format!("indices {} are not supported here", n.ty(indices))));
        }
        let places = Places::slices(n, axis, indices)?;
        one(places.update(n, ScatterFn::Replace, x, updates)?)
    }),
    ("ShapeOf", |n| {
        let to = n.element("output_type")?.unwrap_or(Elem::I64);
        let x = n.input(0)?;
        let shape = movement::shape(n, x)?;
        one(n.cast(shape, to)?)
    }),
    ("TopK", top_k),
];

/// With batch axes, indices refer to their own batch element.
fn gather(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let batch: i64 = n.number("batch_dims")?.unwrap_or(0);
    let (x, indices) = (n.input(0)?, n.input(1)?);
    let axis = n.axis_at(2, x)?;
    if batch != 0 {
        return Err(Refusal::Unsupported("batch_dims other than 0 are not supported".into()));
    }
    one(n.add(Gather { axis }, &[x, indices])?)
}

/// `on` where the position along a new axis equals the index, else `off`. Negative indices equal none, unless they are
/// counted from the end.
fn one_hot(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let from_end = match n.text("negative_indices_mode") {
        None | Some("ignore_negative") => false,
        Some("normalize") => true,
        Some(other) => return Err(Refusal::Unsupported(format!("negative indices with {other} are not supported"))),
    };
    let (mut index, on, off) = (n.input(0)?, n.input(2)?, n.input(3)?);
    let axis = count_axis(n.required("axis")?, n.rank(index) + 1)?;
    if from_end {
        let depth = n.integer(1)?;
        let (zero, depth) = (n.scalar(0.0, index)?, n.scalar(depth as f64, index)?);
        let negative = n.binary(BinaryFn::Less, index, zero)?;
        let counted = n.binary(BinaryFn::Add, index, depth)?;
        index = n.add(Select {}, &[negative, counted, index])?;
    }
    let here = hits(n, index, 1, axis)?;
    one(n.add(Select {}, &[here, on, off])?)
}

fn scatter(n: &mut NodeCx<'_, '_>) -> Result<ScatterFn, Refusal> {
    Ok(match n.text("reduction") {
        None | Some("none") => ScatterFn::Replace,
        Some("sum") => ScatterFn::Add,
        Some("prod") => ScatterFn::Mul,
        Some("min") => ScatterFn::Min,
        Some("max") => ScatterFn::Max,
        Some(other) => return Err(Refusal::Unsupported(format!("the reduction {other} is not supported"))),
    })
}

fn scatter_elements(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let f = scatter(n)?;
    if f != ScatterFn::Replace && !n.flag("use_init_val", true)? {
        return Err(Refusal::Unsupported("updates without the first value (use_init_val) are not supported".into()));
    }
    n.ignore(&["use_init_val"]);
    let (x, indices, updates) = (n.input(0)?, n.input(1)?, n.input(2)?);
    let axis = n.axis_at(3, x)?;
    let places = Places::elements(n, x, axis, indices)?;
    one(places.update(n, f, x, updates)?)
}

/// The graph's operator is stable: equal elements keep their order.
fn top_k(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let largest = match n.text("mode") {
        Some("max") => true,
        Some("min") => false,
        _ => return Err(Refusal::Attribute { name: "mode".into(), problem: "neither max nor min" }),
    };
    // Without an order, that of the values is one of those that there may be.
    if let Some(sort) = n.text("sort").filter(|sort| !matches!(*sort, "value" | "none")) {
        return Err(Refusal::Unsupported(format!("elements sorted by {sort} are not supported")));
    }
    n.ignore(&["stable"]);
    let to = n.element("index_element_type")?.unwrap_or(Elem::I32);
    let axis: i64 = n.required("axis")?;
    let x = n.input(0)?;
    let axis = count_axis(axis, n.rank(x))?;
    let k = count_sorted(n, 1)?;
    let both = n.add_all(TopK { k, axis, largest }, &[x])?;
    Ok([both[0], n.cast(both[1], to)?].into_iter().collect())
}
