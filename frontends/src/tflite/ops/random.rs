//! Random results, from samples that are inputs of the model. The seeds of the file have no meaning for them.

use qcc_formats::tflite::BuiltinOperator as B;
use qcc_ir::Dim;

use super::super::node::NodeCx;
use super::Row;
use crate::build::random::{Samples, categories};
use crate::build::{Build, Operands, Values, extent, one};
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
    let rows = n.shape(scores).dims().first().cloned();
    let rows = rows.ok_or_else(|| Refusal::Invalid(format!("scores {}; expected rows of categories", n.ty(scores))))?;
    let samples = n.samples(Samples::Uniform, [rows, Dim::Known(extent(count)?)].into_iter().collect())?;
    let category = categories(n, scores, samples)?;
    let to = n.declared(0)?;
    one(n.cast(category, to)?)
}
