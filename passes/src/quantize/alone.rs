//! Float graphs in which chosen nodes alone are rounded, to measure what that costs the outputs.

use qcc_ir::error::TypeError;
use qcc_ir::ops::{Dequantize, Op, QuantRule, Quantize, Types};
use qcc_ir::{Elem, Graph, NodeId, QuantParams, Tensor, ValueId};
use rustc_hash::{FxHashMap, FxHashSet};

use super::Quantized;

/// A float graph in which some nodes are rounded.
#[derive(Debug)]
pub struct Rounded {
    /// The graph. Node ids are those of the float graph.
    pub graph: Graph,
    /// Values of the float graph, each with the value that replaces it.
    pub values: Vec<(ValueId, ValueId)>,
}

/// The float graph `g` in which the results and constants of `nodes` are rounded as in `quantized`, with operands that are
/// rounded for them, and nothing else. A graph that is quantized for these nodes alone would not tell that: where its other
/// nodes are floats, kernels with float results are chosen. Where channels are scaled, they are so in this graph too.
///
/// # Errors
/// If a node cannot be created.
pub fn rounded_alone(g: &Graph, quantized: &Quantized, nodes: &[NodeId]) -> Result<Rounded, TypeError> {
    let (new, scaled) = (quantized.twins(), quantized.scaled.as_ref());
    let mut rounded = scaled.map_or(g, |scaled| &scaled.graph).clone();
    let left: FxHashSet<NodeId> = rounded.order().into_iter().collect();
    let mut values: FxHashMap<ValueId, ValueId> = FxHashMap::default();
    for &n in nodes {
        let here = scaled.map_or(n, |scaled| scaled.node(n));
        if let Some(twin) = new.get(&n.value(0)).map(|v| v.node) {
            round_operands(&mut rounded, here, &quantized.graph, twin)?;
        }
        for v in g.results(n) {
            let qparams = new.get(&v).and_then(|v| quantized.graph.ty(*v).elem.qparams());
            if let Some(qparams) = qparams.filter(|_| g.ty(v).elem == Elem::F32) {
                let real = round(&mut rounded, ValueId { node: here, ..v }, qparams)?;
                values.insert(v, real);
            }
        }
    }
    // What is divided by scales is not comparable.
    let all = g.order().into_iter().filter(|n| left.contains(n)).flat_map(|n| g.results(n));
    let values = all.map(|v| (v, values.get(&v).copied().unwrap_or(v))).collect();
    Ok(Rounded { graph: rounded, values })
}

/// Rounds the constants of a node as those of its twin in a quantized graph, and what that quantizes at run time.
fn round_operands(g: &mut Graph, n: NodeId, quantized: &Graph, twin: NodeId) -> Result<(), TypeError> {
    let (own, theirs) = (g.operands(n), quantized.operands(twin));
    if std::mem::discriminant(g.op(n)) != std::mem::discriminant(quantized.op(twin)) {
        return Ok(());
    }
    for (i, (v, there)) in own.into_iter().zip(theirs).enumerate() {
        let origin = g.origin(n).clone();
        let stored = match quantized.producer(there) {
            Op::DynamicQuantize(op) => {
                let op = op.clone();
                let dynamic = g.add1(op, &[v], origin)?;
                g.set_operand(n, i, dynamic);
                continue;
            }
            Op::Dequantize(_) => quantized.constant(quantized.operand(there.node, 0)),
            _ => quantized.constant(there),
        };
        if let Some(qparams) = rounded_on_the_way(quantized, there) {
            let real = through_integers(g, v, qparams)?;
            g.set_operand(n, i, real);
            continue;
        }
        let same = |w: &&Tensor| g.constant(v).is_some_and(|exact| exact.ty().shape == w.ty().shape);
        let Some(stored) = stored.filter(same) else { continue };
        let constant = g.add_const(stored.to_float(), origin);
        g.set_operand(n, i, constant);
    }
    Ok(())
}

/// The parameters of a quantized operand that is computed in floating point and rounded for those that read it.
fn rounded_on_the_way(quantized: &Graph, operand: ValueId) -> Option<&QuantParams> {
    let mut v = operand;
    loop {
        match quantized.producer(v) {
            Op::Quantize(_) => return quantized.ty(operand).elem.qparams(),
            op if matches!(op.quant_rule(), QuantRule::SameAsInput) => v = quantized.operand(v.node, 0),
            _ => return None,
        }
    }
}

/// Rounds a value for all its users. Returns the rounded value.
fn round(g: &mut Graph, v: ValueId, qparams: &QuantParams) -> Result<ValueId, TypeError> {
    let users = g.users(v);
    let outputs: Vec<usize> = (0..g.outputs().len()).filter(|&i| g.outputs()[i].value == v).collect();
    let real = through_integers(g, v, qparams)?;
    for (user, i) in users {
        g.set_operand(user, i, real);
    }
    outputs.into_iter().for_each(|i| g.set_output(i, real));
    Ok(real)
}

/// A value that is quantized and dequantized.
fn through_integers(g: &mut Graph, v: ValueId, qparams: &QuantParams) -> Result<ValueId, TypeError> {
    let (ty, origin) = (g.ty(v).with_elem(Elem::Quantized(qparams.clone())), g.origin(v.node).clone());
    let integer = g.add_typed(Quantize {}, &[v], Types::from_elem(ty, 1), origin.clone())?.value(0);
    g.add1(Dequantize {}, &[integer], origin)
}

#[cfg(test)]
mod tests {
    use qcc_ir::eval::Executor;
    use qcc_ir::{Shape, Tensor};

    use super::super::Options;
    use super::super::tests::{GATED, graph, quantized_graph};
    use super::*;

    fn output(g: &Graph) -> Vec<f32> {
        let x = (0..32).map(|i| (i * 7 % 32) as f32 / 15.5 - 1.0).collect::<Vec<_>>();
        let x = Tensor::from_vec(Shape::known(&[1, 2, 4, 4]), x);
        Executor::new(g).run(&[x], &mut |_, _| {}).unwrap()[0].floats().to_vec()
    }

    /// What one node rounds is in the graph, and nothing else; rounding none changes nothing.
    #[test]
    fn chosen_nodes_alone_are_rounded() {
        let g = graph(GATED);
        let q = quantized_graph(&g, &Options::default());
        let none = rounded_alone(&g, &q, &[]).unwrap();
        assert_eq!(output(&none.graph), output(&g));
        let contractions: Vec<NodeId> = g.order().into_iter().filter(|&n| g.op(n).is_contraction()).collect();
        for &n in &contractions {
            let alone = rounded_alone(&g, &q, &[n]).unwrap();
            alone.graph.verify().unwrap();
            assert_ne!(output(&alone.graph), output(&g), "{}", g.origin(n).path());
            let changed = alone.graph.order().into_iter().filter(|&m| matches!(alone.graph.op(m), Op::Quantize(_)));
            assert!(changed.count() <= 2);
            let weight = |m: NodeId| alone.graph.constant(alone.graph.operand(m, 1)).map(|w| w.floats().to_vec());
            for &m in contractions.iter().filter(|&&m| m != n) {
                let exact = g.constant(g.operand(m, 1)).map(|w| w.floats().to_vec());
                assert_eq!(weight(m), exact, "{}", g.origin(m).path());
            }
        }
        assert_eq!(none.values.len(), g.order().into_iter().map(|n| g.results(n).len()).sum::<usize>());
    }
}
