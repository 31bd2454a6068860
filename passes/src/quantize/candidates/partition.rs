//! Nodes that would need no fewer borders on integers than on real numbers: where real numbers go onto grids and back is
//! decided for all nodes at once.

use petgraph::algo::dinics;
use petgraph::graph::{DiGraph, NodeIndex};
use petgraph::visit::EdgeRef;
use petgraph::{Incoming, Outgoing};
use qcc_ir::ops::Op;
use qcc_ir::{Elem, Graph, NodeId, ValueId};
use rustc_hash::{FxHashMap, FxHashSet};

use super::super::Interface;
use super::super::kernels::clamped;
use super::{Case, Vetoes};
use crate::decisions::Reason;

/// What one border costs: more than all preferences together.
const BORDER: u64 = 1 << 32;
/// What a node costs on the side that it does not prefer.
const PREFERENCE: u64 = 1;
/// What is not to be cut.
const NEVER: u64 = 1 << 50;

pub(in super::super) fn vetoes(case: &Case<'_>, able: &FxHashSet<NodeId>) -> Vetoes {
    let integer = fewest(case, able);
    case.able(able).filter(|n| !integer.contains(n)).map(|n| (n, Reason::Conversions)).collect()
}

/// The nodes of `able` that work on integers where there are as few borders as can be: all contractions, and what costs
/// fewer borders on integers than on real numbers. At equal cost arithmetic stays real, where it has no errors, and what
/// only moves numbers moves integers, which are fewer bytes.
///
/// It is the least cut of a network with integers on one side and real numbers on the other.
pub(super) fn fewest(case: &Case<'_>, able: &FxHashSet<NodeId>) -> FxHashSet<NodeId> {
    let (g, interface) = (case.g, case.options.interface);
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

/// Vertices are what nodes read and give; what is cut off from `integers` is real.
struct Network {
    graph: DiGraph<(), u64>,
    integers: NodeIndex,
    reals: NodeIndex,
    /// What the operands of a node are.
    reads: FxHashMap<NodeId, NodeIndex>,
    /// What its results are.
    gives: FxHashMap<NodeId, NodeIndex>,
}

impl Network {
    fn new() -> Self {
        let mut graph = DiGraph::new();
        let (integers, reals) = (graph.add_node(()), graph.add_node(()));
        Network { graph, integers, reals, reads: FxHashMap::default(), gives: FxHashMap::default() }
    }

    fn add(&mut self, case: &Case<'_>, n: NodeId, able: &FxHashSet<NodeId>) {
        let g = case.g;
        let (reads, gives) = match g.op(n) {
            Op::Input(_) if matches!(case.options.interface, Interface::Quantized(_)) => (self.integers, self.integers),
            _ if !able.contains(&n) => (self.reals, self.reals),
            _ if g.op(n).is_contraction() => {
                let gives = match case.kernel(n) {
                    Some(kernel) if kernel.gives_real && kernel.gives_quantized => self.graph.add_node(()),
                    Some(kernel) if kernel.gives_real => self.reals,
                    _ => self.integers,
                };
                (self.integers, gives)
            }
            op => {
                let own = match clamped(g, case.target, n).filter(|c| able.contains(c) && g.op(*c).is_contraction()) {
                    // One kernel.
                    Some(contraction) => self.gives[&contraction],
                    None => self.graph.add_node(()),
                };
                let computes =
                    matches!(op, Op::Unary(_) | Op::Binary(_) | Op::Clamp(_) | Op::Softmax(_) | Op::Reduce(_));
                match computes {
                    true => self.graph.add_edge(own, self.reals, PREFERENCE),
                    false => self.graph.add_edge(self.integers, own, PREFERENCE),
                };
                (own, own)
            }
        };
        self.reads.insert(n, reads);
        self.gives.insert(n, gives);
    }

    /// A border is paid once where a value is needed as what it is not given as.
    fn add_value(&mut self, g: &Graph, v: ValueId, interface: Interface) {
        let Some(&gives) = self.gives.get(&v.node).filter(|_| g.ty(v).elem == Elem::F32) else { return };
        let mut readers: Vec<NodeIndex> = g.users(v).iter().map(|u| self.reads[&u.0]).collect();
        if g.is_output(v) {
            readers.push(if matches!(interface, Interface::Quantized(_)) { self.integers } else { self.reals });
        }
        readers.retain(|&r| r != gives);
        if readers.is_empty() {
            return;
        }
        let (restored, placed) = (self.graph.add_node(()), self.graph.add_node(()));
        self.graph.add_edge(gives, restored, BORDER);
        self.graph.add_edge(placed, gives, BORDER);
        for reader in readers {
            self.graph.add_edge(restored, reader, NEVER);
            self.graph.add_edge(reader, placed, NEVER);
        }
    }

    /// What the least cut leaves on the side of the integers: the fewest vertices, whatever way the flow takes.
    fn integers(&self) -> FxHashSet<NodeIndex> {
        let (_, flow) = dinics(&self.graph, self.integers, self.reals);
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
