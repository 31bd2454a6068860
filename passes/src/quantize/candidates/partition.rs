//! Vetoes nodes whose quantization would not reduce the number of Q/DQ boundaries. The partition is a minimum cut over
//! the whole graph.

use petgraph::algo::dinics;
use petgraph::graph::{DiGraph, NodeIndex};
use petgraph::visit::EdgeRef;
use petgraph::{Incoming, Outgoing};
use qcc_ir::ops::Op;
use qcc_ir::{Elem, Graph, NodeId, ValueId};
use rustc_hash::{FxHashMap, FxHashSet};

use super::super::kernels::clamped;
use super::super::{Interface, Interfaces};
use super::{Case, Vetoes};
use crate::decisions::Reason;

/// The cost of one Q/DQ boundary: more than the sum of all preferences.
const BOUNDARY: u64 = 1 << 32;
/// The cost of a node on the side that it does not prefer.
const PREFERENCE: u64 = 1;
/// The weight of an edge that must not be cut.
const NEVER: u64 = 1 << 50;

pub(in super::super) fn vetoes(case: &Case<'_>, able: &FxHashSet<NodeId>) -> Vetoes {
    let integer = fewest_boundaries(case, able);
    case.able(able).filter(|n| !integer.contains(n)).map(|n| (n, Reason::Conversions)).collect()
}

/// The nodes of `able` that are quantized in a partition with the fewest Q/DQ boundaries. All contractions are
/// quantized. At equal cost, arithmetic stays in floating point, which is more accurate, and nodes that only move
/// elements are quantized, which moves fewer bytes. Kernels that are fast only behind others in integers are quantized there
/// alone.
///
/// The partition is the minimum cut of a network between a quantized source and a float sink.
pub(super) fn fewest_boundaries(case: &Case<'_>, able: &FxHashSet<NodeId>) -> FxHashSet<NodeId> {
    let (g, interface) = (case.g, &case.options.interface);
    let mut network = Network::new();
    for &n in case.order.iter().filter(|n| !matches!(g.op(**n), Op::Const(_))) {
        network.add(case, n, able);
    }
    for v in case.order.iter().flat_map(|&n| g.results(n)) {
        network.add_value(g, v, interface);
    }
    let integers = network.integers();
    able.iter().copied().filter(|n| integers.contains(&network.reads[n])).collect()
}

/// The flow network. Vertices represent the operands and results of nodes. Vertices on the side of `integers` are
/// quantized.
struct Network {
    graph: DiGraph<(), u64>,
    integers: NodeIndex,
    floats: NodeIndex,
    /// The vertex of the operands of a node.
    reads: FxHashMap<NodeId, NodeIndex>,
    /// The vertex of the results of a node.
    gives: FxHashMap<NodeId, NodeIndex>,
    /// Nodes whose values come from integer kernels with nothing between that is a contraction.
    behind_integers: FxHashSet<NodeId>,
}

impl Network {
    fn new() -> Self {
        let mut graph = DiGraph::new();
        let (integers, floats) = (graph.add_node(()), graph.add_node(()));
        let (reads, gives) = (FxHashMap::default(), FxHashMap::default());
        Network { graph, integers, floats, reads, gives, behind_integers: FxHashSet::default() }
    }

    fn add(&mut self, case: &Case<'_>, n: NodeId, able: &FxHashSet<NodeId>) {
        let g = case.g;
        if self.is_behind_integers(case, n, able) {
            self.behind_integers.insert(n);
        }
        let follows = || case.kernel(n).is_some_and(|kernel| kernel.follows);
        let (reads, gives) = match g.op(n) {
            Op::Input(_) => {
                let at = self.side(of_input(case, n));
                (at, at)
            }
            _ if !able.contains(&n) => (self.floats, self.floats),
            _ if follows() && !self.behind_integers.contains(&n) => (self.floats, self.floats),
            _ if g.op(n).is_contraction() => {
                let gives = match case.kernel(n) {
                    Some(kernel) if kernel.gives_float && kernel.gives_quantized => self.graph.add_node(()),
                    Some(kernel) if kernel.gives_float => self.floats,
                    _ => self.integers,
                };
                (self.integers, gives)
            }
            op => {
                let own = match clamped(g, case.target, case.storage, n)
                    .filter(|c| able.contains(c) && g.op(*c).is_contraction())
                {
                    // The kernel fuses both nodes.
                    Some(contraction) => self.gives[&contraction],
                    None => self.graph.add_node(()),
                };
                let computes =
                    matches!(op, Op::Unary(_) | Op::Binary(_) | Op::Clamp(_) | Op::Softmax(_) | Op::Reduce(_));
                match computes {
                    true => self.graph.add_edge(own, self.floats, PREFERENCE),
                    false => self.graph.add_edge(self.integers, own, PREFERENCE),
                };
                (own, own)
            }
        };
        self.reads.insert(n, reads);
        self.gives.insert(n, gives);
    }

    /// True if a value of the node comes from an integer kernel.
    fn is_behind_integers(&self, case: &Case<'_>, n: NodeId, able: &FxHashSet<NodeId>) -> bool {
        let g = case.g;
        match g.op(n) {
            Op::Input(_) => matches!(of_input(case, n), Interface::Quantized(_)),
            op if op.is_contraction() => able.contains(&n),
            _ => g.operands(n).iter().any(|v| self.behind_integers.contains(&v.node)),
        }
    }

    /// Adds the boundary of a value. It is paid once, if a user needs the value in the other representation.
    fn add_value(&mut self, g: &Graph, v: ValueId, interface: &Interfaces) {
        let Some(&gives) = self.gives.get(&v.node).filter(|_| g.ty(v).elem == Elem::F32) else { return };
        let mut readers: Vec<NodeIndex> = g.users(v).iter().map(|u| self.reads[&u.0]).collect();
        if g.is_output(v) {
            let outputs = g.outputs().iter().filter(|o| o.value == v);
            readers.extend(outputs.map(|o| self.side(interface.of(&o.name))));
        }
        readers.retain(|&r| r != gives);
        if readers.is_empty() {
            return;
        }
        let (dequantized, quantized) = (self.graph.add_node(()), self.graph.add_node(()));
        self.graph.add_edge(gives, dequantized, BOUNDARY);
        self.graph.add_edge(quantized, gives, BOUNDARY);
        for reader in readers {
            self.graph.add_edge(dequantized, reader, NEVER);
            self.graph.add_edge(reader, quantized, NEVER);
        }
    }

    /// The side of an input or output.
    fn side(&self, interface: Interface) -> NodeIndex {
        if matches!(interface, Interface::Quantized(_)) { self.integers } else { self.floats }
    }

    /// The smallest quantized side among all minimum cuts, which does not depend on the flow that was found.
    fn integers(&self) -> FxHashSet<NodeIndex> {
        let (_, flow) = dinics(&self.graph, self.integers, self.floats);
        let mut found = FxHashSet::from_iter([self.integers]);
        let mut open = vec![self.integers];
        while let Some(vertex) = open.pop() {
            let on = self.graph.edges_directed(vertex, Outgoing).filter(|e| flow[e.id().index()] < *e.weight());
            let back = self.graph.edges_directed(vertex, Incoming).filter(|e| flow[e.id().index()] > 0);
            for next in on.map(|e| e.target()).chain(back.map(|e| e.source())) {
                if found.insert(next) {
                    open.push(next);
                }
            }
        }
        found
    }
}

/// What the caller gives for an input.
fn of_input(case: &Case<'_>, n: NodeId) -> Interface {
    let name = case.g.name(n.value(0)).map_or("", |name| name);
    case.options.interface.of(name)
}
