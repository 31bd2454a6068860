//! On what a compiled graph works: how many of its products are sums of integers, and which nodes compute with real
//! numbers.

use qcc_ir::ops::{Op, QuantRule};
use qcc_ir::{Elem, Graph, NodeId};

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

/// The products in the contractions of a graph.
pub fn work(g: &Graph) -> Work {
    g.order().into_iter().map(|n| work_of(g, n)).fold(Work::default(), |all, one| Work {
        integer: all.integer + one.integer,
        run_time: all.run_time + one.run_time,
        weights: all.weights + one.weights,
        real: all.real + one.real,
    })
}

/// The products of one node.
pub fn work_of(g: &Graph, n: NodeId) -> Work {
    let operands = g.operand_types(n);
    let (products, none) = (products_of(g, n), Work::default());
    match operands.get(1).map(|w| (operands[0].elem.qparams().is_some(), w.elem.qparams().is_some())) {
        Some((true, _)) => Work { integer: products, ..none },
        Some((false, true)) if reads_rounded(g, n) => Work { run_time: products, ..none },
        Some((false, true)) => Work { weights: products, ..none },
        _ => Work { real: products, ..none },
    }
}

/// The contractions whose real activations the runtime puts on integers.
pub fn dynamic(g: &Graph) -> Vec<NodeId> {
    g.order().into_iter().filter(|&n| g.op(n).is_contraction() && reads_rounded(g, n)).collect()
}

/// True where the runtime rounds the activations that a contraction reads.
fn reads_rounded(g: &Graph, contraction: NodeId) -> bool {
    matches!(g.producer(g.operand(contraction, 0)), Op::DynamicQuantize(_))
}

/// The products in the contractions and recurrent layers of a graph.
pub fn products(g: &Graph) -> u64 {
    g.order().into_iter().map(|n| products_of(g, n)).sum()
}

fn products_of(g: &Graph, n: NodeId) -> u64 {
    let operands = g.operand_types(n);
    let elements = |i: usize| operands[i].shape.elements().unwrap_or(0) as u64;
    let extent = |i: usize, axis: usize| operands[i].shape.dims()[axis].known().unwrap_or(1).max(1) as u64;
    let result = g.ty(n.value(0)).shape.elements().unwrap_or(0) as u64;
    match g.op(n) {
        Op::Conv(_) => result * (elements(1) / extent(1, 0)),
        Op::ConvTranspose(_) => elements(0) * (elements(1) / extent(1, 0)),
        Op::MatMul(_) => result * extent(0, operands[0].rank() - 1),
        // For each step and sequence, the weights of inputs and of states.
        Op::Recurrent(_) => extent(0, 0) * extent(0, 1) * (elements(1) + elements(2)),
        _ => 0,
    }
}

/// Nodes that work on real numbers between integer ones: each costs a conversion on either side. Contractions of integers
/// that give real sums are none of them.
pub fn float_islands(g: &Graph) -> Vec<NodeId> {
    let real = |n: &NodeId| {
        let op = g.op(*n);
        let integers = |i: usize| g.operand_types(*n).get(i).is_some_and(|t| t.elem.qparams().is_some());
        let sums = matches!(op.quant_rule(), QuantRule::Contraction { .. }) && integers(0) && integers(1);
        !matches!(op, Op::Input(_) | Op::Const(_) | Op::Quantize(_) | Op::Dequantize(_) | Op::DynamicQuantize(_))
            && !sums
            && g.result_types(*n).iter().any(|t| t.elem == Elem::F32)
    };
    g.order().into_iter().filter(real).collect()
}
