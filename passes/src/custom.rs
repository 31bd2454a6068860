//! Custom operators, which keep the element types that the source declares for them.

use qcc_ir::ops::{Cast, Op};
use qcc_ir::{Graph, NodeId};

use crate::PassError;

/// Casts the operands of a custom operator to the element types that it declares, where these have changed.
pub(crate) fn as_declared(g: &mut Graph, node: NodeId) -> Result<(), PassError> {
    let Op::Custom(custom) = g.op(node) else { return Ok(()) };
    let declared: Vec<_> = custom.operands.iter().flatten().map(|ty| ty.elem.clone()).collect();
    for (i, (v, to)) in g.operands(node).into_iter().zip(declared).enumerate() {
        if to.qparams().is_none() && g.ty(v).elem != to {
            let cast = g.add1(Cast { to }, &[v], g.origin(node).clone())?;
            g.set_operand(node, i, cast);
        }
    }
    Ok(())
}
