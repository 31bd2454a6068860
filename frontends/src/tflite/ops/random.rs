//! Random results, from samples that are inputs of the model. The seeds of the file have no meaning for them.

use qcc_formats::tflite::BuiltinOperator as B;

use super::super::node::NodeCx;
use super::Row;
use crate::build::random::{Samples, categories, draws};
use crate::build::{Build, Operands, Values, one};
use crate::refusal::Refusal;

pub(super) const ROWS: &[Row] = &[
    (B::MULTINOMIAL, multinomial),
    (B::RANDOM_STANDARD_NORMAL, |n| samples(n, Samples::Normal)),
    (B::RANDOM_UNIFORM, |n| samples(n, Samples::Uniform)),
];

fn samples(n: &mut NodeCx<'_, '_>, of: Samples) -> Result<Values, Refusal> {
    let shape = n.shape_at(0)?;
    one(n.samples(of, shape)?)
}

/// Categories for each row of logits.
fn multinomial(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let (scores, count) = (n.input(0)?, n.integer(1)?);
    let samples = n.samples(Samples::Uniform, draws(n, scores, count)?)?;
    let category = categories(n, scores, samples)?;
    let to = n.declared(0)?;
    one(n.cast(category, to)?)
}
