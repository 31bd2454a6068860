//! Comparison of compiled graphs with their float graphs on samples.

use qcc_ir::eval::{Executor, RunError, evaluate_node, opaque, relayout};
use qcc_ir::ops::Cast;
use qcc_ir::{Elem, Graph, NodeId, Shape, Tensor, TensorType, ValueId};
use rayon::prelude::*;
use rustc_hash::{FxHashMap, FxHashSet};

use super::distance::Distance;
use super::output::{Hints, OutputQuality};
use crate::SharedGraph;
use crate::activation::Activation;

/// The maximum number of elements of a layer that are compared for each sample. Outputs are compared in full.
const LAYER_NUMBERS: usize = 1 << 14;

/// The comparison of outputs and layers.
#[derive(Clone, Debug, Default)]
pub struct Fidelity {
    /// Each output that can be evaluated, in the order of the graph.
    pub outputs: Vec<OutputQuality>,
    /// The name and the distance of each contraction result, after its activation function if it has one with a
    /// counterpart, in the order of the graph. Errors of earlier layers are included.
    pub layers: Vec<(String, Distance)>,
    /// The indices of the layers that no other contraction depends on.
    pub ends: Vec<usize>,
    /// The number of samples that were compared.
    pub samples: usize,
}

/// A compiled graph and the float graph it was compiled from.
#[derive(Clone, Copy, Debug)]
pub struct Compiled<'a> {
    /// The index of the float graph in the merged graph.
    pub place: usize,
    /// The float graph.
    pub float: &'a Graph,
    /// The compiled graph.
    pub graph: &'a Graph,
    /// Values of the float graph, each with the corresponding value of the compiled graph.
    pub values: &'a [(ValueId, ValueId)],
}

impl Compiled<'_> {
    /// True if both were compiled from the same float graph and have the same input types.
    fn together(&self, other: &Self) -> bool {
        let inputs = |c: &Self| c.graph.inputs().map(|v| c.graph.ty(v).clone()).collect::<Vec<_>>();
        self.place == other.place && inputs(self) == inputs(other)
    }
}

/// The samples of a comparison.
pub struct Samples<'a> {
    /// The number of samples.
    pub count: usize,
    /// Reads a sample: a tensor for each input, or `None` to skip the sample. It is called from several threads.
    pub read: &'a (dyn Fn(usize) -> Option<Vec<Tensor>> + Sync),
}

/// Compares compiled graphs with their float graphs on samples. `joint` merges the float graphs, which were lowered
/// from `source`. `source` has the same outputs; with `hints`, it determines what the outputs represent. Memory does
/// not grow with the number of samples, and the results do not depend on the number of threads.
///
/// # Errors
/// If a graph cannot be evaluated on a sample.
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
        let layers: FxHashSet<ValueId> = own.iter().flat_map(|p| p.layers.iter().map(|l| l.compiled)).collect();
        (g.joint.executor(&layers), Taps { layers, outputs: FxHashSet::default() })
    });
    let runs: Vec<(Executor<'_>, Taps)> = std::iter::once((executor, expected)).chain(runs).collect();
    let mut all: Vec<Fidelity> = compiled.iter().zip(&pairs).map(|(c, p)| p.start(c.float)).collect();
    let at_once = joint.at_once.max(1);
    for first in (0..samples.count).step_by(at_once) {
        let batch = (first..samples.count.min(first + at_once)).into_par_iter().filter_map(samples.read);
        let batch: Vec<Vec<Tensor>> = batch.collect();
        // The runs of one sample are adjacent.
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

/// The largest number of graphs whose common part a reference evaluates once: all of their values may be held at once.
const TOGETHER: usize = 4;

/// The results of a float graph on a few samples, kept to compare one set of compiled graphs after another with them.
pub struct Reference<'a> {
    joint: &'a SharedGraph,
    source: &'a Graph,
    hints: Hints,
    samples: Vec<Vec<Tensor>>,
    expected: Vec<Trace>,
}

impl<'a> Reference<'a> {
    /// Evaluates `float`, the graph with index `place` in `joint`, on samples. The other arguments are those of
    /// [`compare`].
    ///
    /// # Errors
    /// If the graph cannot be evaluated on a sample.
    pub fn new(
        joint: &'a SharedGraph,
        source: &'a Graph,
        (place, float): (usize, &Graph),
        hints: Hints,
        samples: &Samples<'_>,
    ) -> Result<Self, RunError> {
        let placed = |v: ValueId| joint.place(place, v);
        let taps = Taps {
            layers: layers(float).into_iter().filter_map(|(_, v)| placed(v)).collect(),
            outputs: float.outputs().iter().filter_map(|o| placed(o.value)).collect(),
        };
        let executor = joint.executor(&taps.layers.union(&taps.outputs).copied().collect());
        let samples: Vec<Vec<Tensor>> = (0..samples.count).into_par_iter().filter_map(samples.read).collect();
        let mut expected = Vec::new();
        for batch in samples.chunks(joint.at_once.max(1)) {
            let traces = batch.par_iter().map(|sample| taps.run(&executor, sample)).collect::<Result<Vec<_>, _>>()?;
            expected.extend(traces);
        }
        Ok(Reference { joint, source, hints, samples, expected })
    }

    /// The number of samples.
    pub fn len(&self) -> usize {
        self.samples.len()
    }

    /// True if no sample could be read.
    pub fn is_empty(&self) -> bool {
        self.samples.is_empty()
    }

    /// Compares graphs that were compiled from the float graph with it, on the first `count` samples. The results do
    /// not depend on the number of threads.
    ///
    /// # Errors
    /// If a graph cannot be evaluated on a sample.
    pub fn compare(&self, compiled: &[Compiled<'_>], count: usize) -> Result<Vec<Fidelity>, RunError> {
        let count = count.min(self.samples.len());
        let at_once = self.joint.at_once.max(1);
        let size = compiled.len().div_ceil(at_once.div_ceil(count.max(1))).clamp(1, TOGETHER);
        let groups = compiled.chunk_by(Compiled::together).flat_map(|same| same.chunks(size));
        let groups = groups.map(Group::new).collect::<Result<Vec<_>, _>>()?;
        let pair = |g: &Group<'_>| -> Vec<Correspondence> {
            g.members.iter().enumerate().map(|(i, c)| Correspondence::new(self.joint, &g.joint, i, c)).collect()
        };
        let pairs: Vec<Vec<Correspondence>> = groups.iter().map(pair).collect();
        let runs: Vec<(Executor<'_>, Taps)> = groups
            .iter()
            .zip(&pairs)
            .map(|(g, own)| {
                let layers: FxHashSet<ValueId> = own.iter().flat_map(|p| p.layers.iter().map(|l| l.compiled)).collect();
                (g.joint.executor(&layers), Taps { layers, outputs: FxHashSet::default() })
            })
            .collect();
        let tasks: Vec<(usize, usize)> = (0..groups.len()).flat_map(|g| (0..count).map(move |s| (g, s))).collect();
        let mut all: Vec<Vec<Fidelity>> = groups
            .iter()
            .zip(&pairs)
            .map(|(g, own)| g.members.iter().zip(own).map(|(c, p)| p.start(c.float)).collect())
            .collect();
        for tasks in tasks.chunks(at_once) {
            let run = |&(g, s): &(usize, usize)| {
                let (executor, taps) = &runs[g];
                taps.run(executor, &self.samples[s])
            };
            let traces = tasks.par_iter().map(run).collect::<Result<Vec<_>, _>>()?;
            for (&(g, s), trace) in tasks.iter().zip(&traces) {
                let outputs = trace.outputs.chunks(trace.outputs.len() / groups[g].members.len());
                for ((fidelity, pair), outputs) in all[g].iter_mut().zip(&pairs[g]).zip(outputs) {
                    pair.add(fidelity, self.source, self.hints, &self.expected[s], &trace.layers, outputs);
                }
            }
        }
        Ok(all.into_iter().flatten().collect())
    }
}

/// The graphs compiled from one float graph, evaluated together.
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

/// A layer, with its result in the float graphs and in the compiled graph.
struct Layer {
    node: NodeId,
    float: ValueId,
    compiled: ValueId,
}

/// An output of the float graphs: a computed value or a constant.
struct Expected {
    /// Index of the output.
    at: usize,
    float: Option<ValueId>,
    constant: Option<Tensor>,
}

/// The values of the float graphs and of a compiled graph that are compared.
struct Correspondence {
    layers: Vec<Layer>,
    outputs: Vec<Expected>,
}

impl Correspondence {
    /// The values for the float graphs in `joint` and the graph with index `i` in `compiled`.
    fn new(joint: &SharedGraph, compiled: &SharedGraph, i: usize, c: &Compiled<'_>) -> Self {
        let counterpart: FxHashMap<ValueId, ValueId> = c.values.iter().copied().collect();
        let pair = |v: ValueId| Some((joint.place(c.place, v)?, compiled.place(i, *counterpart.get(&v)?)?));
        let layer = |(node, v): (NodeId, ValueId)| {
            let (float, compiled) = pair(v).or_else(|| pair(node.value(0)))?;
            Some(Layer { node, float, compiled })
        };
        let output = |(at, v): (usize, ValueId)| match c.float.constant(v) {
            Some(constant) => Expected { at, float: None, constant: Some(constant.clone()) },
            None => Expected { at, float: joint.place(c.place, v), constant: None },
        };
        // Values that depend on a custom operator cannot be evaluated.
        let opaque = opaque(c.float);
        let outputs = c.float.outputs().iter().map(|o| o.value).enumerate();
        Correspondence {
            layers: layers(c.float).into_iter().filter_map(layer).collect(),
            outputs: outputs.filter(|(_, v)| !opaque.contains_key(&v.node)).map(output).collect(),
        }
    }

    /// An empty comparison.
    fn start(&self, float: &Graph) -> Fidelity {
        let name = |l: &Layer| float.origin(l.node).path().to_owned();
        let reaching = reaching_contractions(float);
        let is_last = |(i, l): (usize, &Layer)| (!reaching.contains(&l.node)).then_some(i);
        Fidelity {
            ends: self.layers.iter().enumerate().filter_map(is_last).collect(),
            outputs: self.outputs.iter().map(|o| OutputQuality::new(&*float.outputs()[o.at].name)).collect(),
            layers: self.layers.iter().map(|l| (name(l), Distance::default())).collect(),
            samples: 0,
        }
    }

    /// Adds the results of one sample.
    fn add(
        &self,
        fidelity: &mut Fidelity,
        source: &Graph,
        hints: Hints,
        float: &Trace,
        layers: &FxHashMap<ValueId, Vec<f32>>,
        outputs: &[Option<Tensor>],
    ) {
        let layers_of = |((_, sum), l): (&mut (String, Distance), &Layer)| {
            if let (Some(x), Some(y)) = (float.layers.get(&l.float), layers.get(&l.compiled)) {
                sum.add(Distance::of(x, y));
            }
        };
        let mut expected = vec![None; outputs.len()];
        for output in &self.outputs {
            let observed = output.float.and_then(|v| float.observed.get(&v));
            expected[output.at] = observed.or(output.constant.as_ref());
        }
        let found: Vec<Option<&Tensor>> = outputs.iter().map(Option::as_ref).collect();
        let outputs_of = |(quality, output): (&mut OutputQuality, &Expected)| {
            quality.add(source, output.at, hints, &expected, &found);
        };
        // Each has sums of its own, to which samples are added in their order.
        rayon::join(
            || fidelity.layers.par_iter_mut().zip(self.layers.par_iter()).for_each(layers_of),
            || fidelity.outputs.par_iter_mut().zip(self.outputs.par_iter()).for_each(outputs_of),
        );
        fidelity.samples += 1;
    }
}

/// The layers of a graph: each contraction, and its result after the activation function.
pub fn layers(g: &Graph) -> Vec<(NodeId, ValueId)> {
    let contractions = g.order().into_iter().filter(|&n| g.op(n).is_contraction());
    contractions.map(|n| (n, Activation::behind(g, n.value(0)).map_or(n.value(0), |a| a.result))).collect()
}

/// The nodes from which a contraction is reachable.
fn reaching_contractions(g: &Graph) -> FxHashSet<NodeId> {
    let mut reaching: FxHashSet<NodeId> = FxHashSet::default();
    for n in g.order().into_iter().rev() {
        if g.op(n).is_contraction() || reaching.contains(&n) {
            reaching.extend(g.operands(n).iter().map(|v| v.node));
        }
    }
    reaching
}

/// The values of a run to keep, besides the graph outputs.
struct Taps {
    layers: FxHashSet<ValueId>,
    outputs: FxHashSet<ValueId>,
}

/// The recorded values of one run on one sample.
#[derive(Default)]
struct Trace {
    /// A subset of the elements of each layer.
    layers: FxHashMap<ValueId, Vec<f32>>,
    /// Values that are kept in full.
    observed: FxHashMap<ValueId, Tensor>,
    /// The graph outputs, where they can be evaluated.
    outputs: Vec<Option<Tensor>>,
}

impl Taps {
    fn run(&self, executor: &Executor<'_>, sample: &[Tensor]) -> Result<Trace, RunError> {
        let mut trace = Trace::default();
        trace.outputs = executor.run_known(&as_inputs(executor.graph(), sample), &mut |v, t| {
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

/// Every n-th element of a tensor.
fn thinned(t: &Tensor) -> Vec<f32> {
    let stride = t.len().div_ceil(LAYER_NUMBERS) | 1;
    let elem = &t.ty().elem;
    if elem.qparams().is_none_or(|qparams| qparams.tensor_map().is_none()) {
        return t.floats().iter().step_by(stride).copied().collect();
    }
    // All elements have one scale, so that only those that are kept need it.
    let mut bytes = Vec::with_capacity(t.len().div_ceil(stride) * elem.size());
    t.data().chunks_exact(elem.size()).step_by(stride).for_each(|element| bytes.extend_from_slice(element));
    let ty = TensorType::new(elem.clone(), Shape::known(&[bytes.len() / elem.size()]));
    Tensor::new(ty, bytes.into()).map_or_else(Vec::new, |kept| kept.floats().into_owned())
}

/// Converts a row-major sample to the element types and the layouts of the inputs of a graph. Floats are quantized with
/// the parameters of the input; other elements are cast. A tensor that cannot be converted is returned as it is, and
/// the evaluation rejects it.
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
