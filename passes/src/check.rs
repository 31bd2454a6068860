//! Whether two graphs mean the same.

use qcc_ir::eval::{Executor, RunError};
use qcc_ir::{Graph, Tensor};

/// Why two graphs cannot be compared.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum CheckError {
    /// One of them cannot be run.
    #[error(transparent)]
    Run(#[from] RunError),
    /// They do not give the same outputs.
    #[error("output {name} is {before} before and {after} after")]
    Output {
        /// Name of the output.
        name: String,
        /// Its type before.
        before: String,
        /// Its type after.
        after: String,
    },
}

/// Runs both graphs on the same inputs. Gives the largest difference between their outputs, relative to the largest
/// magnitude in that output; infinity where numbers that are no floats differ, or where just one is no number.
///
/// # Errors
/// Where a graph cannot be run, or the outputs are not of the same types.
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
    let (a, b) = (a.reals(), b.reals());
    let largest = a.iter().filter(|v| v.is_finite()).fold(f32::MIN_POSITIVE, |m, v| m.max(v.abs()));
    let apart = |(&x, &y): (&f32, &f32)| match (x - y).abs() {
        _ if x == y || (x.is_nan() && y.is_nan()) => 0.0,
        d if d.is_nan() => f32::INFINITY,
        d => d / largest,
    };
    a.iter().zip(b.iter()).map(apart).fold(0.0, f32::max)
}
