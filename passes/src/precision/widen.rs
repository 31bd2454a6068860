//! Conversion of 16-bit float graphs to `F32`.

use qcc_ir::ops::{Cast, Op};
use qcc_ir::{Elem, Graph, NodeId, TensorType, ValueId};

use crate::custom::as_declared;
use crate::{Context, Pass, PassError};

/// Converts intermediate values to `F32`, for targets without 16-bit float graphs and before quantization, which works
/// on `F32` only. Inputs and outputs keep their element type, with a Cast.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WidenHalves {
    /// True if the graph will be quantized.
    pub(crate) quantizes: bool,
}

impl Pass for WidenHalves {
    fn name(&self) -> &'static str {
        "widen-halves"
    }

    fn run(&self, g: &mut Graph, cx: &mut Context<'_>) -> Result<(), PassError> {
        if cx.target.half_graphs && !self.quantizes {
            return Ok(());
        }
        let halves: Vec<bool> = g.outputs().iter().map(|o| g.ty(o.value).elem == Elem::F16).collect();
        for node in g.order() {
            as_declared(g, node)?;
            widen(g, node)?;
        }
        for (i, _) in halves.into_iter().enumerate().filter(|(_, half)| *half) {
            let value = g.outputs()[i].value;
            let origin = g.origin(value.node).clone();
            let narrow = g.add1(Cast { to: Elem::F16 }, &[value], origin)?;
            g.set_output(i, narrow);
        }
        Ok(())
    }
}

/// Widens the 16-bit results of a node whose operands are widened already.
fn widen(g: &mut Graph, node: NodeId) -> Result<(), PassError> {
    let origin = g.origin(node).clone();
    if let Op::Cast(Cast { to: Elem::F16 | Elem::F32 }) = g.op(node) {
        let x = g.operands(node)[0];
        let wide = match g.ty(x).elem {
            Elem::F32 => x,
            _ => g.add1(Cast { to: Elem::F32 }, &[x], origin)?,
        };
        g.redirect(node.value(0), wide);
        return Ok(());
    }
    let halves: Vec<ValueId> = g.results(node).filter(|&v| g.ty(v).elem == Elem::F16).collect();
    for v in halves {
        let wide = match g.op(node) {
            Op::Const(c) => {
                let wide = c.value.to_float();
                g.add_const(wide, origin.clone())
            }
            Op::Input(_) | Op::Custom(_) | Op::Loop(_) | Op::If(_) => {
                g.add1(Cast { to: Elem::F32 }, &[v], origin.clone())?
            }
            _ => {
                let ty = TensorType { elem: Elem::F32, ..g.ty(v).clone() };
                g.set_type(v, ty);
                continue;
            }
        };
        g.redirect(v, wide);
    }
    Ok(())
}
