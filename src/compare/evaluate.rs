//! Evaluation of two models on the same samples.

use qcc_ir::diagnostic::{Diagnostic, Severity};
use qcc_ir::error::EvalError;
use qcc_ir::eval::{Executor, evaluate_node};
use qcc_ir::ops::{Extents, Op, Transpose};
use qcc_ir::{Graph, Tensor};
use qcc_passes::quality::{Hints, OutputQuality, as_inputs};
use rayon::prelude::*;

use super::interface::Wire;
use crate::data::Samples;
use crate::memory;
use crate::observer::Observer;
use crate::outcome::Failure;

/// Evaluates both models on each sample. Returns the comparison of each output of the first model, the number of
/// samples, and warnings for samples that cannot be read.
pub(super) fn evaluate(
    [a, b]: [&Graph; 2],
    inputs: &[Wire],
    outputs: &[Wire],
    hints: Hints,
    samples: &Samples,
    observer: &mut dyn Observer,
) -> Result<(Vec<OutputQuality>, usize, Vec<Diagnostic>), Failure> {
    let (first, second) = (Executor::new(a), Executor::new(b));
    let failed = |e: &dyn std::fmt::Display| {
        Failure::from(Diagnostic::error("evaluation", format!("a model fails on a sample: {e}")))
    };
    let run = |sample: &[Tensor]| -> Result<[Vec<Option<Tensor>>; 2], Failure> {
        let moved_in = inputs.iter().map(|w| moved(&sample[w.at], w.perm.as_ref())).collect::<Result<Vec<_>, _>>();
        let moved_in = moved_in.map_err(|e| failed(&e))?;
        let expected = first.run_known(&as_inputs(a, sample), &mut |_, _| {}).map_err(|e| failed(&e))?;
        let found = second.run_known(&as_inputs(b, &moved_in), &mut |_, _| {}).map_err(|e| failed(&e))?;
        let counterpart = |wire: &Wire| {
            let found = found[wire.at].as_ref();
            found.map(|found| moved(found, wire.perm.as_ref())).transpose()
        };
        let found: Result<Vec<_>, EvalError> = outputs.iter().map(counterpart).collect();
        Ok([expected, found.map_err(|e| failed(&e))?])
    };
    let mut all: Vec<OutputQuality> = a.outputs().iter().map(|o| OutputQuality::new(&*o.name)).collect();
    let (mut read, mut unread) = (0, Vec::new());
    let at_once = match (first.peak(), second.peak()) {
        (Some(x), Some(y)) => memory::evaluations(a, x, y.bytes)?.min(rayon::current_num_threads()),
        _ => rayon::current_num_threads(),
    };
    observer.stage("compare");
    for start in (0..samples.len()).step_by(at_once) {
        if observer.cancelled() {
            return Err(Failure::Cancelled);
        }
        let some = (start..samples.len().min(start + at_once)).into_par_iter();
        let runs: Vec<_> = some.map(|i| samples.get(i).map(|sample| run(&sample))).collect();
        for result in runs {
            match result {
                Ok(outputs) => {
                    read += 1;
                    let outputs = outputs?;
                    let [expected, found] =
                        outputs.each_ref().map(|all| all.iter().map(Option::as_ref).collect::<Vec<_>>());
                    for (i, quality) in all.iter_mut().enumerate() {
                        quality.add(a, i, hints, &expected, &found);
                    }
                }
                Err(e) => unread.push(Diagnostic { severity: Severity::Warning, ..Diagnostic::from(&e) }),
            }
        }
        observer.samples(samples.len().min(start + at_once), samples.len());
    }
    Ok((all, read, unread))
}

fn moved(t: &Tensor, perm: Option<&Extents>) -> Result<Tensor, EvalError> {
    let Some(perm) = perm else { return Ok(t.clone()) };
    let op = Op::from(Transpose { perm: perm.clone() });
    let mut ty = op.infer(&[&t.ty().real()])?.swap_remove(0);
    ty.elem = t.ty().elem.clone();
    Ok(evaluate_node(&op, &[t], &[ty])?.swap_remove(0))
}
