//! Running two models on the same samples.

use qcc_ir::diagnostic::{Diagnostic, Severity};
use qcc_ir::error::EvalError;
use qcc_ir::eval::{Executor, evaluate_node};
use qcc_ir::ops::{Cast, Extents, Op, Transpose};
use qcc_ir::{Elem, Graph, Tensor, ValueId};
use qcc_passes::fidelity::Distance;
use rayon::prelude::*;

use super::interface::Wire;
use crate::compiler::Failure;
use crate::data::Samples;
use crate::memory;

/// Of an output and one sample: the distance, and how many rows agree of how many.
pub(super) type Found = (Distance, Option<(usize, usize)>);

/// Evaluates both models on each sample. Samples that cannot be read are warnings.
pub(super) fn evaluate(
    [a, b]: [&Graph; 2],
    inputs: &[Wire],
    outputs: &[Wire],
    samples: &Samples,
) -> Result<(Vec<Vec<Found>>, Vec<Diagnostic>), Failure> {
    let (first, second) = (Executor::new(a), Executor::new(b));
    let failed = |e: &dyn std::fmt::Display| {
        Failure::from(Diagnostic::error("evaluation", format!("a model fails on a sample: {e}")))
    };
    let one = |i: usize| -> Result<Result<Vec<Found>, Box<Diagnostic>>, Failure> {
        let sample = match samples.get(i) {
            Ok(sample) => sample,
            Err(e) => return Ok(Err(Box::new(Diagnostic { severity: Severity::Warning, ..Diagnostic::from(&e) }))),
        };
        let as_is = |i| Wire { at: i, perm: None };
        let own: Vec<Wire> = (0..sample.len()).map(as_is).collect();
        let want =
            first.run(&fed(a, &sample, &own).map_err(|e| failed(&e))?, &mut |_, _| {}).map_err(|e| failed(&e))?;
        let have =
            second.run(&fed(b, &sample, inputs).map_err(|e| failed(&e))?, &mut |_, _| {}).map_err(|e| failed(&e))?;
        let found = want.iter().zip(outputs).map(|(truth, wire)| {
            let other = moved(&have[wire.at], wire.perm.as_ref())?;
            Ok((Distance::of(&truth.reals(), &other.reals()), agreeing(truth, &other)))
        });
        let found: Result<Vec<Found>, EvalError> = found.collect();
        Ok(Ok(found.map_err(|e| failed(&e))?))
    };
    let at_once = match (first.peak(), second.peak()) {
        (Some(x), Some(y)) => memory::evaluations(a, x, y.bytes)?.min(rayon::current_num_threads()),
        _ => rayon::current_num_threads(),
    };
    let (mut runs, mut unread) = (Vec::new(), Vec::new());
    let some = |first| first..samples.len().min(first + at_once);
    let batches = (0..samples.len()).step_by(at_once).map(some);
    let batches = batches.map(|some| some.into_par_iter().map(one).collect::<Result<Vec<_>, Failure>>());
    for result in batches.collect::<Result<Vec<_>, Failure>>()?.into_iter().flatten() {
        match result {
            Ok(run) => runs.push(run),
            Err(warning) => unread.push(*warning),
        }
    }
    Ok((runs, unread))
}

fn moved(t: &Tensor, perm: Option<&Extents>) -> Result<Tensor, EvalError> {
    let Some(perm) = perm else { return Ok(t.clone()) };
    let op = Op::from(Transpose { perm: perm.clone() });
    let mut ty = op.infer(&[&t.ty().real()])?.swap_remove(0);
    ty.elem = t.ty().elem.clone();
    Ok(evaluate_node(&op, &[t], &[ty])?.swap_remove(0))
}

/// A sample as the inputs of a graph, in the elements that it declares.
fn fed(g: &Graph, sample: &[Tensor], wires: &[Wire]) -> Result<Vec<Tensor>, EvalError> {
    let one = |(v, wire): (ValueId, &Wire)| {
        let t = moved(&sample[wire.at], wire.perm.as_ref())?;
        match (&g.ty(v).elem, &t.ty().elem) {
            (to, from) if to == from => Ok(t),
            (Elem::Grid(grid), Elem::F32) => Ok(t.quantized(grid)),
            (to, _) if to.grid().is_none() => {
                let ty = t.ty().with_elem(to.clone());
                Ok(evaluate_node(&Cast { to: to.clone() }.into(), &[&t], &[ty])?.swap_remove(0))
            }
            _ => Ok(t),
        }
    };
    g.inputs().zip(wires).map(one).collect()
}

/// Rows of real numbers whose largest element has the same place, and all rows.
fn agreeing(a: &Tensor, b: &Tensor) -> Option<(usize, usize)> {
    let dims = a.dims();
    let classes = *dims.last()?;
    if dims.len() > 2 || classes < 2 || a.ty().elem.real() != Elem::F32 {
        return None;
    }
    let (x, y) = (a.reals(), b.reals());
    let rows = x.chunks_exact(classes).zip(y.chunks_exact(classes));
    Some((rows.filter(|(x, y)| largest(x) == largest(y)).count(), x.len() / classes))
}

/// The place of the first of the largest elements.
fn largest(row: &[f32]) -> usize {
    (1..row.len()).fold(0, |best, i| if row[i] > row[best] { i } else { best })
}

#[cfg(test)]
mod tests {
    use qcc_ir::Shape;

    use super::*;

    #[test]
    fn rows_agree_on_their_largest_element() {
        let t = |dims: &[usize], values: &[f32]| Tensor::from_vec(Shape::known(dims), values.to_vec());
        let a = t(&[2, 3], &[0.0, 2.0, 1.0, 5.0, 4.0, 5.0]);
        assert_eq!(agreeing(&a, &t(&[2, 3], &[0.0, 9.0, 1.0, 0.0, 0.0, 1.0])), Some((1, 2)));
        assert_eq!(agreeing(&t(&[1], &[1.0]), &t(&[1], &[1.0])), None);
        assert_eq!(agreeing(&t(&[1, 2, 1], &[1.0, 0.0]), &t(&[1, 2, 1], &[1.0, 0.0])), None);
    }
}
