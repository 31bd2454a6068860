//! The import order of nodes.

use std::collections::hash_map::Entry;

use qcc_formats::onnx::{GraphProto, NodeProto};
use rustc_hash::{FxHashMap, FxHashSet};

use crate::refusal::Refusal;

/// The nodes that the graph's outputs depend on; see [`ordered`].
pub(super) fn schedule(graph: &GraphProto) -> Result<Vec<&NodeProto>, Refusal> {
    let taken = graph.input.iter().map(|i| i.name()).chain(graph.initializer.iter().map(|t| t.name()));
    ordered(&graph.node, taken, graph.output.iter().map(|o| o.name()))
}

/// The nodes that `outputs` depend on, in topological order, without unused nodes. No node may produce a name of
/// `taken`.
pub(super) fn ordered<'m>(
    nodes: &'m [NodeProto],
    taken: impl Iterator<Item = &'m str>,
    outputs: impl Iterator<Item = &'m str>,
) -> Result<Vec<&'m NodeProto>, Refusal> {
    let mut producers: FxHashMap<&str, usize> = FxHashMap::default();
    for name in taken {
        producers.insert(name, usize::MAX);
    }
    for (i, node) in nodes.iter().enumerate() {
        for name in node.output.iter().filter(|o| !o.is_empty()) {
            match producers.entry(name) {
                Entry::Occupied(_) => return Err(Refusal::Invalid(format!("two values have the name {name}"))),
                Entry::Vacant(v) => v.insert(i),
            };
        }
    }
    let producer = |name: &str| producers.get(name).copied().filter(|&i| i != usize::MAX);
    let mut state = vec![State::New; nodes.len()];
    let mut order = Vec::new();
    let mut stack = Vec::new();
    for output in outputs {
        stack.extend(producer(output));
        while let Some(&i) = stack.last() {
            match state[i] {
                State::New => {
                    state[i] = State::Open;
                    let mut reads = Vec::new();
                    reads_of(&nodes[i], &mut reads);
                    for next in reads.iter().rev().filter_map(|name| producer(name)) {
                        match state[next] {
                            State::New => stack.push(next),
                            State::Open => return Err(cycle(&nodes[next])),
                            State::Done => {}
                        }
                    }
                }
                State::Open => {
                    state[i] = State::Done;
                    order.push(&nodes[i]);
                    stack.pop();
                }
                State::Done => {
                    stack.pop();
                }
            }
        }
    }
    Ok(order)
}

#[derive(Clone, Copy)]
enum State {
    New,
    Open,
    Done,
}

fn cycle(node: &NodeProto) -> Refusal {
    let name = if node.name().is_empty() { node.output.first().map_or("", String::as_str) } else { node.name() };
    Refusal::Invalid(format!("the graph has a cycle through {name}"))
}

/// Names that a node uses, in its inputs or in its subgraphs.
pub(super) fn reads_of<'m>(node: &'m NodeProto, reads: &mut Vec<&'m str>) {
    reads.extend(node.input.iter().filter(|i| !i.is_empty()).map(String::as_str));
    // Decoding bounds the nesting of messages, and with it this recursion.
    for graph in node.attribute.iter().filter_map(|a| a.g.as_deref()) {
        let mut inside = Vec::new();
        for inner in &graph.node {
            reads_of(inner, &mut inside);
        }
        inside.extend(graph.output.iter().map(|o| o.name()));
        // A name that the graph defines is its own, even if an enclosing graph has it too.
        let own = graph.node.iter().flat_map(|n| n.output.iter().map(String::as_str));
        // Branches take no operands: inputs that exporters list there are names of the enclosing graphs.
        let given = if node.op_type() == "If" { &[][..] } else { &graph.input };
        let own = own.chain(given.iter().map(|i| i.name()));
        let own: FxHashSet<&str> = own.chain(graph.initializer.iter().map(|t| t.name())).collect();
        reads.extend(inside.into_iter().filter(|name| !own.contains(name)));
    }
}
