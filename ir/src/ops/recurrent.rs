//! Recurrent layers.

use serde::{Deserialize, Serialize};
use smallvec::smallvec;

use super::{Operator, Types, arity, extents, float, is_known, refuse, same_elem};
use crate::error::TypeError;
use crate::types::{Dim, Shape, TensorType};

/// What a recurrent layer computes at each step. `a(gate)` are that gate's elements of `x W^T + h R^T + b`, `s` is the
/// logistic function; gates are in the order of the weights in ONNX.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cell {
    /// Gates input, output, forget, candidate: `c = s(a(forget)) c + s(a(input)) tanh(a(candidate))`,
    /// `h = s(a(output)) tanh(c)`.
    Lstm,
    /// Gates update, reset, candidate: `h = (1 - z) n + z h` with `z = s(a(update))`, `r = s(a(reset))` and
    /// `n = tanh(x Wn^T + bn + (r h) Rn^T)`.
    Gru {
        /// The reset gate scales the product, not the state: `n = tanh(x Wn^T + bn + r (h Rn^T + bm))`, as in PyTorch
        /// and with `linear_before_reset` in ONNX. The bias has `bm` after those of the three gates.
        reset_after: bool,
    },
    /// One gate: `h = tanh(a)`, or `h = max(a, 0)`.
    Rnn {
        /// Relu in place of tanh.
        relu: bool,
    },
}

impl Cell {
    /// All cells.
    pub const ALL: [Cell; 5] = [
        Cell::Lstm,
        Cell::Gru { reset_after: true },
        Cell::Gru { reset_after: false },
        Cell::Rnn { relu: false },
        Cell::Rnn { relu: true },
    ];

    /// Number of gates: the weights have H rows for each.
    pub fn gates(self) -> usize {
        match self {
            Cell::Lstm => 4,
            Cell::Gru { .. } => 3,
            Cell::Rnn { .. } => 1,
        }
    }

    /// Number of biases of H elements.
    pub fn biases(self) -> usize {
        self.gates() + usize::from(self == Cell::Gru { reset_after: true })
    }

    /// Number of states: h, and for `Lstm` c.
    pub fn states(self) -> usize {
        if self == Cell::Lstm { 2 } else { 1 }
    }
}

/// One layer in one direction. Operands x `[T,N,I]`, weight `[G*H,I]`, recurrent weight `[G*H,H]`, bias `[B*H]`, first
/// h `[N,H]`, first c `[N,H]` (`Lstm` only), with G [`Cell::gates`] and B [`Cell::biases`]; results y `[T,N,H]`, the h
/// of each step, then last h and (`Lstm` only) last c `[N,H]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recurrent {
    /// The arithmetic of a step.
    pub cell: Cell,
    /// Steps are computed from the last of x to the first; y is in the order of x.
    pub reverse: bool,
    /// Clamps the operands of the gates' activation functions (not c) to this magnitude.
    pub clip: Option<f32>,
}

impl Operator for Recurrent {
    const NAME: &'static str = "recurrent";

    fn infer(&self, operands: &[&TensorType]) -> Result<Types, TypeError> {
        let states = self.cell.states();
        arity(Self::NAME, operands, 4 + states, 4 + states)?;
        float(operands, 0)?;
        if self.clip.is_some_and(|clip| clip.is_nan() || clip <= 0.0) {
            return Err(TypeError::Attribute("a clip that is not positive".into()));
        }
        (1..operands.len()).try_for_each(|i| same_elem(operands, 0, i))?;
        let [steps, batch, inputs] = operands[0].shape.dims() else {
            return Err(refuse(operands, 0, "steps, batch, inputs"));
        };
        if let Some(columns) = operands[1].shape.dims().last().and_then(Dim::known) {
            is_known(operands, 0, 2, columns)?;
        }
        let hidden = extents(operands, 2)?.last().copied().unwrap_or(0);
        let rows = Dim::Known(self.cell.gates() * hidden);
        let expected = [
            Shape::from_iter([rows.clone(), inputs.clone()]),
            Shape::from_iter([rows, hidden.into()]),
            Shape::known(&[self.cell.biases() * hidden]),
        ];
        for (i, shape) in expected.iter().enumerate() {
            if operands[1 + i].shape != *shape {
                return Err(refuse(operands, 1 + i, shape.to_string()));
            }
        }
        let mut batch = batch.clone();
        for i in 4..operands.len() {
            let agreed = match operands[i].shape.dims() {
                // Which batch fits states of a known one only the source can say.
                [rows, columns] if *columns == hidden.into() && rows.known().is_some() == batch.known().is_some() => {
                    rows.agreed(&batch)
                }
                _ => None,
            };
            batch = agreed
                .ok_or_else(|| refuse(operands, i, Shape::from_iter([batch.clone(), hidden.into()]).to_string()))?;
        }
        let state = Shape::from_iter([batch.clone(), hidden.into()]);
        let of = |shape| TensorType::new(operands[0].elem.clone(), shape);
        let mut types: Types = smallvec![of(Shape::from_iter([steps.clone(), batch, hidden.into()]))];
        types.extend(std::iter::repeat_n(of(state), states));
        Ok(types)
    }
}
