//! An operator of a TensorFlow Lite model with its tensors, as the rules of devices look at it.

use qcc_formats::tflite::{BuiltinOperator, Model, Operator, SubGraph, Tensor};

/// An operator with its tensors.
#[derive(Clone, Copy)]
pub(crate) struct Operation<'m> {
    pub(crate) model: &'m Model,
    pub(crate) graph: &'m SubGraph,
    pub(crate) code: BuiltinOperator,
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
}
