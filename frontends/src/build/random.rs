//! Random numbers: the targets have no generators of one kind, so samples are inputs of the model.

use qcc_ir::diagnostic::Diagnostic;
use qcc_ir::ops::{BinaryFn, CumSum, ReduceFn, Softmax};
use qcc_ir::{Dim, Elem, Shape, TensorType, ValueId};

use super::{Build, extent};
use crate::refusal::Refusal;

/// The code of the notes about inputs of random samples.
pub const RANDOM_INPUT: &str = "random-input";

/// What to do where a result is random.
pub(crate) const RANDOM: &str =
    "--random input makes the samples an input of the model; or export the model for inference";

/// A distribution of samples.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Samples {
    /// Numbers from 0 to below 1.
    Uniform,
    /// Numbers of mean 0 and standard deviation 1.
    Normal,
}

impl Samples {
    fn name(self) -> &'static str {
        match self {
            Samples::Uniform => "uniform",
            Samples::Normal => "normal",
        }
    }
}

/// Adds an input of `F32` samples if inputs are `wanted`: its name is that of the node and of the distribution.
pub(crate) fn samples(
    n: &mut impl Build,
    wanted: bool,
    of: Samples,
    shape: Shape,
) -> Result<(ValueId, Diagnostic), Refusal> {
    if !wanted {
        return Err(Refusal::Advised { message: "its result is random".into(), help: RANDOM });
    }
    if shape.dims().iter().any(|d| d.known().is_none() && d.as_symbol().is_none()) {
        return Err(Refusal::Open(shape));
    }
    let name = format!("{}_{}", n.origin().path(), of.name());
    let what = match of {
        Samples::Uniform => "uniform samples from 0 to below 1",
        Samples::Normal => "samples of the standard normal distribution",
    };
    let note = Diagnostic::note(RANDOM_INPUT, format!("input {name} takes {what}: {shape}"));
    Ok((n.graph_mut().add_input(name, TensorType::new(Elem::F32, shape)), note))
}

/// `samples * by + from`, of an element type.
pub(crate) fn scaled(
    n: &mut impl Build,
    mut samples: ValueId,
    [from, by]: [f64; 2],
    elem: Elem,
) -> Result<ValueId, Refusal> {
    for (f, number, neutral) in [(BinaryFn::Mul, by, 1.0), (BinaryFn::Add, from, 0.0)] {
        if number != neutral {
            let number = n.scalar(number, samples)?;
            samples = n.binary(f, samples, number)?;
        }
    }
    n.cast(samples, elem)
}

/// The shape of the samples for so many categories of each row of scores.
pub(crate) fn draws(n: &impl Build, scores: ValueId, count: i64) -> Result<Shape, Refusal> {
    let Some(rows) = n.shape(scores).dims().first().cloned() else {
        return Err(Refusal::Invalid(format!("scores {}; expected rows of categories", n.ty(scores))));
    };
    Ok([rows, Dim::Known(extent(count)?)].into_iter().collect())
}

/// The category of each of the uniform samples `[rows, count]`, whose probabilities are the softmax of `[rows, categories]`.
pub(crate) fn categories(n: &mut impl Build, scores: ValueId, samples: ValueId) -> Result<ValueId, Refusal> {
    let [scored, sampled] = [scores, samples].map(|v| n.shape(v).dims().to_vec());
    let ([rows, categories], [_, count]) = (&scored[..], &sampled[..]) else {
        return Err(Refusal::Invalid(format!("scores {}; expected rows of categories", n.ty(scores))));
    };
    let last = categories.known().and_then(|count| count.checked_sub(1));
    let last = last.ok_or_else(|| Refusal::Open(n.shape(scores).clone()))?;
    let likely = n.add(Softmax { axis: 1, log: false }, &[scores])?;
    let below = n.add(CumSum { axis: 1, exclusive: false, reverse: false }, &[likely])?;
    let below = n.reshape_to(below, [rows.clone(), Dim::Known(1), categories.clone()].into_iter().collect())?;
    let at = n.reshape_to(samples, [rows.clone(), count.clone(), Dim::Known(1)].into_iter().collect())?;
    let passed = n.binary(BinaryFn::LessEqual, below, at)?;
    let passed = n.cast(passed, Elem::I64)?;
    let category = n.reduce(ReduceFn::Sum, passed, &[2], false)?;
    // Rounding may leave the sum of all below 1.
    let last = n.scalar(last as f64, category)?;
    n.binary(BinaryFn::Min, category, last)
}
