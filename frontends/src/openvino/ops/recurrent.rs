//! Recurrent layers. Each direction is a separate layer.

use qcc_ir::ops::{Cell, Concat, Gather, Op, Range, Recurrent, Slice};
use qcc_ir::{Expr, ValueId};

use super::super::node::NodeCx;
use super::Row;
use crate::build::movement::unsqueezed;
use crate::build::symbolic::whole;
use crate::build::{Build, Operands, Values};
use crate::refusal::Refusal;

pub(super) const ROWS: &[Row] = &[
    ("GRUCell", |n| gru(n).and_then(|cell| step(n, cell))),
    ("GRUSequence", |n| gru(n).and_then(|cell| layers(n, cell))),
    ("LSTMCell", |n| step(n, Cell::Lstm)),
    ("LSTMSequence", |n| layers(n, Cell::Lstm)),
    ("RNNCell", |n| {
        let cell = rnn(n);
        step(n, cell)
    }),
    ("RNNSequence", |n| {
        let cell = rnn(n);
        layers(n, cell)
    }),
];

fn gru(n: &mut NodeCx<'_, '_>) -> Result<Cell, Refusal> {
    Ok(Cell::Gru { reset_after: n.flag("linear_before_reset", false)? })
}

fn rnn(n: &mut NodeCx<'_, '_>) -> Cell {
    Cell::Rnn { relu: n.text("activations").is_some_and(|f| f.trim() == "relu") }
}

/// The limit of a cell's products, if it has one. Fails unless its activation functions are the usual ones.
fn clip(n: &mut NodeCx<'_, '_>, cell: Cell) -> Result<Option<f32>, Refusal> {
    let functions: &[&str] = match cell {
        Cell::Gru { .. } => &["sigmoid", "tanh"],
        Cell::Lstm => &["sigmoid", "tanh", "tanh"],
        Cell::Rnn { relu: true } => &["relu"],
        Cell::Rnn { relu: false } => &["tanh"],
    };
    let given: Vec<&str> = n.text("activations").unwrap_or_default().split(',').map(str::trim).collect();
    if given != [""] && given != functions {
        return Err(Refusal::Unsupported(format!("activations {} are not supported", given.join(", "))));
    }
    if [n.list("activations_alpha")?, n.list("activations_beta")?].iter().any(|l| !l.is_empty()) {
        return Err(Refusal::Unsupported("activations with parameters are not supported".into()));
    }
    Ok(n.number::<f32>("clip")?.filter(|&clip| clip != 0.0 && clip.is_finite()))
}

/// One step of a layer: operands are x `[N, I]`, the states `[N, H]` and the weights, results the new states.
fn step(n: &mut NodeCx<'_, '_>, cell: Cell) -> Result<Values, Refusal> {
    let clip = clip(n, cell)?;
    let states = cell.states();
    let x = n.input(0)?;
    let steps = unsqueezed(n, x, &[0])?;
    let mut operands = vec![n.reshape_to(x, steps)?];
    for i in 0..3 {
        let weights = n.input(1 + states + i)?;
        operands.push(gates(n, cell, weights)?);
    }
    for i in 0..states {
        operands.push(n.input(1 + i)?);
    }
    hidden_size(n, operands[2])?;
    let results = n.add_all(Recurrent { cell, reverse: false, clip }, &operands)?;
    Ok(results[1..].into())
}

/// Fails unless the layer's attribute is the size that these recurrent weights have.
fn hidden_size(n: &mut NodeCx<'_, '_>, weights: ValueId) -> Result<(), Refusal> {
    let hidden = n.dims(weights)?.get(1).copied().unwrap_or(0);
    if n.required::<usize>("hidden_size")? == hidden {
        return Ok(());
    }
    Err(Refusal::Attribute { name: "hidden_size".into(), problem: "not that of the weights" })
}

/// Indices of the gates input, output, forget and candidate in the order of the file: forget, input, candidate, output.
const LSTM_GATES: [i64; 4] = [1, 3, 0, 2];

/// The layers of all directions. Operands are x `[N, T, I]`, the states `[N, D, H]`, lengths, and the weights, whose
/// first axis is the direction.
fn layers(n: &mut NodeCx<'_, '_>, cell: Cell) -> Result<Values, Refusal> {
    let directions: &[bool] = match n.text("direction") {
        None | Some("forward") => &[false],
        Some("reverse") => &[true],
        Some("bidirectional") => &[false, true],
        Some(_) => return Err(Refusal::Attribute { name: "direction".into(), problem: "not a known direction" }),
    };
    let clip = clip(n, cell)?;
    let x = n.input(0)?;
    let states = cell.states();
    let [_, steps, _] = n.shape(x).dims() else { return Err(Refusal::Invalid(format!("x is {}", n.ty(x)))) };
    let steps = steps.expr();
    if !all_of(n, 1 + states, &steps)? {
        return Err(Refusal::Unsupported("sequences shorter than x are not supported".into()));
    }
    let x = n.transpose(x, &[1, 0, 2])?;
    let mut results = vec![Values::new(); 1 + states];
    for (d, &reverse) in directions.iter().enumerate() {
        let mut operands = vec![x];
        for i in 0..3 {
            let whole = n.input(2 + states + i)?;
            let part = direction(n, whole, 0, d, directions.len())?;
            operands.push(gates(n, cell, part)?);
        }
        hidden_size(n, operands[2])?;
        for i in 0..states {
            let whole = n.input(1 + i)?;
            operands.push(direction(n, whole, 1, d, directions.len())?);
        }
        let values = n.add_all(Recurrent { cell, reverse, clip }, &operands)?;
        for (i, value) in values.into_iter().enumerate() {
            // y is [N, D, T, H], a final state is [N, D, H].
            let value = if i == 0 { n.transpose(value, &[1, 0, 2])? } else { value };
            let shape = unsqueezed(n, value, &[1])?;
            results[i].push(n.reshape_to(value, shape)?);
        }
    }
    let joined = |values: &Values| match values.as_slice() {
        [one] => Ok(*one),
        all => n.add(Concat { axis: 1 }, all),
    };
    results.iter().map(joined).collect()
}

/// Direction `d` of `count` along `axis`.
fn direction(n: &mut NodeCx<'_, '_>, v: ValueId, axis: usize, d: usize, count: usize) -> Result<ValueId, Refusal> {
    let shape = n.shape(v).clone();
    if shape.dims().get(axis) != Some(&count.into()) {
        return Err(Refusal::Invalid(format!("{} for {count} directions", n.ty(v))));
    }
    let range = Range { axis, start: d, len: 1, step: 1 };
    let part = if count == 1 { v } else { n.add(Slice { ranges: vec![range] }, &[v])? };
    n.reshape_to(part, shape.without(axis))
}

/// Whether the integers at input `i` are all equal to an extent: they are constants, or one number that is repeated.
fn all_of(n: &mut NodeCx<'_, '_>, i: usize, extent: &Expr) -> Result<bool, Refusal> {
    let mut v = n.input(i)?;
    if let Op::Expand(_) = n.graph().producer(v) {
        v = n.graph().operands(v.node)[0];
    }
    match whole(n.graph(), v) {
        Some(values) => Ok(values.iter().all(|value| value == extent)),
        None => Ok(n.integers(i)?.iter().all(|&value| *extent == value.into())),
    }
}

/// Weights `[G * H, ..]` with the gates in the order of the graph.
fn gates(n: &mut NodeCx<'_, '_>, cell: Cell, w: ValueId) -> Result<ValueId, Refusal> {
    let dims = n.dims(w)?;
    if cell != Cell::Lstm {
        return Ok(w);
    }
    let rows = dims.first().copied().unwrap_or(0);
    if !rows.is_multiple_of(LSTM_GATES.len()) {
        return Err(Refusal::Invalid(format!("weights {} of four gates", n.ty(w))));
    }
    let apart = [&[4, rows / 4], &dims[1..]].concat();
    let (apart, order) = (n.reshape(w, &apart)?, n.table(&[4], |i| LSTM_GATES[i])?);
    let ordered = n.add(Gather { axis: 0 }, &[apart, order])?;
    n.reshape(ordered, &dims)
}
