//! Linear models of `ai.onnx.ml` as tensor operators, and what its models share.

use qcc_ir::diagnostic::{Diagnostic, list};
use qcc_ir::ops::{ArgReduce, BinaryFn, Gather, MatMul, ReduceFn, Select, Softmax, UnaryFn};
use qcc_ir::{Dim, Elem, Shape, Tensor, ValueId};

use super::super::node::NodeCx;
use super::Row;
use crate::build::{Build, Values, extent, one};
use crate::refusal::Refusal;

pub(super) const ROWS: &[Row] =
    &[("ai.onnx.ml.LinearClassifier", linear_classifier), ("ai.onnx.ml.LinearRegressor", linear_regressor)];

/// The operand as floats `[N, F]`.
pub(super) fn features(n: &mut NodeCx<'_, '_>) -> Result<ValueId, Refusal> {
    let x = n.input(0)?;
    let x = n.cast(x, Elem::F32)?;
    match n.rank(x) {
        1 => n.reshape_to(x, [Dim::Known(1), n.shape(x).dims()[0].clone()].into_iter().collect()),
        2 => Ok(x),
        _ => Err(Refusal::Invalid(format!("features {}", n.ty(x)))),
    }
}

pub(super) fn missing(name: &str) -> Refusal {
    Refusal::Attribute { name: name.into(), problem: "is missing" }
}

pub(super) fn constant(n: &mut NodeCx<'_, '_>, dims: &[usize], values: Vec<f32>) -> ValueId {
    n.add_constant(Tensor::from_vec(Shape::known(dims), values))
}

/// x * coefficients^T + intercepts: `[N, targets]`.
fn scores(n: &mut NodeCx<'_, '_>, targets: usize) -> Result<ValueId, Refusal> {
    let x = features(n)?;
    let coefficients = n.floats("coefficients")?.ok_or_else(|| missing("coefficients"))?.to_vec();
    let intercepts = n.floats("intercepts")?.map(<[f32]>::to_vec);
    let count = coefficients.len();
    if targets == 0 || !count.is_multiple_of(targets) || intercepts.as_ref().is_some_and(|i| i.len() != targets) {
        return Err(Refusal::Invalid(format!("{count} coefficients for {targets} results")));
    }
    let weight = constant(n, &[targets, count / targets], coefficients);
    let mut operands = vec![x, weight];
    operands.extend(intercepts.map(|i| constant(n, &[targets], i)));
    n.add(MatMul { transpose_b: true }, &operands)
}

fn linear_regressor(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let targets = n.int("targets", 1)?;
    let y = scores(n, extent(targets)?)?;
    one(transformed(n, y)?)
}

/// The function that `post_transform` names.
pub(super) fn transformed(n: &mut NodeCx<'_, '_>, y: ValueId) -> Result<ValueId, Refusal> {
    match n.string("post_transform", "NONE")? {
        "NONE" => Ok(y),
        "SOFTMAX" => n.add(Softmax { axis: 1, log: false }, &[y]),
        "LOGISTIC" => n.unary(UnaryFn::Sigmoid, y),
        other => Err(Refusal::Unsupported(format!("post_transform {other} is not supported"))),
    }
}

/// The labels of classes. No target has strings: their indices stand for them, and a warning lists them.
pub(super) fn labels(n: &mut NodeCx<'_, '_>, name: &str) -> Result<Vec<i64>, Refusal> {
    if let Some(labels) = n.ints(name)?.filter(|labels| !labels.is_empty()) {
        return Ok(labels.to_vec());
    }
    let strings = n.strings("classlabels_strings")?.filter(|labels| !labels.is_empty());
    let strings = strings.ok_or_else(|| missing(name))?;
    let message = format!("labels are strings; their index is given, of {}", list(&strings));
    n.note_here(Diagnostic::warning("label-as-index", message));
    Ok((0..strings.len() as i64).collect())
}

/// The label of the largest score, `[N]`.
pub(super) fn label(n: &mut NodeCx<'_, '_>, scores: ValueId, labels: Vec<i64>) -> Result<ValueId, Refusal> {
    let index = n.add(ArgReduce { axis: 1, largest: true, keep: false }, &[scores])?;
    label_at(n, index, labels)
}

/// The labels at these indices.
pub(super) fn label_at(n: &mut NodeCx<'_, '_>, index: ValueId, labels: Vec<i64>) -> Result<ValueId, Refusal> {
    if labels.iter().enumerate().all(|(i, &label)| label == i as i64) {
        return Ok(index);
    }
    let labels = n.add_constant(Tensor::from_vec(Shape::known(&[labels.len()]), labels));
    n.add(Gather { axis: 0 }, &[labels, index])
}

/// How a classifier of two classes gives the first score, where it computes one alone.
pub(super) struct First {
    /// The class whose score it computes.
    pub(super) computed: usize,
    /// The score of class 0 is this factor times that of class 1, plus this offset.
    pub(super) factor: f32,
    pub(super) offset: f32,
    /// Class 1 is the result where its score is above this.
    pub(super) least: f32,
}

/// The label and both scores of two classes, from the score `[N, 1]` of one, as ONNX Runtime gives them.
pub(super) fn two_classes(
    n: &mut NodeCx<'_, '_>,
    score: ValueId,
    first: &First,
    labels: &[i64],
) -> Result<Values, Refusal> {
    let label = larger(n, score, first.least, labels)?;
    let factors = constant(n, &[2], vec![first.factor, 1.0]);
    let both = n.binary(BinaryFn::Mul, score, factors)?;
    let both = match n.string("post_transform", "NONE")? {
        "NONE" | "SOFTMAX" if first.computed == 0 => {
            let offsets = constant(n, &[2], vec![first.offset, 0.0]);
            n.binary(BinaryFn::Add, both, offsets)?
        }
        _ => transformed(n, both)?,
    };
    Ok(Values::from_iter([label, both]))
}

/// The second label where the score `[N, 1]` is above `least`, else the first: `[N]`.
pub(super) fn larger(n: &mut NodeCx<'_, '_>, score: ValueId, least: f32, labels: &[i64]) -> Result<ValueId, Refusal> {
    let score = n.reduce(ReduceFn::Sum, score, &[1], false)?;
    let least = n.scalar(least.into(), score)?;
    let above = n.binary(BinaryFn::Greater, score, least)?;
    let [no, yes] = [labels[0], labels[1]].map(|l| n.add_constant(Tensor::from_vec(Shape::known(&[]), vec![l])));
    n.add(Select {}, &[above, yes, no])
}

fn linear_classifier(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let labels = labels(n, "classlabels_ints")?;
    n.int("multi_class", 0)?;
    let scored = n.floats("intercepts")?.map_or(labels.len(), <[f32]>::len);
    if labels.len() == 2 && scored == 1 {
        let score = scores(n, 1)?;
        return two_classes(n, score, &First { computed: 0, factor: -1.0, offset: 1.0, least: 0.0 }, &labels);
    }
    if scored != labels.len() || scored < 2 {
        return Err(Refusal::Unsupported(format!("{scored} scores for {} classes are not supported", labels.len())));
    }
    let y = scores(n, labels.len())?;
    let label = label(n, y, labels)?;
    Ok(Values::from_iter([label, transformed(n, y)?]))
}
