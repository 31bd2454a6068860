//! Loops.

use qcc_ir::ops::{Loop, Op};
use qcc_ir::{Graph, ValueId};

use super::super::call::Call;
use super::super::emit::{Emitter, Name, NodeContext, Unsupported};

/// Loop. Values that the body reads are those of the graph around it, by their names.
pub(super) fn repeat(e: &mut Emitter<'_>, op: &Loop, site: &NodeContext<'_>) -> Result<(), Unsupported> {
    let mut body = op.graph().map_err(|e| e.to_string())?;
    // Names are unique in the whole model.
    for i in 0..body.outputs().len() {
        let name = e.free_name(&body.outputs()[i].name.clone());
        body.rename_output(i, name);
    }
    let inputs = e.inputs(site);
    let (given, reads) = inputs.split_at(2 + op.carried.len());
    let running = e.free_name("running");
    let written = e.nested(&body, |e, body| {
        let values: Vec<ValueId> = body.inputs().collect();
        let (own, read) = values.split_at(1 + op.carried.len());
        for &v in own {
            let name = e.free_name(&e.wanted(v));
            e.reals.insert(v, name);
        }
        read.iter().zip(reads).for_each(|(&v, name)| _ = e.reals.insert(v, name.clone()));
        let mut names: Vec<Name> = own.iter().map(|v| e.reals[v].clone()).collect();
        names.insert(1, running.clone());
        nodes(e, body)?;
        Ok(names)
    })?;
    let call = Call::new("Loop").graph("body", written);
    e.push(call, given, &site.outputs);
    Ok(())
}

/// The nodes of a body and its outputs. An error names the node.
fn nodes(e: &mut Emitter<'_>, body: &Graph) -> Result<(), Unsupported> {
    for node in body.order() {
        if !matches!(body.op(node), Op::Input(_) | Op::Const(_)) {
            e.path = body.origin(node).path().to_owned();
            e.node(node).map_err(|why| format!("its body has {}, and {}", body.place(node), why.0))?;
        }
    }
    e.outputs();
    Ok(())
}
