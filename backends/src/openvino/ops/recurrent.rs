//! Recurrent layers.

use qcc_formats::openvino::{Operation, Port};
use qcc_ir::ops::{Cell, Recurrent};
use qcc_ir::{Dim, Elem, Shape, TensorType};

use super::super::emit::{Emitter, NodeContext, Ports, Unsupported, attribute};
use crate::extents;

/// The order of the gates forget, input, candidate, output in terms of the graph's order.
const LSTM_GATES: [usize; 4] = [2, 0, 3, 1];

/// LSTMSequence, GRUSequence or RNNSequence in one direction. The batch axis comes before the sequence axis, and all
/// operands but x have a direction axis.
pub(super) fn recurrent(e: &mut Emitter<'_>, op: &Recurrent, site: &NodeContext) -> Result<Ports, Unsupported> {
    let [steps, batch, width] = site.operands[0].shape.dims() else { return Err("its operand is no sequence".into()) };
    let known = |d: &Dim| d.known().ok_or("the extents of its weights are open");
    let (inputs, hidden) = (known(width)?, known(&site.operands[2].shape.dims()[1])?);
    let ty = |dims: &[&Dim]| TensorType::new(site.operands[0].elem.clone(), dims.iter().copied().cloned().collect());
    let (one, states) = (&Dim::Known(1), &Dim::Known(hidden));
    let x = e.operand(site, 0);
    let mut ports = vec![swapped(e, x, &ty(&[batch, steps, width]))];
    for state in &site.values[4..] {
        ports.push(e.shaped(*state, &ty(&[batch, one, states]).shape));
    }
    ports.push(lengths(e, steps, batch)?);
    for (operand, columns) in [(1, [inputs].as_slice()), (2, &[hidden]), (3, &[])] {
        ports.push(weights(e, op.cell, site, operand, hidden, columns));
    }
    let (kind, activations) = match op.cell {
        Cell::Lstm => ("LSTMSequence", "sigmoid, tanh, tanh"),
        Cell::Gru { .. } => ("GRUSequence", "sigmoid, tanh"),
        Cell::Rnn { relu: false } => ("RNNSequence", "tanh"),
        Cell::Rnn { relu: true } => ("RNNSequence", "relu"),
    };
    let mut data = vec![
        attribute("hidden_size", hidden),
        attribute("direction", if op.reverse { "reverse" } else { "forward" }),
        attribute("activations", activations),
        attribute("activations_alpha", ""),
        attribute("activations_beta", ""),
        // 0 means no limit.
        attribute("clip", op.clip.unwrap_or(0.0)),
    ];
    if let Cell::Gru { reset_after } = op.cell {
        data.push(attribute("linear_before_reset", reset_after));
    }
    let (y, last) = (ty(&[batch, one, steps, states]), ty(&[batch, one, states]));
    let types: Vec<&TensorType> = std::iter::once(&y).chain(std::iter::repeat_n(&last, op.cell.states())).collect();
    let mut results = e.op_many(Operation(kind, 5), &data, &ports, &types);
    for state in &mut results[1..] {
        *state = e.reshape(*state, &ty(&[batch, states]));
    }
    let joined = ty(&[batch, steps, states]);
    let y = match joined.shape.is_open() {
        false => e.reshape(results[0], &joined),
        true => {
            let inputs = [results[0], e.axes(&[1])];
            e.op(Operation("Squeeze", 1), &[], &inputs, &joined)
        }
    };
    results[0] = swapped(e, y, &site.results[0]);
    Ok(results)
}

/// The number of steps of each sequence of a batch.
fn lengths(e: &mut Emitter<'_>, steps: &Dim, batch: &Dim) -> Result<Port, Unsupported> {
    let lengths = TensorType::new(Elem::I32, Shape::from_iter([batch.clone()]));
    if let (Some(steps), Some(batch)) = (steps.known(), batch.known()) {
        let steps = i32::try_from(steps).map_err(|e| e.to_string())?;
        return Ok(e.numbers(&lengths, &vec![steps; batch]));
    }
    let (steps, batch) = (extents::value(e, &steps.expr())?, extents::value(e, &batch.expr())?);
    let steps = e.convert(steps, &TensorType::new(Elem::I32, Shape::known(&[1])));
    Ok(e.op(Operation("Broadcast", 3), &[attribute("mode", "numpy")], &[steps, batch], &lengths))
}

/// The sequence and batch axes transposed.
fn swapped(e: &mut Emitter<'_>, x: Port, ty: &TensorType) -> Port {
    let perm = e.axes(&[1, 0, 2]);
    e.op(Operation("Transpose", 1), &[], &[x, perm], ty)
}

/// An operand with `[gates * hidden, ..columns]` elements with a direction axis, its gates in the format's order.
fn weights(
    e: &mut Emitter<'_>,
    cell: Cell,
    site: &NodeContext,
    operand: usize,
    hidden: usize,
    columns: &[usize],
) -> Port {
    let rows = if operand == 3 { cell.biases() } else { cell.gates() };
    let dims = |outer: &[usize]| -> Shape { outer.iter().chain(columns).copied().collect() };
    let whole = dims(&[1, rows * hidden]);
    let v = site.values[operand];
    if cell != Cell::Lstm {
        return e.shaped(v, &whole);
    }
    let gates = TensorType::new(site.operands[operand].elem.clone(), dims(&[rows, hidden]));
    let (x, order) = (e.shaped(v, &gates.shape), e.axes(&LSTM_GATES));
    let axis = e.index(0);
    let ordered = e.op(Operation("Gather", 8), &[attribute("batch_dims", 0)], &[x, order, axis], &gates);
    e.reshape(ordered, &TensorType::new(gates.elem, whole))
}
