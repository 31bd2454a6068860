//! Recurrent layers. Each direction is a separate layer.

use qcc_ir::ops::{BinaryFn, Cell, Concat, Expand, Range, Recurrent, ReduceFn, Select, Slice, UnaryFn};
use qcc_ir::{Elem, Shape, Tensor, ValueId};

use super::super::node::NodeCx;
use super::Row;
use crate::build::computed::counted;
use crate::build::index::reversed;
use crate::build::lstm::{Function, Lstm};
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
    let (functions, coupled) = (functions(n, directions.len())?, n.flag("input_forget", false)?);
    layers(n, Cell::Lstm, directions, weights, &Gates { functions, coupled })
}

/// Features of an LSTM that the graph's `Recurrent` operator does not have.
#[derive(Default)]
struct Gates {
    /// Activation functions of gates, candidate and cell, for each direction.
    functions: Vec<[Function; 3]>,
    coupled: bool,
}

/// The activation functions of an LSTM. The lists of parameters contain those of functions that have parameters.
fn functions(n: &mut NodeCx<'_, '_>, directions: usize) -> Result<Vec<[Function; 3]>, Refusal> {
    let alphas = n.floats("activation_alpha")?.unwrap_or_default();
    let betas = n.floats("activation_beta")?.unwrap_or_default();
    let Some(names) = n.strings("activations")? else { return Ok(vec![Lstm::FUNCTIONS; directions]) };
    let (mut alphas, mut betas) = (alphas.iter(), betas.iter());
    let mut function = |name: &&str| -> Result<Function, Refusal> {
        let mut alpha = |default: f32| alphas.next().copied().unwrap_or(default);
        let mut beta = |default: f32| betas.next().copied().unwrap_or(default);
        Ok(match name.to_ascii_lowercase().as_str() {
            "sigmoid" => Function::Unary(UnaryFn::Sigmoid),
            "tanh" => Function::Unary(UnaryFn::Tanh),
            "softsign" => Function::Unary(UnaryFn::Softsign),
            "softplus" => Function::Unary(UnaryFn::Softplus),
            "relu" => Function::Clamp(0.0, f32::INFINITY),
            "leakyrelu" => Function::Unary(UnaryFn::LeakyRelu { alpha: alpha(0.01) }),
            "elu" => Function::Unary(UnaryFn::Elu { alpha: alpha(1.0) }),
            "hardsigmoid" => Function::Unary(UnaryFn::HardSigmoid { alpha: alpha(0.2), beta: beta(0.5) }),
            "affine" => Function::Affine(alpha(1.0), beta(0.0)),
            "scaledtanh" => Function::ScaledTanh(alpha(1.0), beta(1.0)),
            _ => return Err(Refusal::Unsupported(format!("activation {name} is not supported"))),
        })
    };
    let all = names.iter().map(&mut function).collect::<Result<Vec<Function>, Refusal>>()?;
    let (threes, rest) = all.as_chunks::<3>();
    if !rest.is_empty() || threes.len() != directions {
        return Err(Refusal::Invalid(format!("{} activations for {directions} directions", names.len())));
    }
    Ok(threes.to_vec())
}

fn gru(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let directions = directions(n)?;
    activations(n, &["Sigmoid", "Tanh"], directions.len())?;
    let reset_after = n.flag("linear_before_reset", false)?;
    layers(n, Cell::Gru { reset_after }, directions, weights, &Gates::default())
}

fn rnn(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let directions = directions(n)?;
    let relu = n.strings("activations")?.is_some_and(|names| names.iter().all(|f| f.eq_ignore_ascii_case("relu")));
    activations(n, &[if relu { "Relu" } else { "Tanh" }], directions.len())?;
    layers(n, Cell::Rnn { relu }, directions, weights, &Gates::default())
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
fn layers(
    n: &mut NodeCx<'_, '_>,
    cell: Cell,
    directions: &[bool],
    weights: Weights,
    gates: &Gates,
) -> Result<Values, Refusal> {
    let (mut x, b) = (n.input(0)?, n.optional(3));
    let peepholes = if cell == Cell::Lstm { n.optional(7) } else { None };
    let clip = n.optional_float("clip")?.filter(|&clip| clip != 0.0);
    let batch_first = n.opset() >= 14 && n.flag("layout", false)?;
    if n.rank(x) != 3 {
        return Err(Refusal::Invalid(format!("x is {}; expected rank 3", n.ty(x))));
    }
    let weights = weights(n, directions.len())?;
    if batch_first {
        x = n.transpose(x, &[1, 0, 2])?;
    }
    let (shape, hidden) = (n.shape(x).clone(), n.dims(weights[0][1])?[1]);
    let [_, batch, _] = shape.dims() else { return Err(Refusal::Open(shape)) };
    if n.opset() < 7 {
        // Results that are not named are left out in any case.
        n.flag("output_sequence", false)?;
    }
    if n.optional_int("hidden_size")?.is_some_and(|size| usize::try_from(size) != Ok(hidden)) {
        return Err(Refusal::Attribute { name: "hidden_size".into(), problem: "not that of the weights" });
    }
    let lens = shorter(n, x)?;
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
            None => zeros(n, x, Shape::known(&[cell.biases() * hidden]))?,
        };
        let fed = match lens {
            Some(lens) if reverse => reversed(n, x, lens, 1, 0)?,
            _ => x,
        };
        // A reversed layer on shorter sequences is a layer on their reversed steps.
        let (turned, reverse) = (reverse && lens.is_some(), reverse && lens.is_none());
        let mut operands = vec![fed, w, r, b];
        for state in &states {
            operands.push(match *state {
                Some(state) => direction(n, state, d, directions.len())?,
                None => zeros(n, x, [batch.clone(), hidden.into()].into_iter().collect())?,
            });
        }
        let functions = gates.functions.get(d).copied().unwrap_or(Lstm::FUNCTIONS);
        let plain = peepholes.is_none() && functions == Lstm::FUNCTIONS && !gates.coupled;
        let values = match (operands.as_slice(), plain) {
            (&[x, w, r, b, h, c], false) => {
                let peepholes = peepholes.map(|p| thirds(n, p, [d, directions.len()], hidden)).transpose()?;
                let (weights, coupled, rounding) = ([w, r, b], gates.coupled, [Elem::F32, Elem::F32]);
                let cell_limit = None;
                let layer = Lstm { weights, peepholes, functions, coupled, clip, cell_limit, rounding, reverse };
                layer.run(n, x, [h, c])?
            }
            _ => n.add_all(Recurrent { cell, reverse, clip }, &operands)?,
        };
        let values = match lens {
            Some(lens) => cut(n, &values, lens, turned)?,
            None => values,
        };
        for (i, value) in values.into_iter().enumerate() {
            // y is [T, D, N, H], a final state is [D, N, H].
            let mut dims = n.shape(value).dims().to_vec();
            dims.insert(usize::from(i == 0), 1.into());
            results[i].push(n.reshape_to(value, dims.into_iter().collect())?);
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

/// The lengths of sequences, if they are not all that of `x`.
fn shorter(n: &mut NodeCx<'_, '_>, x: ValueId) -> Result<Option<ValueId>, Refusal> {
    let Some(lens) = n.optional(4) else { return Ok(None) };
    let steps = n.shape(x).dims()[0].known();
    let whole = |t: &Tensor| t.integers().is_some_and(|l| l.iter().all(|&len| usize::try_from(len).ok() == steps));
    if n.constant(lens).is_some_and(whole) {
        return Ok(None);
    }
    n.cast(lens, Elem::I64).map(Some)
}

/// The results of a layer for sequences of these lengths: zeros after their ends, and h at their ends, or zeros.
fn cut(n: &mut NodeCx<'_, '_>, values: &[ValueId], lens: ValueId, turned: bool) -> Result<Values, Refusal> {
    if values.len() > 2 && n.names_output(2) {
        let message = "the last cell state of sequences shorter than x (sequence_lens) is not supported".into();
        return Err(Refusal::Advised { message, help: "export the model without using the last cell state" });
    }
    let (y, shape) = (values[0], n.shape(values[0]).clone());
    let [steps, batch, _] = shape.dims() else { return Err(Refusal::Open(shape)) };
    if !matches!(n.shape(lens).dims(), [one] if one.agreed(batch).is_some()) {
        return Err(Refusal::Invalid(format!("lengths {} for {batch} sequences", n.ty(lens))));
    }
    let places = counted(n, steps.expr())?;
    let places = n.reshape_to(places, [steps.clone(), 1.into(), 1.into()].into_iter().collect())?;
    let ends = n.reshape_to(lens, [1.into(), batch.clone(), 1.into()].into_iter().collect())?;
    let within = n.binary(BinaryFn::Less, places, ends)?;
    let zero = n.scalar(0.0, y)?;
    let kept = n.add(Select {}, &[within, y, zero])?;
    let last = n.scalar(1.0, ends)?;
    let last = n.binary(BinaryFn::Sub, ends, last)?;
    let last = n.binary(BinaryFn::Equal, places, last)?;
    let last = n.add(Select {}, &[last, y, zero])?;
    let last = n.reduce(ReduceFn::Sum, last, &[0], false)?;
    let kept = if turned { reversed(n, kept, lens, 1, 0)? } else { kept };
    // Nothing uses the cell state.
    Ok([kept, last].into_iter().chain(values.get(2).copied()).collect())
}

/// The peephole weights of the input, output and forget gates of a direction.
fn thirds(n: &mut NodeCx<'_, '_>, p: ValueId, [d, count]: [usize; 2], hidden: usize) -> Result<[ValueId; 3], Refusal> {
    let p = direction(n, p, d, count)?;
    if n.dims(p)?.as_slice() != [3 * hidden] {
        return Err(Refusal::Invalid(format!("peepholes {} of {hidden} states", n.ty(p))));
    }
    Ok([part(n, p, 0, hidden)?, part(n, p, hidden, hidden)?, part(n, p, 2 * hidden, hidden)?])
}

/// Direction `d` of `count` of a value whose first axis is the direction.
fn direction(n: &mut NodeCx<'_, '_>, v: ValueId, d: usize, count: usize) -> Result<ValueId, Refusal> {
    let shape = n.shape(v).clone();
    if shape.dims().first() != Some(&count.into()) {
        return Err(Refusal::Invalid(format!("{} for {count} directions", n.ty(v))));
    }
    let part = part(n, v, d, 1)?;
    n.reshape_to(part, shape.dims()[1..].iter().cloned().collect())
}

/// `len` indices of the first axis, beginning at `start`.
fn part(n: &mut NodeCx<'_, '_>, v: ValueId, start: usize, len: usize) -> Result<ValueId, Refusal> {
    if start == 0 && n.shape(v).dims()[0] == len.into() {
        return Ok(v);
    }
    n.add(Slice { ranges: vec![Range { axis: 0, start, len, step: 1 }] }, &[v])
}

/// The bias of a layer: the sum of input and recurrent bias, which stay separate for a candidate with
/// `linear_before_reset`.
fn bias(n: &mut NodeCx<'_, '_>, cell: Cell, b: ValueId) -> Result<ValueId, Refusal> {
    let dims = n.dims(b)?;
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
fn zeros(n: &mut NodeCx<'_, '_>, like: ValueId, shape: Shape) -> Result<ValueId, Refusal> {
    let zero = n.scalar(0.0, like)?;
    n.add(Expand { shape }, &[zero])
}
