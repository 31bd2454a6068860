//! Gathers statistics of the values of graphs on samples.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::{Mutex, PoisonError};

use qcc_ir::eval::{Executor, RunError, opaque};
use qcc_ir::ops::Op;
use qcc_ir::{Elem, Graph, Tensor, ValueId};
use rustc_hash::{FxHashMap, FxHashSet};
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;
use xxhash_rust::xxh3::Xxh3Default;

use super::batches::in_batches;
use super::moments::{Beside, Factors, Rows};
use super::products::Products;
use super::reading::Reading;
use super::{Stats, contracted};
use crate::SharedGraph;
use crate::identity::Digest128;
use crate::scaling::Scalable;

/// The most channels of an activation of a recurrent layer whose second moments are gathered.
const MOST_STATES: usize = 1024;

/// The rows of a sample that second moments of recurrent layers are gathered from.
const ROWS: usize = 256;

/// The values of a merged graph whose statistics are gathered.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// For each graph, the value of the merged graph for each of its float values that are not constant.
    pub(super) places: Vec<FxHashMap<ValueId, ValueId>>,
    /// The axes along which statistics of channels are gathered, for each value of the merged graph that needs them.
    axes: FxHashMap<ValueId, BTreeSet<usize>>,
    /// The axes along which distributions of channels are gathered, too.
    spreads: FxHashMap<ValueId, BTreeSet<usize>>,
    /// The activations of recurrent layers, whose second moments are part of the statistics, and their number of channels.
    recurrent: FxHashMap<ValueId, usize>,
    /// The other activations whose second moments are gathered.
    moments: Beside,
}

impl Wanted {
    /// All float values of the graphs that `joint` merges, except those that depend on custom operators.
    pub fn new(joint: &SharedGraph, graphs: &[&Graph]) -> Self {
        let mut wanted = Wanted::default();
        for (i, g) in graphs.iter().enumerate() {
            let opaque = opaque(g);
            let float =
                |v: &ValueId| g.ty(*v).elem == Elem::F32 && g.constant(*v).is_none() && !opaque.contains_key(&v.node);
            let values = g.order().into_iter().flat_map(|n| g.results(n)).filter(float);
            wanted.places.push(values.filter_map(|v| Some((v, joint.place(i, v)?))).collect());
            let axes = contracted(g).into_iter().filter_map(|(v, axis)| Some((joint.place(i, v)?, axis)));
            for (v, axis) in axes {
                wanted.axes.entry(v).or_default().insert(axis);
            }
            for scalable in Scalable::all(g) {
                for v in scalable.scaled().filter_map(|v| joint.place(i, v)) {
                    wanted.axes.entry(v).or_default().insert(scalable.axis);
                    wanted.spreads.entry(v).or_default().insert(scalable.axis);
                }
            }
            let layers = g.order().into_iter().filter(|&n| matches!(g.op(n), Op::Recurrent(_)));
            let reads = layers.flat_map(|n| Reading::all(g, n)).map(|read| (read.activation, read.reading.extent()));
            let reads = reads.filter(|(v, extent)| *extent <= MOST_STATES && !opaque.contains_key(&v.node));
            wanted.recurrent.extend(reads.filter_map(|(v, extent)| Some((joint.place(i, v)?, extent))));
        }
        wanted
    }

    /// The same with second moments of activations of contractions with constant weights, for weights that compensate each
    /// other's rounding errors. Those that take much memory or time are left out.
    #[must_use]
    pub fn with_moments(self, joint: &SharedGraph, graphs: &[&Graph]) -> Self {
        Wanted { moments: Beside::new(joint, graphs), ..self }
    }

    /// The values of the merged graph that represent values of graph `i`, in order.
    pub fn values(&self, i: usize) -> BTreeSet<ValueId> {
        self.places[i].values().copied().collect()
    }

    /// The axes along which a value of the merged graph has statistics of channels.
    pub fn axes(&self, v: ValueId) -> impl Iterator<Item = usize> + '_ {
        self.axes.get(&v).into_iter().flatten().copied()
    }

    /// The axes along which the distributions of channels of a value of the merged graph are part of its statistics.
    pub fn spreads(&self, v: ValueId) -> impl Iterator<Item = usize> + '_ {
        self.spreads.get(&v).into_iter().flatten().copied()
    }

    /// The number of channels of the second moments of a value of the merged graph that its statistics have.
    pub fn products(&self, v: ValueId) -> Option<usize> {
        self.recurrent.get(&v).copied()
    }
}

/// Samples whose order does not count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SampleSet {
    /// Their number.
    pub count: u64,
    /// The sum of their digests modulo `2^128`.
    pub digest: Digest128,
}

impl SampleSet {
    /// Adds other samples.
    pub fn merge(&mut self, other: SampleSet) {
        self.count += other.count;
        self.digest.0 = self.digest.0.wrapping_add(other.digest.0);
    }

    /// A single sample: one tensor for each input.
    fn of(sample: &[Tensor]) -> Self {
        let mut hasher = Xxh3Default::new();
        for tensor in sample {
            hasher.update(&(tensor.data().len() as u64).to_le_bytes());
            hasher.update(tensor.data());
        }
        SampleSet { count: 1, digest: Digest128(hasher.digest128()) }
    }
}

/// The statistics of values of a merged graph over samples.
#[derive(Clone, Debug, Default)]
pub struct Statistics {
    /// The samples.
    pub samples: SampleSet,
    /// The statistics of each value.
    pub values: FxHashMap<ValueId, Stats>,
    /// What rounding needs of second moments, where they were wanted. Unlike the statistics they depend on the order of the
    /// samples, and cannot be merged.
    pub factors: Factors,
}

/// Evaluates a merged graph on samples `0..count` and gathers the statistics of the wanted values. `sample` returns one
/// tensor for each graph input, or `None` to skip the sample; it is called from several threads. `seen` is called with
/// the number of samples done so far and may stop early. The result does not depend on the number of threads, and the
/// statistics do not depend on the order of the samples. Values that depend on custom operators have no statistics.
///
/// # Errors
/// If the graph cannot be evaluated on a sample.
pub fn observe(
    joint: &SharedGraph,
    wanted: &Wanted,
    count: usize,
    sample: impl Fn(usize) -> Option<Vec<Tensor>> + Sync,
    seen: &mut dyn FnMut(usize) -> ControlFlow<()>,
) -> Result<Statistics, RunError> {
    let kept: FxHashSet<ValueId> = wanted.places.iter().flat_map(FxHashMap::values).copied().collect();
    let executor = joint.executor(&kept);
    // Samples are merged value by value as these are produced: in any order, and without the statistics of a whole sample.
    let values: Merged = kept.iter().map(|&v| (v, Mutex::default())).collect();
    let observe = |sample: Vec<Tensor>| of_sample(&executor, &values, wanted, count, &sample);
    let mut all = Statistics::default();
    let mut sums = wanted.moments.sums();
    let mut merge = |observed: Vec<Observed>, done| {
        let mut rows = Vec::new();
        for Observed { set, rows: own } in observed {
            all.samples.merge(set);
            rows.push(own);
        }
        Beside::add(&mut sums, &rows);
        seen(done)
    };
    let complete = in_batches(joint, count, sample, observe, &mut merge)?;
    if complete {
        all.factors = wanted.moments.factors(sums);
    }
    let merged = |(v, stats): (ValueId, Mutex<Option<Stats>>)| {
        Some((v, stats.into_inner().unwrap_or_else(PoisonError::into_inner)?))
    };
    all.values = values.into_iter().filter_map(merged).collect();
    Ok(all)
}

/// The statistics of each wanted value, if any sample has been evaluated that far.
type Merged = FxHashMap<ValueId, Mutex<Option<Stats>>>;

/// What is gathered on a sample.
struct Observed {
    set: SampleSet,
    rows: Rows,
}

/// What is gathered on one of `count` samples, besides the statistics, which are merged with those of the others.
fn of_sample(
    executor: &Executor<'_>,
    merged: &Merged,
    wanted: &Wanted,
    count: usize,
    sample: &[Tensor],
) -> Result<Observed, RunError> {
    let set = SampleSet::of(sample);
    let second = set.digest.0 % 2 == 1;
    let mut rows = Rows::new();
    executor.run_known(sample, &mut |v, tensor| {
        let Some(stats) = merged.get(&v) else { return };
        let axes: SmallVec<[usize; 2]> = wanted.axes(v).collect();
        let start = set.digest.0 as u64;
        let products =
            wanted.products(v).map(|extent| Products::of(&Reading::Rows(extent).rows(tensor, |_| ROWS, start), extent));
        let (numbers, extents) = (tensor.view::<f32>(), tensor.dims());
        let spreads: SmallVec<[usize; 2]> = wanted.spreads(v).collect();
        let own = Stats::with_channels(&numbers, &extents, &axes).with_spread(&numbers, &extents, &spreads);
        let own = own.with_products(products).in_half(second);
        let mut stats = stats.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *stats {
            Some(stats) => stats.merge(own),
            None => *stats = Some(own),
        }
        drop(stats);
        rows.extend(wanted.moments.rows(v, tensor, count, start));
    })?;
    Ok(Observed { set, rows })
}

#[cfg(test)]
mod tests {
    use super::super::{Method, Reading, tables};
    use super::*;
    use qcc_ir::Shape;
    use qcc_ir::text::{Weights, parse};

    /// A sample is counted once whatever the order, and thread counts do not matter.
    #[test]
    fn parts_merge_to_the_whole() -> Result<(), Box<dyn std::error::Error>> {
        let text = "graph g { %x: f32[1,3] = input %w: f32[3,2] = const [1, -2, 3, 0.5, 0.1, 7] %y = matmul(transpose_b:false) %x, %w output y = %y }";
        let g = parse(text, &Weights::new())?;
        let sample = |i: usize| {
            let x: Vec<f32> = (0..3).map(|k| ((i * 7919 + k * 31) % 1000) as f32 * 0.0137 - 3.0).collect();
            Some(vec![Tensor::from_vec(Shape::known(&[1, 3]), x)])
        };
        let whole = |at_once: usize, order: &[usize]| {
            let mut joint = SharedGraph::new(&g, &[&g])?;
            joint.at_once = at_once;
            let wanted = Wanted::new(&joint, &[&g]);
            let read = |i: usize| sample(order[i]);
            Ok::<_, Box<dyn std::error::Error>>(observe(&joint, &wanted, order.len(), read, &mut |_| {
                ControlFlow::Continue(())
            })?)
        };
        let all = whole(1, &(0..11).collect::<Vec<_>>())?;
        let mut parts = whole(3, &[10, 4, 2])?;
        for part in [whole(2, &[0, 9, 8, 7, 1])?, whole(7, &[3, 6, 5])?] {
            parts.samples.merge(part.samples);
            for v in part.values.keys().copied().collect::<BTreeSet<_>>() {
                let theirs = part.values[&v].clone();
                parts.values.get_mut(&v).ok_or("no such value")?.merge(theirs);
            }
        }
        assert_eq!((all.samples, &all.values), (parts.samples, &parts.values));
        assert_eq!(all.samples.count, 11);
        assert_ne!(all.samples.digest, whole(1, &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9])?.samples.digest);
        Ok(())
    }

    /// The factors of both activations do not depend on how many samples are evaluated at once, and are not gathered unless
    /// they are wanted.
    #[test]
    fn second_moments_follow_from_the_samples() -> Result<(), Box<dyn std::error::Error>> {
        let text = "graph g { %x: f32[1,1,3,3] = input %w: f32[1,1,2,2] = const [1, -2, 3, 0.5] \
                    %y = conv(stride:[1,1],before:[0,0],after:[0,0],dilation:[1,1],groups:1) %x, %w \
                    %v: f32[2,2] = const [1, 2, 3, 4] %z = matmul(transpose_b:false) %y, %v output z = %z }";
        let g = parse(text, &Weights::new())?;
        let sample = |i: usize| {
            let x: Vec<f32> = (0..9).map(|k| ((i * 7919 + k * 3137) % 1000) as f32 * 0.0137 - 3.0).collect();
            Some(vec![Tensor::from_vec(Shape::known(&[1, 1, 3, 3]), x)])
        };
        let joint = SharedGraph::new(&g, &[&g])?;
        let plain = Wanted::new(&joint, &[&g]);
        let wanted = plain.clone().with_moments(&joint, &[&g]);
        let of = |at_once: usize, wanted: &Wanted| {
            let mut joint = SharedGraph::new(&g, &[&g])?;
            joint.at_once = at_once;
            let found = observe(&joint, wanted, 11, sample, &mut |_| ControlFlow::Continue(()))?;
            let found = tables(wanted.clone(), &[&g], found, Method::MinMax);
            let factors = g.order().into_iter().flat_map(|n| Reading::all(&g, n)).filter_map(|read| {
                let factor = found[0].factor(read.activation, &read.reading)?;
                Some((factor.variances().to_vec(), factor.upper().to_vec()))
            });
            Ok::<_, Box<dyn std::error::Error>>(factors.collect::<Vec<_>>())
        };
        let all = of(1, &wanted)?;
        assert_eq!(all.iter().map(|(variances, _)| variances.len()).collect::<Vec<_>>(), [4, 2]);
        assert_eq!((of(3, &wanted)?, of(11, &wanted)?), (all.clone(), all));
        assert_eq!(of(2, &plain)?, []);
        Ok(())
    }
}
