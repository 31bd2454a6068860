//! Ids of nodes and values.

/// A node of a graph. It stays valid until the node is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub(super) u32);

impl NodeId {
    /// A small number, unique within the graph.
    pub fn index(self) -> usize {
        self.0 as usize
    }

    /// The value at result position `port`.
    pub fn value(self, port: u8) -> ValueId {
        ValueId { node: self, port }
    }
}

/// A result of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ValueId {
    /// The node that produces it.
    pub node: NodeId,
    /// Its position among the node's results.
    pub port: u8,
}
