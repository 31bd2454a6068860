//! Recurrent layers: one operator for all steps.
//!
//! Kernels keep their states in variable tensors, which last from run to run. Each run first writes the initial states
//! into them, so that its results do not depend on earlier runs.

use qcc_formats::tflite::{
    Activation, BuiltinOperator as B, Concatenation, Options, OptionsType as T, SequenceLstm, SequenceRnn, Split,
};
use qcc_ir::ops::{Cell, Op, Recurrent};
use qcc_ir::{Affine, Elem, Graph, NodeId, QuantParams, Shape, Tensor, TensorType, ValueId};

use super::super::emit::{ABSENT, Emitter, NodeContext, Unsupported};
use super::quantize::push_dequantize;

/// The least number of steps of a sequence operator. XNNPACK has no sequence operators, but it runs the products of
/// unrolled layers, which can be quantized too.
const FEWEST_STEPS: usize = 16;

/// Operand indices of the weights and the bias.
const PARAMETERS: std::ops::Range<usize> = 1..4;

/// The first initial state among the operands.
const STATES: usize = 4;

/// The gates in the order of the file (input, forget, candidate, output), as indices of the graph's gates.
const LSTM_GATES: [usize; 4] = [0, 2, 3, 1];

/// True where a sequence operator computes the layer.
pub(in super::super) fn native(op: &Recurrent, x: &[&TensorType]) -> bool {
    let known = x.iter().all(|t| t.shape.elements().is_some_and(|n| n > 0));
    let long = x[0].shape.dims()[0].known().is_some_and(|steps| steps >= FEWEST_STEPS);
    let has_kernel = match op.cell {
        Cell::Lstm | Cell::Rnn { .. } => op.clip.is_none(),
        Cell::Gru { .. } => false,
    };
    known && long && has_kernel
}

/// True for an operand that [`recurrent`] writes itself: the parameters of each gate are a tensor of their own.
pub(in super::super) fn is_parameter(op: &Op, operand: usize) -> bool {
    matches!(op, Op::Recurrent(_)) && PARAMETERS.contains(&operand)
}

/// True for the conversion of a constant that is used as a parameter only. [`recurrent`] converts its parts instead.
pub(in super::super) fn converts_parameter(graph: &Graph, node: NodeId) -> bool {
    if !matches!(graph.op(node), Op::Cast(_) | Op::Dequantize(_)) {
        return false;
    }
    let v = node.value(0);
    let mut users = graph.readers(v).peekable();
    !graph.is_output(v)
        && constant_behind(graph, v).is_some()
        && users.peek().is_some()
        && users.all(|(user, i)| is_parameter(graph.op(user), i))
}

/// UNIDIRECTIONAL_SEQUENCE_LSTM or UNIDIRECTIONAL_SEQUENCE_RNN, between two REVERSE_V2 if steps run from the last to
/// the first.
pub(super) fn recurrent(e: &mut Emitter<'_>, op: &Recurrent, site: &NodeContext<'_>) -> Result<(), Unsupported> {
    let (x, y) = (&site.operands[0], &site.results[0]);
    let steps = if op.reverse { reversed(e, site, site.inputs[0], x) } else { site.inputs[0] };
    let states: Vec<i32> = (STATES..site.inputs.len()).map(|i| state(e, site, i)).collect();
    let result = if op.reverse { e.scratch(y, site.node) } else { site.outputs[0] };
    match op.cell {
        Cell::Lstm => lstm(e, site, steps, &states, result)?,
        Cell::Rnn { relu } => rnn(e, site, steps, &states, result, relu)?,
        Cell::Gru { .. } => return Err("no operator computes a GRU".into()),
    }
    if op.reverse {
        reverse(e, result, site.outputs[0]);
    }
    last_states(e, site, result, &states);
    Ok(())
}

fn lstm(e: &mut Emitter<'_>, site: &NodeContext<'_>, x: i32, states: &[i32], result: i32) -> Result<(), Unsupported> {
    let mut inputs = vec![x];
    for i in [1, 2] {
        inputs.extend(gates(e, site, i, &LSTM_GATES)?);
    }
    let peepholes = [ABSENT; 3];
    inputs.extend(peepholes);
    inputs.extend(gates(e, site, 3, &LSTM_GATES)?);
    let projection = [ABSENT; 2];
    inputs.extend(projection);
    inputs.extend(states);
    let normalization = [ABSENT; 4];
    inputs.extend(normalization);
    let options = SequenceLstm { activation: Activation::TANH, time_major: true, ..SequenceLstm::default() };
    e.push_operator(B::UNIDIRECTIONAL_SEQUENCE_LSTM, 1, options, &inputs, &[result]);
    Ok(())
}

fn rnn(
    e: &mut Emitter<'_>,
    site: &NodeContext<'_>,
    x: i32,
    states: &[i32],
    result: i32,
    relu: bool,
) -> Result<(), Unsupported> {
    let mut inputs = vec![x];
    for i in PARAMETERS {
        inputs.extend(gates(e, site, i, &[0])?);
    }
    inputs.extend(states);
    let activation = if relu { Activation::RELU } else { Activation::TANH };
    let options = SequenceRnn { time_major: true, activation, ..SequenceRnn::default() };
    e.push_operator(B::UNIDIRECTIONAL_SEQUENCE_RNN, 1, options, &inputs, &[result]);
    Ok(())
}

/// The variable tensor of a state, set to initial state `i`. SLICE runs each time, with constant operands too: the
/// runtime evaluates some operators (RESHAPE, TILE) on constants when it loads the model.
fn state(e: &mut Emitter<'_>, site: &NodeContext<'_>, i: usize) -> i32 {
    let state = e.variable(&site.operands[i], site.node);
    slice(e, site.inputs[i], &[0, 0], &[-1, -1], state);
    state
}

/// The last states, where they are used. h is the last step of the result. c is only in the variable tensor, of which
/// the file does not say that the operator writes it: c is read together with h, so that it is read after the operator.
fn last_states(e: &mut Emitter<'_>, site: &NodeContext<'_>, result: i32, states: &[i32]) {
    let graph = site.graph;
    let used = |i: usize| {
        let v = site.node.value(i as u8);
        graph.is_output(v) || graph.readers(v).len() > 0
    };
    if !(1..site.results.len()).any(used) {
        return;
    }
    let y = site.results[0].shape.extents().unwrap_or_default();
    let (steps, batch, hidden) = (y[0], y[1], y[2]);
    let step = e.scratch(&TensorType::f32(&[1, batch, hidden]), site.node);
    slice(e, result, &[steps as i32 - 1, 0, 0], &[1, -1, -1], step);
    let shape = e.indices(&[batch as i32, hidden as i32]);
    let options = qcc_formats::tflite::Reshape { new_shape: vec![batch as i32, hidden as i32] };
    e.push_operator(B::RESHAPE, 1, options, &[step, shape], &[site.outputs[1]]);
    if site.results.len() > 2 && used(2) {
        let both = e.scratch(&TensorType::f32(&[2 * batch, hidden]), site.node);
        let options = Concatenation::default();
        e.push_operator(B::CONCATENATION, 1, options, &[site.outputs[1], states[1]], &[both]);
        slice(e, both, &[batch as i32, 0], &[-1, -1], site.outputs[2]);
    }
}

fn slice(e: &mut Emitter<'_>, x: i32, begin: &[i32], size: &[i32], y: i32) {
    let inputs = [x, e.indices(begin), e.indices(size)];
    e.push_operator(B::SLICE, 1, Options::Other(T::SLICE), &inputs, &[y]);
}

/// A new tensor with the steps of `x` from the last to the first.
fn reversed(e: &mut Emitter<'_>, site: &NodeContext<'_>, x: i32, ty: &TensorType) -> i32 {
    let y = e.scratch(ty, site.node);
    reverse(e, x, y);
    y
}

fn reverse(e: &mut Emitter<'_>, x: i32, y: i32) {
    let inputs = [x, e.indices(&[0])];
    e.push_operator(B::REVERSE_V2, 1, Options::Other(T::REVERSE_V2), &inputs, &[y]);
}

/// The constant that a value is, or is converted from.
fn constant_behind(graph: &Graph, v: ValueId) -> Option<&Tensor> {
    match graph.producer(v) {
        Op::Cast(_) | Op::Dequantize(_) => {
            let stored = graph.constant(graph.operand(v.node, 0))?;
            (stored.ty().elem == Elem::F16 || stored.ty().elem.qparams().is_some()).then_some(stored)
        }
        _ => graph.constant(v),
    }
}

/// A tensor for the parameters of each gate in operand `i`: parts of the constant, each dequantized where it is stored
/// so, or of the computed value.
fn gates(e: &mut Emitter<'_>, site: &NodeContext<'_>, i: usize, order: &[usize]) -> Result<Vec<i32>, Unsupported> {
    let graph = site.graph;
    let (v, whole) = (site.values[i], &site.operands[i]);
    let mut dims = whole.shape.extents().ok_or("the extents of its parameters are open")?.to_vec();
    dims[0] /= order.len();
    let part = TensorType::f32(&dims);
    let Some(constant) = constant_behind(graph, v) else {
        let whole = e.tensor(v);
        let parts: Vec<i32> = order.iter().map(|_| e.scratch(&part, site.node)).collect();
        let (inputs, options) = ([e.index(0), whole], Split { num_splits: order.len() as i32 });
        e.push_operator(B::SPLIT, 1, options, &inputs, &parts);
        return Ok(order.iter().map(|&gate| parts[gate]).collect());
    };
    let name = graph.name(v).map_or(graph.origin(site.node).path(), |name| name).to_owned();
    let gate = |&gate: &usize| {
        let stored = rows(constant, gate * dims[0], dims[0]).ok_or("its parameters have scales along another axis")?;
        let tensor = e.part(&name, &stored);
        if stored.ty().elem == Elem::F32 {
            return Ok(tensor);
        }
        let real = e.scratch(&part, site.node);
        push_dequantize(e, stored.ty(), tensor, real)?;
        Ok(real)
    };
    order.iter().map(gate).collect()
}

/// `count` indices of the first axis of a constant, from `start` on, without a copy.
fn rows(constant: &Tensor, start: usize, count: usize) -> Option<Tensor> {
    let ty = constant.ty();
    let mut dims = constant.dims();
    let bytes = constant.data().len() / dims[0].max(1);
    dims[0] = count;
    let elem = match ty.elem.qparams().map(|qparams| (qparams.storage, &qparams.map)) {
        Some((storage, Affine::PerAxis { axis: 0, scales })) => {
            Elem::Quantized(QuantParams::per_axis(storage, 0, &scales[start..start + count]))
        }
        None | Some((_, Affine::PerTensor { .. })) => ty.elem.clone(),
        Some(_) => return None,
    };
    let data = constant.data().slice(start * bytes..(start + count) * bytes);
    Tensor::new(TensorType::new(elem, Shape::known(&dims)), data)
}
