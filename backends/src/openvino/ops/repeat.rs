//! Loops.

use qcc_formats::openvino::{Body, Operation};
use qcc_ir::ops::{Loop, Op};
use qcc_ir::{Graph, TensorType};

use super::super::emit::{Emitter, NodeContext, Ports, Unsupported};

/// Loop.
pub(super) fn repeat(e: &mut Emitter<'_>, op: &Loop, site: &NodeContext) -> Result<Ports, Unsupported> {
    let graph = op.graph().map_err(|e| e.to_string())?;
    let operands = e.operands(site);
    let mut inner = Emitter::new(&graph, Vec::new());
    inner.exchange(e);
    let body = body(&mut inner, op, &graph);
    inner.exchange(e);
    let types: Vec<&TensorType> = site.results.iter().collect();
    let ports = e.op_many(Operation("Loop", 5), &[], &operands, &types);
    e.written.net.bodies.insert(ports[0].layer, Body { net: inner.written.net, ..body? });
    Ok(ports)
}

/// The layers of the body. An error names the node.
fn body(e: &mut Emitter<'_>, op: &Loop, graph: &Graph) -> Result<Body, Unsupported> {
    graph.inputs().for_each(|v| e.input(v));
    for node in graph.order() {
        let constant = e.literal(node.value(0)).is_some();
        if !constant && !matches!(graph.op(node), Op::Input(_)) {
            e.node(node).map_err(|why| format!("its body has {}, and {}", graph.place(node), why.0))?;
        }
    }
    let mut results = Vec::new();
    for output in graph.outputs() {
        let port = e.port(output.value);
        e.result(&output.name, port, graph.ty(output.value));
        results.push(e.written.net.layers.len() - 1);
    }
    // The inputs are the first layers.
    let carried = (1..=op.carried.len()).map(|i| (results[i], i)).collect();
    Ok(Body {
        iteration: 0,
        condition: results[0],
        operands: (1..=op.carried.len() + op.reads.len()).collect(),
        results: results[1..].to_vec(),
        carried,
        ..Body::default()
    })
}
