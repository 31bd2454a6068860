//! Calibration: the ranges of the values of a float graph, seen on samples.
//!
//! Samples stream: each is evaluated once, its values are observed as they are produced, and memory does not grow
//! with their number.

use qcc_ir::eval::{Executor, RunError};
use qcc_ir::{Elem, Graph, Tensor, ValueId};
use rayon::prelude::*;
use rustc_hash::FxHashMap;

mod range;
mod stats;

pub use range::{Method, Range, search};
pub use stats::{Histogram, Stats};

/// What calibration saw: the one table beside the graph, gone when quantization returns.
#[derive(Clone, Debug, Default)]
pub struct Ranges {
    stats: FxHashMap<ValueId, Stats>,
    /// Number of samples seen.
    pub samples: usize,
}

impl Ranges {
    /// What was seen of a value.
    pub fn get(&self, v: ValueId) -> Option<&Stats> {
        self.stats.get(&v)
    }
}

/// Evaluates the graph on each sample (one tensor for each graph input) and gathers statistics of every real value.
/// `seen` is called with the number of samples done so far. The result does not depend on the number of threads.
pub fn calibrate(
    g: &Graph,
    mut samples: impl Iterator<Item = Vec<Tensor>>,
    seen: &mut dyn FnMut(usize),
) -> Result<Ranges, RunError> {
    let executor = Executor::new(g);
    let mut ranges = Ranges::default();
    loop {
        let batch: Vec<Vec<Tensor>> = samples.by_ref().take(rayon::current_num_threads()).collect();
        if batch.is_empty() {
            return Ok(ranges);
        }
        let observed: Vec<_> = batch.par_iter().map(|sample| observe(&executor, g, sample)).collect();
        for one in observed {
            for (v, stats) in one? {
                match ranges.stats.get_mut(&v) {
                    Some(all) => all.merge(stats),
                    None => drop(ranges.stats.insert(v, stats)),
                }
            }
            ranges.samples += 1;
        }
        seen(ranges.samples);
    }
}

fn observe(executor: &Executor<'_>, g: &Graph, sample: &[Tensor]) -> Result<Vec<(ValueId, Stats)>, RunError> {
    let mut all = Vec::new();
    executor.run(sample, &mut |v, tensor| {
        if g.ty(v).elem == Elem::F32 {
            all.push((v, Stats::of(&tensor.view::<f32>())));
        }
    })?;
    Ok(all)
}
