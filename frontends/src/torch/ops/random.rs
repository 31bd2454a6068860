//! Random results, from samples that are inputs of the model.

use qcc_ir::Elem;
use qcc_ir::ops::BinaryFn;

use super::super::node::NodeCx;
use super::Row;
use crate::build::random::{Samples, scaled};
use crate::build::{Build, Values, one};
use crate::refusal::Refusal;

pub(super) const ROWS: &[Row] = &[
    ("bernoulli", bernoulli),
    ("rand", |n| filled(n, Samples::Uniform)),
    ("rand_like", |n| like(n, Samples::Uniform)),
    ("randn", |n| filled(n, Samples::Normal)),
    ("randn_like", |n| like(n, Samples::Normal)),
];

fn filled(n: &mut NodeCx<'_, '_>, of: Samples) -> Result<Values, Refusal> {
    let shape = n.asked_shape("size")?;
    let elem = n.dtype("dtype")?.unwrap_or(Elem::F32);
    let samples = n.samples(of, shape)?;
    one(scaled(n, samples, [0.0, 1.0], elem)?)
}

fn like(n: &mut NodeCx<'_, '_>, of: Samples) -> Result<Values, Refusal> {
    let x = n.input()?;
    let elem = n.dtype("dtype")?.unwrap_or_else(|| n.ty(x).elem.clone());
    let samples = n.samples(of, n.shape(x).clone())?;
    one(scaled(n, samples, [0.0, 1.0], elem)?)
}

/// 1 with the probability of each element, or with `p`, else 0.
fn bernoulli(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let x = n.input()?;
    let elem = n.ty(x).elem.clone();
    let samples = n.samples(Samples::Uniform, n.shape(x).clone())?;
    let p = if n.has("p") {
        let p = n.float("p", 0.5)?;
        n.scalar(p, samples)?
    } else {
        n.cast(x, Elem::F32)?
    };
    let hit = n.binary(BinaryFn::Less, samples, p)?;
    one(n.cast(hit, elem)?)
}
