//! Equality of graphs, whatever their nodes are numbered.

use rustc_hash::FxHashMap;

use super::{Composite, Graph, NodeId, ValueId};
use crate::ops::Op;

impl Graph {
    /// True where both graphs, walked in topological order, have the same nodes (attributes, constants, types, names,
    /// origins, composites), wires, inputs, outputs and metadata. Not-a-number equals itself; nodes that no output needs are not
    /// looked at.
    pub fn same(&self, other: &Graph) -> bool {
        let (mine, theirs) = (self.order(), other.order());
        if mine.len() != theirs.len() || self.inputs.len() != other.inputs.len() {
            return false;
        }
        let twins: FxHashMap<NodeId, NodeId> = mine.iter().copied().zip(theirs.iter().copied()).collect();
        let twin = |v: ValueId| twins.get(&v.node).map(|n| n.value(v.port));

        let outputs = self.outputs.len() == other.outputs.len()
            && self.outputs.iter().zip(&other.outputs).all(|(a, b)| a.name == b.name && twin(a.value) == Some(b.value));
        let nodes = mine.iter().zip(&theirs).all(|(&a, &b)| {
            let (x, y) = (self.net.node(a), other.net.node(b));
            same_op(&x.op, &y.op)
                && x.origin == y.origin
                && same_composite(x.composite.as_ref(), y.composite.as_ref())
                && x.results.iter().map(|r| (&r.ty, &r.name)).eq(y.results.iter().map(|r| (&r.ty, &r.name)))
                && self.operands(a).into_iter().map(twin).eq(other.operands(b).into_iter().map(Some))
        });
        self.name == other.name && self.metadata == other.metadata && outputs && nodes
    }
}

fn same_composite(a: Option<&Composite>, b: Option<&Composite>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => same_op(a.op(), b.op()),
        (None, None) => true,
        _ => false,
    }
}

/// Compares attributes as they print, which tells -0.0 from 0.0 and takes not-a-number for itself.
fn same_op(a: &Op, b: &Op) -> bool {
    match (a, b) {
        (Op::Const(a), Op::Const(b)) => a == b,
        _ => format!("{a:?}") == format!("{b:?}"),
    }
}
