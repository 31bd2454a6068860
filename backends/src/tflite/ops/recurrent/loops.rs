//! Layers without an operator of their own: a WHILE over the steps. The products of the input and its weights are
//! computed for all steps before it.

use qcc_formats::tflite::{
    Add, BuiltinOperator as B, Concatenation, FullyConnected, Gather, Mul, Options, OptionsType as T, Split, Sub, While,
};
use qcc_ir::ops::{Cell, Recurrent};
use qcc_ir::{Dim, Elem, Shape, TensorType};

use super::super::super::emit::{ABSENT, Emitter, NodeContext, Unsupported};
use super::STATES;
use super::parameters::{BIAS, RECURRENT, WEIGHT, is_stored, parts};
use crate::extents;

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
    let [steps, batch, inputs] = site.operands[0].shape.dims() else { return Err("its operand is no sequence".into()) };
    let known = |d: &Dim| d.known().ok_or("an extent other than its steps and batch is open; fix it with --shape");
    let inputs = known(inputs)?;
    let layer = Layer { op, site, batch, hidden: known(&site.operands[STATES].shape.dims()[1])? };
    let (hidden, wide) = (layer.hidden, op.cell.gates() * layer.hidden);

    let rows = layer.reshaped(e, x, &[layer.rows(steps.clone())?, inputs.into()])?;
    let weight = parts(e, site, WEIGHT, &[(0, wide)])?[0];
    let bias = parts(e, site, BIAS, &[(0, wide)])?[0];
    let fed = layer.tensor(e, &[layer.rows(steps.clone())?, wide.into()]);
    e.push_operator(B::FULLY_CONNECTED, 1, FullyConnected::default(), &[rows, weight, bias], &[fed]);

    let state = [1.into(), batch.clone(), hidden.into()];
    let initial = &site.inputs[STATES..];
    let mut states: Vec<i32> = initial.iter().map(|&s| layer.reshaped(e, s, &state)).collect::<Result<_, _>>()?;
    // Steps beyond a multiple of those in the body come before the loop: in a loop of their own, of a step a run, where
    // their number is open.
    let long = || "it has too many steps";
    let runs = steps.map(|steps| steps.floor_div(STRIDE as i64)).ok_or_else(long)?;
    let looped = runs.times(&STRIDE.into()).ok_or_else(long)?;
    let first = steps.map(|steps| steps.minus(&looped.expr())).ok_or_else(long)?;
    let mut results = Vec::new();
    let mut rest = fed;
    if first != Dim::Known(0) {
        let head = match first.known() {
            Some(count) => {
                let parameters = layer.recurrent_parameters(e)?;
                let head = layer.part(e, fed, &0.into(), &first, wide)?;
                let head = layer.reshaped(e, head, &[1.into(), layer.rows(count)?, wide.into()])?;
                layer.steps(e, &parameters, head, count, &mut states)?
            }
            None => {
                let head = layer.part(e, fed, &0.into(), &first, wide)?;
                let head = layer.reshaped(e, head, &[first.clone(), batch.clone(), wide.into()])?;
                layer.looped(e, head, &first, 1, &mut states)?
            }
        };
        results.push(layer.reshaped(e, head, &[first.clone(), batch.clone(), hidden.into()])?);
        rest = layer.part(e, fed, &first, &looped, wide)?;
    }
    let rest = layer.reshaped(e, rest, &[runs.clone(), layer.rows(STRIDE)?, wide.into()])?;
    let rest = layer.looped(e, rest, &runs, STRIDE, &mut states)?;
    if results.is_empty() {
        e.reshape_into(rest, y, &layer.ty(&[steps.clone(), batch.clone(), hidden.into()]))?;
    } else {
        results.push(layer.reshaped(e, rest, &[looped, batch.clone(), hidden.into()])?);
        e.push_operator(B::CONCATENATION, 1, Concatenation::default(), &results, &[y]);
    }
    for (state, &to) in states.into_iter().zip(&site.outputs[1..]) {
        e.reshape_into(state, to, &layer.ty(&[batch.clone(), hidden.into()]))?;
    }
    Ok(())
}

/// A layer whose operators are written. States are `[1, N, H]`.
struct Layer<'s> {
    op: &'s Recurrent,
    site: &'s NodeContext<'s>,
    /// N, which may be open.
    batch: &'s Dim,
    hidden: usize,
}

impl Layer<'_> {
    /// The WHILE, with `stride` steps in the body. `fed` `[runs, stride * N, G * H]` are the products of the input; the
    /// result is `[runs, stride * N, H]`.
    fn looped(
        &self,
        e: &mut Emitter<'_>,
        fed: i32,
        runs: &Dim,
        stride: usize,
        states: &mut Vec<i32>,
    ) -> Result<i32, Unsupported> {
        // The kernel that writes a run into the result refuses one without runs: those of an open number have one more.
        let spare = usize::from(runs.known().is_none());
        let all = runs.plus(&spare.into()).ok_or("it has too many steps")?;
        let dims = [all, self.rows(stride)?, self.hidden.into()];
        let sizes = extents::list(e, &dims.each_ref().map(Dim::expr))?;
        let zero = e.scalar(&TensorType::f32(&[]), 0.0)?;
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
            let limit = match runs.known() {
                Some(runs) => e.indices(&[runs as i32]),
                None => e.first_extent(inputs[1], dims.len()),
            };
            let again = e.scratch(&TensorType::new(Elem::Bool, Shape::known(&[1])), node);
            e.push_operator(B::LESS, 1, Options::Other(T::LESS), &[inputs[0], limit], &[again]);
            Ok(vec![again])
        })?;
        let body = e.subgraph(node, &operands, |e, inputs| {
            let parameters = if stored { self.recurrent_parameters(e)? } else { inputs[after..].to_vec() };
            let mut states = inputs[3..after].to_vec();
            let wide = self.op.cell.gates() * self.hidden;
            let own = self.tensor(e, &[1.into(), self.rows(stride)?, wide.into()]);
            e.push_operator(B::GATHER, 1, Gather::default(), &[inputs[1], inputs[0]], &[own]);
            let results = self.steps(e, &parameters, own, stride, &mut states)?;
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
        if spare == 0 {
            return Ok(results[2]);
        }
        let [_, rows, hidden] = dims;
        let y = self.tensor(e, &[runs.clone(), rows, hidden]);
        let size = extents::list(e, &[runs.expr(), (-1).into(), (-1).into()])?;
        let inputs = [results[2], e.indices(&[0, 0, 0]), size];
        e.push_operator(B::SLICE, 1, Options::Other(T::SLICE), &inputs, &[y]);
        Ok(y)
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
    fn steps(
        &self,
        e: &mut Emitter<'_>,
        parameters: &[i32],
        fed: i32,
        count: usize,
        states: &mut Vec<i32>,
    ) -> Result<i32, Unsupported> {
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
            return Ok(one);
        }
        let y = self.tensor(e, &[1.into(), self.rows(count)?, self.hidden.into()]);
        e.push_operator(B::CONCATENATION, 1, Concatenation { axis: 1, ..Concatenation::default() }, &results, &[y]);
        Ok(y)
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
        self.tensor(e, &[1.into(), self.batch.clone(), (gates * self.hidden).into()])
    }

    /// The number of rows of `count` steps.
    fn rows(&self, count: impl Into<Dim>) -> Result<Dim, Unsupported> {
        Ok(count.into().times(self.batch).ok_or("it has too many steps")?)
    }

    fn ty(&self, dims: &[Dim]) -> TensorType {
        TensorType::new(Elem::F32, dims.iter().cloned().collect())
    }

    fn tensor(&self, e: &mut Emitter<'_>, dims: &[Dim]) -> i32 {
        e.scratch(&self.ty(dims), self.site.node)
    }

    fn index(&self, e: &mut Emitter<'_>, count: usize) -> i32 {
        e.scratch(&TensorType::new(Elem::I32, Shape::known(&[count])), self.site.node)
    }

    /// The rows of `count` steps of a matrix with `columns` columns, from that of step `start` on.
    fn part(&self, e: &mut Emitter<'_>, x: i32, start: &Dim, count: &Dim, columns: usize) -> Result<i32, Unsupported> {
        let (start, count) = (self.rows(start.clone())?, self.rows(count.clone())?);
        let y = self.tensor(e, &[count.clone(), columns.into()]);
        let begin = extents::list(e, &[start.expr(), 0.into()])?;
        let inputs = [x, begin, extents::list(e, &[count.expr(), (-1).into()])?];
        e.push_operator(B::SLICE, 1, Options::Other(T::SLICE), &inputs, &[y]);
        Ok(y)
    }

    fn reshaped(&self, e: &mut Emitter<'_>, x: i32, dims: &[Dim]) -> Result<i32, Unsupported> {
        let y = self.tensor(e, dims);
        e.reshape_into(x, y, &self.ty(dims))?;
        Ok(y)
    }
}
