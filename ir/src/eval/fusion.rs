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

#[cfg(test)]
mod tests {
    use super::super::Executor;
    use super::*;
    use crate::testing::numbers;
    use crate::text::{Weights, parse};
    use crate::types::Shape;

    /// A pointwise convolution, a depthwise one, one with a window, and products, each with another function behind it.
    /// The first one's result has two users, and that of the fourth is an output.
    fn graph() -> Graph {
        let conv = |groups: usize, pad: usize| {
            format!("conv(stride:[1,1],before:[{pad},{pad}],after:[{pad},{pad}],dilation:[1,1],groups:{groups})")
        };
        let (pointwise, depthwise, windowed) = (conv(1, 0), conv(4, 1), conv(1, 1));
        let text = format!(
            "graph g {{ %x: f32[1,3,7,40] = input %w: f32[4,3,1,1] = input %k: f32[4,1,3,3] = input
             %v: f32[5,4,3,3] = input %m: f32[40,6] = input %n: f32[6,6] = input
             %a = {pointwise} %x, %w %s = unary(f:Sigmoid) %a %b = binary(f:Mul) %a, %s
             %c = {depthwise} %b, %k %d = unary(f:HardSwish) %c
             %e = {windowed} %d, %v %f = clamp(lo:-0.5,hi:0.75) %e
             %g = matmul(transpose_b:false) %f, %m %h = unary(f:Tanh) %g
             %i = matmul(transpose_b:false) %h, %n %t = unary(f:Softplus) %i %j = binary(f:Mul) %t, %i
             output g = %g output j = %j }}"
        );
        parse(&text, &Weights::new()).unwrap()
    }

    #[test]
    fn fused_operators_compute_the_same_bits() {
        let g = graph();
        let shapes = g.inputs().map(|v| Shape::known(&g.ty(v).shape.extents().unwrap()));
        let inputs: Vec<_> = shapes.zip(1..).map(|(shape, seed)| numbers(shape, seed)).collect();
        let run = |executor: &Executor<'_>| {
            let mut seen = Vec::new();
            let outputs = executor.run(&inputs, &mut |v, t| seen.push((v, t.clone()))).unwrap();
            (outputs, seen)
        };
        let (expected, all) = run(&Executor::new(&g));
        let (found, some) = run(&Executor::only(&g, &[]));
        assert_eq!(found, expected);
        // Inputs; b, d, f, g, h and j.
        assert_eq!((all.len(), some.len()), (6 + 12, 6 + 6));
        assert!(some.iter().all(|value| all.contains(value)));
        // A value that is observed is not hidden.
        let window = all[6 + 5].0;
        let (found, some) = run(&Executor::only(&g, &[window]));
        assert_eq!(found, expected);
        assert!(some.len() == 6 + 7 && some.iter().any(|(v, _)| *v == window));
    }
}
