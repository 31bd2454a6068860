//! Operators that compute all steps of a layer.
//!
//! Their kernels keep the states in variable tensors, which last from run to run. Each run first writes the initial
//! states into them, so that its results do not depend on earlier runs.

use qcc_formats::tflite::{
    Activation, BuiltinOperator as B, Concatenation, Options, OptionsType as T, Reshape, SequenceLstm, SequenceRnn,
};
use qcc_ir::TensorType;

use super::super::super::emit::{ABSENT, Emitter, NodeContext, Unsupported};
use super::STATES;
use super::parameters::{BIAS, RECURRENT, WEIGHT, parts};

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
    last_states(e, site, y, &states);
    Ok(())
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
    last_states(e, site, y, &states);
    Ok(())
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
fn last_states(e: &mut Emitter<'_>, site: &NodeContext<'_>, y: i32, states: &[i32]) {
    let graph = site.graph;
    let used = |i: usize| {
        let v = site.node.value(i as u8);
        graph.is_output(v) || graph.readers(v).len() > 0
    };
    let Some(&[steps, batch, hidden]) = site.results[0].shape.extents().as_deref() else { return };
    if !(1..site.results.len()).any(used) {
        return;
    }
    let last = e.scratch(&TensorType::f32(&[1, batch, hidden]), site.node);
    slice(e, y, &[steps as i32 - 1, 0, 0], &[1, -1, -1], last);
    let new_shape = vec![batch as i32, hidden as i32];
    let inputs = [last, e.indices(&new_shape)];
    e.push_operator(B::RESHAPE, 1, Reshape { new_shape }, &inputs, &[site.outputs[1]]);
    if let &[_, c] = states
        && used(2)
    {
        let both = e.scratch(&TensorType::f32(&[2 * batch, hidden]), site.node);
        e.push_operator(B::CONCATENATION, 1, Concatenation::default(), &[site.outputs[1], c], &[both]);
        slice(e, both, &[batch as i32, 0], &[-1, -1], site.outputs[2]);
    }
}

fn slice(e: &mut Emitter<'_>, x: i32, begin: &[i32], size: &[i32], y: i32) {
    let inputs = [x, e.indices(begin), e.indices(size)];
    e.push_operator(B::SLICE, 1, Options::Other(T::SLICE), &inputs, &[y]);
}
