//! Fully connected layers on flattened images: the columns of the weight are permuted to the memory layout of the
//! image, so that the image need not be permuted.

use qcc_ir::eval::relayout;
use qcc_ir::ops::{MatMul, Op, Reshape, Transpose};
use qcc_ir::target::Target;
use qcc_ir::{Graph, Layout, NodeId, Shape, Tensor, TensorType};

use super::View;
use super::solve::Plan;
use crate::PassError;

/// The Reshapes from `[N, C, spatial..]` to `[N, K]` whose only users are products with constant weights `[O, K]`.
pub(super) fn candidates(g: &Graph) -> Vec<NodeId> {
    g.order().into_iter().filter(|&node| is_candidate(g, node)).collect()
}

fn is_candidate(g: &Graph, node: NodeId) -> bool {
    let Op::Reshape(Reshape { shape }) = g.op(node) else { return false };
    let (flat, x) = (node.value(0), &g.ty(g.operands(node)[0]).shape);
    let users = g.users(flat);
    let layer = |&(user, i): &(NodeId, usize)| {
        matches!(g.op(user), Op::MatMul(MatMul { transpose_b: true })) && i == 0 && {
            let weight = g.constant(g.operands(user)[1]);
            weight.is_some_and(|w| w.ty().rank() == 2)
        }
    };
    x.rank() > 2
        && shape.rank() == 2
        && x.dims()[0] == shape.dims()[0]
        && !users.is_empty()
        && !g.is_output(flat)
        && users.iter().all(layer)
        && x.dims()[1..].iter().all(|d| d.known().is_some())
}

/// Rewrites the candidates whose images are not row-major. Returns true if there are any.
pub(super) fn rewrite(g: &mut Graph, target: &Target, plan: &Plan, candidates: &[NodeId]) -> Result<bool, PassError> {
    let mut changed = false;
    for &node in candidates {
        let x = g.operands(node)[0];
        let Some(state) = plan.states.get(&x.node) else { continue };
        let order = View { g, target, node: x.node }.result(x.port, state);
        let row_major = order.same_bytes(&Layout::row_major(order.rank()), &g.ty(x).shape);
        if row_major || order.order().next() != Some(0) {
            continue;
        }
        let users = g.users(node.value(0));
        let weights: Option<Vec<Tensor>> = users
            .iter()
            .map(|&(user, _)| reordered(g.constant(g.operands(user)[1])?, &g.ty(x).shape, &order))
            .collect();
        let Some(weights) = weights else { continue };

        let origin = g.origin(node).clone();
        let perm = order.order().collect();
        let as_it_lies = g.add1(Transpose { perm }, &[x], origin.clone())?;
        let flat = g.add1(Reshape { shape: g.ty(node.value(0)).shape.clone() }, &[as_it_lies], origin.clone())?;
        for ((user, i), weight) in users.into_iter().zip(weights) {
            let weight = g.add_const(weight, origin.clone());
            g.set_operand(user, i, flat);
            g.set_operand(user, 1, weight);
        }
        changed = true;
    }
    Ok(changed)
}

/// The weight `[O, K]` with its columns in the memory order of an image of that shape.
fn reordered(weight: &Tensor, image: &Shape, order: &Layout) -> Option<Tensor> {
    let flat = weight.ty();
    let rows = flat.shape.dims().first()?.clone();
    let split = [rows].into_iter().chain(image.dims()[1..].iter().cloned()).collect();
    let split = weight.retype(TensorType::new(flat.elem.clone(), split))?;
    relayout(&split, order).ok()?.retype(flat.clone())
}
