//! Kernels of LiteRT that write their result to the buffer of an operand (`inplace_operator`), and copies of values that
//! they would overwrite too early.
//!
//! The planner (`tflite/arena_planner.cc`) lets a kernel overwrite an operand that it alone reads, if the buffer belongs to
//! a tensor with one reader. It does not count the readers of the other tensors in that buffer: where a value with several
//! readers lies in the buffer of an earlier one, a kernel behind a RESHAPE of it overwrites what the others still read.

use qcc_formats::tflite::{BuiltinOperator as B, Cast, Model, Operator, OperatorCode, SubGraph, Tensor};

use super::ops::elementwise::cast_version;
use super::tensors::{Indexed, index_of, is_constant, lives_of_ports};

/// A kernel whose result may be in the buffer of an operand.
pub(super) struct InPlace {
    /// The number of operands that may be overwritten.
    pub(super) operands: usize,
    /// False if the bytes stay the same.
    pub(super) changes: bool,
}

impl InPlace {
    pub(super) fn of(code: B) -> Option<Self> {
        Some(match code {
            B::RESHAPE | B::SQUEEZE | B::EXPAND_DIMS | B::BITCAST => InPlace { operands: 1, changes: false },
            B::SOFTMAX | B::DYNAMIC_UPDATE_SLICE => InPlace { operands: 1, changes: true },
            B::ADD | B::SUB | B::MUL | B::DIV => InPlace { operands: 2, changes: true },
            _ => return None,
        })
    }

    /// The operands that may be overwritten.
    fn operands<'o>(&self, op: &'o Operator) -> &'o [i32] {
        &op.inputs[..op.inputs.len().min(self.operands)]
    }
}

/// Lets operators read copies of operands that they may overwrite while others read the same buffer. `added` is called with
/// the subgraph and the position of the operator that a copy was added before.
pub(super) fn keep_values(model: &mut Model, mut added: impl FnMut(usize, usize)) {
    for i in 0..model.subgraphs.len() {
        let found = Buffers::new(model, &model.subgraphs[i]).overwritten();
        for (position, operand) in found.into_iter().rev() {
            copy(model, i, position, operand);
            added(i, position);
        }
    }
}

/// What is known of the tensors of a subgraph, whatever their extents are at run time.
struct Buffers<'m> {
    model: &'m Model,
    graph: &'m SubGraph,
    codes: Vec<Option<B>>,
    /// The number of readers of a tensor; inputs, outputs and variables have one more.
    readers: Vec<usize>,
    /// The operator that gives a tensor.
    from: Vec<Option<usize>>,
    /// The last operator that reads a tensor, or another one that has its bytes.
    last: Vec<usize>,
}

impl<'m> Buffers<'m> {
    fn new(model: &'m Model, graph: &'m SubGraph) -> Self {
        let (mut readers, count) = (lives_of_ports(graph), graph.tensors.len());
        let (mut from, mut last) = (vec![None; count], vec![0; count]);
        for (step, op) in graph.operators.iter().enumerate() {
            graph.index(&op.outputs).for_each(|i| from[i] = Some(step));
            for i in graph.index(&op.inputs) {
                readers[i] += 1;
                last[i] = step;
            }
        }
        let codes: Vec<Option<B>> = graph.operators.iter().map(|op| model.builtin(op)).collect();
        for (op, code) in graph.operators.iter().zip(&codes).rev() {
            if code.and_then(InPlace::of).is_some_and(|place| !place.changes)
                && let (Some(x), Some(y)) = (graph.index(&op.inputs).next(), graph.index(&op.outputs).next())
            {
                last[x] = last[x].max(last[y]);
            }
        }
        Buffers { model, graph, codes, readers, from, last }
    }

    /// Operators by position with an operand that they may overwrite too early.
    fn overwritten(&self) -> Vec<(usize, i32)> {
        let mut found = Vec::new();
        for (step, op) in self.graph.operators.iter().enumerate() {
            let Some(place) = self.in_place(step).filter(|place| place.changes) else { continue };
            let Some(result) = self.graph.index(&op.outputs).next() else { continue };
            let taken = |i: &i32| self.may_fit(*i, result) && self.is_read_later(step, *i);
            found.extend(place.operands(op).iter().copied().filter(taken).map(|i| (step, i)));
        }
        found
    }

    /// True unless an operand has fewer elements than the result in any case: then it is broadcast.
    fn may_fit(&self, operand: i32, result: usize) -> bool {
        let Some(operand) = self.graph.index(&[operand]).next() else { return false };
        let [from, to] = [operand, result].map(|i| {
            let t = &self.graph.tensors[i];
            if t.shape_signature.is_empty() { &t.shape } else { &t.shape_signature }
        });
        let from = std::iter::repeat_n(&1, to.len().saturating_sub(from.len())).chain(from);
        from.zip(to).all(|(a, b)| *a == *b || *a < 0 || *b < 0)
    }

    fn in_place(&self, step: usize) -> Option<InPlace> {
        self.codes[step].and_then(InPlace::of)
    }

    /// True where an operand may lie in a buffer of which a later operator reads another tensor with the same bytes.
    fn is_read_later(&self, step: usize, operand: i32) -> bool {
        let Some(mut at) = self.graph.index(&[operand]).next() else { return false };
        if !self.is_shared(at) || self.readers[at] > 1 {
            return false;
        }
        // The tensors that operators which keep the bytes read.
        while let Some((producer, _)) = self.producer(at).filter(|(_, place)| !place.changes) {
            let Some(before) = self.graph.index(&self.graph.operators[producer].inputs[..1]).next() else { break };
            if !self.is_shared(before) {
                break;
            }
            let own = self.producer(before).is_none_or(|(producer, place)| {
                let operands = self.graph.index(place.operands(&self.graph.operators[producer]));
                operands.into_iter().all(|i| !self.is_shared(i) || (place.changes && self.readers[i] > 1))
            });
            if self.last[before] > step && !own {
                return true;
            }
            at = before;
        }
        false
    }

    /// The operator that gives a tensor, where it may write in place.
    fn producer(&self, tensor: usize) -> Option<(usize, InPlace)> {
        let step = self.from[tensor]?;
        // A result of the subgraph has a buffer of its own.
        let is_result = self.graph.index(&self.graph.outputs).any(|i| i == tensor);
        self.in_place(step).filter(|_| !is_result).map(|place| (step, place))
    }

    /// True where the planner lets another tensor into the buffer of this one.
    fn is_shared(&self, tensor: usize) -> bool {
        let t = &self.graph.tensors[tensor];
        !t.is_variable && !is_constant(self.model, t) && self.from[tensor].is_some()
    }
}

/// Adds a copy of an operand before an operator, which reads it then.
fn copy(model: &mut Model, graph: usize, position: usize, operand: i32) {
    let graph = &mut model.subgraphs[graph];
    let Some(original) = usize::try_from(operand).ok().and_then(|i| graph.tensors.get(i)) else { return };
    let (elem, copied) = (original.elem, graph.tensors.len() as i32);
    let name = format!("{}/copy", original.name);
    let tensor = Tensor { name, ..original.clone() };
    graph.tensors.push(tensor);
    let reader = &mut graph.operators[position];
    reader.inputs.iter_mut().filter(|i| **i == operand).for_each(|i| *i = copied);
    let code = OperatorCode::builtin(B::CAST, cast_version(elem, elem));
    let opcode_index = index_of(&mut model.operator_codes, code);
    let options = Cast { from: elem, to: elem }.into();
    let (inputs, outputs) = (vec![operand], vec![copied]);
    graph.operators.insert(position, Operator { opcode_index, inputs, outputs, options, ..Operator::default() });
}
