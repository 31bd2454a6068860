//! Calibration: measures the ranges of the values of a float graph on samples.
//!
//! Samples are streamed: each is evaluated once, and statistics are updated as values are produced. Memory does not
//! grow with the number of samples.
//!
//! ```
//! use std::ops::ControlFlow;
//! use qcc_ir::text::{Weights, parse};
//! use qcc_ir::{Shape, Tensor};
//! use qcc_passes::SharedGraph;
//! use qcc_passes::calibrate::{Method, calibrate};
//! let g = parse("graph g { %x: f32[2] = input %y = unary(f:Neg) %x output y = %y }", &Weights::new())?;
//! let sample = |i: usize| Some(vec![Tensor::from_vec(Shape::known(&[2]), vec![i as f32, 0.0])]);
//! let (joint, mut go_on) = (SharedGraph::new(&g, &[&g])?, |_done| ControlFlow::Continue(()));
//! let ranges = calibrate(&joint, &[&g], Method::MinMax, 4, sample, &mut go_on)?;
//! let seen = ranges[0].get(g.outputs()[0].value).unwrap();
//! assert_eq!((seen.min, seen.max), (-3.0, 0.0));
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! ```

use std::ops::ControlFlow;
use std::sync::Arc;

use qcc_ir::eval::{Executor, RunError};
use qcc_ir::ops::Op;
use qcc_ir::{Elem, Graph, NodeId, Tensor, ValueId};
use rayon::prelude::*;
use rustc_hash::{FxHashMap, FxHashSet};

use crate::SharedGraph;
use crate::activation::Activation;

mod range;
mod stats;

use range::search;
pub use range::{Method, Range};
pub use stats::{Histogram, Stats};

/// The maximum size of the statistics of one value in bytes.
pub const STATISTICS_BYTES: u64 = stats::LARGEST_BYTES;

/// The calibration table: the statistics and the chosen range of each value. It is the only table keyed by value beside
/// the graph, and it is dropped after quantization.
#[derive(Clone, Debug, Default)]
pub struct CalibrationTable {
    stats: Arc<FxHashMap<ValueId, Stats>>,
    /// The value of the merged graph for each value of this graph.
    places: FxHashMap<ValueId, ValueId>,
    ranges: FxHashMap<ValueId, Range>,
    /// The number of samples.
    pub samples: usize,
}

impl CalibrationTable {
    /// The statistics of a value.
    pub fn get(&self, v: ValueId) -> Option<&Stats> {
        self.stats.get(self.places.get(&v)?)
    }

    /// The range for 8-bit quantization, chosen for the activation function that follows the value.
    pub fn range(&self, v: ValueId) -> Option<Range> {
        self.ranges.get(&v).copied()
    }

    /// The ranges of the float values that `nodes` use and produce.
    pub(crate) fn own(&self, g: &Graph, nodes: &FxHashSet<NodeId>) -> OwnRanges {
        let values = nodes.iter().flat_map(|&n| g.operands(n).into_iter().chain(g.results(n)));
        values.filter_map(|v| Some((v, self.range(v)?))).collect()
    }
}

/// The range of each value before values share quantization parameters.
pub(crate) type OwnRanges = FxHashMap<ValueId, Range>;

/// Evaluates graphs on samples `0..count`, gathers statistics of all float values, and chooses their ranges. Returns
/// one table for each graph. `sample` returns one tensor for each graph input, or `None` to skip the sample; it is
/// called from several threads. `seen` is called with the number of samples done so far and may stop the calibration
/// early. The result does not depend on the number of threads. Values that depend on custom operators have no statistics.
///
/// # Errors
/// If a graph cannot be evaluated on a sample.
pub fn calibrate(
    joint: &SharedGraph,
    graphs: &[&Graph],
    method: Method,
    count: usize,
    sample: impl Fn(usize) -> Option<Vec<Tensor>> + Sync,
    seen: &mut dyn FnMut(usize) -> ControlFlow<()>,
) -> Result<Vec<CalibrationTable>, RunError> {
    let mut channels = FxHashMap::default();
    let mut places = Vec::new();
    for (i, g) in graphs.iter().enumerate() {
        let real = |v: &ValueId| g.ty(*v).elem == Elem::F32 && g.constant(*v).is_none();
        let values = g.order().into_iter().flat_map(|n| g.results(n)).filter(real);
        places.push(values.filter_map(|v| Some((v, joint.place(i, v)?))).collect::<FxHashMap<_, _>>());
        channels.extend(contracted(g).into_iter().filter_map(|(v, axis)| Some((joint.place(i, v)?, axis))));
    }
    let wanted: FxHashSet<ValueId> = places.iter().flat_map(FxHashMap::values).copied().collect();
    let executor = joint.executor(&wanted);
    let observe = |sample: Vec<Tensor>| observe(&executor, &wanted, &channels, &sample);
    let (mut stats, mut samples) = (FxHashMap::<ValueId, Stats>::default(), 0);
    let at_once = joint.at_once.max(1);
    for first in (0..count).step_by(at_once) {
        let batch = (first..count.min(first + at_once)).into_par_iter();
        let observed: Vec<_> = batch.filter_map(&sample).map(observe).collect();
        for one in observed {
            for (v, found) in one? {
                match stats.get_mut(&v) {
                    Some(all) => all.merge(found),
                    None => drop(stats.insert(v, found)),
                }
            }
            samples += 1;
        }
        if seen(first + at_once.min(count - first)).is_break() {
            break;
        }
    }
    let ranges = chosen(graphs, &places, &stats, method);
    let stats = Arc::new(stats);
    let ranges = places.into_iter().zip(ranges);
    Ok(ranges.map(|(places, ranges)| CalibrationTable { stats: Arc::clone(&stats), places, ranges, samples }).collect())
}

/// The number of quantization levels that ranges are chosen for.
const LEVELS: usize = 256;

/// A range search for one value, which several graphs may share.
struct Search<'a> {
    stats: &'a Stats,
    /// The activation function that follows the value.
    activation: Option<Activation>,
    /// The graphs, and the value in each of them.
    found_for: Vec<(usize, ValueId)>,
}

impl Search<'_> {
    fn range(&self, method: Method) -> Range {
        let after = |x| match &self.activation {
            Some(a) => a.apply(x),
            None => x,
        };
        search(self.stats, method, LEVELS, &after)
    }
}

/// The range of each value of each graph.
fn chosen(
    graphs: &[&Graph],
    places: &[FxHashMap<ValueId, ValueId>],
    stats: &FxHashMap<ValueId, Stats>,
    method: Method,
) -> Vec<FxHashMap<ValueId, Range>> {
    let mut searches: FxHashMap<(ValueId, String), Search<'_>> = FxHashMap::default();
    for (i, (g, places)) in graphs.iter().zip(places).enumerate() {
        for v in g.order().into_iter().flat_map(|n| g.results(n)) {
            let Some((&place, stats)) = places.get(&v).and_then(|p| Some((p, stats.get(p)?))) else { continue };
            let activation = Activation::behind(g, v);
            let function = activation.as_ref().map_or_else(String::new, Activation::to_string);
            let new = Search { stats, activation, found_for: Vec::new() };
            searches.entry((place, function)).or_insert(new).found_for.push((i, v));
        }
    }
    let found: Vec<_> = searches.into_par_iter().map(|(_, s)| (s.range(method), s.found_for)).collect();
    let mut ranges = vec![FxHashMap::default(); graphs.len()];
    for (range, values) in found {
        for (i, v) in values {
            ranges[i].insert(v, range);
        }
    }
    ranges
}

fn observe(
    executor: &Executor<'_>,
    wanted: &FxHashSet<ValueId>,
    channels: &FxHashMap<ValueId, usize>,
    sample: &[Tensor],
) -> Result<Vec<(ValueId, Stats)>, RunError> {
    let mut all = Vec::new();
    executor.run_known(sample, &mut |v, tensor| {
        if !wanted.contains(&v) {
            return;
        }
        let values = tensor.view::<f32>();
        let stats = match channels.get(&v) {
            Some(&axis) => Stats::with_channels(&values, &tensor.dims(), axis),
            None => Stats::of(&values),
        };
        all.push((v, stats));
    })?;
    Ok(all)
}

/// The activations of contractions with constant weights, each with its channel axis.
fn contracted(g: &Graph) -> FxHashMap<ValueId, usize> {
    let constant = |n: &NodeId| g.operands(*n).get(1).is_some_and(|&w| g.constant(w).is_some());
    let contractions = g.order().into_iter().filter(|&n| g.op(n).is_contraction()).filter(constant);
    contractions.map(|n| (g.operands(n)[0], summed_axis(g, n))).collect()
}

/// The reduction axis of the first operand of a contraction.
pub(crate) fn summed_axis(g: &Graph, n: NodeId) -> usize {
    match g.op(n) {
        Op::MatMul(_) => g.ty(g.operands(n)[0]).rank() - 1,
        _ => 1,
    }
}
