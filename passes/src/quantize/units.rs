//! The parts of a quantized graph that may be kept in higher precision independently of each other.

use qcc_ir::ops::{Op, QuantRule};
use qcc_ir::{Graph, NodeId, ValueId};
use rustc_hash::FxHashSet;

use super::Quantized;
use super::kernels::weights;
use crate::activation::Activation;
use crate::calibrate::CalibrationTable;
use crate::quality::Distance;

/// A contraction on quantized operands or weights with the activation function after it, or another node with quantized
/// weights or a quantized result.
#[derive(Clone, Debug, PartialEq)]
pub struct Unit {
    /// The nodes of the float graph, the main one first.
    pub nodes: Vec<NodeId>,
    /// The noise power of rounding its values, relative to the power of its result: an estimate from the scales and the
    /// calibration statistics.
    pub noise: f64,
}

/// The units of the float graph `g` for which `quantized` rounds values or weights, in order.
pub fn units(g: &Graph, ranges: &CalibrationTable, quantized: &Quantized) -> Vec<Unit> {
    let new = quantized.twins();
    let scale = |v: ValueId| Some(f64::from(quantized.graph.ty(*new.get(&v)?).elem.qparams()?.scales()[0]));
    let integer = |n: NodeId| {
        let contracts = || {
            let operands = quantized.graph.operands(new.get(&n.value(0))?.node);
            quantized.graph.ty(*operands.first()?).elem.qparams()
        };
        g.results(n).any(|v| scale(v).is_some()) || (g.op(n).is_contraction() && contracts().is_some())
    };
    let mut taken: FxHashSet<NodeId> = FxHashSet::default();
    let mut units = Vec::new();
    for n in g.order() {
        let rounds = g.op(n).is_contraction()
            || matches!(g.op(n).quant_rule(), QuantRule::OwnRange | QuantRule::SharedScale | QuantRule::Fixed { .. });
        let (exact, there) = quantized.scaled.as_ref().map_or((g, n), |scaled| (&scaled.graph, scaled.node(n)));
        let by_weights =
            new.get(&n.value(0)).map_or(0.0, |twin| noise_of_weights((exact, there), (&quantized.graph, twin.node)));
        if taken.contains(&n) || !(rounds && integer(n) || by_weights > 0.0) {
            continue;
        }
        let activation = Activation::behind(g, n.value(0)).filter(|_| g.op(n).is_contraction());
        let result = activation.map_or(n.value(0), |a| a.result);
        let nodes = between(g, n, result);
        taken.extend(&nodes);
        let power =
            |v: ValueId| ranges.get(v).map(|s| s.moments()).map_or(0.0, |(mean, dev)| mean.powi(2) + dev.powi(2));
        let relative = |step: f64, v: ValueId| step * step / 12.0 / power(v).max(f64::MIN_POSITIVE);
        let results = nodes.iter().flat_map(|&n| g.results(n)).filter_map(scale);
        let mut noise = by_weights + results.map(|step| relative(step, result)).sum::<f64>();
        if rounds && g.results(n).all(|v| scale(v).is_none()) {
            // The kernel has a floating-point result: its operands are rounded for it.
            let read = |i: usize| {
                let operand = quantized.graph.operands(new.get(&n.value(0))?.node).get(i).copied()?;
                let step = quantized.graph.ty(operand).elem.qparams()?.scales()[0];
                Some(relative(f64::from(step), g.operands(n)[i]))
            };
            let computed = (0..g.operands(n).len()).filter(|&i| g.constant(g.operands(n)[i]).is_none());
            noise += computed.filter_map(read).sum::<f64>();
        }
        units.push(Unit { nodes, noise: if noise.is_finite() { noise } else { 0.0 } });
    }
    units
}

/// The noise power of rounding the constant weights of node `n` as its twin in a quantized graph has them, relative to their own
/// power; 0 if they are not quantized.
fn noise_of_weights((g, n): (&Graph, NodeId), (quantized, twin): (&Graph, NodeId)) -> f64 {
    let operands = quantized.operands(twin);
    let stored = |v: ValueId| match quantized.producer(v) {
        Op::Dequantize(_) => quantized.constant(quantized.operand(v.node, 0)),
        _ => quantized.constant(v),
    };
    let noise = |i: &usize| {
        let rounded = stored(*operands.get(*i)?).filter(|w| w.ty().elem.qparams().is_some())?;
        let exact = g.constant(*g.operands(n).get(*i)?)?;
        Some(libm::pow(10.0, -Distance::of(&exact.floats(), &rounded.floats()).sqnr() / 10.0))
    };
    weights(g.op(n)).iter().filter_map(noise).sum()
}

/// The node `n` and those that compute `result` from its results.
fn between(g: &Graph, n: NodeId, result: ValueId) -> Vec<NodeId> {
    let (mut nodes, mut open) = (vec![n], vec![n.value(0)]);
    while let Some(v) = open.pop() {
        for (user, _) in g.users(v) {
            if v != result && !nodes.contains(&user) {
                nodes.push(user);
                open.extend(g.results(user));
            }
        }
    }
    nodes
}
