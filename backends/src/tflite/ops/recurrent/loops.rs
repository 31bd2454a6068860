//! Layers without an operator of their own: a WHILE over the steps. The products of the input and its weights are
//! computed for all steps before it.

use qcc_formats::tflite::{
    Add, BuiltinOperator as B, Concatenation, FullyConnected, Gather, Mul, Options, OptionsType as T, Reshape, Split,
    Sub, While,
};
use qcc_ir::ops::{Cell, Recurrent};
use qcc_ir::{Elem, Shape, TensorType};

use super::super::super::emit::{ABSENT, Emitter, NodeContext, Unsupported};
use super::STATES;
use super::parameters::{BIAS, RECURRENT, WEIGHT, is_stored, parts};

/// Steps that the body of the loop computes. Each run of the body copies the result of all steps.
const STRIDE: usize = 8;

/// The layer on `x`, with the result `y` and the last states in the other results.
pub(super) fn recurrent(
    e: &mut Emitter<'_>,
    op: &Recurrent,
    site: &NodeContext<'_>,
    x: i32,
    y: i32,
) -> Result<(), Unsupported> {
    let extents = |i: usize| site.operands[i].shape.extents().ok_or("its extents are open; fix them with --shape");
    let (dims, hidden) = (extents(0)?, extents(STATES)?[1]);
    let (steps, batch, inputs) = (dims[0], dims[1], dims[2]);
    let layer = Layer { op, site, batch, hidden };
    let wide = op.cell.gates() * hidden;

    let rows = layer.reshaped(e, x, &[steps * batch, inputs]);
    let weight = parts(e, site, WEIGHT, &[(0, wide)])?[0];
    let bias = parts(e, site, BIAS, &[(0, wide)])?[0];
    let fed = layer.tensor(e, &[steps * batch, wide]);
    e.push_operator(B::FULLY_CONNECTED, 1, FullyConnected::default(), &[rows, weight, bias], &[fed]);

    let initial = &site.inputs[STATES..];
    let mut states: Vec<i32> = initial.iter().map(|&state| layer.reshaped(e, state, &[1, batch, hidden])).collect();
    // Steps beyond a multiple of those in the body come before the loop.
    let (first, runs) = (steps % STRIDE, steps / STRIDE);
    let mut results = Vec::new();
    let mut rest = fed;
    if first > 0 {
        let parameters = layer.recurrent_parameters(e)?;
        let head = layer.rows(e, fed, 0, first * batch, wide);
        let head = layer.reshaped(e, head, &[1, first * batch, wide]);
        let head = layer.steps(e, &parameters, head, first, &mut states);
        results.push(layer.reshaped(e, head, &[first, batch, hidden]));
        rest = layer.rows(e, fed, first * batch, runs * STRIDE * batch, wide);
    }
    let rest = layer.reshaped(e, rest, &[runs, STRIDE * batch, wide]);
    let looped = layer.looped(e, rest, runs, &mut states)?;
    if results.is_empty() {
        layer.reshape(e, looped, y, &[steps, batch, hidden]);
    } else {
        results.push(layer.reshaped(e, looped, &[runs * STRIDE, batch, hidden]));
        e.push_operator(B::CONCATENATION, 1, Concatenation::default(), &results, &[y]);
    }
    for (state, &to) in states.into_iter().zip(&site.outputs[1..]) {
        layer.reshape(e, state, to, &[batch, hidden]);
    }
    Ok(())
}

/// A layer whose operators are written. States are `[1, N, H]`.
struct Layer<'s> {
    op: &'s Recurrent,
    site: &'s NodeContext<'s>,
    batch: usize,
    hidden: usize,
}

impl Layer<'_> {
    /// The WHILE. `fed` `[runs, STRIDE * N, G * H]` are the products of the input; the result is `[runs, STRIDE * N, H]`.
    fn looped(&self, e: &mut Emitter<'_>, fed: i32, runs: usize, states: &mut Vec<i32>) -> Result<i32, Unsupported> {
        let dims = [runs, STRIDE * self.batch, self.hidden];
        let (sizes, zero) = (e.indices(&dims.map(|n| n as i32)), e.scalar(&TensorType::f32(&[]), 0.0)?);
        let y = self.tensor(e, &dims);
        e.push_operator(B::FILL, 1, Options::None, &[sizes, zero], &[y]);
        // Tensors of the main graph are not visible in the body: computed parameters pass through the loop.
        let stored = is_stored(self.site, RECURRENT) && is_stored(self.site, BIAS);
        let mut operands = vec![e.indices(&[0]), fed, y];
        operands.extend(&*states);
        if !stored {
            operands.extend(self.recurrent_parameters(e)?);
        }
        let after = 3 + states.len();
        let node = self.site.node;
        let cond = e.subgraph(node, &operands, |e, inputs| {
            let limit = e.indices(&[runs as i32]);
            let again = e.scratch(&TensorType::new(Elem::Bool, Shape::known(&[1])), node);
            e.push_operator(B::LESS, 1, Options::Other(T::LESS), &[inputs[0], limit], &[again]);
            Ok(vec![again])
        })?;
        let body = e.subgraph(node, &operands, |e, inputs| {
            let parameters = if stored { self.recurrent_parameters(e)? } else { inputs[after..].to_vec() };
            let mut states = inputs[3..after].to_vec();
            let wide = self.op.cell.gates() * self.hidden;
            let own = self.tensor(e, &[1, STRIDE * self.batch, wide]);
            e.push_operator(B::GATHER, 1, Gather::default(), &[inputs[1], inputs[0]], &[own]);
            let results = self.steps(e, &parameters, own, STRIDE, &mut states);
            let (tail, start) = (e.indices(&[0, 0]), self.index(e, 3));
            e.push_operator(B::CONCATENATION, 1, Concatenation::default(), &[inputs[0], tail], &[start]);
            let y = self.tensor(e, &dims);
            let options = Options::Other(T::DYNAMIC_UPDATE_SLICE);
            e.push_operator(B::DYNAMIC_UPDATE_SLICE, 1, options, &[inputs[2], results, start], &[y]);
            let (one, next) = (e.indices(&[1]), self.index(e, 1));
            e.push_operator(B::ADD, 1, Add::default(), &[inputs[0], one], &[next]);
            let mut outputs = vec![next, inputs[1], y];
            outputs.extend(states);
            outputs.extend(&inputs[after..]);
            Ok(outputs)
        })?;
        let results: Vec<i32> = operands.iter().map(|&operand| e.like(operand, node)).collect();
        e.push_operator(B::WHILE, 1, While { cond, body }, &operands, &results);
        states.copy_from_slice(&results[3..after]);
        Ok(results[2])
    }

    /// The parameters of the products with the state: the recurrent weight, for a `Gru` that applies the reset gate
    /// before the product in two parts, else followed by the bias of the candidate.
    fn recurrent_parameters(&self, e: &mut Emitter<'_>) -> Result<Vec<i32>, Unsupported> {
        let (gates, hidden) = (self.op.cell.gates(), self.hidden);
        match self.op.cell {
            Cell::Gru { reset_after: false } => {
                parts(e, self.site, RECURRENT, &[(0, 2 * hidden), (2 * hidden, hidden)])
            }
            Cell::Gru { reset_after: true } => {
                let mut all = parts(e, self.site, RECURRENT, &[(0, gates * hidden)])?;
                all.extend(parts(e, self.site, BIAS, &[(gates * hidden, hidden)])?);
                Ok(all)
            }
            Cell::Lstm | Cell::Rnn { .. } => parts(e, self.site, RECURRENT, &[(0, gates * hidden)]),
        }
    }

    /// `count` steps with the products of the input `fed` `[1, count * N, G * H]`: the h of each, `[1, count * N, H]`.
    fn steps(&self, e: &mut Emitter<'_>, parameters: &[i32], fed: i32, count: usize, states: &mut Vec<i32>) -> i32 {
        let mut results = Vec::with_capacity(count);
        for fed in self.split(e, fed, 1, count, self.op.cell.gates()) {
            *states = match self.op.cell {
                Cell::Lstm => self.lstm(e, parameters, fed, states),
                Cell::Gru { reset_after } => vec![self.gru(e, parameters, fed, states[0], reset_after)],
                Cell::Rnn { relu } => vec![self.rnn(e, parameters, fed, states[0], relu)],
            };
            results.push(states[0]);
        }
        if let [one] = results[..] {
            return one;
        }
        let y = self.tensor(e, &[1, count * self.batch, self.hidden]);
        e.push_operator(B::CONCATENATION, 1, Concatenation { axis: 1, ..Concatenation::default() }, &results, &[y]);
        y
    }

    fn lstm(&self, e: &mut Emitter<'_>, parameters: &[i32], fed: i32, states: &[i32]) -> Vec<i32> {
        let product = self.product(e, states[0], parameters[0], 4);
        let sum = self.sum(e, fed, product, 4);
        let gates = self.split(e, sum, 2, 4, 1);
        let [input, output, forget] = [0, 1, 2].map(|i| self.unary(e, B::LOGISTIC, gates[i]));
        let candidate = self.unary(e, B::TANH, gates[3]);
        let (kept, new) = (self.binary(e, B::MUL, forget, states[1]), self.binary(e, B::MUL, input, candidate));
        let c = self.binary(e, B::ADD, kept, new);
        let shown = self.unary(e, B::TANH, c);
        vec![self.binary(e, B::MUL, output, shown), c]
    }

    fn gru(&self, e: &mut Emitter<'_>, parameters: &[i32], fed: i32, h: i32, reset_after: bool) -> i32 {
        let fed = self.split(e, fed, 2, 3, 1);
        let count = if reset_after { 3 } else { 2 };
        let product = self.product(e, h, parameters[0], count);
        let products = self.split(e, product, 2, count, 1);
        let [update, reset] = [0, 1].map(|i| {
            let sum = self.sum(e, fed[i], products[i], 1);
            self.unary(e, B::LOGISTIC, sum)
        });
        let of_candidate = if reset_after {
            let product = self.binary(e, B::ADD, products[2], parameters[1]);
            self.binary(e, B::MUL, reset, product)
        } else {
            let state = self.binary(e, B::MUL, reset, h);
            self.product(e, state, parameters[1], 1)
        };
        let candidate = self.sum(e, fed[2], of_candidate, 1);
        let candidate = self.unary(e, B::TANH, candidate);
        // (1 - update) candidate + update h
        let change = self.binary(e, B::SUB, h, candidate);
        let change = self.binary(e, B::MUL, update, change);
        self.binary(e, B::ADD, candidate, change)
    }

    fn rnn(&self, e: &mut Emitter<'_>, parameters: &[i32], fed: i32, h: i32, relu: bool) -> i32 {
        let product = self.product(e, h, parameters[0], 1);
        let sum = self.sum(e, fed, product, 1);
        self.unary(e, if relu { B::RELU } else { B::TANH }, sum)
    }

    /// The product of a state with the weight of `gates` gates.
    fn product(&self, e: &mut Emitter<'_>, state: i32, weight: i32, gates: usize) -> i32 {
        let y = self.gates(e, gates);
        let options = FullyConnected { keep_num_dims: true, ..FullyConnected::default() };
        e.push_operator(B::FULLY_CONNECTED, 5, options, &[state, weight, ABSENT], &[y]);
        y
    }

    /// The operand of the activation functions of `gates` gates.
    fn sum(&self, e: &mut Emitter<'_>, fed: i32, product: i32, gates: usize) -> i32 {
        let mut sum = self.gates(e, gates);
        e.push_operator(B::ADD, 1, Add::default(), &[fed, product], &[sum]);
        let limits = self.op.clip.map(|clip| [(B::MINIMUM, clip), (B::MAXIMUM, -clip)]);
        for (code, limit) in limits.into_iter().flatten() {
            let (limit, y) = (e.constant(&TensorType::f32(&[]), &[limit]), self.gates(e, gates));
            e.push_operator(code, 1, Options::Other(T::MAXIMUM_MINIMUM), &[sum, limit], &[y]);
            sum = y;
        }
        sum
    }

    /// `x` in `count` equal parts along an axis, each `[1, N, gates * H]`.
    fn split(&self, e: &mut Emitter<'_>, x: i32, axis: usize, count: usize, gates: usize) -> Vec<i32> {
        if count == 1 {
            return vec![x];
        }
        let parts: Vec<i32> = (0..count).map(|_| self.gates(e, gates)).collect();
        let axis = e.index(axis);
        e.push_operator(B::SPLIT, 1, Split { num_splits: count as i32 }, &[axis, x], &parts);
        parts
    }

    fn unary(&self, e: &mut Emitter<'_>, code: B, x: i32) -> i32 {
        let y = self.gates(e, 1);
        e.push_operator(code, 1, Options::None, &[x], &[y]);
        y
    }

    fn binary(&self, e: &mut Emitter<'_>, code: B, a: i32, b: i32) -> i32 {
        let y = self.gates(e, 1);
        let options: Options = match code {
            B::MUL => Mul::default().into(),
            B::SUB => Sub::default().into(),
            _ => Add::default().into(),
        };
        e.push_operator(code, 1, options, &[a, b], &[y]);
        y
    }

    /// A new tensor `[1, N, gates * H]`.
    fn gates(&self, e: &mut Emitter<'_>, gates: usize) -> i32 {
        self.tensor(e, &[1, self.batch, gates * self.hidden])
    }

    fn tensor(&self, e: &mut Emitter<'_>, dims: &[usize]) -> i32 {
        e.scratch(&TensorType::f32(dims), self.site.node)
    }

    fn index(&self, e: &mut Emitter<'_>, count: usize) -> i32 {
        e.scratch(&TensorType::new(Elem::I32, Shape::known(&[count])), self.site.node)
    }

    /// `count` rows of a matrix with `columns` columns, from `start` on.
    fn rows(&self, e: &mut Emitter<'_>, x: i32, start: usize, count: usize, columns: usize) -> i32 {
        let y = self.tensor(e, &[count, columns]);
        let inputs = [x, e.indices(&[start as i32, 0]), e.indices(&[count as i32, -1])];
        e.push_operator(B::SLICE, 1, Options::Other(T::SLICE), &inputs, &[y]);
        y
    }

    fn reshaped(&self, e: &mut Emitter<'_>, x: i32, dims: &[usize]) -> i32 {
        let y = self.tensor(e, dims);
        self.reshape(e, x, y, dims);
        y
    }

    fn reshape(&self, e: &mut Emitter<'_>, x: i32, y: i32, dims: &[usize]) {
        let new_shape: Vec<i32> = dims.iter().map(|&n| n as i32).collect();
        let inputs = [x, e.indices(&new_shape)];
        e.push_operator(B::RESHAPE, 1, Reshape { new_shape }, &inputs, &[y]);
    }
}
