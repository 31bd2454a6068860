//! Recurrent layers. Each direction is a separate layer.

use qcc_ir::ops::{BinaryFn, Cell, Concat, Expand, Range, Recurrent, Slice};
use qcc_ir::{Shape, ValueId};

use super::super::node::NodeCx;
use super::Row;
use crate::build::{Build, Values};
use crate::refusal::Refusal;

pub(super) const ROWS: &[Row] = &[("GRU", gru), ("LSTM", lstm), ("RNN", rnn)];

fn lstm(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    lstm_of(n, weights)
}

/// The input and recurrent weights for each direction, `[G*H, I]` and `[G*H, H]`.
type Weights = fn(&mut NodeCx<'_, '_>, usize) -> Result<Vec<[ValueId; 2]>, Refusal>;

/// An LSTM with weights in another encoding.
pub(super) fn lstm_of(n: &mut NodeCx<'_, '_>, weights: Weights) -> Result<Values, Refusal> {
    let directions = directions(n)?;
    activations(n, &["Sigmoid", "Tanh", "Tanh"], directions.len())?;
    if n.flag("input_forget", false)? {
        return Err(Refusal::Unsupported("coupled input and forget gates (input_forget = 1) are not supported".into()));
    }
    if n.optional(7).is_some() {
        return Err(Refusal::Unsupported("peepholes (input P) are not supported".into()));
    }
    layers(n, Cell::Lstm, directions, weights)
}

fn gru(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let directions = directions(n)?;
    activations(n, &["Sigmoid", "Tanh"], directions.len())?;
    let reset_after = n.flag("linear_before_reset", false)?;
    layers(n, Cell::Gru { reset_after }, directions, weights)
}

fn rnn(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let directions = directions(n)?;
    let relu = n.strings("activations")?.is_some_and(|names| names.iter().all(|f| f.eq_ignore_ascii_case("relu")));
    activations(n, &[if relu { "Relu" } else { "Tanh" }], directions.len())?;
    layers(n, Cell::Rnn { relu }, directions, weights)
}

/// For each direction whether it is reversed.
fn directions(n: &mut NodeCx<'_, '_>) -> Result<&'static [bool], Refusal> {
    match n.string("direction", "forward")? {
        "forward" => Ok(&[false]),
        "reverse" => Ok(&[true]),
        "bidirectional" => Ok(&[false, true]),
        _ => Err(Refusal::Attribute { name: "direction".into(), problem: "not forward, reverse or bidirectional" }),
    }
}

/// Fails unless the activation functions of all gates, direction by direction, are `expected`. These have no
/// parameters.
fn activations(n: &mut NodeCx<'_, '_>, expected: &[&str], directions: usize) -> Result<(), Refusal> {
    n.floats("activation_alpha")?;
    n.floats("activation_beta")?;
    let Some(names) = n.strings("activations")? else { return Ok(()) };
    let same = names.len() == expected.len() * directions
        && names.iter().zip(expected.iter().cycle()).all(|(f, e)| f.eq_ignore_ascii_case(e));
    if same { Ok(()) } else { Err(Refusal::Unsupported(format!("activations {} are not supported", names.join(", ")))) }
}

/// The float weights of a layer.
fn weights(n: &mut NodeCx<'_, '_>, directions: usize) -> Result<Vec<[ValueId; 2]>, Refusal> {
    let (w, r) = (n.input(1)?, n.input(2)?);
    if n.rank(w) != 3 || n.rank(r) != 3 {
        return Err(Refusal::Invalid(format!("W is {} and R {}; expected rank 3", n.ty(w), n.ty(r))));
    }
    (0..directions).map(|d| Ok([direction(n, w, d, directions)?, direction(n, r, d, directions)?])).collect()
}

/// The layers of all directions, with concatenated results.
fn layers(n: &mut NodeCx<'_, '_>, cell: Cell, directions: &[bool], weights: Weights) -> Result<Values, Refusal> {
    let (mut x, b) = (n.input(0)?, n.optional(3));
    let clip = n.optional_float("clip")?.filter(|&clip| clip != 0.0);
    let batch_first = n.opset() >= 14 && n.flag("layout", false)?;
    if n.rank(x) != 3 {
        return Err(Refusal::Invalid(format!("x is {}; expected rank 3", n.ty(x))));
    }
    let weights = weights(n, directions.len())?;
    if batch_first {
        x = n.transpose(x, &[1, 0, 2])?;
    }
    let (dims, hidden) = (n.dims(x), n.dims(weights[0][1])[1]);
    if n.optional_int("hidden_size")?.is_some_and(|size| usize::try_from(size) != Ok(hidden)) {
        return Err(Refusal::Attribute { name: "hidden_size".into(), problem: "not that of the weights" });
    }
    if n.optional_integers(4)?.is_some_and(|lens| lens.iter().any(|&len| usize::try_from(len) != Ok(dims[0]))) {
        return Err(Refusal::Unsupported("sequences shorter than x (sequence_lens) are not supported".into()));
    }
    let mut states: Vec<Option<ValueId>> = (0..cell.states()).map(|i| n.optional(5 + i)).collect();
    for state in states.iter_mut().flatten().filter(|_| batch_first) {
        *state = n.transpose(*state, &[1, 0, 2])?;
    }
    let mut results = vec![Values::new(); 1 + cell.states()];
    for (d, &reverse) in directions.iter().enumerate() {
        let [w, r] = weights[d];
        let b = match b {
            Some(b) => {
                let b = direction(n, b, d, directions.len())?;
                bias(n, cell, b)?
            }
            None => zeros(n, x, &[cell.biases() * hidden])?,
        };
        let mut operands = vec![x, w, r, b];
        for state in &states {
            operands.push(match *state {
                Some(state) => direction(n, state, d, directions.len())?,
                None => zeros(n, x, &[dims[1], hidden])?,
            });
        }
        let values = n.add_all(Recurrent { cell, reverse, clip }, &operands)?;
        for (i, value) in values.into_iter().enumerate() {
            // y is [T, D, N, H], a final state is [D, N, H].
            let mut dims = n.dims(value);
            dims.insert(usize::from(i == 0), 1);
            results[i].push(n.reshape(value, &dims)?);
        }
    }
    let side_by_side = |n: &mut NodeCx<'_, '_>, i: usize, values: &Values| {
        let axis = usize::from(i == 0);
        let all = if let [one] = values.as_slice() { *one } else { n.add(Concat { axis }, values)? };
        let perm: &[usize] = if i == 0 { &[2, 0, 1, 3] } else { &[1, 0, 2] };
        if batch_first { n.transpose(all, perm) } else { Ok(all) }
    };
    results.iter().enumerate().map(|(i, values)| side_by_side(n, i, values)).collect()
}

/// Direction `d` of `count` of a value whose first axis is the direction.
fn direction(n: &mut NodeCx<'_, '_>, v: ValueId, d: usize, count: usize) -> Result<ValueId, Refusal> {
    let dims = n.dims(v);
    if dims.first() != Some(&count) {
        return Err(Refusal::Invalid(format!("{} for {count} directions", n.ty(v))));
    }
    let part = part(n, v, d, 1)?;
    n.reshape(part, &dims[1..])
}

/// `len` indices of the first axis, beginning at `start`.
fn part(n: &mut NodeCx<'_, '_>, v: ValueId, start: usize, len: usize) -> Result<ValueId, Refusal> {
    if start == 0 && n.dims(v)[0] == len {
        return Ok(v);
    }
    n.add(Slice { ranges: vec![Range { axis: 0, start, len, step: 1 }] }, &[v])
}

/// The bias of a layer: the sum of input and recurrent bias, which stay separate for a candidate with
/// `linear_before_reset`.
fn bias(n: &mut NodeCx<'_, '_>, cell: Cell, b: ValueId) -> Result<ValueId, Refusal> {
    let dims = n.dims(b);
    let rows = match dims.as_slice() {
        &[both] if both.is_multiple_of(2 * cell.gates()) => both / 2,
        _ => return Err(Refusal::Invalid(format!("a bias {} of each direction", n.ty(b)))),
    };
    let added = if cell.biases() > cell.gates() { rows / cell.gates() * (cell.gates() - 1) } else { rows };
    let (of_x, of_h) = (part(n, b, 0, added)?, part(n, b, rows, added)?);
    let sum = n.binary(BinaryFn::Add, of_x, of_h)?;
    if added == rows {
        return Ok(sum);
    }
    let (of_x, of_h) = (part(n, b, added, rows - added)?, part(n, b, rows + added, rows - added)?);
    n.add(Concat { axis: 0 }, &[sum, of_x, of_h])
}

/// Zeros with the element type of `like`.
fn zeros(n: &mut NodeCx<'_, '_>, like: ValueId, dims: &[usize]) -> Result<ValueId, Refusal> {
    let zero = n.scalar(0.0, like)?;
    n.add(Expand { shape: Shape::known(dims) }, &[zero])
}
