//! The memory of values in LiteRT with its reference kernels (`tflite/arena_planner.cc`, `simple_memory_arena.cc` and
//! `kernels/` of github.com/google-ai-edge/LiteRT at f674577). Other kernels need other temporaries: optimized
//! convolutions copy patches, and XNNPACK has memory of its own.

use std::cmp::Reverse;

use qcc_formats::tflite::{BuiltinOperator as B, Model, Operator, SubGraph};

use super::in_place::InPlace;
use super::temporaries::{Temporary, temporaries};
use super::tensors::{Indexed, bytes, is_constant, lives_of_ports, operators};
use crate::plan::{Buffer, MOST_PLANNED};

/// Alignment of buffers, in bytes.
const ALIGNMENT: u64 = 64;

/// The step after the last.
const NEVER: usize = usize::MAX;

/// Bytes of the values of a model: the arena of each subgraph, for the shapes in the file, and what is kept from run to
/// run (variable tensors, sums of weights). `None` for more buffers than are planned.
pub(super) fn length(model: &Model) -> Option<u64> {
    model.subgraphs.iter().map(|graph| Lives::new(model, graph).bytes()).sum()
}

/// True for buffers that are live all the time.
fn always(b: &Buffer) -> bool {
    b.first == 0 && b.last == NEVER
}

/// What the planner knows of the tensors of a subgraph.
struct Lives<'m> {
    model: &'m Model,
    graph: &'m SubGraph,
    operators: Vec<(B, &'m Operator)>,
    /// The number of readers of a tensor; inputs, outputs and variables have one more.
    readers: Vec<usize>,
    /// The tensor whose buffer a tensor shares: its own, or that of an operand.
    owner: Vec<usize>,
    /// True for tensors that are kept from run to run: variables, and dequantized constants.
    kept: Vec<bool>,
}

impl<'m> Lives<'m> {
    fn new(model: &'m Model, graph: &'m SubGraph) -> Self {
        let operators = operators(model, graph);
        let (readers, owner) = (lives_of_ports(graph), (0..graph.tensors.len()).collect());
        let kept = graph.tensors.iter().map(|t| t.is_variable).collect();
        let mut lives = Lives { model, graph, operators, readers, owner, kept };
        for (code, op) in &lives.operators {
            graph.index(&op.inputs).for_each(|i| lives.readers[i] += 1);
            let of_constant = graph.index(&op.inputs).all(|i| is_constant(model, &graph.tensors[i]));
            if of_constant && matches!(*code, B::DEQUANTIZE | B::DENSIFY) {
                graph.index(&op.outputs).for_each(|i| lives.kept[i] = true);
            }
        }
        lives.share();
        lives
    }

    /// Lets kernels that work in place write to the buffer of an operand.
    fn share(&mut self) {
        for (code, op) in &self.operators {
            let Some(place) = InPlace::of(*code) else { continue };
            let Some(result) = self.graph.index(&op.outputs).next() else { continue };
            let operands = self.graph.index(&op.inputs[..op.inputs.len().min(place.operands)]);
            let Some(operand) = operands.into_iter().find(|&i| self.can_share(i, result, place.changes)) else {
                continue;
            };
            let owner = self.owner[operand];
            if !place.changes || self.readers[owner] <= 1 {
                self.owner[result] = owner;
            }
        }
    }

    fn can_share(&self, operand: usize, result: usize, changes: bool) -> bool {
        let (from, to) = (&self.graph.tensors[operand], &self.graph.tensors[result]);
        let is = |ports: &[i32], i: usize| self.graph.index(ports).any(|port| port == i);
        let fits = !changes || (bytes(from) == bytes(to) && bytes(from) > 4 && self.readers[operand] <= 1);
        fits && !is(&self.graph.inputs, operand)
            && !is(&self.graph.outputs, result)
            && !self.kept[operand]
            && !is_constant(self.model, from)
    }

    /// The tensors with buffers of their own in the arena, and the temporaries, by their steps.
    fn buffers(&self, temporaries: &[(usize, Temporary)]) -> Vec<Buffer> {
        let mut first: Vec<Option<usize>> = vec![None; self.graph.tensors.len()];
        let mut last = vec![NEVER; self.graph.tensors.len()];
        let mut left = lives_of_ports(self.graph);
        for (_, op) in &self.operators {
            self.graph.index(&op.inputs).for_each(|i| left[self.owner[i]] += 1);
        }
        self.graph.index(&self.graph.inputs).for_each(|i| first[i] = Some(0));
        for (step, (_, op)) in self.operators.iter().enumerate() {
            self.graph.index(&op.outputs).for_each(|i| first[i] = first[i].or(Some(step)));
            for i in self.graph.index(&op.inputs).map(|i| self.owner[i]) {
                left[i] -= 1;
                if left[i] == 0 {
                    last[i] = step;
                }
            }
        }
        let own = self
            .graph
            .tensors
            .iter()
            .enumerate()
            .filter(|(i, t)| self.owner[*i] == *i && !self.kept[*i] && !is_constant(self.model, t) && bytes(t) > 0);
        let values = own.filter_map(|(i, t)| Some(Buffer { bytes: bytes(t), first: first[i]?, last: last[i] }));
        let used = temporaries.iter().filter(|(_, t)| !t.persistent && t.bytes > 0);
        values.chain(used.map(|&(step, t)| Buffer { bytes: t.bytes, first: step, last: step })).collect()
    }

    fn bytes(&self) -> Option<u64> {
        let of = |(step, &(code, op)): (usize, &(B, &Operator))| {
            temporaries(self.model, self.graph, code, op).into_iter().map(move |t| (step, t))
        };
        let temporaries: Vec<(usize, Temporary)> = self.operators.iter().enumerate().flat_map(of).collect();
        let sums = temporaries.iter().filter(|(_, t)| t.persistent).map(|(_, t)| t.bytes);
        let tensors = self.graph.tensors.iter().zip(&self.kept).filter(|(_, kept)| **kept).map(|(t, _)| bytes(t));
        let kept: u64 = sums.chain(tensors).map(|n| n.next_multiple_of(ALIGNMENT)).sum();
        let buffers = self.buffers(&temporaries);
        (buffers.len() <= MOST_PLANNED).then(|| planned(buffers) + kept)
    }
}

/// The length of the arena: first the tensors that are live all the time, then the others by descending size, each at
/// the smallest gap between the buffers that are live at the same time. The time grows with the square of their number.
fn planned(mut buffers: Vec<Buffer>) -> u64 {
    buffers.sort_by_key(|b| (!always(b), Reverse(if always(b) { 0 } else { b.bytes }), b.first));
    // Sorted by offset.
    let mut placed: Vec<(u64, Buffer)> = Vec::with_capacity(buffers.len());
    let mut length = 0;
    for b in buffers {
        let (mut end, mut best, mut smallest) = (0u64, None, u64::MAX);
        for (at, other) in placed.iter().filter(|(_, other)| other.first <= b.last && b.first <= other.last) {
            let begin = end.next_multiple_of(ALIGNMENT);
            if begin + b.bytes <= *at && at - begin < smallest {
                (best, smallest) = (Some(begin), at - end);
            }
            end = end.max(at + other.bytes);
        }
        let begin = best.unwrap_or(end.next_multiple_of(ALIGNMENT));
        length = length.max(begin + b.bytes);
        let place = placed.partition_point(|(at, _)| *at <= begin);
        placed.insert(place, (begin, b));
    }
    length
}

#[cfg(test)]
mod tests {
    use super::*;

    fn live(bytes: u64, first: usize, last: usize) -> Buffer {
        Buffer { bytes, first, last }
    }

    #[test]
    fn buffers_take_the_smallest_gap() {
        // The last buffer fits into the gaps of 256 and of 128 bytes that the first and third leave.
        let gaps = vec![live(256, 0, 0), live(192, 0, 2), live(128, 0, 0), live(64, 0, 2), live(100, 1, 1)];
        assert_eq!(planned(gaps), 256 + 192 + 128 + 64);
        // Inputs are live to the end, and placed first.
        assert_eq!(planned(vec![live(640, 1, 2), live(10, 0, NEVER)]), 64 + 640);
        assert_eq!(planned(vec![live(1, 0, 0), live(1, 0, 0)]), 64 + 1);
        assert_eq!(planned(Vec::new()), 0);
    }
}
