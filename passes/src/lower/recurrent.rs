//! Lowering of recurrent layers: unrolling, where the target's kernels do not take the layer.

use qcc_ir::ops::{Cell, MatMul, Op, Pad, PadMode, Recurrent, UnaryFn};
use qcc_ir::{Dim, NodeId, Operands, ValueId};

use super::build::{Build, Built};
use crate::Skip;

/// The maximum number of steps. Each becomes a dozen operators, so that longer layers would make the model large and
/// slow.
const MOST_STEPS: usize = 512;

/// Unrolls all steps. The product of the input weights with x is computed once for all steps.
pub(super) fn unroll(b: &mut Build<'_>, node: NodeId) -> Built {
    let Op::Recurrent(op) = b.g.op(node) else { return Err(Skip::NoMatch) };
    let (op, operands) = (op.clone(), b.g.operands(node));
    let shape = b.ty(operands[0]).shape.clone();
    let [steps, batch, inputs] = shape.dims() else { return Err(Skip::NoMatch) };
    let steps = steps.known().ok_or(Skip::because("the number of its steps is open"))?;
    if steps == 0 {
        return Err(Skip::because("it has no steps"));
    }
    if steps > MOST_STEPS {
        let why = format!("it would be unrolled into {steps} steps; the maximum is {MOST_STEPS}");
        return Err(Skip::because(why));
    }
    let reverse = op.reverse;
    let (mut layer, bias) = Layer::new(b, op, &operands)?;
    let rows = Dim::Known(steps).times(batch).ok_or(Skip::because("it has too many steps"))?;
    let x = b.reshape(operands[0], [rows, inputs.clone()].into_iter().collect())?;
    let mut fed = b.op(MatMul { transpose_b: true }, &[x, operands[1], bias])?;
    if batch.known().is_none() {
        // Where the rows of a step begin is known on an axis of their own only.
        let wide = b.ty(fed).shape.dims()[1].clone();
        fed = b.reshape(fed, [Dim::Known(steps), batch.clone(), wide].into_iter().collect())?;
    }
    let mut y = Vec::with_capacity(steps);
    for i in 0..steps {
        let t = if reverse { steps - 1 - i } else { i };
        let fed = match batch.known() {
            Some(batch) => b.slice(fed, 0, t * batch, batch)?,
            None => {
                let step = b.slice(fed, 0, t, 1)?;
                b.squeeze(step, 0)?
            }
        };
        y.push(layer.step(b, fed)?);
    }
    if reverse {
        y.reverse();
    }
    for (state, result) in layer.states.iter().zip(b.g.results(node).skip(1)) {
        b.g.replace(result, *state)?;
    }
    let y = b.concat(0, &y)?;
    b.reshape(y, [Dim::Known(steps), batch.clone(), Dim::Known(layer.hidden)].into_iter().collect())
}

/// The state of a layer between two steps.
struct Layer {
    op: Recurrent,
    hidden: usize,
    /// The recurrent weights, each with the bias that is added to its product. For a `Gru` that applies the reset gate
    /// before the product, those of the candidate are separate.
    products: Vec<(ValueId, Option<ValueId>)>,
    /// h, and c if the cell has it.
    states: Operands,
}

impl Layer {
    /// The state before the first step, and the bias of the input product.
    fn new(b: &mut Build<'_>, op: Recurrent, operands: &[ValueId]) -> Result<(Self, ValueId), Skip> {
        let (r, bias) = (operands[2], operands[3]);
        let hidden = b.extents(r)?[1];
        let gates = op.cell.gates();
        let products = match op.cell {
            Cell::Gru { reset_after: true } => {
                let after = b.slice(bias, 0, gates * hidden, hidden)?;
                let before = [2 * hidden].into_iter().collect();
                let pad = Pad { before, after: [0].into_iter().collect(), mode: PadMode::Constant(0.0) };
                vec![(r, Some(b.op(pad, &[after])?))]
            }
            Cell::Gru { reset_after: false } => {
                vec![(b.slice(r, 0, 0, 2 * hidden)?, None), (b.slice(r, 0, 2 * hidden, hidden)?, None)]
            }
            Cell::Lstm | Cell::Rnn { .. } => vec![(r, None)],
        };
        let bias = b.slice(bias, 0, 0, gates * hidden)?;
        Ok((Layer { op, hidden, products, states: operands[4..].into() }, bias))
    }

    /// One step. `fed` is the input product, `[batch, gates * hidden]`. Returns the new h.
    fn step(&mut self, b: &mut Build<'_>, fed: ValueId) -> Built {
        let product = self.product(b, 0, self.states[0])?;
        self.states[0] = match self.op.cell {
            Cell::Lstm => self.lstm(b, fed, product)?,
            Cell::Gru { reset_after } => self.gru(b, fed, product, reset_after)?,
            Cell::Rnn { relu } => {
                let sum = self.sum(b, fed, product)?;
                if relu { b.clamp(sum, 0.0, f32::INFINITY)? } else { b.unary(UnaryFn::Tanh, sum)? }
            }
        };
        Ok(self.states[0])
    }

    /// The product of a state and the `i`-th recurrent weight.
    fn product(&self, b: &mut Build<'_>, i: usize, state: ValueId) -> Built {
        let (weight, bias) = self.products[i];
        let operands: Operands = [state, weight].into_iter().chain(bias).collect();
        b.op(MatMul { transpose_b: true }, &operands)
    }

    /// The columns of `count` gates, starting with gate `first`.
    fn gates(&self, b: &mut Build<'_>, x: ValueId, first: usize, count: usize) -> Built {
        b.slice(x, 1, first * self.hidden, count * self.hidden)
    }

    /// The sum that the function of a gate is applied to.
    fn sum(&self, b: &mut Build<'_>, fed: ValueId, product: ValueId) -> Built {
        let sum = b.add(fed, product)?;
        self.op.clip.map_or(Ok(sum), |clip| b.clamp(sum, -clip, clip))
    }

    fn lstm(&mut self, b: &mut Build<'_>, fed: ValueId, product: ValueId) -> Built {
        let sum = self.sum(b, fed, product)?;
        let (gates, candidate) = (self.gates(b, sum, 0, 3)?, self.gates(b, sum, 3, 1)?);
        let (gates, candidate) = (b.unary(UnaryFn::Sigmoid, gates)?, b.unary(UnaryFn::Tanh, candidate)?);
        let (input, output) = (self.gates(b, gates, 0, 1)?, self.gates(b, gates, 1, 1)?);
        let forget = self.gates(b, gates, 2, 1)?;
        let (kept, new) = (b.mul(forget, self.states[1])?, b.mul(input, candidate)?);
        self.states[1] = b.add(kept, new)?;
        let shown = b.unary(UnaryFn::Tanh, self.states[1])?;
        b.mul(output, shown)
    }

    fn gru(&self, b: &mut Build<'_>, fed: ValueId, product: ValueId, reset_after: bool) -> Built {
        let h = self.states[0];
        let (gates, candidate) = (self.gates(b, fed, 0, 2)?, self.gates(b, fed, 2, 1)?);
        let of_gates = self.gates(b, product, 0, 2)?;
        let gates = self.sum(b, gates, of_gates)?;
        let gates = b.unary(UnaryFn::Sigmoid, gates)?;
        let (update, reset) = (self.gates(b, gates, 0, 1)?, self.gates(b, gates, 1, 1)?);
        let of_candidate = if reset_after {
            let product = self.gates(b, product, 2, 1)?;
            b.mul(reset, product)?
        } else {
            let state = b.mul(reset, h)?;
            self.product(b, 1, state)?
        };
        let candidate = self.sum(b, candidate, of_candidate)?;
        let candidate = b.unary(UnaryFn::Tanh, candidate)?;
        // (1 - update) candidate + update h
        let change = b.sub(h, candidate)?;
        let change = b.mul(update, change)?;
        b.add(candidate, change)
    }
}
