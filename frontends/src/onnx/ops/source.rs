//! Operators without operands, or that only use the types of their operands.

use qcc_ir::ops::{BinaryFn, Expand, Extents};
use qcc_ir::{Dim, Elem, Expr, Shape, Tensor};

use super::super::node::NodeCx;
use super::Row;
use crate::build::computed::shape_of;
use crate::build::index::beside_diagonal;
use crate::build::range::range;
use crate::build::{Build, Operands, Values, extent, one};
use crate::refusal::Refusal;

pub(super) const ROWS: &[Row] = &[
    ("BlackmanWindow", |n| window(n, [0.42, -0.5, 0.08])),
    ("Constant", constant),
    ("ConstantOfShape", constant_of_shape),
    ("EyeLike", eye_like),
    ("HammingWindow", |n| window(n, [25.0 / 46.0, -21.0 / 46.0, 0.0])),
    ("HannWindow", |n| window(n, [0.5, -0.5, 0.0])),
    ("Range", |n| {
        let terms = [n.input(0)?, n.input(1)?, n.input(2)?];
        one(range(n, terms)?)
    }),
    ("Shape", shape),
    ("Size", |n| {
        let x = n.input(0)?;
        let count = Shape::count(n.shape(x).dims()).map(|count| count.expr());
        let count = count.ok_or_else(|| Refusal::Invalid(format!("{} has too many elements", n.ty(x))))?;
        one(n.add_whole(vec![count], Extents::new())?)
    }),
];

/// The sum of `factors[i] * cos(2 pi i k / period)`. The period is the size of a periodic window, else one less.
fn window(n: &mut NodeCx<'_, '_>, factors: [f64; 3]) -> Result<Values, Refusal> {
    let size = match n.integers(0)?.as_slice() {
        &[size] => extent(size)?,
        other => return Err(Refusal::Invalid(format!("{} sizes of a window", other.len()))),
    };
    let period = if n.flag("periodic", true)? { size } else { size.saturating_sub(1) }.max(1);
    let to = match n.optional_int("output_datatype")? {
        Some(code) => n.elem(code)?,
        None => Elem::F32,
    };
    if !to.is_float() {
        return Err(Refusal::Unsupported(format!("a window of {to} is not supported")));
    }
    let angle = |k: usize| std::f64::consts::TAU * k as f64 / period as f64;
    let value = |k: usize| factors.iter().enumerate().map(|(i, f)| f * libm::cos(angle(k) * i as f64)).sum::<f64>();
    let window = n.table_of(&to, &[size], value)?;
    one(window.ok_or_else(|| Refusal::Invalid(format!("a window of {to}")))?)
}

fn constant(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    if let Some(value) = n.tensor_constant("value")? {
        return one(value);
    }
    let tensor = if let Some(v) = n.optional_float("value_float")? {
        Tensor::scalar(v)
    } else if let Some(v) = n.floats("value_floats")? {
        Tensor::from_vec(Shape::known(&[v.len()]), v.to_vec())
    } else if let Some(v) = n.optional_int("value_int")? {
        Tensor::scalar(v)
    } else if let Some(v) = n.ints("value_ints")? {
        Tensor::from_vec(Shape::known(&[v.len()]), v.to_vec())
    } else {
        return Err(Refusal::Unsupported("a constant that is neither tensor, number nor numbers".into()));
    };
    one(n.add_constant(tensor))
}

fn constant_of_shape(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let shape = shape_of(&n.extents(0)?)?;
    let value = n.tensor("value")?.unwrap_or_else(|| Tensor::from_vec(Shape::known(&[1]), vec![0f32]));
    if value.len() != 1 {
        return Err(Refusal::Invalid(format!("a value of type {}; expected one element", value.ty())));
    }
    let value = n.add_constant(value);
    let scalar = n.reshape(value, &[])?;
    if shape.rank() == 0 { one(scalar) } else { one(n.add(Expand { shape }, &[scalar])?) }
}

fn eye_like(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let x = n.input(0)?;
    let k = n.int("k", 0)?;
    let elem = match n.optional_int("dtype")? {
        Some(dtype) => n.elem(dtype)?,
        None => n.ty(x).elem.clone(),
    };
    if n.rank(x) != 2 {
        return Err(Refusal::Invalid(format!("{} is no matrix", n.ty(x))));
    }
    if n.shape(x).is_open() {
        let shape = n.shape(x).clone();
        let on = beside_diagonal(n, [&shape.dims()[0], &shape.dims()[1]], k, BinaryFn::Equal)?;
        return one(n.cast(on, elem)?);
    }
    let dims = n.dims(x)?;
    let (rows, columns) = (dims[0], dims[1]);
    let on = |i: usize| ((i % columns) as i64).saturating_sub((i / columns) as i64) == k;
    let eye = n.table_of(&elem, &[rows, columns], |i| u8::from(on(i)).into())?;
    one(eye.ok_or_else(|| Refusal::Invalid(format!("{elem} has no 0 and 1")))?)
}

/// The extents from `start` to `end`, which are clamped to the rank.
fn shape(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let x = n.input(0)?;
    let dims = n.shape(x).dims().to_vec();
    let rank = dims.len() as i64;
    let limit = |at: i64| (if at < 0 { at.saturating_add(rank) } else { at }).clamp(0, rank) as usize;
    let (start, end) = if n.opset() < 15 { (0, rank) } else { (n.int("start", 0)?, n.int("end", rank)?) };
    let chosen: &[Dim] = dims.get(limit(start)..limit(end)).unwrap_or(&[]);
    let values: Vec<Expr> = chosen.iter().map(Dim::expr).collect();
    let count = values.len();
    one(n.add_whole(values, Extents::from_elem(count, 1))?)
}
