//! Operators without operands, or that only use the types of their operands.

use qcc_ir::ops::{Expand, Extents};
use qcc_ir::{Elem, Shape};

use super::super::node::NodeCx;
use super::super::schema::Number;
use super::Row;
use crate::build::{Build, Values, extent, one};
use crate::refusal::Refusal;

pub(super) const ROWS: &[Row] = &[
    ("arange", arange),
    ("empty", |n| filled(n, 0.0)),
    ("empty_like", |n| filled_like(n, 0.0)),
    ("eye", eye),
    ("full", |n| {
        let value = fill_value(n)?;
        full(n, value)
    }),
    ("full_like", |n| {
        let value = fill_value(n)?;
        like(n, value)
    }),
    ("linspace", linspace),
    ("meshgrid", meshgrid),
    ("new_empty", |n| filled(n, 0.0)),
    ("new_full", |n| {
        let value = fill_value(n)?;
        full(n, value)
    }),
    ("new_ones", |n| filled(n, 1.0)),
    ("new_zeros", |n| filled(n, 0.0)),
    ("ones", |n| filled(n, 1.0)),
    ("ones_like", |n| filled_like(n, 1.0)),
    ("scalar_tensor", |n| {
        let s = n.number("s")?.ok_or_else(|| n.missing("s"))?;
        let elem = n.dtype("dtype")?.unwrap_or(Elem::F32);
        one(n.constant_of(s, &elem)?)
    }),
    ("zero", |n| filled_like(n, 0.0)),
    ("zeros", |n| filled(n, 0.0)),
    ("zeros_like", |n| filled_like(n, 0.0)),
];

fn fill_value(n: &mut NodeCx<'_, '_>) -> Result<Number, Refusal> {
    n.number("fill_value")?.ok_or_else(|| n.missing("fill_value"))
}

/// Constant integers of the requested element type.
fn filled(n: &mut NodeCx<'_, '_>, value: f64) -> Result<Values, Refusal> {
    if !n.has("self") && !n.has("dtype") {
        return full(n, Number::Float(value));
    }
    full(n, Number::Int(value as i64))
}

/// The element type is the requested one, that of `self`, or that of the number.
fn full(n: &mut NodeCx<'_, '_>, value: Number) -> Result<Values, Refusal> {
    let dims = n.extents("size")?;
    let elem = match (n.dtype("dtype")?, n.optional("self")?) {
        (Some(elem), _) => elem,
        (None, Some(x)) => n.ty(x).elem.clone(),
        (None, None) => match value {
            Number::Int(_) => Elem::I64,
            Number::Float(_) => Elem::F32,
            Number::Bool(_) => Elem::Bool,
        },
    };
    spread(n, value, &elem, &dims)
}

fn filled_like(n: &mut NodeCx<'_, '_>, value: f64) -> Result<Values, Refusal> {
    like(n, Number::Float(value))
}

fn like(n: &mut NodeCx<'_, '_>, value: Number) -> Result<Values, Refusal> {
    let x = n.input()?;
    let elem = n.dtype("dtype")?.unwrap_or_else(|| n.ty(x).elem.clone());
    spread(n, value, &elem, &n.dims(x)?)
}

fn spread(n: &mut NodeCx<'_, '_>, value: Number, elem: &Elem, dims: &[usize]) -> Result<Values, Refusal> {
    let value = n.constant_of(value, elem)?;
    one(if dims.is_empty() { value } else { n.add(Expand { shape: Shape::known(dims) }, &[value])? })
}

/// start, start + step, .. excluding the end; floats if one of the three is a float.
fn arange(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let start = n.number("start")?.unwrap_or(Number::Int(0));
    let end = n.number("end")?.ok_or_else(|| n.missing("end"))?;
    let step = n.number("step")?.unwrap_or(Number::Int(1));
    let whole = [start, end, step].iter().all(|t| !matches!(t, Number::Float(_)));
    let elem = n.dtype("dtype")?.unwrap_or(if whole { Elem::I64 } else { Elem::F32 });
    let (start, end, step) = (start.float(), end.float(), step.float());
    let count = ((end - start) / step).ceil().max(0.0);
    if !count.is_finite() || [start, end].iter().any(|v| v.abs() >= 9e15) {
        return Err(Refusal::Unsupported(format!("a sequence from {start} to {end} is not supported")));
    }
    sequence(n, &elem, count as usize, |i| start + i as f64 * step)
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
    let (start, end) = (n.float("start", 0.0)?, n.float("end", 0.0)?);
    let steps = n.required_int("steps")?;
    let steps = extent(steps)?;
    let elem = n.dtype("dtype")?.unwrap_or(Elem::F32);
    if elem.is_integer() {
        return Err(Refusal::Unsupported(format!("{steps} steps of {elem} are not supported")));
    }
    let step = if steps > 1 { (end - start) / (steps as f64 - 1.0) } else { 0.0 };
    let value = |i: usize| {
        if i < steps / 2 || steps == 1 { start + step * i as f64 } else { end - step * (steps - 1 - i) as f64 }
    };
    sequence(n, &elem, steps, value)
}

fn eye(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let rows = n.required_int("n")?;
    let columns = n.int("m", rows)?;
    let (rows, columns) = (extent(rows)?, extent(columns)?);
    let elem = n.dtype("dtype")?.unwrap_or(Elem::F32);
    let eye = n.table_of(&elem, &[rows, columns], |i| u8::from(i / columns == i % columns).into())?;
    one(eye.ok_or_else(|| Refusal::Unsupported(format!("{elem} has no 0 and 1")))?)
}

/// Each vector broadcast along its own axis of the mesh.
fn meshgrid(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let vectors = n.tensors("tensors")?;
    let indexing = n.text("indexing", "ij")?;
    let mut dims: Extents = vectors.iter().map(|&v| Ok(n.dims(v)?.iter().product())).collect::<Result<_, Refusal>>()?;
    let mut axes: Extents = (0..dims.len()).collect();
    if indexing == "xy" && dims.len() > 1 {
        dims.swap(0, 1);
        axes.swap(0, 1);
    }
    let mut qparams = Values::new();
    for (&v, &axis) in vectors.iter().zip(&axes) {
        let mut along = Extents::from_elem(1, dims.len());
        along[axis] = dims[axis];
        let v = n.reshape(v, &along)?;
        qparams.push(n.expand(v, &dims)?);
    }
    Ok(qparams)
}
