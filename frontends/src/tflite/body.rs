//! Subgraphs that stay graphs: bodies of loops and branches, where what they do is known at run time only.

use qcc_formats::tflite::SubGraph;
use qcc_ir::ops::{Concat, If, Loop, OpenSlice};
use qcc_ir::{Elem, Expr, Graph, Origin, Shape, Tensor, TensorType, ValueId};

use super::counted::Iteration;
use super::importer::Importer;
use crate::build::control::{self, SET};
use crate::build::{Build, Values, computed, index};
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
    /// The operands of the WHILE that get a piece in each iteration, of which the further results are the pieces.
    grown: Vec<Growth>,
}

/// A carried value that gets a piece in each iteration.
struct Growth {
    /// Its place among the operands.
    place: usize,
    axis: usize,
    /// True where pieces replace what it has from the beginning of the axis on; else they follow it.
    replaces: bool,
    /// The piece in the body.
    piece: ValueId,
}

impl Importer<'_> {
    /// Imports a loop over these values.
    pub(super) fn turns(&mut self, turn: Turn, operands: &[ValueId], origin: &Origin) -> Result<Turns, Refusal> {
        operands.iter().try_for_each(|&v| self.plain(&self.graph, v))?;
        let subgraph = self.subgraph(turn.body)?;
        let stays = |i: &usize| subgraph.inputs.get(*i) == subgraph.outputs.get(*i);
        let places: Vec<usize> = (0..operands.len()).filter(|i| !stays(i)).collect();
        let (mut graph, (mut reads, grown, exact)) = self.within(origin, |importer, outer| {
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
            let mut again = importer.holds(turn, &results)?;
            let graph = &importer.graph;
            let exact = Iteration { outer, graph, operands, inside: &inside, results: &results }.count(again);
            if exact.is_some() {
                again = importer.place(origin).add_constant(Tensor::from_bools(Shape::scalar(), [true]));
            }
            let again = importer.place(origin).reshape(again, &[])?;
            importer.graph.add_output("again", again);
            let graph = &importer.graph;
            let iteration = Iteration { outer, graph, operands, inside: &inside, results: &results };
            let grown = importer.growth(turn, &places, iteration, exact.as_ref())?;
            let is_grown = |i: &usize| grown.iter().any(|growth| growth.place == *i);
            for &i in places.iter().filter(|i| !is_grown(i)) {
                importer.leave(&format!("y{i}"), results[i])?;
            }
            for growth in &grown {
                importer.leave(&format!("y{}", growth.place), growth.piece)?;
            }
            importer.graph.sweep();
            grown.iter().filter_map(|growth| inside[growth.place]).for_each(|v| importer.graph.remove_input(v));
            Ok((reads, grown, exact))
        })?;
        let places: Vec<usize> =
            places.into_iter().filter(|i| !grown.iter().any(|growth| growth.place == *i)).collect();
        let carried: Values = places.iter().map(|&i| operands[i]).collect();
        control::same_after(&self.graph, &carried, &graph)?;
        reads.extend(control::carriers(&mut self.place(origin), &mut [&mut graph])?);
        let count = computed::fresh(&self.place(origin));
        let op = control::repeat(carried.len(), exact, count, graph);
        Ok(Turns { op, operands: carried.into_iter().chain(reads).collect(), carried: places, grown })
    }

    /// The carried values that grow by a piece in each iteration: the place, axis and piece. Only the operators that join them
    /// to the piece read them, and none reads its result: others would compute with the shape of the first iteration.
    fn growth(
        &self,
        turn: Turn,
        places: &[usize],
        iteration: Iteration<'_>,
        exact: Option<&Expr>,
    ) -> Result<Vec<Growth>, Refusal> {
        let Iteration { inside, results, .. } = iteration;
        let (body, cond) = (self.subgraph(turn.body)?, self.subgraph(turn.cond)?);
        let reads = |graph: &SubGraph, tensors: &[i32], i: usize| {
            let operands = graph.operators.iter().flat_map(|o| &o.inputs);
            tensors.get(i).map_or(0, |tensor| operands.filter(|operand| *operand == tensor).count())
        };
        let readers = |i: usize| results.get(i).and_then(|y| self.blocks.get(y)).map_or(1, |written| written.readers);
        let alone = |&i: &usize| {
            reads(body, &body.inputs, i) == readers(i)
                && reads(body, &body.outputs, i) == 0
                && reads(cond, &cond.inputs, i) == 0
                && body.outputs.iter().filter(|&tensor| Some(tensor) == body.outputs.get(i)).count() == 1
                && !body.outputs.iter().any(|tensor| Some(tensor) == body.inputs.get(i))
                && !cond.outputs.iter().any(|tensor| Some(tensor) == cond.inputs.get(i))
        };
        let grows = |i: usize| {
            let (before, after) = (inside[i]?, *results.get(i)?);
            let (axis, piece) = control::appended(&self.graph, before, after)?;
            Some(Growth { place: i, axis, replaces: false, piece })
        };
        let written = |place: usize| {
            let block = *self.blocks.get(results.get(place)?)?;
            let (axis, piece) = iteration.written(place, block, exact?)?;
            Some(Growth { place, axis, replaces: true, piece })
        };
        Ok(places.iter().copied().filter(alone).filter_map(|i| grows(i).or_else(|| written(i))).collect())
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
        let blocks = std::mem::take(&mut self.blocks);
        let imported = import(self, &outer);
        self.blocks = blocks;
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
        for (&Growth { place, axis, replaces, .. }, &rows) in self.grown.iter().zip(rows) {
            let before = operands[place];
            results[place] = if replaces {
                let pieces = control::along(n, rows, axis)?;
                match behind(n, before, pieces, axis)? {
                    Some(rest) => n.add(Concat { axis }, &[pieces, rest])?,
                    None => pieces,
                }
            } else {
                control::with_appended(n, before, rows, axis)?
            };
        }
        Ok(results)
    }
}

/// What `x` has along an axis behind the extent of `pieces`; `None` where that is nothing.
fn behind(n: &mut impl Build, x: ValueId, pieces: ValueId, axis: usize) -> Result<Option<ValueId>, Refusal> {
    let [whole, start] = [x, pieces].map(|v| n.shape(v).dims()[axis].expr());
    let len = whole.minus(&start).ok_or_else(|| Refusal::Open(n.shape(x).clone()))?;
    if len == 0.into() {
        return Ok(None);
    }
    index::part(n, x, OpenSlice { axis, start, len }).map(Some)
}
