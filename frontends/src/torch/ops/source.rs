//! Operators without operands, or that only use the types of their operands.

use qcc_ir::ops::{BinaryFn, Extents};
use qcc_ir::{Dim, Elem, Expr, Shape, ValueId};

use super::super::node::{NodeCx, Operand};
use super::super::quantity::Quantity;
use super::super::schema::Number;
use super::super::symbols::ceil_div;
use super::Row;
use crate::build::computed::{counted, shape_of};
use crate::build::index::beside_diagonal;
use crate::build::{Build, Values, extent, one};
use crate::refusal::Refusal;

pub(super) const ROWS: &[Row] = &[
    ("arange", arange),
    ("empty", |n| filled(n, 0.0)),
    ("empty_like", |n| filled_like(n, 0.0)),
    ("eye", eye),
    ("full", |n| {
        let value = n.operand("fill_value")?;
        full(n, value)
    }),
    ("full_like", |n| {
        let value = n.operand("fill_value")?;
        like(n, value)
    }),
    ("linspace", linspace),
    ("meshgrid", meshgrid),
    ("new_empty", |n| filled(n, 0.0)),
    ("new_full", |n| {
        let value = n.operand("fill_value")?;
        full(n, value)
    }),
    ("new_ones", |n| filled(n, 1.0)),
    ("new_zeros", |n| filled(n, 0.0)),
    ("ones", |n| filled(n, 1.0)),
    ("ones_like", |n| filled_like(n, 1.0)),
    ("scalar_tensor", |n| {
        let s = n.operand("s")?;
        let elem = n.dtype("dtype")?.unwrap_or(Elem::F32);
        one(n.as_value(s, &elem)?)
    }),
    ("zero", |n| filled_like(n, 0.0)),
    ("zeros", |n| filled(n, 0.0)),
    ("zeros_like", |n| filled_like(n, 0.0)),
];

/// Constant integers of the requested element type.
fn filled(n: &mut NodeCx<'_, '_>, value: f64) -> Result<Values, Refusal> {
    if !n.has("self") && !n.has("dtype") {
        return full(n, Operand::Number(Number::Float(value)));
    }
    full(n, Operand::Number(Number::Int(value as i64)))
}

/// The element type is the requested one, that of `self`, or that of the number.
fn full(n: &mut NodeCx<'_, '_>, value: Operand) -> Result<Values, Refusal> {
    let shape = n.asked_shape("size")?;
    let elem = match (n.dtype("dtype")?, n.optional("self")?) {
        (Some(elem), _) => elem,
        (None, Some(x)) => n.ty(x).elem.clone(),
        (None, None) => n.promoted(&[value]),
    };
    spread(n, value, &elem, shape)
}

fn filled_like(n: &mut NodeCx<'_, '_>, value: f64) -> Result<Values, Refusal> {
    like(n, Operand::Number(Number::Float(value)))
}

fn like(n: &mut NodeCx<'_, '_>, value: Operand) -> Result<Values, Refusal> {
    let x = n.input()?;
    let elem = n.dtype("dtype")?.unwrap_or_else(|| n.ty(x).elem.clone());
    spread(n, value, &elem, n.shape(x).clone())
}

fn spread(n: &mut NodeCx<'_, '_>, value: Operand, elem: &Elem, shape: Shape) -> Result<Values, Refusal> {
    let value = n.as_value(value, elem)?;
    one(n.expand_to(value, shape)?)
}

/// start, start + step, .. excluding the end; floats if one of the three is a float.
fn arange(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let start = n.quantity("start")?.unwrap_or(Quantity::Known(Number::Int(0)));
    let end = n.quantity("end")?.ok_or_else(|| n.missing("end"))?;
    let step = n.number("step")?.unwrap_or(Number::Int(1));
    let whole = !start.is_float() && !end.is_float() && !matches!(step, Number::Float(_));
    let elem = n.dtype("dtype")?.unwrap_or(if whole { Elem::I64 } else { Elem::F32 });
    let (Some(first), Some(last)) = (start.known(), end.known()) else {
        return open_arange(n, [&start, &end], step, &elem);
    };
    let (start, end, step) = (first.float(), last.float(), step.float());
    let count = ((end - start) / step).ceil().max(0.0);
    if !count.is_finite() || [start, end].iter().any(|v| v.abs() >= 9e15) {
        return Err(Refusal::Unsupported(format!("a sequence from {start} to {end} is not supported")));
    }
    sequence(n, &elem, count as usize, |i| start + i as f64 * step)
}

/// A sequence whose length follows from open extents.
fn open_arange(
    n: &mut NodeCx<'_, '_>,
    [start, end]: [&Quantity; 2],
    step: Number,
    elem: &Elem,
) -> Result<Values, Refusal> {
    let count = || {
        let ((first, last, by), (step, parts)) = (start.alike(end)?, Quantity::Known(step).parts()?);
        let step = step.constant()?;
        let far = if step < 0 { first.minus(&last)? } else { last.minus(&first)? };
        let count = ceil_div(&far.times(&parts.into())?, by.checked_mul(step.checked_abs()?)?)?;
        if count.bounds().0.is_some_and(|least| least >= 0) { Some(count) } else { None }
    };
    // Where the sign is not known, PyTorch knows it.
    let count = count().and_then(Dim::of).or_else(|| n.declared_extent(0, 0));
    let open = if start.known().is_some() { end } else { start };
    let count = count.ok_or_else(|| n.open_number(0, open))?;
    let places = counted(n, count.expr())?;
    let mut values = n.cast(places, elem.clone())?;
    if step.float() != 1.0 {
        let step = n.constant_of(step, elem)?;
        values = n.binary(BinaryFn::Mul, values, step)?;
    }
    if start.known().is_some_and(|start| start.float() == 0.0) {
        return one(values);
    }
    let start = n.open_value(start)?;
    let start = n.cast(start, elem.clone())?;
    one(n.binary(BinaryFn::Add, values, start)?)
}

fn sequence(
    n: &mut NodeCx<'_, '_>,
    elem: &Elem,
    count: usize,
    value: impl Fn(usize) -> f64,
) -> Result<Values, Refusal> {
    let values = n.table_of(elem, &[count], value)?;
    one(values.ok_or_else(|| Refusal::Unsupported(format!("the sequence leaves {elem}")))?)
}

/// Computed from both ends, as PyTorch does.
fn linspace(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let steps = n.whole("steps")?;
    let elem = n.dtype("dtype")?.unwrap_or(Elem::F32);
    if elem.is_integer() {
        return Err(Refusal::Unsupported(format!("{steps} steps of {elem} are not supported")));
    }
    let ends = [n.operand("start")?, n.operand("end")?];
    let (Some(steps), [Operand::Number(start), Operand::Number(end)]) = (steps.constant(), ends) else {
        return open_linspace(n, ends, steps, &elem);
    };
    let (steps, start, end) = (extent(steps)?, start.float(), end.float());
    let step = if steps > 1 { (end - start) / (steps as f64 - 1.0) } else { 0.0 };
    let value = |i: usize| {
        if i < steps / 2 || steps == 1 { start + step * i as f64 } else { end - step * (steps - 1 - i) as f64 }
    };
    sequence(n, &elem, steps, value)
}

/// Steps whose number or ends follow from open extents: start + i * (end - start) / (steps - 1).
fn open_linspace(
    n: &mut NodeCx<'_, '_>,
    [start, end]: [Operand; 2],
    steps: Expr,
    elem: &Elem,
) -> Result<Values, Refusal> {
    let (start, end) = (n.as_value(start, elem)?, n.as_value(end, elem)?);
    let large = || Refusal::Unsupported(format!("{steps} steps"));
    let gaps = steps.minus(&1.into()).and_then(|gaps| gaps.larger(&1.into())).ok_or_else(large)?;
    let gaps = n.add_whole(vec![gaps], Extents::new())?;
    let gaps = n.cast(gaps, elem.clone())?;
    let far = n.binary(BinaryFn::Sub, end, start)?;
    let step = n.binary(BinaryFn::Div, far, gaps)?;
    let places = counted(n, steps)?;
    let places = n.cast(places, elem.clone())?;
    let far = n.binary(BinaryFn::Mul, places, step)?;
    one(n.binary(BinaryFn::Add, far, start)?)
}

fn eye(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let rows = n.whole("n")?;
    let columns = n.optional_whole("m")?.unwrap_or_else(|| rows.clone());
    let elem = n.dtype("dtype")?.unwrap_or(Elem::F32);
    let shape = shape_of(&[rows, columns])?;
    let [Dim::Known(rows), Dim::Known(columns)] = *shape.dims() else {
        let on = beside_diagonal(n, [&shape.dims()[0], &shape.dims()[1]], 0, BinaryFn::Equal)?;
        return one(n.cast(on, elem)?);
    };
    let eye = n.table_of(&elem, &[rows, columns], |i| u8::from(i / columns == i % columns).into())?;
    one(eye.ok_or_else(|| Refusal::Unsupported(format!("{elem} has no 0 and 1")))?)
}

/// Each vector broadcast along its own axis of the mesh.
fn meshgrid(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let vectors = n.tensors("tensors")?;
    let indexing = n.text("indexing", "ij")?;
    let length = |&v: &ValueId| n.shape(v).dims().first().cloned().unwrap_or(Dim::Known(1));
    let mut dims: Vec<Dim> = vectors.iter().map(length).collect();
    let mut axes: Extents = (0..dims.len()).collect();
    if indexing == "xy" && dims.len() > 1 {
        dims.swap(0, 1);
        axes.swap(0, 1);
    }
    let whole: Shape = dims.into_iter().collect();
    let mut grids = Values::new();
    for (&v, &axis) in vectors.iter().zip(&axes) {
        let along = Shape::known(&Extents::from_elem(1, whole.rank())).with(axis, whole.dims()[axis].clone());
        let v = n.reshape_to(v, along)?;
        grids.push(n.expand_to(v, whole.clone())?);
    }
    Ok(grids)
}
