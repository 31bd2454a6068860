//! Applies the chosen layouts to the graph.

use qcc_ir::eval::relayout;
use qcc_ir::ops::{Op, Relayout, Types};
use qcc_ir::target::Target;
use qcc_ir::{Graph, Layout, TensorType, ValueId};
use rustc_hash::FxHashMap;

use super::View;
use super::solve::Plan;
use crate::PassError;

/// Values that were converted to another layout already.
type Moved = FxHashMap<(ValueId, Layout), ValueId>;

/// Sets the layout of every value. Constants are permuted at compile time, other values by a Relayout.
pub(super) fn materialize(g: &mut Graph, target: &Target, plan: &Plan) -> Result<(), PassError> {
    let mut moved = Moved::default();
    for node in g.order() {
        let Some(state) = plan.states.get(&node) else { continue };
        for (i, v) in g.operands(node).into_iter().enumerate() {
            // A Transpose can produce the layout itself.
            if matches!(g.op(node), Op::Transpose(_)) && g.constant(v).is_none() {
                continue;
            }
            let want = View { g, target, node }.operand(i, state);
            let placed = laid_out(g, v, want, &mut moved)?;
            g.set_operand(node, i, placed);
        }
        for v in g.results(node) {
            let layout = View { g, target, node }.result(v.port, state);
            let ty = TensorType { layout, ..g.ty(v).clone() };
            g.set_type(v, ty);
        }
    }
    for (i, want) in plan.outputs.iter().enumerate() {
        let placed = laid_out(g, g.outputs()[i].value, want.clone(), &mut moved)?;
        g.set_output(i, placed);
    }
    Ok(())
}

/// The value in that layout.
fn laid_out(g: &mut Graph, v: ValueId, want: Layout, moved: &mut Moved) -> Result<ValueId, PassError> {
    if g.ty(v).layout == want {
        return Ok(v);
    }
    let key = (v, want);
    if let Some(&placed) = moved.get(&key) {
        return Ok(placed);
    }
    let (_, want) = key.clone();
    let origin = g.origin(v.node).clone();
    let ty = TensorType { layout: want.clone(), ..g.ty(v).clone() };
    let placed = if let Some(constant) = g.constant(v) {
        let constant = relayout(constant, &want)?;
        g.add_const(constant, origin)
    } else if matches!(g.producer(v), Op::Transpose(_)) && g.users(v).len() == 1 && !g.is_output(v) {
        g.set_type(v, ty);
        v
    } else {
        g.add_typed(Relayout {}, &[v], Types::from_elem(ty, 1), origin)?.value(0)
    };
    moved.insert(key, placed);
    Ok(placed)
}
