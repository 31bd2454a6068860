//! Random results, from samples that are inputs of the model. The seed of a runtime's own generator has no meaning for them.

use qcc_ir::ops::BinaryFn;
use qcc_ir::{Elem, Shape, ValueId};

use super::super::node::NodeCx;
use super::Row;
use crate::build::random::{Samples, categories, draws, scaled};
use crate::build::{Build, Values, extents, one};
use crate::refusal::Refusal;

pub(super) const ROWS: &[Row] = &[
    ("Bernoulli", bernoulli),
    ("Multinomial", multinomial),
    ("RandomNormal", |n| normal(n, given)),
    ("RandomNormalLike", |n| normal(n, like)),
    ("RandomUniform", |n| uniform(n, given)),
    ("RandomUniformLike", |n| uniform(n, like)),
];

/// The shape and the element type of the result.
type Form = fn(&mut NodeCx<'_, '_>) -> Result<(Shape, Elem), Refusal>;

fn given(n: &mut NodeCx<'_, '_>) -> Result<(Shape, Elem), Refusal> {
    let missing = Refusal::Attribute { name: "shape".into(), problem: "is missing" };
    let shape = Shape::known(&extents(n.ints("shape")?.ok_or(missing)?)?);
    Ok((shape, element(n, Elem::F32)?))
}

fn like(n: &mut NodeCx<'_, '_>) -> Result<(Shape, Elem), Refusal> {
    let x = n.input(0)?;
    let own = n.ty(x).elem.clone();
    Ok((n.shape(x).clone(), element(n, own)?))
}

fn element(n: &mut NodeCx<'_, '_>, default: Elem) -> Result<Elem, Refusal> {
    n.optional_float("seed")?;
    match n.optional_int("dtype")? {
        Some(dtype) => n.elem(dtype),
        None => Ok(default),
    }
}

fn normal(n: &mut NodeCx<'_, '_>, form: Form) -> Result<Values, Refusal> {
    let (shape, elem) = form(n)?;
    let (mean, scale) = (n.float("mean", 0.0)?, n.float("scale", 1.0)?);
    let samples = n.samples(Samples::Normal, shape)?;
    one(scaled(n, samples, [mean.into(), scale.into()], elem)?)
}

fn uniform(n: &mut NodeCx<'_, '_>, form: Form) -> Result<Values, Refusal> {
    let (shape, elem) = form(n)?;
    let (low, high) = (n.float("low", 0.0)?, n.float("high", 1.0)?);
    let samples = n.samples(Samples::Uniform, shape)?;
    one(scaled(n, samples, [low.into(), f64::from(high) - f64::from(low)], elem)?)
}

/// 1 with the probability of each element, else 0.
fn bernoulli(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let (shape, elem) = like(n)?;
    let p = n.input(0)?;
    let samples = n.samples(Samples::Uniform, shape)?;
    let samples = n.cast(samples, n.ty(p).elem.clone())?;
    let hit = n.binary(BinaryFn::Less, samples, p)?;
    one(n.cast(hit, elem)?)
}

fn multinomial(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let scores = n.input(0)?;
    let elem = element(n, Elem::I32)?;
    let count = n.int("sample_size", 1)?;
    let samples = n.samples(Samples::Uniform, draws(n, scores, count)?)?;
    let category = categories(n, scores, samples)?;
    one(n.cast(category, elem)?)
}

/// Dropout in training mode: which elements are kept is random, and these are scaled.
pub(super) fn dropped(n: &mut NodeCx<'_, '_>, x: ValueId, ratio: f32) -> Result<Values, Refusal> {
    let samples = n.samples(Samples::Uniform, n.shape(x).clone())?;
    let least = n.scalar(ratio.into(), samples)?;
    let mask = n.binary(BinaryFn::GreaterEqual, samples, least)?;
    let kept = n.cast(mask, n.ty(x).elem.clone())?;
    let kept = n.binary(BinaryFn::Mul, x, kept)?;
    let scale = n.scalar(1.0 / (1.0 - f64::from(ratio)), kept)?;
    Ok(Values::from_slice(&[n.binary(BinaryFn::Mul, kept, scale)?, mask]))
}
