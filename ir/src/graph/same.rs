//! Equality of graphs, independent of node ids.

use rustc_hash::FxHashMap;

use super::{Composite, Graph, NodeId, ValueId};
use crate::ops::Op;

impl Graph {
    /// True where both graphs, in topological order, have the same nodes (attributes, constants, types, names, origins,
    /// composites), edges, inputs, outputs and metadata. NaN equals itself; nodes that no output depends on are ignored.
    pub fn same(&self, other: &Graph) -> bool {
        let (mine, theirs) = (self.order(), other.order());
        if mine.len() != theirs.len() || self.inputs.len() != other.inputs.len() {
            return false;
        }
        let pairs: FxHashMap<NodeId, NodeId> = mine.iter().copied().zip(theirs.iter().copied()).collect();
        let paired = |v: ValueId| pairs.get(&v.node).map(|n| n.value(v.port));

        let outputs = self.outputs.len() == other.outputs.len()
            && self
                .outputs
                .iter()
                .zip(&other.outputs)
                .all(|(a, b)| a.name == b.name && paired(a.value) == Some(b.value));
        let nodes = mine.iter().zip(&theirs).all(|(&a, &b)| {
            let (x, y) = (self.net.node(a), other.net.node(b));
            same_op(&x.op, &y.op)
                && x.origin == y.origin
                && same_composite(x.composite.as_ref(), y.composite.as_ref())
                && x.results.iter().map(|r| (&r.ty, &r.name)).eq(y.results.iter().map(|r| (&r.ty, &r.name)))
                && self.operands(a).into_iter().map(paired).eq(other.operands(b).into_iter().map(Some))
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

/// Compares attributes in their printed form, in which -0.0 differs from 0.0 and NaN equals itself.
fn same_op(a: &Op, b: &Op) -> bool {
    match (a, b) {
        (Op::Const(a), Op::Const(b)) => a == b,
        _ => format!("{a:?}") == format!("{b:?}"),
    }
}
