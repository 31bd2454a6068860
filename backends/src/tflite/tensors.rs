//! The tensors and operators of a subgraph.

use qcc_formats::tflite::{BuiltinOperator, Model, Operator, OperatorCode, SubGraph, Tensor};

/// The tensor of that index; `None` for absent operands.
pub(super) fn tensor(graph: &SubGraph, i: i32) -> Option<&Tensor> {
    graph.tensors.get(usize::try_from(i).ok()?)
}

/// The number of elements, for the shape in the file.
pub(super) fn elements(t: &Tensor) -> u64 {
    t.shape.iter().map(|&n| u64::try_from(n).unwrap_or(0)).product()
}

/// The bytes of the elements.
pub(super) fn bytes(t: &Tensor) -> u64 {
    (elements(t) * t.elem.bits().unwrap_or(64) as u64).div_ceil(8)
}

/// The bytes of a constant are in the file.
pub(super) fn is_constant(model: &Model, t: &Tensor) -> bool {
    model.buffers.get(t.buffer as usize).is_some_and(|b| !b.data.is_empty())
}

/// The place of a code in a list, to which it is added where it is missing.
pub(super) fn index_of(codes: &mut Vec<OperatorCode>, code: OperatorCode) -> u32 {
    let known = codes.iter().position(|c| *c == code);
    let index = known.unwrap_or_else(|| {
        codes.push(code);
        codes.len() - 1
    });
    index as u32
}

/// The operators with their codes, in order.
pub(super) fn operators<'m>(model: &'m Model, graph: &'m SubGraph) -> Vec<(BuiltinOperator, &'m Operator)> {
    graph.operators.iter().filter_map(|op| Some((model.builtin(op)?, op))).collect()
}

/// One for each input, output and variable.
pub(super) fn lives_of_ports(graph: &SubGraph) -> Vec<usize> {
    let mut held: Vec<usize> = graph.tensors.iter().map(|t| usize::from(t.is_variable)).collect();
    graph.index(&graph.inputs).chain(graph.index(&graph.outputs)).for_each(|i| held[i] += 1);
    held
}

/// Tensors of a subgraph by index, without absent ones.
pub(super) trait Indexed {
    fn index(&self, of: &[i32]) -> impl Iterator<Item = usize>;
}

impl Indexed for SubGraph {
    fn index(&self, of: &[i32]) -> impl Iterator<Item = usize> {
        let known = self.tensors.len();
        of.iter().filter_map(move |&i| usize::try_from(i).ok().filter(|&i| i < known))
    }
}
