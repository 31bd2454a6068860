//! Recurrent layers. Their states are variable tensors, which keep their values from run to run.

use qcc_formats::tflite::{Activation, BuiltinOperator as B, SequenceLstm, SequenceRnn, Svdf};
use qcc_ir::ops::{BinaryFn, Cell, Concat, MatMul, Range, Recurrent, ReduceFn, Slice, UnaryFn};
use qcc_ir::{Dim, Elem, Shape, ValueId};

use super::super::node::NodeCx;
use super::{Row, positive};
use crate::build::lstm::Lstm;
use crate::build::{Build, Values, one};
use crate::refusal::Refusal;

pub(super) const ROWS: &[Row] =
    &[(B::SVDF, svdf), (B::UNIDIRECTIONAL_SEQUENCE_LSTM, lstm), (B::UNIDIRECTIONAL_SEQUENCE_RNN, rnn)];

/// Operand indices of a sequence LSTM. The order of gates is input, forget, candidate, output.
mod place {
    pub(super) const WEIGHTS: usize = 1;
    pub(super) const RECURRENT: usize = 5;
    pub(super) const PEEPHOLES: std::ops::Range<usize> = 9..12;
    pub(super) const BIASES: usize = 12;
    pub(super) const PROJECTION: std::ops::Range<usize> = 16..18;
    pub(super) const HIDDEN: usize = 18;
    pub(super) const CELL: usize = 19;
    pub(super) const NORMALIZATION: std::ops::Range<usize> = 20..24;
}

/// Indices of the graph's gates (input, output, forget, candidate) in the file's order.
const GATES: [usize; 4] = [0, 3, 1, 2];

fn lstm(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let o: SequenceLstm = n.options()?;
    let lacks = |what: String| Err(Refusal::Unsupported(format!("{what} is not supported")));
    let given = |n: &mut NodeCx<'_, '_>, mut places: std::ops::Range<usize>| places.any(|i| n.has_input(i));
    if given(n, place::PROJECTION) {
        return lacks("an LSTM with a projection".into());
    }
    if given(n, place::NORMALIZATION) {
        return lacks("an LSTM with normalized gates".into());
    }
    if o.activation != Activation::TANH {
        return lacks(format!("an LSTM with the activation {}", o.activation));
    }
    if o.diagonal_recurrent_tensors {
        return lacks("an LSTM with diagonal weights".into());
    }
    let x = sequence(n, o.time_major)?;
    let states = [n.input(place::HIDDEN)?, n.input(place::CELL)?];
    let rounding = states.map(|v| n.ty(v).elem.clone());
    let states = [n.real(states[0])?, n.real(states[1])?];
    let weights = [gates(n, place::WEIGHTS)?, gates(n, place::RECURRENT)?, gates(n, place::BIASES)?];
    let layer = Lstm {
        weights,
        peepholes: peepholes(n)?,
        functions: Lstm::FUNCTIONS,
        coupled: false,
        clip: None,
        cell_limit: Some(o.cell_clip).filter(|&limit| limit > 0.0),
        rounding,
        reverse: false,
    };
    let results = if layer.is_plain() {
        let operands = [&[x][..], &weights, &states].concat();
        n.add_all(Recurrent { cell: Cell::Lstm, reverse: false, clip: None }, &operands)?
    } else {
        layer.unrolled(n, x, states)?
    };
    n.keep(place::HIDDEN, results[1])?;
    n.keep(place::CELL, results[2])?;
    give_sequence(n, results[0], o.time_major)
}

/// A layer of one gate. Its operands are x, weight, recurrent weight, bias and state.
fn rnn(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    const STATE: usize = 4;
    let o: SequenceRnn = n.options()?;
    let relu = match o.activation {
        Activation::TANH => false,
        Activation::RELU => true,
        other => return Err(Refusal::Unsupported(format!("an RNN with the activation {other} is not supported"))),
    };
    let mut operands = Values::from_iter([sequence(n, o.time_major)?]);
    for i in 1..STATE {
        operands.push(real(n, i)?);
    }
    let state = n.input(STATE)?;
    operands.push(n.real(state)?);
    let results = n.add_all(Recurrent { cell: Cell::Rnn { relu }, reverse: false, clip: None }, &operands)?;
    n.keep(STATE, results[1])?;
    give_sequence(n, results[0], o.time_major)
}

/// Input 0 as steps, batch and inputs.
fn sequence(n: &mut NodeCx<'_, '_>, time_major: bool) -> Result<ValueId, Refusal> {
    let x = n.input(0)?;
    let x = n.real(x)?;
    if n.rank(x) != 3 {
        return Err(Refusal::Invalid(format!("its operand is {}; expected steps, batch and inputs", n.ty(x))));
    }
    if time_major { Ok(x) } else { n.transpose(x, &[1, 0, 2]) }
}

/// Result 0 with the axes and the element type that the file declares.
fn give_sequence(n: &mut NodeCx<'_, '_>, y: ValueId, time_major: bool) -> Result<Values, Refusal> {
    let y = if time_major { y } else { n.transpose(y, &[1, 0, 2])? };
    let to = n.declared(0)?;
    one(n.moved(y, &to)?)
}

/// The peephole weights of the input, output and forget gates, `[H]`.
fn peepholes(n: &mut NodeCx<'_, '_>) -> Result<Option<[ValueId; 3]>, Refusal> {
    let [input, forget, output] = [place::PEEPHOLES.start, place::PEEPHOLES.start + 1, place::PEEPHOLES.start + 2];
    if !n.has_input(forget) {
        return Ok(None);
    }
    let (forget, output) = (real(n, forget)?, real(n, output)?);
    // The input gate of a coupled LSTM is `1 - s(a) = s(-a)` of the forget gate, so its weights are negated.
    let input = if n.has_input(input) { real(n, input)? } else { n.unary(UnaryFn::Neg, forget)? };
    Ok(Some([input, output, forget]))
}

/// The concatenated parameters of all gates; operand `first` belongs to the input gate. In a coupled LSTM, which has no
/// parameters for the input gate, that gate is `1 - s(a) = s(-a)` for the forget gate `s(a)`.
fn gates(n: &mut NodeCx<'_, '_>, first: usize) -> Result<ValueId, Refusal> {
    let mut parts = Values::new();
    for gate in GATES {
        let coupled = gate == 0 && !n.has_input(first);
        let part = real(n, first + if coupled { 1 } else { gate })?;
        parts.push(if coupled { n.unary(UnaryFn::Neg, part)? } else { part });
    }
    n.add(Concat { axis: 0 }, &parts)
}

/// A parameter, dequantized to `F32`.
fn real(n: &mut NodeCx<'_, '_>, i: usize) -> Result<ValueId, Refusal> {
    let v = n.input(i)?;
    let v = n.real(v)?;
    n.cast(v, Elem::F32)
}

/// A state `[N, filters, memory]` contains each filter's results of the last runs. The layer multiplies it by weights
/// `[filters, memory]`; each unit sums its `rank` filters.
fn svdf(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    const STATE: usize = 4;
    let o: Svdf = n.options()?;
    let rank = positive(o.rank, "its rank")?;
    let (x, features, times, state) = (n.input(0)?, n.input(1)?, n.input(2)?, n.input(STATE)?);
    let (&[filters, _], &[_, memory]) = (n.dims(features)?.as_slice(), n.dims(times)?.as_slice()) else {
        return Err(Refusal::Invalid(format!("weights of types {} and {}", n.ty(features), n.ty(times))));
    };
    if memory == 0 || !filters.is_multiple_of(rank) {
        return Err(Refusal::Invalid(format!("{filters} filters of rank {rank}, which keep {memory} numbers")));
    }
    let batch = n.shape(x).dims().first().cloned().unwrap_or(Dim::Known(0));
    let shape =
        |rest: &[usize]| std::iter::once(batch.clone()).chain(rest.iter().map(|&d| d.into())).collect::<Shape>();
    // Kernels store the state quantized.
    let kept = n.ty(state).elem.clone();
    let (x, features) = (n.real(x)?, n.real(features)?);
    let latest = n.add(MatMul { transpose_b: true }, &[x, features])?;
    let latest = n.moved(latest, &kept)?;
    let latest = n.real(latest)?;
    let latest = n.reshape_to(latest, shape(&[filters, 1]))?;
    let state = n.real(state)?;
    let state = n.reshape_to(state, shape(&[filters, memory]))?;
    let next = if memory == 1 {
        latest
    } else {
        let last = Range { axis: 2, start: 1, len: memory - 1, step: 1 };
        let last = n.add(Slice { ranges: vec![last] }, &[state])?;
        n.add(Concat { axis: 2 }, &[last, latest])?
    };
    let flat = n.reshape_to(next, shape(&[filters * memory]))?;
    n.keep(STATE, flat)?;
    let times = n.real(times)?;
    let weighed = n.binary(BinaryFn::Mul, next, times)?;
    let units = n.reshape_to(weighed, shape(&[filters / rank, rank * memory]))?;
    let mut y = n.reduce(ReduceFn::Sum, units, &[2], false)?;
    if let Some(bias) = n.optional(3)? {
        let bias = n.real(bias)?;
        y = n.binary(BinaryFn::Add, y, bias)?;
    }
    let y = n.activated(y, o.activation)?;
    let to = n.declared(0)?;
    one(n.moved(y, &to)?)
}
