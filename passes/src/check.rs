//! A check that two graphs compute the same outputs.

use qcc_ir::eval::{Executor, RunError};
use qcc_ir::{Graph, Tensor};

/// Why two graphs cannot be compared.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum CheckError {
    /// One of the graphs cannot be evaluated.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The graphs do not have the same outputs.
    #[error("output {name} is {before} before and {after} after")]
    Output {
        /// The name of the output.
        name: String,
        /// Its type in the first graph.
        before: String,
        /// Its type in the second graph.
        after: String,
    },
}

/// Evaluates both graphs on the same inputs. Returns the largest difference between their outputs, relative to the
/// largest magnitude in that output. Returns infinity if outputs that are not floats differ, or if only one of two
/// numbers is NaN.
///
/// # Errors
/// If a graph cannot be evaluated, or the output types differ.
pub fn check_meaning(before: &Graph, after: &Graph, inputs: &[Tensor]) -> Result<f32, CheckError> {
    let old = Executor::new(before).run(inputs, &mut |_, _| {})?;
    let new = Executor::new(after).run(inputs, &mut |_, _| {})?;
    let absent = "absent".to_string();
    let mut worst = 0.0f32;
    for (i, output) in before.outputs().iter().enumerate() {
        let (Some(a), Some(b)) = (old.get(i), new.get(i)) else {
            return Err(CheckError::Output { name: output.name.to_string(), before: absent.clone(), after: absent });
        };
        if a.ty().shape != b.ty().shape || a.ty().elem.real() != b.ty().elem.real() {
            let (before, after) = (a.ty().to_string(), b.ty().to_string());
            return Err(CheckError::Output { name: output.name.to_string(), before, after });
        }
        worst = worst.max(difference(a, b));
    }
    Ok(worst)
}

fn difference(a: &Tensor, b: &Tensor) -> f32 {
    if a.data() == b.data() {
        return 0.0;
    }
    if !a.ty().elem.real().is_float() {
        return f32::INFINITY;
    }
    let (a, b) = (a.floats(), b.floats());
    let largest = a.iter().filter(|v| v.is_finite()).fold(f32::MIN_POSITIVE, |m, v| m.max(v.abs()));
    let apart = |(&x, &y): (&f32, &f32)| match (x - y).abs() {
        _ if x == y || (x.is_nan() && y.is_nan()) => 0.0,
        d if d.is_nan() => f32::INFINITY,
        d => d / largest,
    };
    a.iter().zip(b.iter()).map(apart).fold(0.0, f32::max)
}
