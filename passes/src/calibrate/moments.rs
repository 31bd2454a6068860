//! Gathers the second moments of the activations of contractions on samples.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use qcc_ir::eval::{RunError, opaque};
use qcc_ir::ops::Op;
use qcc_ir::{Graph, Tensor, ValueId};
use rayon::prelude::*;
use rustc_hash::{FxHashMap, FxHashSet};

use super::batches::in_batches;
use super::factor::{Factor, Moments};
use super::reading::{Read, Reading};
use super::stats::Stats;
use crate::SharedGraph;

/// The most channels of an activation whose second moments are gathered.
const MOST_CHANNELS: usize = 8192;

/// The bytes of second moments that are gathered in one run over the samples.
const AT_ONCE: usize = 1 << 27;

/// The bytes of second moments that are gathered together with other statistics.
const BESIDE: usize = 36 << 20;

/// The multiplications for second moments beside other statistics, as a share of those of the contractions that read the
/// activation, and the number for all samples that is gathered in any case.
const SHARE: f64 = 0.5;
const FREE: f64 = 5e7;

/// The rows of all samples that are enough.
const ENOUGH: usize = 1 << 12;

/// What rounding needs of the second moments of activations, by value of the merged graph and by how it is read.
#[derive(Clone, Debug, Default)]
pub struct Factors(Arc<FxHashMap<ValueId, Vec<(Reading, Factor)>>>);

impl Factors {
    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Those of a value that is read in this way.
    pub(super) fn of(&self, v: ValueId, reading: &Reading) -> Option<&Factor> {
        self.0.get(&v)?.iter().find_map(|(known, factor)| (known == reading).then_some(factor))
    }

    /// These and those of the second moments that statistics have.
    pub(super) fn and_of(mut self, stats: &FxHashMap<ValueId, Stats>) -> Self {
        let products: Vec<_> = stats.iter().filter_map(|(v, stats)| Some((*v, stats.products.as_ref()?))).collect();
        let found = products
            .into_par_iter()
            .filter_map(|(v, products)| Some((v, (Reading::Rows(products.extent()), products.factor()?))));
        let all = Arc::make_mut(&mut self.0);
        found.collect::<Vec<_>>().into_iter().for_each(|(v, factor)| all.entry(v).or_default().insert(0, factor));
        self
    }

    fn collect(all: impl Iterator<Item = (ValueId, Reading, Moments)>) -> Self {
        let mut factors: FxHashMap<ValueId, Vec<_>> = FxHashMap::default();
        for (v, reading, moments) in all {
            if let Some(own) = moments.factor() {
                factors.entry(v).or_default().push((reading, own));
            }
        }
        Factors(Arc::new(factors))
    }
}

/// An activation of a contraction with a constant weight.
#[derive(Clone, Debug)]
struct Activation {
    /// The value of the merged graph.
    value: ValueId,
    reading: Reading,
    /// The outputs of all contractions that read it so.
    outputs: usize,
}

impl Activation {
    /// The elements of the moments.
    fn elements(&self) -> usize {
        self.reading.extent().pow(2)
    }

    fn moments(&self) -> Moments {
        Moments::new(self.reading.extent())
    }
}

/// The activations of nodes of `graphs` that are `wanted`, ordered by value.
fn activations(joint: &SharedGraph, graphs: &[&Graph], wanted: impl Fn(&Op) -> bool) -> Vec<Activation> {
    let mut all: BTreeMap<ValueId, Vec<Activation>> = BTreeMap::new();
    let mut seen = FxHashSet::default();
    for (i, g) in graphs.iter().enumerate() {
        let opaque = opaque(g);
        for n in g.order().into_iter().filter(|&n| wanted(g.op(n)) && !opaque.contains_key(&n)) {
            let reads = Reading::all(g, n).into_iter();
            for Read { activation, weight, reading } in
                reads.filter(|r| (1..=MOST_CHANNELS).contains(&r.reading.extent()))
            {
                let (Some(value), result) = (joint.place(i, activation), joint.place(i, n.value(0))) else { continue };
                let weights = g.constant(g.operands(n)[weight]).map_or(0, Tensor::len);
                // Nodes that several graphs share count once.
                let outputs = if seen.insert((result, weight)) { weights / reading.extent() } else { 0 };
                let known = all.entry(value).or_default();
                match known.iter_mut().find(|known| known.reading == reading) {
                    Some(known) => known.outputs += outputs,
                    None => known.push(Activation { value, reading, outputs }),
                }
            }
        }
    }
    all.into_values().flatten().collect()
}

/// The activations whose second moments are gathered with other statistics, and how much of them.
#[derive(Clone, Debug, Default)]
pub(super) struct Beside {
    all: Vec<Activation>,
    /// Indices of those of each value.
    of: FxHashMap<ValueId, Vec<usize>>,
}

/// Rows of activations of a sample, with the index of the activation.
pub(super) type Rows = Vec<(usize, Vec<f32>)>;

impl Beside {
    /// As many activations as the memory for moments allows, smaller ones first.
    pub(super) fn new(joint: &SharedGraph, graphs: &[&Graph]) -> Self {
        // Those of recurrent layers are in the statistics.
        let mut all = activations(joint, graphs, |op| !matches!(op, Op::Recurrent(_)));
        all.sort_by_key(Activation::elements);
        let mut bytes = 0;
        all.retain(|activation| {
            bytes += activation.elements() * size_of::<f32>();
            bytes <= BESIDE
        });
        let mut of: FxHashMap<ValueId, Vec<usize>> = FxHashMap::default();
        all.iter().enumerate().for_each(|(i, activation)| of.entry(activation.value).or_default().push(i));
        Beside { all, of }
    }

    /// The rows of value `v` of one of `samples`, which is `x`. A part of many rows is enough, which `start` selects.
    pub(super) fn rows(&self, v: ValueId, x: &Tensor, samples: usize, start: u64) -> Rows {
        let rows = |&i: &usize| {
            let Activation { reading, outputs, .. } = &self.all[i];
            let extent = reading.extent() as f64;
            let wanted = |there: usize| {
                let share = 2.0 * SHARE * (there * outputs) as f64 / extent;
                let free = 2.0 * FREE / (extent * extent * samples as f64);
                (share.max(free) as usize).min(ENOUGH.div_ceil(samples))
            };
            (i, reading.rows(x, wanted, start))
        };
        self.of.get(&v).into_iter().flatten().map(rows).collect()
    }

    /// No moments yet.
    pub(super) fn sums(&self) -> Vec<Moments> {
        self.all.iter().map(Activation::moments).collect()
    }

    /// Adds the rows of some samples, in order.
    pub(super) fn add(sums: &mut [Moments], samples: &[Rows]) {
        sums.par_iter_mut().enumerate().for_each(|(activation, moments)| {
            let found = samples.iter().flatten().filter(|(i, _)| *i == activation);
            found.for_each(|(_, rows)| moments.add(rows));
        });
    }

    /// The factors of all moments.
    pub(super) fn factors(&self, sums: Vec<Moments>) -> Factors {
        Factors::collect(self.all.iter().zip(sums).map(|(a, sums)| (a.value, a.reading.clone(), sums)))
    }
}

/// Evaluates a merged graph on samples `0..count` and gathers the second moments of the float activations of the matrix
/// products with constant weights that `graphs` have. Moments that would take too much memory at once are gathered in
/// several runs. `sample` and `seen` are as for [`super::observe()`]; `seen` is called with the samples done in all runs
/// and the number in all runs. The result does not depend on the number of threads. Also returns the number of samples
/// that were not skipped, or `None` if no product needs samples.
///
/// # Errors
/// If the graph cannot be evaluated on a sample.
pub fn second_moments(
    joint: &SharedGraph,
    graphs: &[&Graph],
    count: usize,
    sample: impl Fn(usize) -> Option<Vec<Tensor>> + Sync,
    seen: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
) -> Result<(Factors, Option<usize>), RunError> {
    let groups = grouped(joint, graphs);
    let (mut gathered, mut read) = (Vec::new(), None);
    for (i, group) in groups.iter().enumerate() {
        let wanted: FxHashSet<ValueId> = group.iter().map(|a| a.value).collect();
        let executor = joint.executor(&wanted);
        let evaluate = |sample: Vec<Tensor>| {
            let mut found = FxHashMap::default();
            executor.run_known(&sample, &mut |v, tensor| {
                if wanted.contains(&v) {
                    found.insert(v, tensor.clone());
                }
            })?;
            Ok(found)
        };
        let mut all: Vec<(ValueId, Moments)> = group.iter().map(|a| (a.value, a.moments())).collect();
        let mut own = 0;
        let mut add = |found: Vec<FxHashMap<ValueId, Tensor>>, done| {
            own += found.len();
            all.par_iter_mut().for_each(|(v, moments)| {
                found.iter().filter_map(|sample| sample.get(v)).for_each(|x| moments.add(&x.view::<f32>()));
            });
            seen(i * count + done, groups.len() * count)
        };
        if !in_batches(joint, count, &sample, evaluate, &mut add)? {
            return Ok((Factors::default(), None));
        }
        read = Some(own);
        let of_group = group.iter().zip(all).map(|(a, (v, moments))| (v, a.reading.clone(), moments));
        gathered.push(Factors::collect(of_group));
    }
    let factors = gathered.into_iter().flat_map(|factors| Arc::unwrap_or_clone(factors.0)).collect();
    Ok((Factors(Arc::new(factors)), read))
}

/// The activations of matrix products with constant weights, in groups whose moments are in memory at once.
fn grouped(joint: &SharedGraph, graphs: &[&Graph]) -> Vec<Vec<Activation>> {
    let (mut groups, mut bytes) = (Vec::<Vec<_>>::new(), usize::MAX);
    for activation in activations(joint, graphs, |_| true).into_iter().filter(|a| matches!(a.reading, Reading::Rows(_)))
    {
        let own = activation.elements() * size_of::<f32>();
        if bytes.saturating_add(own) > AT_ONCE {
            (bytes, _) = (0, groups.push(Vec::new()));
        }
        bytes += own;
        if let Some(group) = groups.last_mut() {
            group.push(activation);
        }
    }
    groups
}
