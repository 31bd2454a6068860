//! Which element-wise operators are computed with the products before them.

use rustc_hash::{FxHashMap, FxHashSet};

use crate::graph::{Graph, NodeId, ValueId};
use crate::kernels::then::Then;
use crate::ops::{BinaryFn, Op};
use crate::types::{Elem, TensorType};

/// Products that are evaluated together with the operators after them.
#[derive(Debug, Default)]
pub(super) struct Fusion {
    /// For each product the function that follows, and the node whose result that is.
    pub(super) then: FxHashMap<NodeId, (Then, NodeId)>,
    /// The nodes that are evaluated with a product.
    pub(super) inside: FxHashSet<NodeId>,
}

impl Fusion {
    /// The products in `order`, whose own results are not among the observed values.
    pub(super) fn new(graph: &Graph, order: &[NodeId], observed: &FxHashSet<ValueId>) -> Self {
        let mut fusion = Fusion::default();
        for &n in order.iter().filter(|&&n| matches!(graph.op(n), Op::Conv(_) | Op::MatMul(_))) {
            let plain = |ty: &TensorType| ty.elem == Elem::F32 && ty.layout.is_row_major();
            let hidden = |v: ValueId| plain(graph.ty(v)) && !graph.is_output(v) && !observed.contains(&v);
            let operands = graph.operand_types(n);
            if !hidden(n.value(0)) || !operands.into_iter().all(plain) {
                continue;
            }
            if let Some((then, nodes)) = following(graph, n.value(0), hidden) {
                if let Some(&last) = nodes.last() {
                    fusion.then.insert(n, (then, last));
                }
                fusion.inside.extend(nodes);
            }
        }
        fusion
    }
}

/// The function that all users of a value compute, and its nodes: an operator, or one whose result the value is
/// multiplied with. The last one has the result.
fn following(graph: &Graph, v: ValueId, hidden: impl Fn(ValueId) -> bool) -> Option<(Then, Vec<NodeId>)> {
    let row_major = |n: NodeId| graph.ty(n.value(0)) == graph.ty(v);
    if let Some(user) = graph.only_user(v) {
        return Some((Then::of(graph.op(user))?, vec![user])).filter(|_| row_major(user));
    }
    let users = graph.readers(v);
    if users.len() != 2 {
        return None;
    }
    let users: Vec<NodeId> = users.map(|(n, _)| n).collect();
    [[users[0], users[1]], [users[1], users[0]]].into_iter().find_map(|[factor, product]| {
        let Then::Unary(f) = Then::of(graph.op(factor))? else { return None };
        let multiplies = matches!(graph.op(product), Op::Binary(b) if b.f == BinaryFn::Mul);
        let alone = hidden(factor.value(0)) && graph.only_user(factor.value(0)) == Some(product);
        (multiplies && alone && row_major(product)).then(|| (Then::Gate(f), vec![factor, product]))
    })
}
