//! How far a compiled graph is from the float graph it was made of, and how much of it works on integers.

use qcc_ir::eval::{Executor, RunError};
use qcc_ir::ops::{GridRule, Op};
use qcc_ir::target::Target;
use qcc_ir::{Elem, Graph, NodeId, Tensor, ValueId};
use rayon::prelude::*;
use rustc_hash::{FxHashMap, FxHashSet};

use crate::Joint;
use crate::activation::Activation;
use crate::quantize::is_contraction;
use crate::run_time::run_time_grid;

/// Numbers of one value and sample that a comparison looks at, at most; outputs are compared whole.
const SEEN: usize = 1 << 14;

/// Sums from which distances follow; they add up over samples.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Distance {
    signal: f64,
    noise: f64,
    other: f64,
    product: f64,
    /// Largest difference.
    pub max_error: f32,
}

impl Distance {
    /// Of two lists of numbers, the first of which is the truth.
    pub fn of(a: &[f32], b: &[f32]) -> Self {
        let mut d = Distance::default();
        for (&x, &y) in a.iter().zip(b) {
            d.signal += f64::from(x) * f64::from(x);
            d.other += f64::from(y) * f64::from(y);
            d.product += f64::from(x) * f64::from(y);
            d.noise += (f64::from(x) - f64::from(y)).powi(2);
            d.max_error = d.max_error.max((x - y).abs());
        }
        d
    }

    /// Adds the sums of other numbers.
    pub fn add(&mut self, d: Distance) {
        self.signal += d.signal;
        self.noise += d.noise;
        self.other += d.other;
        self.product += d.product;
        self.max_error = self.max_error.max(d.max_error);
    }

    /// Signal to noise in dB; infinite where there is no difference.
    pub fn sqnr(&self) -> f64 {
        if self.noise == 0.0 { f64::INFINITY } else { 10.0 * (self.signal / self.noise).log10() }
    }

    /// Cosine of the angle between the two.
    pub fn cosine(&self) -> f64 {
        if self.noise == 0.0 { 1.0 } else { self.product / (self.signal * self.other).sqrt() }
    }
}

/// Distances of outputs and of layers.
#[derive(Clone, Debug, Default)]
pub struct Fidelity {
    /// Name and distance of each output, in the graph's order.
    pub outputs: Vec<(String, Distance)>,
    /// Name and distance of each contraction's result, behind its activation where it has one, in the graph's order.
    /// Errors of earlier layers are in it.
    pub layers: Vec<(String, Distance)>,
    /// Number of samples compared.
    pub samples: usize,
}

/// What became of a float graph.
#[derive(Clone, Copy, Debug)]
pub struct Compiled<'a> {
    /// The float graph.
    pub float: &'a Graph,
    /// What became of it.
    pub graph: &'a Graph,
    /// Values of the float graph and their counterparts.
    pub values: &'a [(ValueId, ValueId)],
}

/// The layers of a float graph: each contraction with the value behind its activation.
fn layers(g: &Graph) -> Vec<(NodeId, ValueId)> {
    let contractions = g.order().into_iter().filter(|&n| is_contraction(g, n));
    contractions.map(|n| (n, Activation::behind(g, n.value(0)).map_or(n.value(0), |a| a.result))).collect()
}

/// Compares what float graphs became with what they were on samples. `joint` was made of the float graphs, in this order.
pub fn compare(joint: &Joint, compiled: &[Compiled<'_>], samples: &[Vec<Tensor>]) -> Result<Vec<Fidelity>, RunError> {
    let twins: Vec<Twins> = compiled.iter().enumerate().map(|(i, c)| Twins::new(joint, i, c)).collect();
    let truth = Probe {
        layers: twins.iter().flat_map(|t| t.layers.iter().map(|l| l.float)).collect(),
        outputs: twins.iter().flat_map(|t| t.outputs.iter().filter_map(|o| o.0)).collect(),
    };
    let executor = joint.executor(&truth.layers.union(&truth.outputs).copied().collect());
    let probes = twins.iter().map(|t| Probe {
        layers: t.layers.iter().map(|l| l.compiled).collect(),
        outputs: t.outputs.iter().map(|o| o.1).collect(),
    });
    let runs: Vec<(Executor<'_>, Probe)> = compiled.iter().map(|c| Executor::new(c.graph)).zip(probes).collect();
    let runs: Vec<_> = std::iter::once((executor, truth)).chain(runs).collect();
    // All runs stand side by side, those of a sample together, as many at a time as there is room for.
    let run = |k: usize| {
        let (sample, (executor, probe)) = (&samples[k / runs.len()], &runs[k % runs.len()]);
        probe.run(executor, sample)
    };
    let all: Vec<usize> = (0..samples.len() * runs.len()).collect();
    let some = all.chunks(joint.at_once.max(1)).map(|some| some.par_iter().map(|&k| run(k)).collect());
    let seen: Vec<Vec<Seen>> = some.collect::<Result<_, _>>()?;
    let seen: Vec<Seen> = seen.into_iter().flatten().collect();
    let mut all: Vec<Fidelity> = compiled.iter().zip(&twins).map(|(c, t)| t.start(c.float)).collect();
    for seen in seen.chunks(runs.len()) {
        for ((fidelity, twins), own) in all.iter_mut().zip(&twins).zip(&seen[1..]) {
            twins.add(fidelity, &seen[0], own);
        }
    }
    Ok(all)
}

/// A layer, and where its results are in the float graphs and in the compiled one.
struct Layer {
    node: NodeId,
    float: ValueId,
    compiled: ValueId,
}

/// Values to compare.
struct Twins {
    layers: Vec<Layer>,
    outputs: Vec<(Option<ValueId>, ValueId)>,
}

impl Twins {
    fn new(joint: &Joint, i: usize, c: &Compiled<'_>) -> Self {
        let counterpart: FxHashMap<ValueId, ValueId> = c.values.iter().copied().collect();
        let layer = |(node, v): (NodeId, ValueId)| {
            Some(Layer { node, float: joint.place(i, v)?, compiled: *counterpart.get(&v)? })
        };
        let outputs = c.float.outputs().iter().zip(c.graph.outputs());
        Twins {
            layers: layers(c.float).into_iter().filter_map(layer).collect(),
            outputs: outputs.map(|(float, own)| (joint.place(i, float.value), own.value)).collect(),
        }
    }

    /// Nothing compared yet.
    fn start(&self, float: &Graph) -> Fidelity {
        let name = |l: &Layer| float.origin(l.node).path().to_owned();
        Fidelity {
            outputs: float.outputs().iter().map(|o| (o.name.to_string(), Distance::default())).collect(),
            layers: self.layers.iter().map(|l| (name(l), Distance::default())).collect(),
            samples: 0,
        }
    }

    /// Adds the distances on one sample.
    fn add(&self, fidelity: &mut Fidelity, truth: &Seen, own: &Seen) {
        for ((_, sum), l) in fidelity.layers.iter_mut().zip(&self.layers) {
            if let (Some(x), Some(y)) = (truth.layers.get(&l.float), own.layers.get(&l.compiled)) {
                sum.add(Distance::of(x, y));
            }
        }
        for ((_, sum), (float, compiled)) in fidelity.outputs.iter_mut().zip(&self.outputs) {
            // An output that is a constant is what it is.
            let x = float.and_then(|v| truth.outputs.get(&v));
            if let (Some(x), Some(y)) = (x, own.outputs.get(compiled)) {
                sum.add(Distance::of(&x.reals(), &y.reals()));
            }
        }
        fidelity.samples += 1;
    }
}

/// What to keep of a run.
struct Probe {
    layers: FxHashSet<ValueId>,
    outputs: FxHashSet<ValueId>,
}

/// What a run showed on one sample.
#[derive(Default)]
struct Seen {
    /// Some numbers of each value.
    layers: FxHashMap<ValueId, Vec<f32>>,
    outputs: FxHashMap<ValueId, Tensor>,
}

impl Probe {
    fn run(&self, executor: &Executor<'_>, sample: &[Tensor]) -> Result<Seen, RunError> {
        let mut seen = Seen::default();
        executor.run(&on_interface(executor.graph(), sample), &mut |v, t| {
            if self.layers.contains(&v) {
                seen.layers.insert(v, thin(t));
            }
            if self.outputs.contains(&v) {
                seen.outputs.insert(v, t.clone());
            }
        })?;
        Ok(seen)
    }
}

/// Every so many-th number of a tensor.
fn thin(t: &Tensor) -> Vec<f32> {
    let stride = t.len().div_ceil(SEEN) | 1;
    t.reals().iter().step_by(stride).copied().collect()
}

/// A sample of real numbers as the inputs of a graph whose interface may lie on grids.
fn on_interface(g: &Graph, sample: &[Tensor]) -> Vec<Tensor> {
    let placed = |(v, t): (ValueId, &Tensor)| match (&g.ty(v).elem, &t.ty().elem) {
        (Elem::Grid(grid), Elem::F32) => t.quantized(grid),
        _ => t.clone(),
    };
    g.inputs().zip(sample).map(placed).collect()
}

/// Multiplications and additions, and on what they work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// Products summed on integers.
    pub integer: u64,
    /// Products with a weight on a grid and a real activation, which the runtime puts on integers.
    pub run_time: u64,
    /// Products with a weight on a grid and a real activation that stays real.
    pub weights: u64,
    /// Products of real numbers.
    pub real: u64,
}

impl Work {
    /// Share of products that are summed on integers, from 0 to 1.
    pub fn integer_share(&self) -> f64 {
        self.share(self.integer)
    }

    /// Share of products summed on integers that the runtime makes of real activations, from 0 to 1.
    pub fn run_time_share(&self) -> f64 {
        self.share(self.run_time)
    }

    /// Share of products of real numbers whose weight lies on a grid, from 0 to 1.
    pub fn weights_share(&self) -> f64 {
        self.share(self.weights)
    }

    fn share(&self, part: u64) -> f64 {
        part as f64 / (self.integer + self.run_time + self.weights + self.real).max(1) as f64
    }
}

/// The products in the contractions of a graph for that target.
pub fn work(g: &Graph, target: &Target) -> Work {
    let mut work = Work::default();
    for n in g.order() {
        let operands = g.operand_types(n);
        let products = products(g, n);
        match operands.get(1).map(|w| (operands[0].elem.grid().is_some(), w.elem.grid().is_some())) {
            Some((true, _)) => work.integer += products,
            Some((false, true)) if run_time_grid(g, target, n).is_some() => work.run_time += products,
            Some((false, true)) => work.weights += products,
            _ => work.real += products,
        }
    }
    work
}

fn products(g: &Graph, n: NodeId) -> u64 {
    let operands = g.operand_types(n);
    let elements = |i: usize| operands[i].shape.elements().unwrap_or(0) as u64;
    let extent = |i: usize, axis: usize| operands[i].shape.dims()[axis].known().unwrap_or(1).max(1) as u64;
    let result = g.ty(n.value(0)).shape.elements().unwrap_or(0) as u64;
    match g.op(n) {
        Op::Conv(_) => result * (elements(1) / extent(1, 0)),
        Op::ConvTranspose(_) => elements(0) * (elements(1) / extent(1, 0)),
        Op::MatMul(_) => result * extent(0, operands[0].rank() - 1),
        _ => 0,
    }
}

/// Nodes that work on real numbers between integer ones: each costs a conversion on either side. Contractions of integers
/// that give real sums are none of them.
pub fn float_islands(g: &Graph) -> Vec<NodeId> {
    let real = |n: &NodeId| {
        let op = g.op(*n);
        let integers = |i: usize| g.operand_types(*n).get(i).is_some_and(|t| t.elem.grid().is_some());
        let sums = matches!(op.grid(), GridRule::Contract { .. }) && integers(0) && integers(1);
        !matches!(op, Op::Input(_) | Op::Const(_) | Op::Quantize(_) | Op::Dequantize(_))
            && !sums
            && g.result_types(*n).iter().any(|t| t.elem == Elem::F32)
    };
    g.order().into_iter().filter(real).collect()
}
