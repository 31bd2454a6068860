//! Operators that compute all steps of a layer.
//!
//! Their kernels keep the states in variable tensors, which last from run to run. Each run first writes the initial
//! states into them, so that its results do not depend on earlier runs.

use qcc_formats::tflite::{
    Activation, BuiltinOperator as B, Concatenation, Options, OptionsType as T, SequenceLstm, SequenceRnn,
};
use qcc_ir::{Dim, Elem, TensorType};

use super::super::super::emit::{ABSENT, Emitter, NodeContext, Unsupported};
use super::STATES;
use super::parameters::{BIAS, RECURRENT, WEIGHT, parts};
use crate::extents;

/// The gates in the order of the file (input, forget, candidate, output), as indices of the graph's gates.
const LSTM_GATES: [usize; 4] = [0, 2, 3, 1];

/// UNIDIRECTIONAL_SEQUENCE_LSTM on `x`, with the result `y`.
pub(super) fn lstm(e: &mut Emitter<'_>, site: &NodeContext<'_>, x: i32, y: i32) -> Result<(), Unsupported> {
    let hidden = site.operands[BIAS].shape.elements().unwrap_or(0) / LSTM_GATES.len();
    let gates = LSTM_GATES.map(|gate| (gate * hidden, hidden));
    let states = states(e, site);
    let mut inputs = vec![x];
    inputs.extend(parts(e, site, WEIGHT, &gates)?);
    inputs.extend(parts(e, site, RECURRENT, &gates)?);
    let peepholes = [ABSENT; 3];
    inputs.extend(peepholes);
    inputs.extend(parts(e, site, BIAS, &gates)?);
    let projection = [ABSENT; 2];
    inputs.extend(projection);
    inputs.extend(&states);
    let normalization = [ABSENT; 4];
    inputs.extend(normalization);
    let options = SequenceLstm { activation: Activation::TANH, time_major: true, ..SequenceLstm::default() };
    e.push_operator(B::UNIDIRECTIONAL_SEQUENCE_LSTM, 1, options, &inputs, &[y]);
    last_states(e, site, y, &states)
}

/// UNIDIRECTIONAL_SEQUENCE_RNN on `x`, with the result `y`.
pub(super) fn rnn(e: &mut Emitter<'_>, site: &NodeContext<'_>, relu: bool, x: i32, y: i32) -> Result<(), Unsupported> {
    let states = states(e, site);
    let mut inputs = vec![x];
    for i in [WEIGHT, RECURRENT, BIAS] {
        let rows = site.operands[i].shape.dims()[0].known().unwrap_or(0);
        inputs.extend(parts(e, site, i, &[(0, rows)])?);
    }
    inputs.extend(&states);
    let activation = if relu { Activation::RELU } else { Activation::TANH };
    let options = SequenceRnn { time_major: true, activation, ..SequenceRnn::default() };
    e.push_operator(B::UNIDIRECTIONAL_SEQUENCE_RNN, 1, options, &inputs, &[y]);
    last_states(e, site, y, &states)
}

/// Variable tensors, set to the initial states. SLICE runs each time, with constant operands too: the runtime evaluates
/// some operators (RESHAPE, TILE) on constants only when it loads the model.
fn states(e: &mut Emitter<'_>, site: &NodeContext<'_>) -> Vec<i32> {
    let state = |i: usize| {
        let state = e.variable(&site.operands[i], site.node);
        slice(e, site.inputs[i], &[0, 0], &[-1, -1], state);
        state
    };
    (STATES..site.inputs.len()).map(state).collect()
}

/// The last states, where they are used. h is the last step of the result. c is only in the variable tensor, of which
/// the file does not say that the operator writes it: c is read together with h, so that it is read after the operator.
fn last_states(e: &mut Emitter<'_>, site: &NodeContext<'_>, y: i32, states: &[i32]) -> Result<(), Unsupported> {
    let graph = site.graph;
    let used = |i: usize| {
        let v = site.node.value(i as u8);
        graph.is_output(v) || graph.readers(v).len() > 0
    };
    if !(1..site.results.len()).any(used) {
        return Ok(());
    }
    let [steps, batch, hidden] = site.results[0].shape.dims() else { return Ok(()) };
    let ty = |rows: &[Dim]| TensorType::new(Elem::F32, rows.iter().chain([hidden]).cloned().collect());
    let last = e.scratch(&ty(&[Dim::Known(1), batch.clone()]), site.node);
    let before = steps.expr().minus(&1.into()).ok_or("it has too many steps")?;
    let begin = extents::list(e, &[before, 0.into(), 0.into()])?;
    let inputs = [y, begin, e.indices(&[1, -1, -1])];
    e.push_operator(B::SLICE, 1, Options::Other(T::SLICE), &inputs, &[last]);
    e.reshape_into(last, site.outputs[1], &site.results[1])?;
    if let &[_, c] = states
        && used(2)
    {
        let both = Dim::Known(2).times(batch).ok_or("its batch is too large")?;
        let both = e.scratch(&ty(&[both]), site.node);
        e.push_operator(B::CONCATENATION, 1, Concatenation::default(), &[site.outputs[1], c], &[both]);
        let begin = extents::list(e, &[batch.expr(), 0.into()])?;
        let inputs = [both, begin, e.indices(&[-1, -1])];
        e.push_operator(B::SLICE, 1, Options::Other(T::SLICE), &inputs, &[site.outputs[2]]);
    }
    Ok(())
}

fn slice(e: &mut Emitter<'_>, x: i32, begin: &[i32], size: &[i32], y: i32) {
    let inputs = [x, e.indices(begin), e.indices(size)];
    e.push_operator(B::SLICE, 1, Options::Other(T::SLICE), &inputs, &[y]);
}
