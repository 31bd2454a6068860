//! Recurrent layers.

use qcc_ir::ops::{BinaryFn, Cell, Concat, Gather, Range, Recurrent, Slice};
use qcc_ir::{Dim, Shape, Tensor, ValueId};

use super::super::node::NodeCx;
use super::Row;
use crate::build::{Build, Values, extent};
use crate::refusal::Refusal;

pub(super) const ROWS: &[Row] = &[
    ("gru", |n| {
        let first = n.tensor("hx")?;
        layers(n, Cell::Gru { reset_after: true }, &[first])
    }),
    ("gru_cell", |n| {
        let state = n.tensor("hx")?;
        step(n, Cell::Gru { reset_after: true }, &[state])
    }),
    ("lstm", |n| {
        let first = n.tensors("hx")?;
        layers(n, Cell::Lstm, &first)
    }),
    ("lstm_cell", |n| {
        let states = n.tensors("hx")?;
        step(n, Cell::Lstm, &states)
    }),
    ("rnn_relu", |n| {
        let first = n.tensor("hx")?;
        layers(n, Cell::Rnn { relu: true }, &[first])
    }),
    ("rnn_relu_cell", |n| {
        let state = n.tensor("hx")?;
        step(n, Cell::Rnn { relu: true }, &[state])
    }),
    ("rnn_tanh", |n| {
        let first = n.tensor("hx")?;
        layers(n, Cell::Rnn { relu: false }, &[first])
    }),
    ("rnn_tanh_cell", |n| {
        let state = n.tensor("hx")?;
        step(n, Cell::Rnn { relu: false }, &[state])
    }),
];

/// PyTorch's indices of the graph's gates.
fn order(cell: Cell) -> &'static [usize] {
    match cell {
        // input, forget, candidate, output
        Cell::Lstm => &[0, 3, 1, 2],
        // reset, update, candidate
        Cell::Gru { .. } => &[1, 0, 2],
        Cell::Rnn { .. } => &[0],
    }
}

/// Stacked layers, each in one or both directions. Initial states are `[layers * directions, N, H]`.
fn layers(n: &mut NodeCx<'_, '_>, cell: Cell, first: &[ValueId]) -> Result<Values, Refusal> {
    let (x, parameters) = (n.tensor("input")?, n.tensors("params")?);
    let (biases, both) = (n.flag("has_biases", true)?, n.flag("bidirectional", false)?);
    let layers = n.required_int("num_layers")?;
    let (layers, directions) = (extent(layers)?, 1 + usize::from(both));
    let dropout = n.float("dropout", 0.0)?;
    if n.flag("train", false)? && dropout != 0.0 {
        return Err(Refusal::Unsupported("dropout in training mode: call model.eval() before the export".into()));
    }
    let batch_first = n.flag("batch_first", false)?;
    let each = if biases { 4 } else { 2 };
    if parameters.len() != layers * directions * each || first.len() != cell.states() {
        return Err(Refusal::Unsupported("recurrent layers with projections (proj_size) are not supported".into()));
    }
    let single = n.rank(x) == 2;
    let mut y = if single { n.reshape_to(x, with_axis(n.shape(x), 1))? } else { x };
    if batch_first && !single {
        y = n.transpose(y, &[1, 0, 2])?;
    }
    let mut last: Vec<Values> = vec![Values::new(); first.len()];
    for (layer, parameters) in parameters.chunks_exact(directions * each).enumerate() {
        let mut ways = Values::new();
        for (way, parameters) in parameters.chunks_exact(each).enumerate() {
            let mut operands = Values::from_iter([y]);
            operands.extend(in_order(n, cell, parameters)?);
            for &states in first {
                operands.push(state(n, states, layer * directions + way)?);
            }
            let results = n.add_all(Recurrent { cell, reverse: way == 1, clip: None }, &operands)?;
            ways.push(results[0]);
            for (all, &state) in last.iter_mut().zip(&results[1..]) {
                all.push(n.reshape_to(state, with_axis(n.shape(state), 0))?);
            }
        }
        y = joined(n, &ways, 2)?;
    }
    if batch_first && !single {
        y = n.transpose(y, &[1, 0, 2])?;
    }
    let mut results = Values::from_iter([if single { without_batch(n, y)? } else { y }]);
    for states in last {
        let states = joined(n, &states, 0)?;
        results.push(if single { without_batch(n, states)? } else { states });
    }
    Ok(results)
}

/// One time step of a layer, from states `[N, H]` to the next.
fn step(n: &mut NodeCx<'_, '_>, cell: Cell, states: &[ValueId]) -> Result<Values, Refusal> {
    let x = n.tensor("input")?;
    let mut parameters = Values::from_iter([n.tensor("w_ih")?, n.tensor("w_hh")?]);
    parameters.extend([n.optional("b_ih")?, n.optional("b_hh")?].into_iter().flatten());
    let mut operands = Values::from_iter([n.reshape_to(x, with_axis(n.shape(x), 0))?]);
    operands.extend(in_order(n, cell, &parameters)?);
    operands.extend_from_slice(states);
    let results = n.add_all(Recurrent { cell, reverse: false, clip: None }, &operands)?;
    Ok(results[1..].into())
}

fn with_axis(shape: &Shape, axis: usize) -> Shape {
    let (before, after) = shape.dims().split_at(axis.min(shape.rank()));
    before.iter().cloned().chain([Dim::Known(1)]).chain(after.iter().cloned()).collect()
}

fn without_batch(n: &mut NodeCx<'_, '_>, v: ValueId) -> Result<ValueId, Refusal> {
    n.reshape_to(v, n.shape(v).without(1))
}

fn joined(n: &mut NodeCx<'_, '_>, parts: &[ValueId], axis: usize) -> Result<ValueId, Refusal> {
    match parts {
        [only] => Ok(*only),
        _ => n.add(Concat { axis }, parts),
    }
}

/// The initial state of one layer in one direction, `[N, H]`.
fn state(n: &mut NodeCx<'_, '_>, states: ValueId, i: usize) -> Result<ValueId, Refusal> {
    let shape = n.shape(states).clone();
    let one = n.add(Slice { ranges: vec![Range { axis: 0, start: i, len: 1, step: 1 }] }, &[states])?;
    if shape.rank() == 3 { n.reshape_to(one, shape.without(0)) } else { Ok(one) }
}

/// Weight, recurrent weight and bias with the gates in the graph's order.
fn in_order(n: &mut NodeCx<'_, '_>, cell: Cell, parameters: &[ValueId]) -> Result<[ValueId; 3], Refusal> {
    let hidden = n.dims(parameters[1])?.last().copied().unwrap_or(0);
    let rows = cell.gates() * hidden;
    if parameters.iter().any(|&p| n.shape(p).dims().first() != Some(&rows.into())) {
        return Err(Refusal::Invalid(format!("parameters of {hidden} states that do not fit each other")));
    }
    let of_gates = |gates: &[usize]| -> Tensor {
        let places: Vec<i64> = gates.iter().flat_map(|g| (0..hidden).map(move |i| (g * hidden + i) as i64)).collect();
        Tensor::from_vec(Shape::known(&[places.len()]), places)
    };
    let order = of_gates(order(cell));
    let place = |n: &mut NodeCx<'_, '_>, v: ValueId, places: &Tensor| {
        let places = n.add_constant(places.clone());
        n.add(Gather { axis: 0 }, &[v, places])
    };
    let (weight, recurrent) = (place(n, parameters[0], &order)?, place(n, parameters[1], &order)?);
    let [_, _, input, state] = *parameters else {
        let zeros = vec![0.0; cell.biases() * hidden];
        let elem = n.ty(weight).elem.clone();
        let zeros = crate::build::numbers(&elem, Shape::known(&[zeros.len()]), &zeros);
        let zeros = zeros.ok_or_else(|| Refusal::Invalid("weights that are no numbers".into()))?;
        return Ok([weight, recurrent, n.add_constant(zeros)]);
    };
    let bias = if matches!(cell, Cell::Gru { reset_after: true }) {
        // The biases of the candidate stay separate.
        let (outer, inner) = (of_gates(&[1, 0]), of_gates(&[2]));
        let sum = n.binary(BinaryFn::Add, input, state)?;
        let sum = place(n, sum, &outer)?;
        let (input, state) = (place(n, input, &inner)?, place(n, state, &inner)?);
        n.add(Concat { axis: 0 }, &[sum, input, state])?
    } else {
        let sum = n.binary(BinaryFn::Add, input, state)?;
        place(n, sum, &order)?
    };
    Ok([weight, recurrent, bias])
}
