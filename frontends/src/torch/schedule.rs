//! Dead code elimination and alias analysis of a graph.

use rustc_hash::{FxHashMap, FxHashSet};

use super::ops;
use super::schema::{Graph, Node};

/// The needed nodes and names of a graph.
#[derive(Debug)]
pub(super) struct Schedule<'m> {
    /// The nodes that the wanted names depend on, in file order.
    pub(super) nodes: Vec<&'m Node>,
    memory: Memory<'m>,
    /// Memory that the wanted names depend on.
    needed: FxHashSet<usize>,
    /// Memory that a node writes to.
    written: FxHashSet<usize>,
}

/// Sets of names that may share memory.
#[derive(Debug, Default)]
struct Memory<'m> {
    index: FxHashMap<&'m str, usize>,
    parent: Vec<usize>,
}

impl<'m> Memory<'m> {
    fn of(&mut self, name: &'m str) -> usize {
        let next = self.parent.len();
        let mut at = *self.index.entry(name).or_insert(next);
        if at == next {
            self.parent.push(next);
        }
        while self.parent[at] != at {
            self.parent[at] = self.parent[self.parent[at]];
            at = self.parent[at];
        }
        at
    }

    fn unite(&mut self, a: &'m str, b: &'m str) {
        let (a, b) = (self.of(a), self.of(b));
        self.parent[b] = a;
    }
}

impl<'m> Schedule<'m> {
    /// The nodes that `wanted` needs. A node that writes to memory counts as a producer of all views of it.
    pub(super) fn new(graph: &'m Graph, wanted: impl IntoIterator<Item = &'m str>) -> Self {
        let mut memory = Memory::default();
        for node in &graph.nodes {
            if let Some(shown) = ops::shows(node) {
                node.results().for_each(|result| memory.unite(shown, result));
            }
        }
        let mut needed: FxHashSet<usize> = wanted.into_iter().map(|name| memory.of(name)).collect();
        let mut written = FxHashSet::default();
        let mut nodes = Vec::new();
        for node in graph.nodes.iter().rev() {
            if !node.results().any(|result| needed.contains(&memory.of(result))) {
                continue;
            }
            nodes.push(node);
            if let Some(target) = ops::writes(node) {
                written.insert(memory.of(target));
            }
            for name in node.inputs.iter().flat_map(|i| i.arg.names()) {
                needed.insert(memory.of(name));
            }
        }
        nodes.reverse();
        Schedule { nodes, memory, needed, written }
    }

    /// True if the wanted names depend on this one.
    pub(super) fn needs(&mut self, name: &'m str) -> bool {
        let memory = self.memory.of(name);
        self.needed.contains(&memory)
    }

    /// True if a node writes to the memory of this name, and the wanted names depend on it.
    pub(super) fn changes(&mut self, name: &'m str) -> bool {
        let memory = self.memory.of(name);
        self.written.contains(&memory)
    }
}
