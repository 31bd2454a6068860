//! How each node of a quantized model is computed, and why.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use qcc_ir::Graph;
use qcc_ir::ops::Op;
use qcc_passes::decisions::{Decision, Form, Reason};

/// How a node of the source model is computed in an artefact.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NodeDecision {
    /// The node's name.
    pub node: Arc<str>,
    /// Its operator in the source model.
    pub kind: Arc<str>,
    /// How its parts are computed, and why: one entry for each form and reason. Empty if no node of the artefact stands
    /// for it: it was folded, is part of another node, or is not needed.
    pub parts: Vec<Part>,
}

/// Operators of an artefact that stand for a source node, and how they are computed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Part {
    /// The operators' names in the text form of graphs, without duplicates.
    pub operators: Vec<&'static str>,
    /// How they are computed.
    pub form: Form,
    /// Why.
    pub reason: Reason,
}

impl fmt::Display for NodeDecision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}): ", self.node, self.kind)?;
        match self.parts.as_slice() {
            [] => f.write_str("removed: folded, part of another node, or not needed"),
            [part] => write!(f, "{}: {}", part.form, part.reason),
            // Several parts are listed with their operators.
            parts => parts.iter().enumerate().try_for_each(|(i, part)| {
                let separator = if i == 0 { "" } else { "; " };
                write!(f, "{separator}{} ({}): {}", part.form, part.operators.join(", "), part.reason)
            }),
        }
    }
}

/// The decisions on the nodes of a lowered graph, grouped by source node; empty if there are none.
pub(crate) fn by_node(source: &Graph, decisions: &[Decision]) -> Vec<NodeDecision> {
    if decisions.is_empty() {
        return Vec::new();
    }
    let computes = |op: &Op| {
        !matches!(op, Op::Input(_) | Op::Const(_) | Op::Quantize(_) | Op::Dequantize(_) | Op::DynamicQuantize(_))
    };
    let order = source.order();
    let origins = order.iter().filter(|n| computes(source.op(**n))).map(|&n| source.origin(n));
    let mut nodes: Vec<NodeDecision> = Vec::new();
    let mut places: HashMap<Arc<str>, usize> = HashMap::new();
    for origin in origins {
        for s in origin.sources().iter().filter(|s| !s.path.is_empty()) {
            places.entry(Arc::clone(&s.path)).or_insert_with(|| {
                nodes.push(NodeDecision { node: Arc::clone(&s.path), kind: Arc::clone(&s.kind), parts: Vec::new() });
                nodes.len() - 1
            });
        }
    }
    for d in decisions {
        for place in d.origin.sources().iter().filter_map(|s| places.get(&s.path)) {
            let parts = &mut nodes[*place].parts;
            match parts.iter_mut().find(|p| (p.form, p.reason) == (d.form, d.reason)) {
                Some(part) if part.operators.contains(&d.operator) => {}
                Some(part) => part.operators.push(d.operator),
                None => parts.push(Part { operators: vec![d.operator], form: d.form, reason: d.reason }),
            }
        }
    }
    nodes
}
