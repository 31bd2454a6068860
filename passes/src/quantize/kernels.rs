//! What kernels read and do: the weights of an operator, and the limits that they put on a result as they write it.

use qcc_ir::ops::{BinaryFn, Op};
use qcc_ir::{Graph, NodeId};

/// The operands that are the weights of an operator: those of its products, or the table that it looks numbers up in.
pub(super) fn weights(op: &Op) -> &'static [usize] {
    match op {
        Op::Recurrent(_) => &[1, 2],
        Op::Gather(op) if op.axis == 0 => &[0],
        op if op.is_contraction() => &[1],
        _ => &[],
    }
}

/// The contraction, sum or product whose result `n` limits, where nothing else reads it: kernels do both at once.
pub(super) fn clamped(g: &Graph, n: NodeId) -> Option<NodeId> {
    let Op::Clamp(_) = g.op(n) else { return None };
    let v = g.operands(n)[0];
    let arithmetic = match g.op(v.node) {
        Op::Binary(b) => matches!(b.f, BinaryFn::Add | BinaryFn::Sub | BinaryFn::Mul),
        _ => g.op(v.node).is_contraction(),
    };
    (arithmetic && g.only_user(v).is_some()).then_some(v.node)
}
