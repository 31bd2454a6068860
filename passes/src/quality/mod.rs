//! How close a compiled graph comes to the float graph it was made of, and how much of it works on integers.
//!
//! ```
//! use qcc_passes::quality::Distance;
//! let distance = Distance::of(&[1.0, 2.0], &[1.0, 2.2]);
//! assert!((distance.sqnr() - 20.97).abs() < 0.01, "{}", distance.sqnr());
//! assert!((distance.max_error - 0.2).abs() < 1e-6);
//! ```

use qcc_ir::eval::{Executor, RunError, evaluate_node, relayout};
use qcc_ir::ops::Cast;
use qcc_ir::{Elem, Graph, NodeId, Tensor, ValueId};
use rayon::prelude::*;
use rustc_hash::{FxHashMap, FxHashSet};

use crate::SharedGraph;
use crate::activation::Activation;

mod boxes;
mod distance;
mod output;
#[cfg(test)]
mod tests;
mod work;

pub use boxes::Boxes;
pub use distance::Distance;
pub use output::{Agreement, BOXES_MEASURE, Hints, OutputKind, OutputQuality, Part};
pub use work::{Work, dynamic, float_islands, products, work, work_of};

/// Numbers of one layer and sample that a comparison looks at, at most; outputs are compared whole.
const LAYER_NUMBERS: usize = 1 << 14;

/// How outputs and layers compare.
#[derive(Clone, Debug, Default)]
pub struct Fidelity {
    /// Each output, in the graph's order.
    pub outputs: Vec<OutputQuality>,
    /// Name and distance of each contraction's result, behind its activation where it has one, in the graph's order.
    /// Errors of earlier layers are in it.
    pub layers: Vec<(String, Distance)>,
    /// Number of samples compared.
    pub samples: usize,
}

/// What became of a float graph.
#[derive(Clone, Copy, Debug)]
pub struct Compiled<'a> {
    /// The place of the float graph among those that the joint one was made of.
    pub place: usize,
    /// The float graph.
    pub float: &'a Graph,
    /// What became of it.
    pub graph: &'a Graph,
    /// Values of the float graph and their counterparts.
    pub values: &'a [(ValueId, ValueId)],
}

impl Compiled<'_> {
    /// True where both were made of one float graph and take the same inputs.
    fn together(&self, other: &Self) -> bool {
        let inputs = |c: &Self| c.graph.inputs().map(|v| c.graph.ty(v).clone()).collect::<Vec<_>>();
        self.place == other.place && inputs(self) == inputs(other)
    }
}

/// The samples of a comparison.
pub struct Samples<'a> {
    /// How many there are.
    pub count: usize,
    /// Reads one: a tensor for each input, or `None` for a sample to be passed over. Called from several threads.
    pub read: &'a (dyn Fn(usize) -> Option<Vec<Tensor>> + Sync),
}

/// Compares what float graphs became with what they were, on samples. `joint` was made of the float graphs and of
/// `source`, which has the same outputs and tells with `hints` what they hold. Memory does not grow with the
/// number of samples, and results do not depend on the number of threads.
///
/// # Errors
/// Where a graph cannot be evaluated on a sample.
pub fn compare(
    joint: &SharedGraph,
    source: &Graph,
    compiled: &[Compiled<'_>],
    hints: Hints,
    samples: &Samples<'_>,
) -> Result<Vec<Fidelity>, RunError> {
    let groups = compiled.chunk_by(Compiled::together).map(Group::new).collect::<Result<Vec<_>, _>>()?;
    let pairs: Vec<Correspondence> = groups
        .iter()
        .flat_map(|g| g.members.iter().enumerate().map(|(i, c)| Correspondence::new(joint, &g.joint, i, c)))
        .collect();
    let expected = Taps {
        layers: pairs.iter().flat_map(|p| p.layers.iter().map(|l| l.float)).collect(),
        outputs: pairs.iter().flat_map(|p| p.outputs.iter().filter_map(|o| o.float)).collect(),
    };
    let executor = joint.executor(&expected.layers.union(&expected.outputs).copied().collect());
    let mut rest = &pairs[..];
    let runs = groups.iter().map(|g| {
        let (own, others) = rest.split_at(g.members.len());
        rest = others;
        let layers = own.iter().flat_map(|p| p.layers.iter().map(|l| l.compiled)).collect();
        (Executor::new(g.joint.graph()), Taps { layers, outputs: FxHashSet::default() })
    });
    let runs: Vec<(Executor<'_>, Taps)> = std::iter::once((executor, expected)).chain(runs).collect();
    let mut all: Vec<Fidelity> = compiled.iter().zip(&pairs).map(|(c, p)| p.start(c.float)).collect();
    let at_once = joint.at_once.max(1);
    for first in (0..samples.count).step_by(at_once) {
        let batch = (first..samples.count.min(first + at_once)).into_par_iter().filter_map(samples.read);
        let batch: Vec<Vec<Tensor>> = batch.collect();
        // All runs stand side by side, those of a sample together.
        let traces = (0..batch.len() * runs.len()).into_par_iter().map(|k| {
            let (sample, (executor, taps)) = (&batch[k / runs.len()], &runs[k % runs.len()]);
            taps.run(executor, sample)
        });
        let traces = traces.collect::<Result<Vec<_>, _>>()?;
        for traces in traces.chunks(runs.len()) {
            let mut compared = all.iter_mut().zip(&pairs);
            for (group, own) in groups.iter().zip(&traces[1..]) {
                let outputs = own.outputs.chunks(own.outputs.len() / group.members.len());
                for (outputs, (fidelity, pairs)) in outputs.zip(compared.by_ref()) {
                    pairs.add(fidelity, source, hints, &traces[0], &own.layers, outputs);
                }
            }
        }
    }
    Ok(all)
}

/// What was compiled of one float graph, evaluated together.
struct Group<'a> {
    members: &'a [Compiled<'a>],
    joint: SharedGraph,
}

impl<'a> Group<'a> {
    fn new(members: &'a [Compiled<'a>]) -> Result<Self, RunError> {
        let others: Vec<&Graph> = members[1..].iter().map(|c| c.graph).collect();
        let joint = SharedGraph::side_by_side(members[0].graph, &others)
            .map_err(|e| RunError { node: "graph".into(), error: e.into() })?;
        Ok(Group { members, joint })
    }
}

/// A layer, and where its results are in the float graphs and in the compiled one.
struct Layer {
    node: NodeId,
    float: ValueId,
    compiled: ValueId,
}

/// An output of the float graphs: a value that is computed, or a constant.
struct Expected {
    float: Option<ValueId>,
    constant: Option<Tensor>,
}

/// Values of the float graphs and of a compiled one that are compared.
struct Correspondence {
    layers: Vec<Layer>,
    outputs: Vec<Expected>,
}

impl Correspondence {
    /// Of the float graphs in `joint` and the graph at place `i` of `compiled`.
    fn new(joint: &SharedGraph, compiled: &SharedGraph, i: usize, c: &Compiled<'_>) -> Self {
        let counterpart: FxHashMap<ValueId, ValueId> = c.values.iter().copied().collect();
        let layer = |(node, v): (NodeId, ValueId)| {
            Some(Layer { node, float: joint.place(c.place, v)?, compiled: compiled.place(i, *counterpart.get(&v)?)? })
        };
        let output = |v: ValueId| match c.float.constant(v) {
            Some(constant) => Expected { float: None, constant: Some(constant.clone()) },
            None => Expected { float: joint.place(c.place, v), constant: None },
        };
        Correspondence {
            layers: layers(c.float).into_iter().filter_map(layer).collect(),
            outputs: c.float.outputs().iter().map(|o| output(o.value)).collect(),
        }
    }

    /// Nothing compared yet.
    fn start(&self, float: &Graph) -> Fidelity {
        let name = |l: &Layer| float.origin(l.node).path().to_owned();
        Fidelity {
            outputs: float.outputs().iter().map(|o| OutputQuality::new(&*o.name)).collect(),
            layers: self.layers.iter().map(|l| (name(l), Distance::default())).collect(),
            samples: 0,
        }
    }

    /// Adds what one sample shows.
    fn add(
        &self,
        fidelity: &mut Fidelity,
        source: &Graph,
        hints: Hints,
        float: &Trace,
        layers: &FxHashMap<ValueId, Vec<f32>>,
        outputs: &[Tensor],
    ) {
        for ((_, sum), l) in fidelity.layers.iter_mut().zip(&self.layers) {
            if let (Some(x), Some(y)) = (float.layers.get(&l.float), layers.get(&l.compiled)) {
                sum.add(Distance::of(x, y));
            }
        }
        let outputs = fidelity.outputs.iter_mut().zip(&self.outputs).zip(outputs);
        for (i, ((quality, expected), found)) in outputs.enumerate() {
            let observed = expected.float.and_then(|v| float.observed.get(&v));
            if let Some(expected) = observed.or(expected.constant.as_ref()) {
                quality.add(source, i, hints, expected, found);
            }
        }
        fidelity.samples += 1;
    }
}

/// The layers of a float graph: each contraction with the value behind its activation.
fn layers(g: &Graph) -> Vec<(NodeId, ValueId)> {
    let contractions = g.order().into_iter().filter(|&n| g.op(n).is_contraction());
    contractions.map(|n| (n, Activation::behind(g, n.value(0)).map_or(n.value(0), |a| a.result))).collect()
}

/// Values to keep of a run, beside the outputs of the graph.
struct Taps {
    layers: FxHashSet<ValueId>,
    outputs: FxHashSet<ValueId>,
}

/// What a run showed on one sample.
#[derive(Default)]
struct Trace {
    /// Some numbers of each layer.
    layers: FxHashMap<ValueId, Vec<f32>>,
    /// Values that are kept whole.
    observed: FxHashMap<ValueId, Tensor>,
    /// The outputs of the graph.
    outputs: Vec<Tensor>,
}

impl Taps {
    fn run(&self, executor: &Executor<'_>, sample: &[Tensor]) -> Result<Trace, RunError> {
        let mut trace = Trace::default();
        trace.outputs = executor.run(&as_inputs(executor.graph(), sample), &mut |v, t| {
            if self.layers.contains(&v) {
                trace.layers.insert(v, thinned(t));
            }
            if self.outputs.contains(&v) {
                trace.observed.insert(v, t.clone());
            }
        })?;
        Ok(trace)
    }
}

/// Every so many-th number of a tensor.
fn thinned(t: &Tensor) -> Vec<f32> {
    let stride = t.len().div_ceil(LAYER_NUMBERS) | 1;
    t.reals().iter().step_by(stride).copied().collect()
}

/// A sample, row-major, as the inputs of a graph, in the elements and the order that it declares: real numbers are put on
/// its grids, others cast. What cannot be brought there stays as it is, and a run refuses it.
pub fn as_inputs(g: &Graph, sample: &[Tensor]) -> Vec<Tensor> {
    let cast = |t: &Tensor, to: &Elem| {
        let ty = t.ty().with_elem(to.clone());
        evaluate_node(&Cast { to: to.clone() }.into(), &[t], &[ty]).ok()?.pop()
    };
    let one = |(v, t): (ValueId, &Tensor)| match (&g.ty(v).elem, &t.ty().elem) {
        (to, from) if to == from => t.clone(),
        (Elem::Quantized(qparams), Elem::F32) => t.quantized(qparams),
        (Elem::Quantized(qparams), Elem::F16) => {
            cast(t, &Elem::F32).map_or_else(|| t.clone(), |t| t.quantized(qparams))
        }
        (to, _) if to.qparams().is_none() => cast(t, to).unwrap_or_else(|| t.clone()),
        _ => t.clone(),
    };
    let laid_out = |(v, t): (ValueId, &Tensor)| relayout(t, &g.ty(v).layout).unwrap_or_else(|_| t.clone());
    g.inputs().zip(sample).map(|(v, t)| laid_out((v, &one((v, t))))).collect()
}
