//! An operator of a TensorFlow Lite model with its tensors, as the rules of devices look at it.

use qcc_formats::tflite::{BuiltinOperator as B, Model, Operator, SubGraph, Tensor};

/// Whether an operator keeps the rules of a device, or the rule that it breaks.
pub(crate) type Verdict = Result<(), String>;

/// Fails with the rule unless it holds.
pub(crate) fn ensure(holds: bool, rule: &str) -> Verdict {
    if holds { Ok(()) } else { Err(rule.into()) }
}

/// An operator with its tensors.
#[derive(Clone, Copy)]
pub(crate) struct Operation<'m> {
    pub(crate) model: &'m Model,
    pub(crate) graph: &'m SubGraph,
    pub(crate) code: B,
    pub(crate) op: &'m Operator,
}

impl<'m> Operation<'m> {
    pub(crate) fn tensor(&self, i: i32) -> Option<&'m Tensor> {
        self.graph.tensors.get(usize::try_from(i).ok()?)
    }

    pub(crate) fn operand(&self, i: usize) -> Option<&'m Tensor> {
        self.op.inputs.get(i).and_then(|&i| self.tensor(i))
    }

    pub(crate) fn result(&self) -> Option<&'m Tensor> {
        self.op.outputs.first().and_then(|&i| self.tensor(i))
    }

    /// A constant operand of 32-bit integers.
    pub(crate) fn integers(&self, i: usize) -> Option<Vec<i32>> {
        let data = &self.model.buffers.get(self.operand(i)?.buffer as usize)?.data;
        Some(data.chunks_exact(4).map(|b| i32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect())
    }

    /// The operands that are data, not parameters.
    pub(crate) fn operands(&self) -> impl Iterator<Item = &'m Tensor> {
        let op = *self;
        let is_data = move |i: usize| match op.code {
            B::ADD | B::SUB | B::MUL | B::DIV | B::MAXIMUM | B::MINIMUM | B::SQUARED_DIFFERENCE | B::PRELU => true,
            B::CONCATENATION | B::BATCH_MATMUL | B::SELECT_V2 => true,
            B::EQUAL | B::NOT_EQUAL | B::LESS | B::LESS_EQUAL | B::GREATER | B::GREATER_EQUAL => true,
            B::LOGICAL_AND | B::LOGICAL_OR => true,
            B::TRANSPOSE_CONV => i == 2,
            _ => i == 0,
        };
        (0..self.op.inputs.len()).filter(move |&i| is_data(i)).filter_map(move |i| op.operand(i))
    }

    /// The data: operands and results.
    pub(crate) fn data(&self) -> impl Iterator<Item = &'m Tensor> {
        let op = *self;
        self.operands().chain(self.op.outputs.iter().filter_map(move |&i| op.tensor(i)))
    }

    /// The elements of a constant operand of 8 bits.
    pub(crate) fn bytes(&self, i: usize) -> Option<&'m [u8]> {
        let data = &self.model.buffers.get(self.operand(i)?.buffer as usize)?.data;
        (!data.is_empty()).then_some(&data[..])
    }
}
