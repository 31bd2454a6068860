//! Evaluation of samples, several at once.

use std::ops::ControlFlow;

use qcc_ir::Tensor;
use qcc_ir::eval::RunError;
use rayon::prelude::*;

use crate::SharedGraph;

/// Calls `of` for samples `0..count`, as many at once as `joint` evaluates, except those that `sample` skips. `done` is
/// called with the results of each batch, in order, and the number of samples so far; it may stop early. Returns true
/// if it did not.
pub(super) fn in_batches<T: Send>(
    joint: &SharedGraph,
    count: usize,
    sample: impl Fn(usize) -> Option<Vec<Tensor>> + Sync,
    of: impl Fn(Vec<Tensor>) -> Result<T, RunError> + Sync,
    done: &mut dyn FnMut(Vec<T>, usize) -> ControlFlow<()>,
) -> Result<bool, RunError> {
    let at_once = joint.at_once.max(1);
    for first in (0..count).step_by(at_once) {
        let last = count.min(first + at_once);
        let all: Vec<_> = (first..last).into_par_iter().filter_map(&sample).map(&of).collect();
        if done(all.into_iter().collect::<Result<_, _>>()?, last).is_break() {
            return Ok(false);
        }
    }
    Ok(true)
}
