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

/// What float graphs give on samples: what compiled ones are compared with.
#[derive(Debug)]
pub struct Truth<'a> {
    joint: &'a Joint,
    samples: &'a [Vec<Tensor>],
    /// For each sample, numbers of the results of layers.
    layers: Vec<FxHashMap<ValueId, Vec<f32>>>,
    /// For each sample, the outputs.
    outputs: Vec<FxHashMap<ValueId, Tensor>>,
}

/// The layers of a float graph: each contraction with the value behind its activation.
fn layers(g: &Graph) -> Vec<(NodeId, ValueId)> {
    let contractions = g.order().into_iter().filter(|&n| is_contraction(g, n));
    contractions.map(|n| (n, Activation::behind(g, n.value(0)).map_or(n.value(0), |a| a.result))).collect()
}

impl<'a> Truth<'a> {
    /// Evaluates the float graphs, which `joint` was made of, on the samples.
    pub fn new(joint: &'a Joint, graphs: &[&Graph], samples: &'a [Vec<Tensor>]) -> Result<Self, RunError> {
        let place = |f: fn(&Graph) -> Vec<ValueId>| -> FxHashSet<ValueId> {
            graphs
                .iter()
                .enumerate()
                .flat_map(|(i, g)| f(g).into_iter().filter_map(move |v| joint.place(i, v)))
                .collect()
        };
        let seen = place(|g| layers(g).into_iter().map(|l| l.1).collect());
        let last = place(|g| g.outputs().iter().map(|o| o.value).collect());
        let executor = joint.executor(&seen.union(&last).copied().collect());
        let one = |sample: &Vec<Tensor>| {
            let (mut layers, mut outputs) = (FxHashMap::default(), FxHashMap::default());
            executor.run(sample, &mut |v, t| {
                if seen.contains(&v) {
                    layers.insert(v, thin(t));
                }
                if last.contains(&v) {
                    outputs.insert(v, t.clone());
                }
            })?;
            Ok((layers, outputs))
        };
        let (layers, outputs) = samples.par_iter().map(one).collect::<Result<Vec<_>, RunError>>()?.into_iter().unzip();
        Ok(Truth { joint, samples, layers, outputs })
    }

    /// Compares what float graph `i` became. `values` pairs its values with their counterparts.
    pub fn compare(
        &self,
        i: usize,
        float: &Graph,
        compiled: &Graph,
        values: &[(ValueId, ValueId)],
    ) -> Result<Fidelity, RunError> {
        let counterpart: FxHashMap<ValueId, ValueId> = values.iter().copied().collect();
        let found = |(n, v): (NodeId, ValueId)| Some((n, self.joint.place(i, v)?, *counterpart.get(&v)?));
        let layers: Vec<(NodeId, ValueId, ValueId)> = layers(float).into_iter().filter_map(found).collect();
        let place: FxHashMap<ValueId, usize> = layers.iter().enumerate().map(|(k, l)| (l.2, k)).collect();
        let outputs: Vec<Option<ValueId>> = float.outputs().iter().map(|o| self.joint.place(i, o.value)).collect();
        let executor = Executor::new(compiled);
        let one = |(k, sample): (usize, &Vec<Tensor>)| -> Result<(Vec<Distance>, Vec<Distance>), RunError> {
            let mut distances = vec![Distance::default(); layers.len()];
            let have = executor.run(&on_interface(compiled, sample), &mut |v, t| {
                if let Some(&layer) = place.get(&v)
                    && let Some(truth) = self.layers[k].get(&layers[layer].1)
                {
                    distances[layer] = Distance::of(truth, &thin(t));
                }
            })?;
            let output = |(o, y): (&Option<ValueId>, &Tensor)| match o.and_then(|o| self.outputs[k].get(&o)) {
                Some(x) => Distance::of(&x.reals(), &y.reals()),
                // An output that is a constant is what it is.
                None => Distance::default(),
            };
            Ok((outputs.iter().zip(&have).map(output).collect(), distances))
        };
        let measured = self.samples.par_iter().enumerate().map(one).collect::<Result<Vec<_>, _>>()?;
        let name = |n: NodeId| float.origin(n).path().to_owned();
        let start = |names: Vec<String>| names.into_iter().map(|n| (n, Distance::default())).collect::<Vec<_>>();
        let mut fidelity = Fidelity {
            outputs: start(float.outputs().iter().map(|o| o.name.to_string()).collect()),
            layers: start(layers.iter().map(|(n, _, _)| name(*n)).collect()),
            samples: self.samples.len(),
        };
        for (outputs, distances) in measured {
            fidelity.outputs.iter_mut().zip(outputs).for_each(|(sum, d)| sum.1.add(d));
            fidelity.layers.iter_mut().zip(distances).for_each(|(sum, d)| sum.1.add(d));
        }
        Ok(fidelity)
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
            Some((false, true)) if (target.grids.run_time_grids)(g.op(n)) => work.run_time += products,
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
