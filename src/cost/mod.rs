//! The cost of running a graph: memory, time and energy. Sizes are counted. Times and energies are proxies: models that
//! order graphs of one target, not measurements.

use std::collections::{BTreeMap, HashMap};

use qcc_ir::ops::Op;
use qcc_ir::target::{Latency, Target};
use qcc_ir::{Graph, NodeId, StorageType, ValueId};
use qcc_passes::quality::{Work, executed, work_of};
use serde::Serialize;

mod energy;
mod memory;

use energy::Energies;
pub use energy::{ENERGY_SOURCE, LATENCY_SOURCE};

/// The cost of one run of a graph on one sample.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Cost {
    /// Multiply-accumulate operations, by precision.
    pub products: Work,
    /// Those of depthwise convolutions.
    pub channelwise: Work,
    /// Bytes of constants, without scales and zero points.
    pub weight_bytes: u64,
    /// Those of each element type.
    pub weights: Vec<ElemBytes>,
    /// Peak memory of values in bytes: the length of the arena that the greedy planner of TensorFlow Lite for
    /// Microcontrollers needs. Buffers that only other runtimes need, such as im2col buffers, are not included.
    pub peak_bytes: u64,
    /// Bytes that operators read and write.
    pub moved_bytes: u64,
    /// Number of operators.
    pub operators: u64,
    /// Latency proxy in milliseconds; `None` for targets without times of kernels, for devices, and for graphs with 16-bit
    /// activations, whose kernels are much slower and were not measured.
    pub latency_ms: Option<f64>,
    /// Energy proxy in microjoules.
    pub energy_uj: f64,
}

/// Bytes of constants of an element type.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ElemBytes {
    /// Name of the type, as in [`Elem`](qcc_ir::Elem), without quantization parameters.
    pub elem: String,
    /// Bytes of these constants.
    pub bytes: u64,
}

/// The cost of an artefact, and that of the float model for the same target.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Costs {
    /// The cost of the float graph, if it is known.
    pub before: Option<Cost>,
    /// The cost of the artefact's graph.
    pub after: Cost,
    /// Bytes that the runtime of the artefact reserves for values, if it is known: LiteRT with its reference kernels, which
    /// keeps inputs to the end, and temporaries of kernels. `None` until the artefact is written.
    pub arena_bytes: Option<u64>,
    /// The open extents that costs are for; empty if all extents are known.
    pub extents: Vec<OpenExtent>,
}

/// A value of an open extent.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct OpenExtent {
    /// Its name in the model.
    pub name: String,
    /// Its value.
    pub extent: usize,
}

impl Costs {
    /// The typical extents of a graph, in the order of their names.
    pub(crate) fn typical(graph: &Graph) -> Vec<OpenExtent> {
        let typical = graph.typical_extents().into_iter();
        let mut all: Vec<_> = typical.map(|(name, extent)| OpenExtent { name: name.to_string(), extent }).collect();
        all.sort();
        all
    }

    /// What the costs are for, if the artefact has open extents.
    pub fn open_extents(&self) -> Option<String> {
        let each: Vec<String> = self.extents.iter().map(|e| format!("{} = {}", e.name, e.extent)).collect();
        (!each.is_empty()).then(|| each.join(", "))
    }
}

impl Cost {
    /// The cost of a graph for a target, at typical extents.
    pub(crate) fn of(g: &Graph, target: &Target) -> Self {
        let g = &*g.typical();
        let steps = steps(g, target);
        let mut cost = Cost {
            products: steps.iter().map(|step| step.work).sum(),
            channelwise: steps.iter().filter(|step| is_depthwise(g, step.node)).map(|step| step.work).sum(),
            weight_bytes: weight_bytes(g),
            weights: weights(g),
            peak_bytes: memory::peak(g, target),
            moved_bytes: steps.iter().map(|step| step.moved_bytes).sum(),
            operators: steps.len() as u64,
            latency_ms: target
                .latency
                .filter(|_| target.device.is_none() && !has_wide(g))
                .map(|times| time(g, &steps, target, &times)),
            energy_uj: 0.0,
        };
        cost.energy_uj = Energies::HOROWITZ.energy(&cost);
        cost
    }
}

/// True for graphs with 16-bit activations.
fn has_wide(g: &Graph) -> bool {
    g.order().into_iter().any(|n| !matches!(g.op(n), Op::Input(_)) && g.ty(n.value(0)).is_wide())
}

/// Bytes of constants of a graph.
pub(crate) fn weight_bytes(g: &Graph) -> u64 {
    weights(g).iter().map(|weights| weights.bytes).sum()
}

/// Bytes of constants of each element type, by its name.
fn weights(g: &Graph) -> Vec<ElemBytes> {
    let mut weights: BTreeMap<String, u64> = BTreeMap::new();
    count_weights(g, &mut weights);
    weights.into_iter().map(|(elem, bytes)| ElemBytes { elem, bytes }).collect()
}

fn count_weights(g: &Graph, weights: &mut BTreeMap<String, u64>) {
    for n in g.order() {
        g.op(n).graphs().for_each(|body| count_weights(body, weights));
        if !matches!(g.op(n), Op::Const(_)) {
            continue;
        }
        let (elem, bytes) = (&g.ty(n.value(0)).elem, g.ty(n.value(0)).bytes().unwrap_or(0) as u64);
        let (name, bytes) = match elem.qparams().map(|qparams| qparams.storage) {
            // Files have two in a byte.
            Some(storage @ StorageType::I4) => (storage.to_string(), bytes.div_ceil(2)),
            Some(storage) => (storage.to_string(), bytes),
            None => (elem.to_string(), bytes),
        };
        *weights.entry(name).or_default() += bytes;
    }
}

/// The latency proxy of a graph in milliseconds. For a device it is that of the target's models on a processor, which
/// compares graphs.
pub(crate) fn latency(g: &Graph, target: &Target) -> f64 {
    let g = &*g.typical();
    time(g, &steps(g, target), target, &target.latency.unwrap_or(Latency::ROUGH))
}

/// The time of operators in milliseconds.
fn time(g: &Graph, steps: &[Step], target: &Target, times: &Latency) -> f64 {
    let products = |step: &Step| {
        let (Work { integer, run_time, weights, float }, time) = (step.work, target.product_time(g, step.node));
        (integer + run_time) as f64 * time.integer + (weights + float) as f64 * time.float
    };
    let step = |step: &Step| products(step) + step.moved_bytes as f64 * times.byte + times.operator;
    // The sum of no numbers is -0.0.
    (steps.iter().map(step).sum::<f64>() + 0.0) * 1e-6
}

/// An estimate of what it costs on `target`, in milliseconds, to compute the node `n` of a float graph in floating point
/// in a quantized model, boundaries included: a conversion of the operand and of the result. With `dynamic`, its
/// activations are quantized dynamically, and the products stay integer.
pub(crate) fn of_raising(g: &Graph, n: NodeId, target: &Target, dynamic: bool) -> f64 {
    let elements = |v: ValueId| g.ty(v).shape.elements().unwrap_or(0) as u64;
    let operands: u64 = g.operands(n).into_iter().filter(|v| g.constant(*v).is_none()).map(elements).sum();
    let results: u64 = g.results(n).map(elements).sum();
    let (times, product) = (target.latency.unwrap_or(Latency::ROUGH), target.product_time(g, n));
    let slower = if dynamic { 0.0 } else { (product.float - product.integer).max(0.0) };
    // Each value is read and written with 4 bytes instead of 1, and converted: 5 bytes for each element.
    let bytes = (operands + results) * (3 + 5);
    (work_of(g, n).total() as f64 * slower + bytes as f64 * times.byte + 2.0 * times.operator) * 1e-6
}

/// An operator of the runtime: a node, with the activation function after it if the kernel fuses that.
pub(crate) struct Step {
    pub(crate) node: NodeId,
    /// Its results: those of the node, and that of the fused activation function.
    pub(crate) results: Vec<ValueId>,
    pub(crate) work: Work,
    pub(crate) moved_bytes: u64,
}

/// The operators of a graph, in order.
pub(crate) fn steps(g: &Graph, target: &Target) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut places: HashMap<ValueId, usize> = HashMap::new();
    for n in g.order() {
        if matches!(g.op(n), Op::Input(_) | Op::Const(_)) {
            continue;
        }
        if let Some(shared) = memory::shared(g, n, target) {
            if let Some(&place) = places.get(&shared) {
                places.insert(n.value(0), place);
                steps[place].results.push(n.value(0));
            }
            continue;
        }
        places.extend(g.results(n).map(|v| (v, steps.len())));
        steps.push(Step { node: n, results: g.results(n).collect(), work: work_of(g, n), moved_bytes: moved(g, n) });
    }
    steps
}

/// True for depthwise convolutions, whose kernels have a lower throughput.
fn is_depthwise(g: &Graph, n: NodeId) -> bool {
    matches!(g.op(n), Op::Conv(c) if c.is_depthwise(&g.operand_types(n)[1].shape))
}

/// Bytes that a node reads and writes, those of the graph inside among them.
fn moved(g: &Graph, n: NodeId) -> u64 {
    let own: u64 = g.operands(n).into_iter().chain(g.results(n)).map(|v| g.ty(v).bytes().unwrap_or(0) as u64).sum();
    let inside = |(body, runs): (&Graph, u64)| runs * body.order().into_iter().map(|n| moved(body, n)).sum::<u64>();
    own + executed(g, n).map_or(0, inside)
}

#[cfg(test)]
mod tests {
    use qcc_backends::Format;
    use qcc_ir::text::{Weights, parse};

    use super::*;

    #[test]
    fn products_and_bytes_are_counted() {
        let g = "graph g {
            %x: f32[1,2,4,4] = input
            %w: f32[3,2,1,1] = const [1,2,3,4,5,6]
            %b: f32[3] = const [0,0,0]
            %c = conv(stride:[1,1],before:[0,0],after:[0,0],dilation:[1,1],groups:1) %x, %w, %b
            %y = clamp(lo:0,hi:inf) %c
            output y = %y
        }";
        let cost = Cost::of(&parse(g, &Weights::new()).unwrap(), Format::Tflite.target());
        assert_eq!(cost.products, Work { float: 3 * 16 * 2, ..Work::default() });
        assert_eq!(cost.channelwise, Work::default());
        assert_eq!(cost.weight_bytes, 9 * 4);
        assert_eq!(cost.weights, [ElemBytes { elem: "f32".into(), bytes: 9 * 4 }]);
        // The kernel of the convolution fuses the activation function.
        assert_eq!((cost.operators, cost.moved_bytes), (1, (32 + 9 + 48) * 4));
        assert_eq!(cost.peak_bytes, (32 + 48) * 4);
        let times = Format::Tflite.target().latency.unwrap();
        let nanoseconds = 96.0 * times.product.float + (89 * 4) as f64 * times.byte + times.operator;
        assert!((cost.latency_ms.unwrap() - nanoseconds * 1e-6).abs() < 1e-12, "{:?}", cost.latency_ms);
        // 96 products at 4.6 pJ, 36 bytes of weights at 162.5 pJ and 320 bytes of values at 12.5 pJ.
        let picojoules = 96.0 * 4.6 + 36.0 * 162.5 + 320.0 * 12.5;
        assert!((cost.energy_uj - picojoules * 1e-6).abs() < 1e-12, "{}", cost.energy_uj);
    }
}
