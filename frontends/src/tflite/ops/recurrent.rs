//! Recurrent layers. Their states are variable tensors, which keep their values from run to run.

use qcc_formats::tflite::{
    Activation, BidirectionalLstm, BidirectionalRnn, BuiltinOperator as B, LstmCell, LstmKernel, Rnn, SequenceLstm,
    SequenceRnn, Svdf,
};
use qcc_ir::ops::{BinaryFn, Cell, Concat, MatMul, Range, Recurrent, ReduceFn, Slice, UnaryFn};
use qcc_ir::{Dim, Elem, Shape, ValueId};

use super::super::node::NodeCx;
use super::{Row, positive};
use crate::build::lstm::Lstm;
use crate::build::{Build, Values, one};
use crate::refusal::Refusal;

pub(super) const ROWS: &[Row] = &[
    (B::BIDIRECTIONAL_SEQUENCE_LSTM, bidirectional_lstm),
    (B::BIDIRECTIONAL_SEQUENCE_RNN, bidirectional_rnn),
    (B::LSTM, lstm_cell),
    (B::RNN, rnn_cell),
    (B::SVDF, svdf),
    (B::UNIDIRECTIONAL_SEQUENCE_LSTM, lstm),
    (B::UNIDIRECTIONAL_SEQUENCE_RNN, rnn),
];

/// Operand indices of the first direction of an LSTM. The order of gates is input, forget, candidate, output.
mod place {
    pub(super) const WEIGHTS: usize = 1;
    pub(super) const RECURRENT: usize = 5;
    pub(super) const PEEPHOLES: usize = 9;
    pub(super) const BIASES: usize = 12;
    pub(super) const PROJECTION: std::ops::Range<usize> = 16..18;
    pub(super) const STATES: [usize; 2] = [18, 19];
    pub(super) const NORMALIZATION: std::ops::Range<usize> = 20..24;
}

/// Indices of the graph's gates (input, output, forget, candidate) in the file's order.
const GATES: [usize; 4] = [0, 3, 1, 2];

/// One direction of an LSTM: where its operands are behind those of the first direction, and the operands of h and c.
struct LstmPlaces {
    behind: usize,
    states: [usize; 2],
    reverse: bool,
}

fn lacks<T>(what: &str) -> Result<T, Refusal> {
    Err(Refusal::Unsupported(format!("{what} is not supported")))
}

fn given(n: &NodeCx<'_, '_>, mut places: std::ops::Range<usize>) -> bool {
    places.any(|i| n.has_input(i))
}

fn lstm(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let o: SequenceLstm = n.options()?;
    if o.diagonal_recurrent_tensors {
        return lacks("an LSTM with diagonal weights");
    }
    let x = sequence(n, o.time_major)?;
    let y = one_lstm(n, x, o.activation, o.cell_clip)?;
    give_sequence(n, y, o.time_major, 0)
}

/// One step of an LSTM.
fn lstm_cell(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let o: LstmCell = n.options()?;
    if o.kernel_type != LstmKernel::FULL {
        return lacks("an LSTM with one weight for all gates");
    }
    let x = step(n)?;
    let y = one_lstm(n, x, o.activation, o.cell_clip)?;
    give_step(n, y)
}

/// The results of an LSTM of one direction.
fn one_lstm(n: &mut NodeCx<'_, '_>, x: ValueId, activation: Activation, cell_clip: f32) -> Result<ValueId, Refusal> {
    if given(n, place::NORMALIZATION) {
        return lacks("an LSTM with normalized gates");
    }
    lstm_direction(n, x, (activation, cell_clip), &LstmPlaces { behind: 0, states: place::STATES, reverse: false })
}

fn bidirectional_lstm(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    const AUXILIARY: std::ops::Range<usize> = 39..48;
    let o: BidirectionalLstm = n.options()?;
    if given(n, AUXILIARY) {
        return lacks("an LSTM with auxiliary inputs");
    }
    let x = sequence(n, o.time_major)?;
    let shared = (o.activation, o.cell_clip);
    let forth = LstmPlaces { behind: 0, states: [35, 36], reverse: false };
    let back = LstmPlaces { behind: 17, states: [37, 38], reverse: true };
    let directions = [lstm_direction(n, x, shared, &forth)?, lstm_direction(n, x, shared, &back)?];
    give_directions(n, directions, o.time_major, o.merge_outputs)
}

/// The results h of each step, `[T, N, H]`. The last h and c are kept.
fn lstm_direction(
    n: &mut NodeCx<'_, '_>,
    x: ValueId,
    (activation, cell_clip): (Activation, f32),
    places: &LstmPlaces,
) -> Result<ValueId, Refusal> {
    let &LstmPlaces { behind, states: kept, reverse } = places;
    if given(n, place::PROJECTION.start + behind..place::PROJECTION.end + behind) {
        return lacks("an LSTM with a projection");
    }
    if activation != Activation::TANH {
        return lacks(&format!("an LSTM with the activation {activation}"));
    }
    let states = [n.input(kept[0])?, n.input(kept[1])?];
    let rounding = states.map(|v| n.ty(v).elem.clone());
    let states = [n.real(states[0])?, n.real(states[1])?];
    let weights = [place::WEIGHTS, place::RECURRENT, place::BIASES];
    let [input, recurrent, biases] = weights.map(|first| gates(n, first + behind));
    let weights = [input?, recurrent?, biases?];
    let layer = Lstm {
        weights,
        peepholes: peepholes(n, place::PEEPHOLES + behind)?,
        functions: Lstm::FUNCTIONS,
        coupled: false,
        clip: None,
        cell_limit: Some(cell_clip).filter(|&limit| limit > 0.0),
        rounding,
        reverse,
    };
    let results = if layer.is_plain() {
        let operands = [&[x][..], &weights, &states].concat();
        n.add_all(Recurrent { cell: Cell::Lstm, reverse, clip: None }, &operands)?
    } else {
        layer.run(n, x, states)?
    };
    n.keep(kept[0], results[1])?;
    n.keep(kept[1], results[2])?;
    Ok(results[0])
}

fn rnn(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let o: SequenceRnn = n.options()?;
    let x = sequence(n, o.time_major)?;
    let y = rnn_direction(n, x, o.activation, 1, false)?;
    give_sequence(n, y, o.time_major, 0)
}

/// One step of an RNN.
fn rnn_cell(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let o: Rnn = n.options()?;
    let x = step(n)?;
    let y = rnn_direction(n, x, o.activation, 1, false)?;
    give_step(n, y)
}

fn bidirectional_rnn(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    const AUXILIARY: std::ops::Range<usize> = 9..12;
    let o: BidirectionalRnn = n.options()?;
    if given(n, AUXILIARY) {
        return lacks("an RNN with auxiliary inputs");
    }
    let x = sequence(n, o.time_major)?;
    let directions = [rnn_direction(n, x, o.activation, 1, false)?, rnn_direction(n, x, o.activation, 5, true)?];
    give_directions(n, directions, o.time_major, o.merge_outputs)
}

/// The results of each step of a layer of one gate. Its operands from `first` on are weight, recurrent weight, bias and state.
fn rnn_direction(
    n: &mut NodeCx<'_, '_>,
    x: ValueId,
    activation: Activation,
    first: usize,
    reverse: bool,
) -> Result<ValueId, Refusal> {
    let relu = match activation {
        Activation::TANH => false,
        Activation::RELU => true,
        other => return lacks(&format!("an RNN with the activation {other}")),
    };
    let mut operands = Values::from_iter([x]);
    for i in first..first + 3 {
        operands.push(real(n, i)?);
    }
    let state = n.input(first + 3)?;
    operands.push(n.real(state)?);
    let results = n.add_all(Recurrent { cell: Cell::Rnn { relu }, reverse, clip: None }, &operands)?;
    n.keep(first + 3, results[1])?;
    Ok(results[0])
}

/// Input 0 `[N, I]` as a sequence of one step.
fn step(n: &mut NodeCx<'_, '_>) -> Result<ValueId, Refusal> {
    let x = n.input(0)?;
    let x = n.real(x)?;
    if n.rank(x) != 2 {
        return Err(Refusal::Invalid(format!("its operand is {}; expected batch and inputs", n.ty(x))));
    }
    n.as_row(x)
}

/// The only step of a sequence, as result 0.
fn give_step(n: &mut NodeCx<'_, '_>, y: ValueId) -> Result<Values, Refusal> {
    let shape = n.shape(y).without(0);
    let y = n.reshape_to(y, shape)?;
    let to = n.declared(0)?;
    one(n.moved(y, &to)?)
}

/// The results of both directions: one beside the other, or `merged`.
fn give_directions(
    n: &mut NodeCx<'_, '_>,
    directions: [ValueId; 2],
    time_major: bool,
    merged: bool,
) -> Result<Values, Refusal> {
    if merged {
        let both = n.add(Concat { axis: 2 }, &directions)?;
        return give_sequence(n, both, time_major, 0);
    }
    let mut results = give_sequence(n, directions[0], time_major, 0)?;
    results.extend(give_sequence(n, directions[1], time_major, 1)?);
    Ok(results)
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

/// Result `i` with the axes and the element type that the file declares.
fn give_sequence(n: &mut NodeCx<'_, '_>, y: ValueId, time_major: bool, i: usize) -> Result<Values, Refusal> {
    let y = if time_major { y } else { n.transpose(y, &[1, 0, 2])? };
    let to = n.declared(i)?;
    one(n.moved(y, &to)?)
}

/// The peephole weights of the input, output and forget gates, `[H]`.
fn peepholes(n: &mut NodeCx<'_, '_>, first: usize) -> Result<Option<[ValueId; 3]>, Refusal> {
    let [input, forget, output] = [first, first + 1, first + 2];
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
