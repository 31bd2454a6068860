//! Subgraphs that stay graphs: bodies of loops and branches, where what they do is known at run time only.

use qcc_formats::tflite::SubGraph;
use qcc_ir::ops::{Concat, If, Loop, Op};
use qcc_ir::{Elem, Graph, Origin, Shape, TensorType, ValueId};

use super::importer::Importer;
use crate::build::control::{self, SET};
use crate::build::{Build, Values, computed};
use crate::refusal::Refusal;

/// The subgraphs of a WHILE.
#[derive(Clone, Copy)]
pub(super) struct Turn {
    pub(super) cond: i32,
    pub(super) body: i32,
}

/// A loop, and its operands after the first two: the carried values, and others that the body reads.
pub(super) struct Turns {
    pub(super) op: Loop,
    pub(super) operands: Values,
    /// The operand of the WHILE that each result is the last value of.
    carried: Vec<usize>,
    /// The operand of the WHILE that each further result is the growth of, and the axis along which it grows.
    grown: Vec<(usize, usize)>,
}

impl Importer<'_> {
    /// Imports a loop over these values.
    pub(super) fn turns(&mut self, turn: Turn, operands: &[ValueId], origin: &Origin) -> Result<Turns, Refusal> {
        operands.iter().try_for_each(|&v| self.plain(&self.graph, v))?;
        let subgraph = self.subgraph(turn.body)?;
        let stays = |i: &usize| subgraph.inputs.get(*i) == subgraph.outputs.get(*i);
        let places: Vec<usize> = (0..operands.len()).filter(|i| !stays(i)).collect();
        let (mut graph, (mut reads, grown)) = self.within(origin, |importer, outer| {
            importer.graph.add_input("iteration", TensorType::new(Elem::I64, Shape::scalar()));
            let mut inside = vec![None; operands.len()];
            for &i in &places {
                inside[i] = Some(importer.graph.add_input(format!("x{i}"), outer.ty(operands[i]).clone()));
            }
            let (all, reads) = importer.inputs(outer, operands, &inside);
            let results = importer.call(turn.body, &all)?;
            if results.len() != operands.len() {
                let (takes, gives) = (operands.len(), results.len());
                return Err(Refusal::Invalid(format!("its body takes {takes} values and gives {gives}")));
            }
            let again = importer.holds(turn, &results)?;
            let again = importer.place(origin).reshape(again, &[])?;
            importer.graph.add_output("again", again);
            let grown = importer.growth(turn, &places, &inside, &results)?;
            let is_grown = |i: &usize| grown.iter().any(|(place, ..)| place == i);
            for &i in places.iter().filter(|i| !is_grown(i)) {
                importer.leave(&format!("y{i}"), results[i])?;
            }
            for &(i, _, piece) in &grown {
                importer.leave(&format!("y{i}"), piece)?;
            }
            importer.graph.sweep();
            grown.iter().filter_map(|(i, ..)| inside[*i]).for_each(|v| importer.graph.remove_input(v));
            Ok((reads, grown))
        })?;
        let grown: Vec<(usize, usize)> = grown.into_iter().map(|(i, axis, _)| (i, axis)).collect();
        let places: Vec<usize> = places.into_iter().filter(|i| !grown.iter().any(|(place, _)| place == i)).collect();
        let carried: Values = places.iter().map(|&i| operands[i]).collect();
        control::same_after(&self.graph, &carried, &graph)?;
        reads.extend(control::carriers(&mut self.place(origin), &mut [&mut graph])?);
        let count = if grown.is_empty() { String::new() } else { computed::fresh(&self.place(origin)) };
        let op = Loop { carried: carried.len(), iterations: None, count, body: graph.into() };
        Ok(Turns { op, operands: carried.into_iter().chain(reads).collect(), carried: places, grown })
    }

    /// The carried values that grow by a piece in each iteration: the place, axis and piece. Only the operator that joins them
    /// to the piece reads them, and none reads its result: others would compute with the shape of the first iteration.
    fn growth(
        &self,
        turn: Turn,
        places: &[usize],
        inside: &[Option<ValueId>],
        results: &[ValueId],
    ) -> Result<Vec<(usize, usize, ValueId)>, Refusal> {
        let (body, cond) = (self.subgraph(turn.body)?, self.subgraph(turn.cond)?);
        let reads = |graph: &SubGraph, tensors: &[i32], i: usize| {
            let operands = graph.operators.iter().flat_map(|o| &o.inputs);
            tensors.get(i).map_or(0, |tensor| operands.filter(|operand| *operand == tensor).count())
        };
        let alone = |&i: &usize| {
            reads(body, &body.inputs, i) == 1
                && reads(body, &body.outputs, i) == 0
                && reads(cond, &cond.inputs, i) == 0
                && body.outputs.iter().filter(|&tensor| Some(tensor) == body.outputs.get(i)).count() == 1
                && !body.outputs.iter().any(|tensor| Some(tensor) == body.inputs.get(i))
                && !cond.outputs.iter().any(|tensor| Some(tensor) == cond.inputs.get(i))
        };
        let grows = |i: usize| {
            let (before, after) = (inside[i]?, *results.get(i)?);
            let Op::Concat(Concat { axis }) = self.graph.producer(after) else { return None };
            match *self.graph.operands(after.node).as_slice() {
                [first, piece] if first == before && piece != before => Some((i, *axis, piece)),
                _ => None,
            }
        };
        Ok(places.iter().copied().filter(alone).filter_map(grows).collect())
    }

    /// Imports two branches that read these values, and returns those that are their inputs.
    pub(super) fn branches(
        &mut self,
        branches: [i32; 2],
        operands: &[ValueId],
        origin: &Origin,
        symbol: impl FnMut() -> String,
    ) -> Result<(If, Values), Refusal> {
        operands.iter().try_for_each(|&v| self.plain(&self.graph, v))?;
        let mut branch = |index: i32| {
            self.within(origin, |importer, outer| {
                let (all, reads) = importer.inputs(outer, operands, &vec![None; operands.len()]);
                let results = importer.call(index, &all)?;
                results.iter().enumerate().try_for_each(|(i, &v)| importer.leave(&format!("y{i}"), v))?;
                Ok(reads)
            })
        };
        let ((mut then, mut reads), (mut otherwise, _)) = (branch(branches[0])?, branch(branches[1])?);
        reads.extend(control::carriers(&mut self.place(origin), &mut [&mut then, &mut otherwise])?);
        Ok((If::of(then.into(), otherwise.into(), symbol), reads))
    }

    /// The condition of a loop for these values.
    pub(super) fn holds(&mut self, turn: Turn, values: &[ValueId]) -> Result<ValueId, Refusal> {
        match *self.call(turn.cond, values)? {
            [holds] => Ok(holds),
            _ => Err(Refusal::Invalid("its condition is not one value".into())),
        }
    }

    /// Imports a graph of its own; `import` sees the graph around it.
    fn within<T>(
        &mut self,
        origin: &Origin,
        import: impl FnOnce(&mut Self, &Graph) -> Result<T, Refusal>,
    ) -> Result<(Graph, T), Refusal> {
        let outer = std::mem::replace(&mut self.graph, Graph::new(origin.path()));
        let imported = import(self, &outer);
        let mut graph = std::mem::replace(&mut self.graph, outer);
        graph.sweep();
        imported.map(|imported| (graph, imported))
    }

    /// The operands of a subgraph: those that are inside, constants and extents of the graph around it, and inputs for
    /// others. Returns the values of these as well.
    fn inputs(&mut self, outer: &Graph, operands: &[ValueId], inside: &[Option<ValueId>]) -> (Values, Values) {
        let mut reads = Values::new();
        let all = operands.iter().zip(inside).enumerate().map(|(i, (&v, inside))| {
            (*inside).or_else(|| control::known_inside(outer, v, &mut self.graph)).unwrap_or_else(|| {
                reads.push(v);
                self.graph.add_input(format!("x{i}"), outer.ty(v).clone())
            })
        });
        (all.collect(), reads)
    }

    /// Makes a value an output of the graph.
    fn leave(&mut self, name: &str, v: ValueId) -> Result<(), Refusal> {
        self.plain(&self.graph, v)?;
        self.graph.add_output(name, v);
        Ok(())
    }

    /// Fails unless the value may be one of a nested graph.
    fn plain(&self, graph: &Graph, v: ValueId) -> Result<(), Refusal> {
        if !matches!(graph.ty(v).elem, Elem::Quantized(_)) {
            return Ok(());
        }
        let message = "what a loop or branch computes is known at run time only; it has no quantized values".into();
        Err(Refusal::Advised { message, help: SET })
    }
}

impl Turns {
    /// The results of the WHILE: those of the loop, and the operands that it does not change.
    pub(super) fn results(
        &self,
        n: &mut impl Build,
        operands: &[ValueId],
        found: &[ValueId],
    ) -> Result<Values, Refusal> {
        let mut results: Values = operands.into();
        let (last, rows) = found.split_at(self.carried.len());
        self.carried.iter().zip(last).for_each(|(&place, &v)| results[place] = v);
        for (&(place, axis), &rows) in self.grown.iter().zip(rows) {
            let pieces = control::along(n, rows, axis)?;
            results[place] = n.add(Concat { axis }, &[operands[place], pieces])?;
        }
        Ok(results)
    }
}
