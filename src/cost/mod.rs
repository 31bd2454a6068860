//! The cost of running a graph: memory, time and energy. Sizes are counted. Times and energies are proxies: models that
//! order graphs of one target, not measurements.

use std::collections::HashMap;

use qcc_ir::ops::Op;
use qcc_ir::{Graph, NodeId, ValueId};
use qcc_passes::quality::{Work, work_of};
use serde::Serialize;

mod memory;
mod table;

pub use table::{ENERGY_SOURCE, LATENCY_SOURCE};
use table::{Energies, Kernels};

/// Multiply-accumulate operations of convolutions and matrix multiplications, by precision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Products {
    /// On quantized operands.
    pub integer: u64,
    /// On activations that are quantized at run time (dynamic quantization).
    pub run_time: u64,
    /// In floating point, with quantized weights (weight-only quantization).
    pub weights: u64,
    /// In floating point.
    pub real: u64,
}

/// The cost of one run of a graph on one sample.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Cost {
    /// Multiply-accumulate operations, by precision.
    pub products: Products,
    /// Those of depthwise convolutions.
    pub channelwise: Products,
    /// Bytes of constants.
    pub weight_bytes: u64,
    /// Peak memory of values in bytes: the length of the arena that the greedy planner of TensorFlow Lite for
    /// Microcontrollers needs. Buffers that only other runtimes need, such as im2col buffers, are not included.
    pub peak_bytes: u64,
    /// Bytes that operators read and write.
    pub moved_bytes: u64,
    /// Number of operators.
    pub operators: u64,
    /// Latency proxy in milliseconds; `None` for targets without a table.
    pub latency_ms: Option<f64>,
    /// Energy proxy in microjoules.
    pub energy_uj: f64,
}

/// The cost of an artefact, and that of the float model for the same target.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Costs {
    /// The cost of the float graph.
    pub before: Cost,
    /// The cost of the artefact's graph.
    pub after: Cost,
}

impl Cost {
    /// The cost of a graph for the target named `target`.
    pub(crate) fn of(g: &Graph, target: &str) -> Self {
        let mut cost = Cost {
            products: Products::default(),
            channelwise: Products::default(),
            weight_bytes: 0,
            peak_bytes: memory::peak(g),
            moved_bytes: 0,
            operators: 0,
            latency_ms: None,
            energy_uj: 0.0,
        };
        for n in g.order() {
            if let Op::Const(_) = g.op(n) {
                cost.weight_bytes += g.ty(n.value(0)).bytes().unwrap_or(0) as u64;
            }
        }
        for step in steps(g) {
            let work = work_of(g, step.node);
            cost.products.add(work);
            if is_channelwise(g, step.node) {
                cost.channelwise.add(work);
            }
            cost.operators += 1;
            cost.moved_bytes += step.moved_bytes;
        }
        cost.latency_ms = Kernels::of(target).map(|kernels| kernels.latency(&cost));
        cost.energy_uj = Energies::HOROWITZ.energy(&cost);
        cost
    }
}

impl Products {
    fn add(&mut self, work: Work) {
        self.integer += work.integer;
        self.run_time += work.run_time;
        self.weights += work.weights;
        self.real += work.real;
    }

    /// The sum over all precisions.
    pub fn all(&self) -> u64 {
        self.integer + self.run_time + self.weights + self.real
    }
}

/// An operator of the runtime: a node, with the activation function after it if the kernel fuses that.
pub(crate) struct Step {
    pub(crate) node: NodeId,
    /// Its results: those of the node, and that of the fused activation function.
    pub(crate) results: Vec<ValueId>,
    pub(crate) products: u64,
    pub(crate) moved_bytes: u64,
}

/// The operators of a graph, in order.
pub(crate) fn steps(g: &Graph) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut places: HashMap<ValueId, usize> = HashMap::new();
    for n in g.order() {
        if matches!(g.op(n), Op::Input(_) | Op::Const(_)) {
            continue;
        }
        if let Some(shared) = memory::shared(g, n) {
            if let Some(&place) = places.get(&shared) {
                places.insert(n.value(0), place);
                steps[place].results.push(n.value(0));
            }
            continue;
        }
        places.extend(g.results(n).map(|v| (v, steps.len())));
        let Work { integer, run_time, weights, real } = work_of(g, n);
        let (products, results) = (integer + run_time + weights + real, g.results(n).collect());
        steps.push(Step { node: n, results, products, moved_bytes: moved(g, n) });
    }
    steps
}

/// True for depthwise convolutions, whose kernels have a lower throughput.
fn is_channelwise(g: &Graph, n: NodeId) -> bool {
    matches!(g.op(n), Op::Conv(c) if c.groups > 1 && g.operand_types(n)[1].shape.dims()[1].known() == Some(1))
}

/// Bytes that a node reads and writes.
fn moved(g: &Graph, n: NodeId) -> u64 {
    let read = g.operand_types(n).iter().map(|t| t.bytes().unwrap_or(0)).sum::<usize>();
    let written = g.result_types(n).iter().map(|t| t.bytes().unwrap_or(0)).sum::<usize>();
    (read + written) as u64
}

#[cfg(test)]
mod tests {
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
        let cost = Cost::of(&parse(g, &Weights::new()).unwrap(), "no target");
        assert_eq!(cost.products, Products { real: 3 * 16 * 2, ..Products::default() });
        assert_eq!(cost.channelwise, Products::default());
        assert_eq!(cost.weight_bytes, 9 * 4);
        // The kernel of the convolution fuses the activation function.
        assert_eq!((cost.operators, cost.moved_bytes), (1, (32 + 9 + 48) * 4));
        assert_eq!(cost.peak_bytes, (32 + 48) * 4);
        assert_eq!(cost.latency_ms, None);
        // 96 products at 4.6 pJ, 36 bytes of weights at 162.5 pJ and 320 bytes of values at 12.5 pJ.
        let picojoules = 96.0 * 4.6 + 36.0 * 162.5 + 320.0 * 12.5;
        assert!((cost.energy_uj - picojoules * 1e-6).abs() < 1e-12, "{}", cost.energy_uj);
    }
}
