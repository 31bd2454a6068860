//! Calibration: measures the ranges of the values of a float graph on samples.
//!
//! Samples are streamed: each is evaluated once, and statistics are updated as values are produced. Memory does not
//! grow with the number of samples. [`Statistics`] can be merged: those of parts of the samples, evaluated anywhere,
//! give the same result as all samples at once, bit for bit. [`calibrate`] merges those of single samples.
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

use qcc_ir::eval::RunError;
use qcc_ir::ops::Op;
use qcc_ir::{Graph, NodeId, Tensor, ValueId};
use rayon::prelude::*;
use rustc_hash::{FxHashMap, FxHashSet};

use crate::SharedGraph;
use crate::activation::Activation;
use crate::axes::summed_axis;

mod batches;
mod exact;
mod factor;
mod histogram;
mod imposed;
mod moments;
mod observe;
mod products;
mod range;
mod reading;
mod spread;
mod stats;

pub use exact::ExactSum;
pub(crate) use factor::Factor;
#[cfg(test)]
pub(crate) use factor::Moments;
pub use histogram::Histogram;
pub use imposed::{implied_ranges, ranges_by_name, without_range};
pub use moments::{Factors, second_moments};
pub use observe::{SampleSet, Statistics, Wanted, observe};
use range::search;
pub use range::{Method, Range};
pub(crate) use reading::Reading;
pub(crate) use spread::Spread;
pub use stats::{Channels, Stats};

/// The maximum size of the statistics of one value in bytes.
pub const STATISTICS_BYTES: u64 = histogram::LARGEST_BYTES;

/// The calibration table: the statistics and the chosen range of each value. It is the only table keyed by value beside
/// the graph, and it is dropped after quantization.
#[derive(Clone, Debug, Default)]
pub struct CalibrationTable {
    stats: Arc<FxHashMap<ValueId, Stats>>,
    /// The value of the merged graph for each value of this graph.
    places: FxHashMap<ValueId, ValueId>,
    ranges: FxHashMap<ValueId, Range>,
    factors: Factors,
    /// The statistics of values that follow from those of others, and do not have a place in the merged graph.
    derived: FxHashMap<ValueId, Stats>,
    /// How ranges were chosen from statistics, if they were.
    method: Option<Method>,
    /// The number of samples.
    pub samples: usize,
}

impl CalibrationTable {
    /// The statistics of a value.
    pub fn get(&self, v: ValueId) -> Option<&Stats> {
        self.derived.get(&v).or_else(|| self.stats.get(self.places.get(&v)?))
    }

    /// The distributions of the channels of a value along `axis`, if its range follows from its statistics.
    pub(crate) fn spread(&self, v: ValueId, axis: usize) -> Option<&Spread> {
        self.method?;
        self.get(v)?.along(axis)?.spread.as_ref()
    }

    /// The range of a value with such distributions of channels, each times a factor, if ranges follow from statistics.
    pub(crate) fn range_of_scaled(&self, spread: &Spread, factors: &[f32]) -> Option<Range> {
        let [min, max] = spread.extremes(factors);
        let mut stats = Stats::within(min, max);
        stats.histogram = spread.histogram(factors);
        Some(search(&stats, self.method?, LEVELS, &|x| x))
    }

    /// Adds the statistics and the range of `new`, a value of `g`, which is the value `old` with each channel along `axis`
    /// times a factor. The range of what clamps give is known before that of what they read.
    pub(crate) fn add_scaled(&mut self, g: &Graph, (old, new): (ValueId, ValueId), axis: usize, factors: &[f32]) {
        let Some((stats, method)) = self.get(old).and_then(|s| s.scaled(axis, factors)).zip(self.method) else {
            return;
        };
        let clamp = g.only_user(new).filter(|&n| matches!(g.op(n), Op::Clamp(_)));
        let range = match clamp.and_then(|n| self.range(n.value(0))) {
            // What the clamp cuts off is lost anyway, and other channels may be far wider there.
            Some(behind) => behind,
            None => {
                let activation = Activation::behind(g, new);
                Search { stats: &stats, activation, is_output: false, found_for: Vec::new() }.range(method)
            }
        };
        self.ranges.insert(new, range);
        self.derived.insert(new, stats);
    }

    /// The range for 8-bit quantization, chosen for the activation function that follows the value.
    pub fn range(&self, v: ValueId) -> Option<Range> {
        self.ranges.get(&v).copied()
    }

    /// What rounding needs of the second moments of an activation that is read in this way, if they were gathered.
    pub(crate) fn factor(&self, v: ValueId, reading: &Reading) -> Option<&Factor> {
        self.factors.of(*self.places.get(&v)?, reading)
    }

    /// True if the table has second moments.
    pub fn has_factors(&self) -> bool {
        !self.factors.is_empty()
    }

    /// The ranges of the float values that `nodes` use and produce.
    pub(crate) fn own(&self, g: &Graph, nodes: &FxHashSet<NodeId>) -> OwnRanges {
        let values = nodes.iter().flat_map(|&n| g.operands(n).into_iter().chain(g.results(n)));
        values.filter_map(|v| Some((v, self.range(v)?))).collect()
    }
}

/// The range of each value before values share quantization parameters.
pub(crate) type OwnRanges = FxHashMap<ValueId, Range>;

/// Evaluates graphs on samples `0..count`, gathers statistics of all float values ([`observe()`]), and chooses their
/// ranges ([`tables`]). Returns one table for each graph.
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
    let wanted = Wanted::new(joint, graphs);
    let statistics = observe(joint, &wanted, count, sample, seen)?;
    Ok(tables(wanted, graphs, statistics, method))
}

/// The calibration table of each graph: the statistics of its values, and the ranges that follow from them.
pub fn tables(wanted: Wanted, graphs: &[&Graph], statistics: Statistics, method: Method) -> Vec<CalibrationTable> {
    let ranges = chosen(graphs, &wanted.places, &statistics.values, method);
    let factors = statistics.factors.and_of(&statistics.values);
    let stats = Arc::new(statistics.values);
    let samples = usize::try_from(statistics.samples.count).unwrap_or(usize::MAX);
    let ranges = wanted.places.into_iter().zip(ranges);
    let table = |(places, ranges)| CalibrationTable {
        stats: Arc::clone(&stats),
        places,
        ranges,
        factors: factors.clone(),
        derived: FxHashMap::default(),
        // The mean extremes of scaled channels are not known.
        method: Some(method).filter(|method| *method != Method::MovingAverage),
        samples,
    };
    ranges.map(table).collect()
}

/// The number of quantization levels that ranges are chosen for.
const LEVELS: usize = 256;

/// A range search for one value, which several graphs may share.
struct Search<'a> {
    stats: &'a Stats,
    /// The activation function that follows the value.
    activation: Option<Activation>,
    /// The value is an output of a graph.
    is_output: bool,
    /// The graphs, and the value in each of them.
    found_for: Vec<(usize, ValueId)>,
}

impl Search<'_> {
    fn range(&self, method: Method) -> Range {
        let after = |x| match &self.activation {
            Some(a) => a.apply(x),
            None => x,
        };
        let range = search(self.stats, method, LEVELS, &after);
        // What clips an output is an error of the model, and nothing behind it makes up for that.
        let [lo, hi] = self.stats.expected();
        if self.is_output && method == Method::Mse { range.union(Range { lo, hi }) } else { range }
    }
}

/// The range of each value of each graph.
fn chosen(
    graphs: &[&Graph],
    places: &[FxHashMap<ValueId, ValueId>],
    stats: &FxHashMap<ValueId, Stats>,
    method: Method,
) -> Vec<FxHashMap<ValueId, Range>> {
    let mut searches: FxHashMap<(ValueId, String, bool), Search<'_>> = FxHashMap::default();
    for (i, (g, places)) in graphs.iter().zip(places).enumerate() {
        let outputs: FxHashSet<ValueId> = g.outputs().iter().map(|output| output.value).collect();
        for v in g.order().into_iter().flat_map(|n| g.results(n)) {
            let Some((&place, stats)) = places.get(&v).and_then(|p| Some((p, stats.get(p)?))) else { continue };
            let activation = Activation::behind(g, v);
            let function = activation.as_ref().map_or_else(String::new, Activation::to_string);
            let is_output = outputs.contains(&v);
            let new = Search { stats, activation, is_output, found_for: Vec::new() };
            searches.entry((place, function, is_output)).or_insert(new).found_for.push((i, v));
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

/// The activations of contractions with constant weights, each with its channel axis.
fn contracted(g: &Graph) -> FxHashMap<ValueId, usize> {
    let constant = |n: &NodeId| g.operands(*n).get(1).is_some_and(|&w| g.constant(w).is_some());
    let contractions = g.order().into_iter().filter(|&n| g.op(n).is_contraction()).filter(constant);
    contractions.map(|n| (g.operands(n)[0], summed_axis(g, n))).collect()
}
