//! LSTM layers that the graph's `Recurrent` operator does not support, unrolled over time.

use qcc_ir::ops::{BinaryFn, Clamp, Concat, Dequantize, MatMul, Quantize, Range, Slice, UnaryFn};
use qcc_ir::{Elem, ValueId};

use super::{Build, Values};
use crate::refusal::Refusal;

/// Maximum number of unrolled steps: each step takes about twenty operators.
const MOST_STEPS: usize = 512;

/// An activation function of the gates, the candidate or the cell.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Function {
    /// A unary function of the graph.
    Unary(UnaryFn),
    /// Lower and upper bound.
    Clamp(f32, f32),
    /// alpha * x + beta.
    Affine(f32, f32),
    /// alpha * tanh(beta * x).
    ScaledTanh(f32, f32),
}

impl Function {
    fn of(self, n: &mut impl Build, x: ValueId) -> Result<ValueId, Refusal> {
        match self {
            Function::Unary(f) => n.unary(f, x),
            Function::Clamp(lo, hi) => n.add(Clamp { lo, hi }, &[x]),
            Function::Affine(alpha, beta) => {
                let scaled = times(n, x, alpha)?;
                let beta = n.scalar(beta.into(), x)?;
                n.binary(BinaryFn::Add, scaled, beta)
            }
            Function::ScaledTanh(alpha, beta) => {
                let scaled = times(n, x, beta)?;
                let y = n.unary(UnaryFn::Tanh, scaled)?;
                times(n, y, alpha)
            }
        }
    }
}

fn times(n: &mut impl Build, x: ValueId, factor: f32) -> Result<ValueId, Refusal> {
    let factor = n.scalar(factor.into(), x)?;
    n.binary(BinaryFn::Mul, x, factor)
}

/// One layer in one direction. The order of gates is that of the graph: input, output, forget, candidate.
#[derive(Clone, Debug)]
pub(crate) struct Lstm {
    /// Weight `[4*H, I]`, recurrent weight `[4*H, H]` and bias `[4*H]`.
    pub(crate) weights: [ValueId; 3],
    /// Peephole weights of the input, output and forget gates, `[H]`.
    pub(crate) peepholes: Option<[ValueId; 3]>,
    /// Activation functions of the gates, the candidate and the cell.
    pub(crate) functions: [Function; 3],
    /// True if the forget gate is `1 - input gate`.
    pub(crate) coupled: bool,
    /// Bound of the magnitude of the inputs of the activation functions of gates and candidate.
    pub(crate) clip: Option<f32>,
    /// Bound of the magnitude of the cell.
    pub(crate) cell_limit: Option<f32>,
    /// Element types of h and c; if quantized, h and c are quantized and dequantized after each step.
    pub(crate) rounding: [Elem; 2],
    /// True if steps run from the last to the first.
    pub(crate) reverse: bool,
}

impl Lstm {
    /// The activation functions of the graph's `Recurrent` operator.
    pub(crate) const FUNCTIONS: [Function; 3] =
        [Function::Unary(UnaryFn::Sigmoid), Function::Unary(UnaryFn::Tanh), Function::Unary(UnaryFn::Tanh)];

    /// True if the graph's `Recurrent` operator, with the same `clip`, computes the layer.
    pub(crate) fn is_plain(&self) -> bool {
        let rounds = self.rounding.iter().any(|elem| elem.qparams().is_some());
        self.peepholes.is_none()
            && self.functions == Lstm::FUNCTIONS
            && !self.coupled
            && self.cell_limit.is_none()
            && !rounds
    }

    /// The layer on x `[T, N, I]` with initial h and c `[N, H]`: h of each step `[T, N, H]`, the last h and the last c.
    pub(crate) fn unrolled(&self, n: &mut impl Build, x: ValueId, states: [ValueId; 2]) -> Result<Values, Refusal> {
        let [weight, recurrent, bias] = self.weights;
        let (dims, hidden) = (n.dims(x)?, n.dims(recurrent)?.last().copied().unwrap_or(0));
        let (steps, batch) = (dims[0], dims[1]);
        if steps == 0 || steps > MOST_STEPS {
            let message = format!(
                "its {steps} steps would become operators of their own, since it is no plain LSTM; {MOST_STEPS} are the most"
            );
            return Err(Refusal::Advised { message, help: "give shorter sequences: --shape" });
        }
        let rows = n.reshape(x, &[steps * batch, dims[2]])?;
        let fed = n.add(MatMul { transpose_b: true }, &[rows, weight, bias])?;
        let ([mut h, mut c], mut all) = (states, Values::new());
        for i in 0..steps {
            let t = if self.reverse { steps - 1 - i } else { i };
            let fed = part(n, fed, 0, t * batch, batch)?;
            let product = n.add(MatMul { transpose_b: true }, &[h, recurrent])?;
            let sums = n.binary(BinaryFn::Add, fed, product)?;
            [h, c] = self.step(n, sums, c, hidden)?;
            all.push(h);
        }
        if self.reverse {
            all.reverse();
        }
        let y = if let [one] = *all { one } else { n.add(Concat { axis: 0 }, &all)? };
        let y = n.reshape(y, &[steps, batch, hidden])?;
        Ok(Values::from_iter([y, h, c]))
    }

    /// The next h and c. `sums` `[N, 4*H]` are the inputs of all gates without the peephole terms.
    fn step(&self, n: &mut impl Build, sums: ValueId, c: ValueId, hidden: usize) -> Result<[ValueId; 2], Refusal> {
        let input = self.gate(n, sums, 0, c, hidden)?;
        let forget = if self.coupled {
            let open = n.scalar(1.0, input)?;
            n.binary(BinaryFn::Sub, open, input)?
        } else {
            self.gate(n, sums, 2, c, hidden)?
        };
        let candidate = part(n, sums, 1, 3 * hidden, hidden)?;
        let candidate = self.limited(n, candidate, self.clip)?;
        let candidate = self.functions[1].of(n, candidate)?;
        let (kept, new) = (n.binary(BinaryFn::Mul, forget, c)?, n.binary(BinaryFn::Mul, input, candidate)?);
        let c = n.binary(BinaryFn::Add, kept, new)?;
        let c = self.limited(n, c, self.cell_limit)?;
        let c = rounded(n, c, &self.rounding[1])?;
        let output = self.gate(n, sums, 1, c, hidden)?;
        let shown = self.functions[2].of(n, c)?;
        let h = n.binary(BinaryFn::Mul, output, shown)?;
        Ok([rounded(n, h, &self.rounding[0])?, c])
    }

    /// A gate, with the peephole term of the cell `c`.
    fn gate(
        &self,
        n: &mut impl Build,
        sums: ValueId,
        gate: usize,
        c: ValueId,
        hidden: usize,
    ) -> Result<ValueId, Refusal> {
        let mut sum = part(n, sums, 1, gate * hidden, hidden)?;
        if let Some(peepholes) = self.peepholes {
            let seen = n.binary(BinaryFn::Mul, c, peepholes[gate])?;
            sum = n.binary(BinaryFn::Add, sum, seen)?;
        }
        let sum = self.limited(n, sum, self.clip)?;
        self.functions[0].of(n, sum)
    }

    fn limited(&self, n: &mut impl Build, x: ValueId, limit: Option<f32>) -> Result<ValueId, Refusal> {
        limit.map_or(Ok(x), |limit| n.add(Clamp { lo: -limit, hi: limit }, &[x]))
    }
}

/// `x`, quantized to `elem` and dequantized; `x` itself if `elem` is not quantized.
fn rounded(n: &mut impl Build, x: ValueId, elem: &Elem) -> Result<ValueId, Refusal> {
    if elem.qparams().is_none() {
        return Ok(x);
    }
    let ty = n.ty(x).with_elem(elem.clone());
    let placed = n.add_typed(Quantize {}, &[x], ty)?;
    n.add(Dequantize {}, &[placed])
}

/// A slice of `len` elements of an axis from `start` on.
fn part(n: &mut impl Build, x: ValueId, axis: usize, start: usize, len: usize) -> Result<ValueId, Refusal> {
    if start == 0 && n.dims(x)?[axis] == len {
        return Ok(x);
    }
    n.add(Slice { ranges: vec![Range { axis, start, len, step: 1 }] }, &[x])
}
