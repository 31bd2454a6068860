//! Parts of a graph.

use std::sync::Arc;

use super::{Graph, NodeId, Output, ValueId};

impl Graph {
    /// The part of the graph from values to outputs: each of `inputs` becomes an input of that name, unless it is one;
    /// `outputs` are the only outputs. Inputs that no output depends on are left out.
    pub fn part(&self, inputs: &[(Arc<str>, ValueId)], outputs: &[(Arc<str>, ValueId)]) -> Graph {
        let mut part = self.clone();
        (part.outputs, part.named) = Default::default();
        for (name, value) in outputs {
            part.add_output(Arc::clone(name), *value);
        }
        let before = std::mem::take(&mut part.inputs);
        let begins = |(name, v): &(Arc<str>, ValueId)| match before.contains(&v.node) {
            true => v.node,
            false => {
                let input = part.add_input(Arc::clone(name), self.ty(*v).clone());
                part.redirect(*v, input);
                input.node
            }
        };
        let first: Vec<NodeId> = inputs.iter().map(begins).collect();
        let roots: Vec<NodeId> = part.outputs.iter().map(|Output { value, .. }| value.node).collect();
        let needed = part.walk(Vec::new(), &roots);
        let others: Vec<NodeId> = before.into_iter().filter(|n| !first.contains(n)).collect();
        part.inputs = first.into_iter().chain(others).filter(|n| needed.contains(n)).collect();
        part.sweep();
        part
    }
}
