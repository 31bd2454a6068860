//! Operators that keep the element types that are declared for them: custom ones, and those with graphs inside.

use qcc_ir::ops::{Cast, Op};
use qcc_ir::{Elem, Graph, NodeId};

use crate::PassError;

/// Casts the operands of such an operator to the element types that it declares, where these have changed.
pub(crate) fn as_declared(g: &mut Graph, node: NodeId) -> Result<(), PassError> {
    let declared: Vec<Elem> = match g.op(node) {
        Op::Custom(custom) => custom.operands.iter().flatten().map(|ty| ty.elem.clone()).collect(),
        op => match op.declared_elements() {
            Some(elements) => elements,
            None => return Ok(()),
        },
    };
    for (i, (v, to)) in g.operands(node).into_iter().zip(declared).enumerate() {
        if to.qparams().is_none() && g.ty(v).elem != to {
            let cast = g.add1(Cast { to }, &[v], g.origin(node).clone())?;
            g.set_operand(node, i, cast);
        }
    }
    Ok(())
}
