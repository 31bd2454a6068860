//! Verification that an artefact computes the same as the model.

use qcc_ir::diagnostic::Diagnostic;
use qcc_ir::eval::{Executor, relayout};
use qcc_ir::{Graph, Layout, Tensor};
use qcc_passes::quality::{Hints, OutputQuality, as_inputs};

use crate::data::Samples;
use crate::precision::Precision;

/// The lowest SQNR, in dB, that the precision explains.
fn explained(precision: Precision) -> f64 {
    match precision {
        Precision::Float32 => 60.0,
        Precision::Float16 => 25.0,
        Precision::Int8 | Precision::W8A16 | Precision::W8A32 | Precision::W4A32 => 5.0,
    }
}

/// The minimum agreement, in percent, of outputs without an SQNR.
const AGREEMENT: f64 = 80.0;

/// Compares `model`, as it was imported, with the graph that is written for `target`, on the first readable sample.
///
/// # Errors
/// If an output differs by more than the precision explains, or a graph cannot be evaluated.
pub(crate) fn verify(
    model: &Graph,
    artefact: &Graph,
    target: &str,
    precision: Precision,
    hints: Hints,
    samples: &Samples,
) -> Result<(), Vec<Diagnostic>> {
    let failed = |e: &dyn std::fmt::Display| vec![Diagnostic::error("verify", format!("--verify for {target}: {e}"))];
    let sample = (0..samples.len()).find_map(|i| samples.get(i).ok());
    let sample = sample.ok_or_else(|| failed(&"no sample can be read"))?;
    let run = |g: &Graph| -> Result<Vec<Tensor>, Vec<Diagnostic>> {
        let outputs = Executor::new(g).run(&as_inputs(g, &sample), &mut |_, _| {}).map_err(|e| failed(&e))?;
        let rows = outputs.iter().map(|t| relayout(t, &Layout::row_major(t.ty().rank())));
        rows.collect::<Result<_, _>>().map_err(|e| failed(&e))
    };
    let (expected, found) = (run(model)?, run(artefact)?);
    let mut errors = Vec::new();
    let [expected, found] = [&expected, &found].map(|all| all.iter().map(Some).collect::<Vec<_>>());
    for (i, output) in model.outputs().iter().enumerate() {
        let mut quality = OutputQuality::new(&*output.name);
        quality.add(model, i, hints, &expected, &found);
        let (sqnr, agreement) = (quality.sqnr(), quality.agreement());
        let figure = match (sqnr, agreement) {
            (Some(sqnr), _) if sqnr < explained(precision) => format!("{sqnr:.1} dB"),
            (None, Some(a)) if a.percent < AGREEMENT => format!("{} {:.1} %", a.measure, a.percent),
            _ => continue,
        };
        let message = format!("output {} of the {target} artefact differs from the model: {figure}", quality.name);
        let error = Diagnostic::error("verify", message).with_note("nothing was written");
        errors.push(error.with_help(match precision {
            Precision::Float32 | Precision::Float16 => "this is a fault of qcc: please report it with the model",
            _ => "give more typical samples with --data, or a wider precision",
        }));
    }
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}
