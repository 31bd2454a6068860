//! Loops and branches.

use std::borrow::Cow;

use qcc_formats::openvino::{Body, Net, Operation, Port, Role};
use qcc_ir::error::TypeError;
use qcc_ir::ops::{Binary, BinaryFn, If, Loop, Op};
use qcc_ir::{Dim, Elem, Graph, Shape, Tensor, TensorType};

use super::super::emit::{Emitter, NodeContext, Ports, Unsupported, attribute};
use crate::unsupported::graph_of;

/// Loop. With rows it has an iteration at least, whose values count only where the loop of the graph has one: without
/// iterations the CPU plugin gives the rows of the run before.
pub(super) fn repeat(e: &mut Emitter<'_>, op: &Loop, site: &NodeContext) -> Result<Ports, Unsupported> {
    let rows = op.rows();
    let mut operands = e.operands(site);
    let runs = (!rows.is_empty()).then(|| at_least_once(e, &mut operands));
    let mut graph = Cow::Borrowed(graph_of(&op.body)?);
    if !rows.is_empty() && op.iterations.is_none() {
        // The plugin allocates the rows of all iterations that there may be at most.
        limit(graph.to_mut()).map_err(|e| e.to_string())?;
        operands.push(operands[0]);
        operands[0] = e.numbers(&TensorType::new(Elem::I64, Shape::scalar()), &[-1i64]);
    }
    let (net, results) = inside(e, &graph, &rows)?;
    let joined = results[1 + op.carried..].to_vec();
    let body = Body {
        net,
        operands: (1..graph.inputs().len()).collect(),
        results: results[1..].to_vec(),
        role: Role::Loop {
            iteration: 0,
            condition: results[0],
            // The inputs are the first layers.
            carried: (1..=op.carried).map(|i| (results[i], i)).collect(),
            joined,
        },
    };
    let types: Vec<&TensorType> = site.results.iter().collect();
    let mut ports = e.op_many(Operation("Loop", 5), &[], &operands, &types);
    e.written.net.bodies.insert(ports[0].layer, vec![body]);
    let Some(runs) = runs else { return Ok(ports) };
    for (i, ty) in types.into_iter().enumerate() {
        ports[i] = match operands.get(2 + i).filter(|_| i < op.carried) {
            Some(&before) => e.op(SELECT, &[attribute("auto_broadcast", "numpy")], &[runs, ports[i], before], ty),
            None => counted(e, ports[i], runs, ty),
        };
    }
    Ok(ports)
}

const SELECT: Operation = Operation("Select", 1);

/// Whether a loop with these operands has an iteration; then the operands are those of one that has.
fn at_least_once(e: &mut Emitter<'_>, operands: &mut [Port]) -> Port {
    let [number, condition] = [Elem::I64, Elem::Bool].map(|elem| TensorType::new(elem, Shape::scalar()));
    let (zero, one) = (e.index(0), e.index(1));
    let some = e.binary("Greater", operands[0], zero, &condition);
    let runs = e.binary("LogicalAnd", operands[1], some, &condition);
    operands[0] = e.binary("Maximum", operands[0], one, &number);
    operands[1] = e.numbers(&condition, &[1u8]);
    runs
}

/// Makes a body end a loop after so many iterations as a further input says.
fn limit(body: &mut Graph) -> Result<(), TypeError> {
    let (Some(number), Some(again)) = (body.inputs().next(), body.outputs().first().map(|o| o.value)) else {
        return Ok(());
    };
    let origin = body.origin(again.node).clone();
    let most = body.add_input("most", TensorType::new(Elem::I64, Shape::scalar()));
    let one = body.add_computed(Tensor::scalar(1i64), origin.clone());
    let next = body.add1(Binary { f: BinaryFn::Add }, &[number, one], origin.clone())?;
    let left = body.add1(Binary { f: BinaryFn::Less }, &[next, most], origin.clone())?;
    let both = body.add1(Binary { f: BinaryFn::And }, &[again, left], origin)?;
    body.set_output(0, both);
    Ok(())
}

/// The rows of a loop, or none where it has no iterations.
fn counted(e: &mut Emitter<'_>, rows: Port, runs: Port, ty: &TensorType) -> Port {
    let list = |count| TensorType::new(Elem::I64, Shape::known(&[count]));
    let shape = e.op(Operation("ShapeOf", 3), &[attribute("output_type", "i64")], &[rows], &list(ty.rank()));
    let inputs = [shape, e.indices(&[0]), e.index(0)];
    let count = e.op(Operation("Gather", 8), &[attribute("batch_dims", 0)], &inputs, &list(1));
    let runs = e.convert(runs, &TensorType::new(Elem::I64, Shape::scalar()));
    let stop = e.binary("Multiply", count, runs, &list(1));
    let inputs = [rows, e.indices(&[0]), stop, e.indices(&[1]), e.indices(&[0])];
    e.op(Operation("Slice", 8), &[], &inputs, ty)
}

/// If.
pub(super) fn choose(e: &mut Emitter<'_>, op: &If, site: &NodeContext) -> Result<Ports, Unsupported> {
    let operands = e.operands(site);
    let mut bodies = Vec::new();
    for (branch, role) in [(&op.then, Role::Then), (&op.otherwise, Role::Else)] {
        let (net, results) = inside(e, graph_of(branch)?, &[])?;
        bodies.push(Body { net, operands: (0..branch.takes().len()).collect(), results, role });
    }
    let types: Vec<&TensorType> = site.results.iter().collect();
    let ports = e.op_many(Operation("If", 8), &[], &operands, &types);
    e.written.net.bodies.insert(ports[0].layer, bodies);
    Ok(ports)
}

/// The network of a graph inside a layer, and its Result layers. The last results, of the types `rows`, have a first axis
/// more. An error names the node.
fn inside(outer: &mut Emitter<'_>, graph: &Graph, rows: &[TensorType]) -> Result<(Net, Vec<usize>), Unsupported> {
    let mut e = Emitter::new(graph, Vec::new());
    e.exchange(outer);
    let results = layers(&mut e, rows);
    e.exchange(outer);
    Ok((e.written.net, results?))
}

fn layers(e: &mut Emitter<'_>, rows: &[TensorType]) -> Result<Vec<usize>, Unsupported> {
    let graph = e.graph;
    graph.inputs().for_each(|v| e.input(v));
    for node in graph.order() {
        let constant = e.literal(node.value(0)).is_some();
        if !constant && !matches!(graph.op(node), Op::Input(_)) {
            e.node(node).map_err(|why| format!("its body has {}, and {}", graph.place(node), why.0))?;
        }
    }
    let plain = graph.outputs().len() - rows.len();
    let mut results = Vec::new();
    for (i, output) in graph.outputs().iter().enumerate() {
        let (mut port, ty) = (e.port(output.value), graph.ty(output.value));
        let mut shape = ty.shape.clone();
        if i >= plain {
            shape = std::iter::once(Dim::Known(1)).chain(shape.dims().iter().cloned()).collect();
            let first = e.indices(&[0]);
            port =
                e.op(Operation("Unsqueeze", 1), &[], &[port, first], &TensorType::new(ty.elem.clone(), shape.clone()));
        }
        e.result(&output.name, port, &TensorType::new(ty.elem.clone(), shape));
        results.push(e.written.net.layers.len() - 1);
    }
    Ok(results)
}
