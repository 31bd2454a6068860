//! Loops and branches.

use qcc_formats::onnx::{GraphProto, ValueInfoProto};
use qcc_ir::ops::{Body, If, Loop, Op};
use qcc_ir::{Elem, Graph, Shape, TensorType, ValueId};

use super::super::call::Call;
use super::super::emit::{Emitter, Name, NodeContext, Unsupported, value_info};
use crate::extents;
use crate::unsupported::graph_of;

/// Loop. Values that the body reads are those of the graph around it, by their names.
pub(super) fn repeat(e: &mut Emitter<'_>, op: &Loop, site: &NodeContext<'_>) -> Result<(), Unsupported> {
    let inputs = e.inputs(site);
    let (given, reads) = inputs.split_at(2 + op.carried);
    let running = e.free_name("running");
    let body = inside(e, &op.body, reads, |e, own| {
        let mut inputs: Vec<ValueInfoProto> = own.iter().map(|&v| value_info(&e.reals[&v], e.graph.ty(v))).collect();
        inputs.insert(1, value_info(&running, &TensorType::new(Elem::Bool, Shape::scalar())));
        inputs
    })?;
    let rows = op.rows();
    let mut results = site.outputs.clone();
    let open: Vec<usize> = (0..rows.len()).filter(|&i| op.iterations.is_none() && rows[i].shape.is_open()).collect();
    for &i in &open {
        results[op.carried + i] = e.scratch(site, &site.results[op.carried + i]);
    }
    e.push(Call::new("Loop").graph("body", body), given, &results);
    // Where there are no iterations, ONNX Runtime gives rows whose open extents are 0.
    for &i in &open {
        let made = &results[op.carried + i];
        let count = e.scratch(site, &TensorType::new(Elem::I64, Shape::known(&[1])));
        e.push(
            Call::new("Shape").size("start", 0).size("end", 1),
            std::slice::from_ref(made),
            std::slice::from_ref(&count),
        );
        let row = extents::shape(e, &rows[i].shape)?;
        let all = e.scratch(site, &TensorType::new(Elem::I64, Shape::known(&[1 + rows[i].rank()])));
        e.push(Call::new("Concat").int("axis", 0), &[count, row], std::slice::from_ref(&all));
        let call = Call::new("Reshape").int("allowzero", 1);
        e.push(call, &[made.clone(), all], std::slice::from_ref(&site.outputs[op.carried + i]));
    }
    Ok(())
}

/// If. Values that the branches read are those of the graph around it, by their names.
pub(super) fn choose(e: &mut Emitter<'_>, op: &If, site: &NodeContext<'_>) -> Result<(), Unsupported> {
    let inputs = e.inputs(site);
    let then = inside(e, &op.then, &inputs[1..], |_, _| Vec::new())?;
    let otherwise = inside(e, &op.otherwise, &inputs[1..], |_, _| Vec::new())?;
    let call = Call::new("If").graph("then_branch", then).graph("else_branch", otherwise);
    e.push(call, &inputs[..1], &site.outputs);
    Ok(())
}

/// The graph of a body whose last inputs are the tensors `reads`. `inputs` declares the others. An error names the node.
fn inside(
    e: &mut Emitter<'_>,
    body: &Body,
    reads: &[Name],
    inputs: impl FnOnce(&Emitter<'_>, &[ValueId]) -> Vec<ValueInfoProto>,
) -> Result<GraphProto, Unsupported> {
    let mut body = graph_of(body)?.clone();
    // Names are unique in the whole model.
    for i in 0..body.outputs().len() {
        let name = e.free_name(&body.outputs()[i].name.clone());
        body.rename_output(i, name);
    }
    e.nested(&body, |e| {
        let values: Vec<ValueId> = body.inputs().collect();
        let (own, read) = values.split_at(values.len() - reads.len());
        for &v in own {
            let name = e.free_name(&e.wanted(v));
            e.reals.insert(v, name);
        }
        read.iter().zip(reads).for_each(|(&v, name)| _ = e.reals.insert(v, name.clone()));
        let inputs = inputs(e, own);
        nodes(e, &body)?;
        Ok(inputs)
    })
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
