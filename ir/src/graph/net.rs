//! Storage of nodes and values. Each value is linked to its producer and to its users.

use std::collections::BTreeSet;
use std::sync::Arc;

use smallvec::SmallVec;

use super::{Composite, NodeId, Operands, Origin, ValueId};
use crate::ops::{Op, Types};
use crate::types::TensorType;

/// A result of a node.
#[derive(Clone, Debug)]
pub(super) struct Value {
    pub(super) ty: TensorType,
    pub(super) name: Option<Arc<str>>,
    /// The nodes and operand positions that use it.
    users: BTreeSet<(NodeId, u32)>,
}

impl Value {
    pub(super) fn users(&self) -> impl ExactSizeIterator<Item = (NodeId, usize)> + '_ {
        self.users.iter().map(|&(node, i)| (node, i as usize))
    }
}

#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) op: Op,
    pub(super) results: SmallVec<[Value; 1]>,
    pub(super) origin: Origin,
    pub(super) composite: Option<Composite>,
    operands: Operands,
    /// A computed constant, which is not in the source model.
    computed: bool,
}

impl Node {
    pub(super) fn operands(&self) -> &Operands {
        &self.operands
    }
}

/// All nodes of a graph. Ids of removed nodes are reused, the last removed first.
#[derive(Clone, Debug, Default)]
pub(super) struct Net {
    nodes: Vec<Option<Node>>,
    free: Vec<u32>,
}

impl Net {
    pub(super) fn add(&mut self, op: Op, results: Types, operands: &[ValueId], origin: Origin) -> NodeId {
        let value = |ty| Value { ty, name: None, users: BTreeSet::new() };
        let results = results.into_iter().map(value).collect();
        let node = Node { op, results, origin, composite: None, operands: operands.into(), computed: false };
        let id = match self.free.pop() {
            Some(id) => {
                self.nodes[id as usize] = Some(node);
                NodeId(id)
            }
            None => {
                self.nodes.push(Some(node));
                NodeId(self.nodes.len() as u32 - 1)
            }
        };
        for (i, &v) in operands.iter().enumerate() {
            self.value_mut(v).users.insert((id, i as u32));
        }
        id
    }

    pub(super) fn node(&self, id: NodeId) -> &Node {
        self.nodes[id.index()].as_ref().unwrap_or_else(|| unreachable!("the node was removed"))
    }

    fn node_mut(&mut self, id: NodeId) -> &mut Node {
        self.nodes[id.index()].as_mut().unwrap_or_else(|| unreachable!("the node was removed"))
    }

    pub(super) fn value(&self, v: ValueId) -> &Value {
        &self.node(v.node).results[usize::from(v.port)]
    }

    pub(super) fn value_mut(&mut self, v: ValueId) -> &mut Value {
        &mut self.node_mut(v.node).results[usize::from(v.port)]
    }

    pub(super) fn set_composite(&mut self, id: NodeId, composite: Composite) {
        self.node_mut(id).composite = Some(composite);
    }

    /// Changes the operator of a node.
    pub(super) fn set_op(&mut self, id: NodeId, op: Op) {
        self.node_mut(id).op = op;
    }

    /// Marks a constant as computed.
    pub(super) fn set_computed(&mut self, id: NodeId) {
        self.node_mut(id).computed = true;
    }

    /// Bytes of all constants that are marked as computed.
    pub(super) fn computed_bytes(&self) -> u64 {
        let bytes = |node: &Node| match &node.op {
            Op::Const(c) if node.computed => c.value.data().len() as u64,
            _ => 0,
        };
        self.nodes.iter().flatten().map(bytes).sum()
    }

    /// Replaces operand `i` of a node by another value.
    pub(super) fn set_operand(&mut self, node: NodeId, i: usize, v: ValueId) {
        let old = std::mem::replace(&mut self.node_mut(node).operands[i], v);
        self.value_mut(old).users.remove(&(node, i as u32));
        self.value_mut(v).users.insert((node, i as u32));
    }

    /// An upper bound of the ids of nodes.
    pub(super) fn bound(&self) -> usize {
        self.nodes.len()
    }

    /// Removes all nodes that are not marked (by id). Returns the number of removed nodes.
    pub(super) fn retain(&mut self, marked: &[bool]) -> usize {
        let dead: Vec<u32> =
            (0..self.nodes.len()).filter(|&i| self.nodes[i].is_some() && !marked[i]).map(|i| i as u32).collect();
        for &id in &dead {
            let Some(node) = self.nodes[id as usize].take() else { continue };
            for (i, v) in node.operands.iter().enumerate().filter(|(_, v)| marked[v.node.index()]) {
                self.value_mut(*v).users.remove(&(NodeId(id), i as u32));
            }
        }
        self.free.extend(&dead);
        dead.len()
    }
}
