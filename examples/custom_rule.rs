//! A custom rewrite rule with state.
//!
//! `cargo run --example custom_rule` prunes the smallest weights of a classifier before compilation, and prints which
//! layers the rule skipped and why.
#![expect(clippy::print_stdout, reason = "examples print what they do")]

use std::error::Error;
use std::path::Path;

use qcc::ir::ops::OpKind;
use qcc::ir::{Elem, Graph, NodeId, Tensor};
use qcc::passes::{Context, Pipeline, Rewrite, Rules, Settings, Skip, Stage, ignore};

/// Sets weights to 0 whose magnitude is below a fraction of the largest one in their layer.
#[derive(Debug)]
struct Prune {
    share: f32,
    /// Layers with fewer weights are skipped.
    fewest: usize,
}

impl Rewrite for Prune {
    fn name(&self) -> &'static str {
        "prune"
    }

    fn anchors(&self) -> &[OpKind] {
        &[OpKind::Conv, OpKind::MatMul]
    }

    fn apply(&self, g: &mut Graph, node: NodeId) -> Result<(), Skip> {
        let weight = g.operand(node, 1);
        let Some(w) = g.constant(weight).filter(|w| w.ty().elem == Elem::F32) else { return Err(Skip::NoMatch) };
        if w.len() < self.fewest {
            return Err(Skip::because(format!("it has {} weights only", w.len())));
        }
        let values = w.floats();
        let least = values.iter().fold(0.0f32, |most, x| most.max(x.abs())) * self.share;
        if values.iter().all(|x| *x == 0.0 || x.abs() >= least) {
            return Err(Skip::NoMatch);
        }
        let pruned = values.iter().map(|x| if x.abs() < least { 0.0 } else { *x }).collect();
        let pruned = Tensor::from_vec(w.ty().shape.clone(), pruned);
        let origin = g.origin(weight.node).clone();
        let pruned = g.add_const(pruned, origin);
        g.set_operand(node, 1, pruned);
        Ok(())
    }
}

pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models/mnist_lenet.onnx");
    let imported = qcc::frontends::open(&path, &Default::default()).map_err(qcc::Failure::from)?;
    let mut graph = imported.graph;

    let mut pipeline = Pipeline::new(&Settings::default());
    pipeline
        .insert_after("simplify/simplify", Rules::new("prune-weights", &[]).and(Prune { share: 0.05, fewest: 500 }))?;
    let mut cx = Context::new(qcc::backends::Format::Tflite.target());
    pipeline.run(..=Stage::Simplify, &mut graph, &mut cx, &mut ignore)?;

    for node in graph.order() {
        for (rule, reason) in cx.rewrites.reasons(node).iter().filter(|(rule, _)| *rule == "prune") {
            println!("{rule} leaves {} alone: {reason}", graph.origin(node));
        }
        let weight = graph.operands(node).get(1).and_then(|&w| graph.constant(w));
        if let Some(w) = weight.filter(|w| w.ty().elem == Elem::F32) {
            let zeros = w.floats().iter().filter(|x| **x == 0.0).count();
            println!("{}: {zeros} of {} weights are 0", graph.origin(node), w.len());
        }
    }
    Ok(())
}
