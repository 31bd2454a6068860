//! Element types of inputs and outputs that a device lacks.

use qcc_ir::diagnostic::Diagnostic;
use qcc_ir::ops::{Cast, Op};
use qcc_ir::{Elem, Graph, NodeId, ValueId};

use crate::{Context, Pass, PassError};

/// Inputs and outputs whose element type the device lacks get the type that the graph computes with in its place. Before
/// this pass, a Cast follows such an input and precedes such an output.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DeviceInterface;

impl Pass for DeviceInterface {
    fn name(&self) -> &'static str {
        "device-interface"
    }

    fn run(&self, g: &mut Graph, cx: &mut Context<'_>) -> Result<(), PassError> {
        let Some(device) = &cx.target.device else { return Ok(()) };
        let lacks = |g: &Graph, v: ValueId| device.lacks.contains(&g.ty(v).elem);
        let mut changed: Vec<(&str, String, Elem, Elem)> = Vec::new();
        for v in g.inputs().filter(|&v| lacks(g, v)).collect::<Vec<_>>() {
            let from = g.ty(v).elem.clone();
            let Some(to) = instead(&from) else { continue };
            let users: Vec<NodeId> = g.users(v).into_iter().map(|(user, _)| user).collect();
            let narrows = |&user: &NodeId| matches!(g.op(user), Op::Cast(cast) if cast.to == to);
            if g.is_output(v) || !users.iter().all(narrows) {
                continue;
            }
            g.set_type(v, g.ty(v).with_elem(to.clone()));
            users.into_iter().for_each(|user| g.redirect(user.value(0), v));
            changed.push(("input", g.name(v).map_or_else(String::new, |n| n.to_string()), from, to));
        }
        for i in 0..g.outputs().len() {
            let output = g.outputs()[i].clone();
            let (from, node) = (g.ty(output.value).elem.clone(), output.value.node);
            let widens = lacks(g, output.value) && matches!(g.op(node), Op::Cast(Cast { .. }));
            let Some(to) = instead(&from).filter(|to| widens && g.ty(g.operand(node, 0)).elem == *to) else { continue };
            g.set_output(i, g.operand(node, 0));
            changed.push(("output", output.name.to_string(), from, to));
        }
        for (port, name, from, to) in changed {
            let message = format!("{port} {name} is {to} in place of {from}, which {} does not have", device.name);
            cx.diagnostics.push(Diagnostic::note("device-interface", message));
        }
        Ok(())
    }
}

/// The type in place of one that a device lacks.
fn instead(elem: &Elem) -> Option<Elem> {
    match elem {
        Elem::I64 => Some(Elem::I32),
        Elem::F16 => Some(Elem::F32),
        _ => None,
    }
}
