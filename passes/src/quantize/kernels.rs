//! What kernels read and do: the weights of an operator, and the limits that they put on a result as they write it.

use qcc_ir::ops::Op;
use qcc_ir::target::Target;
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

/// The node whose result `n` limits, where nothing else reads it and the target's kernel does both at once.
pub(super) fn clamped(g: &Graph, target: &Target, n: NodeId) -> Option<NodeId> {
    let Op::Clamp(_) = g.op(n) else { return None };
    let v = g.operands(n)[0];
    let fused = || target.kernel_of(g, v.node)?.quantized.map(|kernel| kernel.fuses_clamp);
    (g.only_user(v).is_some() && fused() == Some(true)).then_some(v.node)
}
