//! LSTM layers that the graph's `Recurrent` operator does not support: unrolled over time, or a loop over the steps.

use qcc_ir::ops::{BinaryFn, Clamp, Concat, Dequantize, Extents, MatMul, Quantize, Range, Reverse, Slice, UnaryFn};
use qcc_ir::{Dim, Elem, Graph, Shape, Tensor, TensorType, ValueId};

use super::{Build, End, Values, control};
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
    /// Few steps are unrolled, since a nested graph is not quantized.
    pub(crate) fn run(&self, n: &mut impl Build, x: ValueId, states: [ValueId; 2]) -> Result<Values, Refusal> {
        let shape = n.shape(x);
        let few = shape.dims().first().and_then(Dim::known).is_some_and(|steps| steps <= MOST_STEPS);
        let rounds = self.rounding.iter().any(|elem| elem.qparams().is_some());
        if rounds || few && !shape.is_open() { self.unrolled(n, x, states) } else { self.repeated(n, x, states) }
    }

    /// A loop over the steps. The product of the input weights with x is computed once for all of them.
    fn repeated(&self, n: &mut impl Build, x: ValueId, [h, c]: [ValueId; 2]) -> Result<Values, Refusal> {
        let [weight, recurrent, bias] = self.weights;
        let (shape, hidden) = (n.shape(x).clone(), n.dims(recurrent)?.last().copied().unwrap_or(0));
        let [steps, batch, inputs] = shape.dims() else { return Err(Refusal::Open(shape)) };
        let rows = steps.times(batch).ok_or_else(|| Refusal::Open(shape.clone()))?;
        let rows = n.reshape_to(x, [rows, inputs.clone()].into_iter().collect())?;
        let fed = n.add(MatMul { transpose_b: true }, &[rows, weight, bias])?;
        let wide = n.shape(fed).dims()[1].clone();
        let fed = n.reshape_to(fed, [steps.clone(), batch.clone(), wide].into_iter().collect())?;

        let mut body = Graph::new("lstm");
        let number = body.add_input("iteration", TensorType::new(Elem::I64, Shape::scalar()));
        let [inner_h, inner_c] = [("h", h), ("c", c)].map(|(name, v)| body.add_input(name, n.ty(v).clone()));
        let inner_fed = body.add_input("fed", n.ty(fed).clone());
        let mut reads = Values::from_iter([fed]);
        let mut inside = |v: ValueId| {
            control::known_inside(n.graph(), v, &mut body).unwrap_or_else(|| {
                reads.push(v);
                body.add_input("", n.ty(v).clone())
            })
        };
        let weights = [weight, inside(recurrent), bias];
        let layer = Lstm { weights, peepholes: self.peepholes.map(|all| all.map(&mut inside)), ..self.clone() };
        let mut end = End(&mut body, n.origin().clone());
        let sums = control::slice_of_turn(&mut end, inner_fed, 0, number, self.reverse)?;
        let product = end.add(MatMul { transpose_b: true }, &[inner_h, layer.weights[1]])?;
        let sums = end.binary(BinaryFn::Add, sums, product)?;
        let [next_h, next_c] = layer.step(&mut end, sums, inner_c, hidden)?;
        let again = end.add_constant(Tensor::from_bools(Shape::scalar(), [true]));
        for (name, v) in [("again", again), ("h", next_h), ("c", next_c), ("y", next_h)] {
            body.add_output(name, v);
        }

        control::same_after(n.graph(), &[h, c], &body)?;
        reads.extend(control::carriers(n, &mut [&mut body])?);
        let most = n.add_whole(vec![steps.expr()], Extents::new())?;
        let first = n.add_constant(Tensor::from_bools(Shape::scalar(), [true]));
        let op = control::repeat(2, Some(steps.expr()), String::new(), body);
        let operands: Values = [most, first, h, c].into_iter().chain(reads).collect();
        let results = n.add_all(op, &operands)?;
        let &[h, c, mut y] = results.as_slice() else { return Err(control::without_iterations()) };
        if self.reverse {
            y = n.add(Reverse { axes: Extents::from_elem(0, 1) }, &[y])?;
        }
        Ok(Values::from_iter([y, h, c]))
    }

    /// The layer with operators of its own for each step.
    fn unrolled(&self, n: &mut impl Build, x: ValueId, states: [ValueId; 2]) -> Result<Values, Refusal> {
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
