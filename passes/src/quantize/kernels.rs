//! Facts about kernels: which operands are weights, and which clamps are fused.

use qcc_ir::ops::Op;
use qcc_ir::target::Target;
use qcc_ir::{Graph, NodeId, StorageType};

/// The operand indices of the weights of an operator: factors of products, or a lookup table.
pub(super) fn weights(op: &Op) -> &'static [usize] {
    match op {
        Op::Recurrent(_) => &[1, 2],
        Op::Gather(op) if op.axis == 0 => &[0],
        op if op.is_contraction() => &[1],
        _ => &[],
    }
}

/// The producer of the operand of clamp `n`, if it has no other user and the target's kernel for activations of this
/// storage type fuses the clamp.
pub(super) fn clamped(g: &Graph, target: &Target, storage: StorageType, n: NodeId) -> Option<NodeId> {
    let Op::Clamp(_) = g.op(n) else { return None };
    let v = g.operands(n)[0];
    let fused = || target.kernel_of(g, v.node)?.for_storage(storage).map(|kernel| kernel.fuses_clamp);
    (g.only_user(v).is_some() && fused() == Some(true)).then_some(v.node)
}
