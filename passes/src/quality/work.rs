//! The share of integer arithmetic in a compiled graph, and its float nodes.

use std::iter::Sum;

use qcc_ir::ops::{Op, QuantRule};
use qcc_ir::{Elem, Graph, NodeId};
use serde::Serialize;

/// Numbers of multiply-accumulate operations by kind of arithmetic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Work {
    /// Accumulated in integers.
    pub integer: u64,
    /// With a quantized weight and an activation that is quantized dynamically.
    pub run_time: u64,
    /// With a quantized weight and a float activation.
    pub weights: u64,
    /// In floating point.
    pub float: u64,
}

impl Work {
    /// The share of operations that are accumulated in integers, from 0 to 1.
    pub fn integer_share(&self) -> f64 {
        self.share(self.integer)
    }

    /// The share of integer operations that use dynamic quantization, from 0 to 1.
    pub fn run_time_share(&self) -> f64 {
        self.share(self.run_time)
    }

    /// The share of floating-point operations with a quantized weight, from 0 to 1.
    pub fn weights_share(&self) -> f64 {
        self.share(self.weights)
    }

    fn share(&self, part: u64) -> f64 {
        part as f64 / self.total().max(1) as f64
    }

    /// The number of operations of all kinds.
    pub fn total(&self) -> u64 {
        self.integer + self.run_time + self.weights + self.float
    }
}

impl Sum for Work {
    fn sum<I: Iterator<Item = Work>>(all: I) -> Work {
        all.fold(Work::default(), |all, one| Work {
            integer: all.integer + one.integer,
            run_time: all.run_time + one.run_time,
            weights: all.weights + one.weights,
            float: all.float + one.float,
        })
    }
}

/// The operations of the contractions of a graph.
pub fn work(g: &Graph) -> Work {
    let g = &*g.typical();
    g.order().into_iter().map(|n| work_of(g, n)).sum()
}

/// The products of one node.
pub fn work_of(g: &Graph, n: NodeId) -> Work {
    if let Some((body, runs)) = executed(g, n) {
        let Work { integer, run_time, weights, float } = body.order().into_iter().map(|n| work_of(body, n)).sum();
        return Work {
            integer: runs * integer,
            run_time: runs * run_time,
            weights: runs * weights,
            float: runs * float,
        };
    }
    let operands = g.operand_types(n);
    let (products, none) = (products_of(g, n), Work::default());
    match operands.get(1).map(|w| (operands[0].elem.qparams().is_some(), w.elem.qparams().is_some())) {
        Some((true, _)) => Work { integer: products, ..none },
        Some((false, true)) if reads_rounded(g, n) => Work { run_time: products, ..none },
        Some((false, true)) => Work { weights: products, ..none },
        _ => Work { float: products, ..none },
    }
}

/// The graph inside a node that is executed, and how often: the branch with more operations, or the body of a loop, once where
/// the number of iterations is known at run time only.
pub fn executed(g: &Graph, n: NodeId) -> Option<(&Graph, u64)> {
    let most = g.op(n).graphs().max_by_key(|body| products(body))?;
    let count = match g.op(n) {
        Op::Loop(op) => op.iterations.as_ref().and_then(|e| u64::try_from(e.constant()?).ok()),
        _ => None,
    };
    Some((most, count.unwrap_or(1)))
}

/// The contractions with dynamically quantized activations.
pub fn dynamic(g: &Graph) -> Vec<NodeId> {
    g.order().into_iter().filter(|&n| g.op(n).is_contraction() && reads_rounded(g, n)).collect()
}

/// True if the activation of a contraction is dynamically quantized.
fn reads_rounded(g: &Graph, contraction: NodeId) -> bool {
    matches!(g.producer(g.operand(contraction, 0)), Op::DynamicQuantize(_))
}

/// The number of multiply-accumulate operations in contractions and recurrent layers.
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
        // For each step and sequence: the weights of the input and of the state.
        Op::Recurrent(_) => extent(0, 0) * extent(0, 1) * (elements(1) + elements(2)),
        _ => executed(g, n).map_or(0, |(body, runs)| runs * products(body)),
    }
}

/// Float nodes between quantized ones. Each costs a conversion on either side. Quantized contractions with a float
/// result are not included.
pub fn float_islands(g: &Graph) -> Vec<NodeId> {
    let float = |n: &NodeId| {
        let op = g.op(*n);
        let integers = |i: usize| g.operand_types(*n).get(i).is_some_and(|t| t.elem.qparams().is_some());
        let sums = matches!(op.quant_rule(), QuantRule::Contraction { .. }) && integers(0) && integers(1);
        !matches!(op, Op::Input(_) | Op::Const(_) | Op::Quantize(_) | Op::Dequantize(_) | Op::DynamicQuantize(_))
            && !sums
            && g.result_types(*n).iter().any(|t| t.elem == Elem::F32)
    };
    g.order().into_iter().filter(float).collect()
}
