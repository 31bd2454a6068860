//! Nested graphs that stay graphs: bodies of loops and branches, where what they do is known at run time only.

use qcc_formats::onnx::{GraphProto, NodeProto};
use qcc_ir::ops::{If, Loop};
use qcc_ir::{Elem, Expr, Graph, Origin, Shape, Tensor, TensorType, ValueId};
use rustc_hash::{FxHashMap, FxHashSet};

use super::importer::{Binding, Importer};
use super::schedule::reads_of;
use crate::build::control::{self, SET};
use crate::build::{Build, End, Values};
use crate::refusal::Refusal;

/// A choice of two graphs, and its last operands: the values that these graphs read.
pub(super) struct Choice {
    op: If,
    reads: Values,
}

/// A loop, with the values that it carries and those that its body reads.
pub(super) struct Repetition {
    op: Loop,
    /// The first values of all that are carried.
    carried: Values,
    /// The operands after the first two.
    operands: Values,
    /// The carried values that the body appends to: each has rows instead, which are the last results of the loop.
    grown: Vec<Growth>,
}

/// A carried value that an iteration appends to.
struct Growth {
    /// Its place among the carried values.
    place: usize,
    axis: usize,
    /// What is appended, in the body.
    piece: ValueId,
}

/// A loop whose body stays a graph.
pub(super) struct Turns<'m, 't> {
    pub(super) body: &'m GraphProto,
    /// The values that it carries.
    pub(super) carried: &'t [ValueId],
    /// The values of which each iteration has a slice, with the axis and whether the last slice is that of the first
    /// iteration. Only a Scan has them, whose body has neither a number nor a condition.
    pub(super) sliced: Option<&'t [(ValueId, usize, bool)]>,
    /// The number of iterations, or the most, where it follows from extents.
    pub(super) most: Option<Expr>,
    /// A symbol for the number of iterations.
    pub(super) count: String,
}

/// The values around nested graphs that these read, by name.
type Reads<'m> = Vec<(&'m str, ValueId)>;

impl<'m> Importer<'m> {
    /// Imports a loop, whose body reads the values that are sliced as well.
    pub(super) fn repeated(&mut self, turns: Turns<'m, '_>, path: String) -> Result<Repetition, Refusal> {
        let Turns { body, carried, sliced, most, count } = turns;
        let own = if sliced.is_some() { 0 } else { 2 };
        let reads = self.reads(&[body], true)?;
        let whole: Values = sliced.unwrap_or_default().iter().map(|&(v, ..)| v).collect();
        carried.iter().chain(&whole).try_for_each(|&v| self.passes_into(v))?;
        let (mut graph, (values, grown)) = self.within(&path, |importer, outer| {
            let number = importer.graph.add_input("iteration", TensorType::new(Elem::I64, Shape::scalar()));
            let mut add = |(i, &v): (usize, &ValueId)| {
                let name = body.input.get(own + i).map_or("", |input| input.name());
                importer.graph.add_input(name, outer.ty(v).clone())
            };
            let inside: Values = carried.iter().chain(&whole).enumerate().map(&mut add).collect();
            let (carries, whole) = inside.split_at(carried.len());
            let values = importer.bind_reads(outer, &reads);
            // Where the body runs, the condition holds.
            let running = importer.graph.add_const(Tensor::from_bools(Shape::scalar(), [true]), Origin::none());
            let outputs = match sliced {
                None => {
                    let inputs: Values = [number, running].into_iter().chain(carries.iter().copied()).collect();
                    importer.inline(body, &inputs, None)?
                }
                Some(sliced) => {
                    let mut inputs: Values = carries.into();
                    for (&v, &(_, axis, backward)) in whole.iter().zip(sliced) {
                        let mut end = End(&mut importer.graph, Origin::none());
                        inputs.push(control::slice_of_turn(&mut end, v, axis, number, backward)?);
                    }
                    let outputs = importer.inline(body, &inputs, None)?;
                    std::iter::once(running).chain(outputs).collect()
                }
            };
            let again = End(&mut importer.graph, Origin::none()).reshape(outputs[0], &[])?;
            let names = body.output.iter().skip(usize::from(sliced.is_none())).map(|o| o.name());
            let mut grown = growth(&importer.graph, body, own, carries, &outputs[1..]);
            for Growth { place, axis, piece } in &mut grown {
                let mut end = End(&mut importer.graph, Origin::none());
                *piece = control::fitted(&mut end, *piece, carries[*place], *axis)?;
            }
            let mut results: Vec<(&str, ValueId)> = names.zip(outputs[1..].iter().copied()).collect();
            let pieces: Vec<(&str, ValueId)> = grown.iter().map(|g| (results[g.place].0, g.piece)).collect();
            grown.iter().rev().for_each(|growth| _ = results.remove(growth.place));
            importer.leaves([("again", again)].into_iter().chain(results).chain(pieces))?;
            importer.graph.sweep();
            grown.iter().for_each(|growth| importer.graph.remove_input(carries[growth.place]));
            Ok((values, grown))
        })?;
        let is_kept = |(i, _): &(usize, &ValueId)| !grown.iter().any(|growth| growth.place == *i);
        let kept: Values = carried.iter().enumerate().filter(is_kept).map(|(_, &v)| v).collect();
        control::same_after(&self.graph, &kept, &graph)?;
        let further = self.carry(&mut [&mut graph])?;
        let op = control::repeat(kept.len(), most, count, graph);
        let operands = [kept, whole, values, further].concat().into();
        Ok(Repetition { op, carried: carried.into(), operands, grown })
    }

    /// Imports the branches of an If.
    pub(super) fn branches(
        &mut self,
        branches: [&'m GraphProto; 2],
        path: &str,
        symbol: impl FnMut() -> String,
    ) -> Result<Choice, Refusal> {
        let reads = self.reads(&branches, false)?;
        let mut branch = |body: &'m GraphProto, name: &str| {
            self.within(&format!("{path}/{name}"), |importer, outer| {
                let values = importer.bind_reads(outer, &reads);
                let outputs = importer.inline(body, &[], None)?;
                importer.leaves(body.output.iter().map(|o| o.name()).zip(outputs))?;
                Ok(values)
            })
        };
        let ((mut then, mut values), (mut otherwise, _)) = (branch(branches[0], "then")?, branch(branches[1], "else")?);
        values.extend(self.carry(&mut [&mut then, &mut otherwise])?);
        Ok(Choice { op: If::of(then.into(), otherwise.into(), symbol), reads: values })
    }

    /// Imports a graph of its own: `import` adds its inputs, nodes and outputs, and sees the graph around it.
    fn within<T>(
        &mut self,
        path: &str,
        import: impl FnOnce(&mut Self, &Graph) -> Result<T, Refusal>,
    ) -> Result<(Graph, T), Refusal> {
        let outer = std::mem::replace(&mut self.graph, Graph::new(path));
        let scopes = std::mem::replace(&mut self.scopes, vec![FxHashMap::default()]);
        let integers = std::mem::take(&mut self.integers);
        let sequences = std::mem::take(&mut self.sequences);
        self.prefixes.push(path.to_owned());
        let imported = import(self, &outer);
        self.prefixes.pop();
        let mut graph = std::mem::replace(&mut self.graph, outer);
        (self.scopes, self.integers, self.sequences) = (scopes, integers, sequences);
        graph.sweep();
        imported.map(|imported| (graph, imported))
    }

    /// The values that graphs read of the graph around them. Inputs that branches list are names of that graph; bodies of
    /// loops take operands.
    fn reads(&mut self, bodies: &[&'m GraphProto], takes: bool) -> Result<Reads<'m>, Refusal> {
        let mut known: FxHashSet<&str> = FxHashSet::default();
        let mut reads = Vec::new();
        for body in bodies {
            let mut names = Vec::new();
            body.node.iter().for_each(|node| reads_of(node, &mut names));
            names.extend(body.output.iter().map(|o| o.name()));
            let own = body.node.iter().flat_map(|n| n.output.iter().map(String::as_str));
            let inputs = if takes { &body.input } else { &[][..] };
            let own = own.chain(body.initializer.iter().map(|t| t.name())).chain(inputs.iter().map(|i| i.name()));
            let own: FxHashSet<&str> = own.collect();
            for name in names.into_iter().filter(|name| !own.contains(name)) {
                if !known.insert(name) {
                    continue;
                }
                match self.value(name) {
                    Ok(v) => {
                        self.passes_into(v)?;
                        reads.push((name, v));
                    }
                    // The nodes that read it are refused.
                    Err(Refusal::Undefined(_)) => {}
                    Err(e) => return Err(e),
                }
            }
        }
        Ok(reads)
    }

    /// Binds what a nested graph reads: constants and extents are its own, others are inputs. Returns these.
    fn bind_reads(&mut self, outer: &Graph, reads: &Reads<'m>) -> Values {
        let mut values = Values::new();
        for &(name, v) in reads {
            let inside = control::known_inside(outer, v, &mut self.graph).unwrap_or_else(|| {
                values.push(v);
                self.graph.add_input(name, outer.ty(v).clone())
            });
            self.bind(name, Binding::Value(inside));
        }
        values
    }

    /// Makes the symbols of nested graphs known to them; see [`control::carriers`].
    fn carry(&mut self, bodies: &mut [&mut Graph]) -> Result<Values, Refusal> {
        control::carriers(&mut End(&mut self.graph, Origin::none()), bodies)
    }

    /// Fails unless the value may be one of a nested graph.
    fn passes_into(&self, v: ValueId) -> Result<(), Refusal> {
        let is_plain = self.graph.ty(v).elem.qparams().is_none() && self.integers.widened(v).is_none();
        if is_plain && !self.sequences.contains_key(&v) {
            return Ok(());
        }
        let message =
            "what a loop or branch computes is known at run time only; it has plain tensors alone: no sequences, \
                       quantized values or unsigned integers"
                .into();
        Err(Refusal::Advised { message, help: SET })
    }

    /// Makes values the outputs of a nested graph.
    fn leaves<'n>(&mut self, outputs: impl Iterator<Item = (&'n str, ValueId)>) -> Result<(), Refusal> {
        for (name, v) in outputs {
            self.passes_into(v)?;
            self.graph.add_output(name, v);
        }
        Ok(())
    }
}

/// The carried values that the body appends to. Nothing else reads them in the body, nor what they become: it would
/// compute with the shape of the first iteration.
fn growth(graph: &Graph, body: &GraphProto, own: usize, before: &[ValueId], after: &[ValueId]) -> Vec<Growth> {
    let of = |(place, (&before, &after)): (usize, (&ValueId, &ValueId))| {
        let (axis, piece) = control::appended(graph, before, after)?;
        is_appended_to(body, own + place, place + usize::from(own > 0)).then_some(Growth { place, axis, piece })
    };
    before.iter().zip(after).enumerate().filter_map(of).collect()
}

/// True if one chain of nodes is all between an input and an output of a body, up to a Concat, and nothing else reads
/// what it computes.
fn is_appended_to(body: &GraphProto, input: usize, output: usize) -> bool {
    let (Some(input), Some(output)) = (body.input.get(input), body.output.get(output)) else { return false };
    let (mut name, mut joined) = (input.name(), false);
    loop {
        let reads = |node: &'_ NodeProto| {
            let mut names = Vec::new();
            reads_of(node, &mut names);
            names.contains(&name)
        };
        let mut readers = body.node.iter().filter(|node| reads(node));
        let given = body.output.iter().filter(|o| o.name() == name).count();
        match (readers.next(), readers.next()) {
            (None, None) => return joined && given == 1 && name == output.name(),
            (Some(node), None) if given == 0 && node.output.len() == 1 => {
                let joins = node.op_type() == "Concat";
                if joined && joins || !joins && !matches!(node.op_type(), "Cast" | "Identity") {
                    return false;
                }
                (name, joined) = (&node.output[0], joined || joins);
            }
            _ => return false,
        }
    }
}

impl Repetition {
    /// Adds the loop, and returns the last carried values and the rows.
    pub(super) fn add(self, n: &mut impl Build, most: ValueId, first: ValueId) -> Result<Values, Refusal> {
        let operands: Values = [most, first].into_iter().chain(self.operands).collect();
        let kept = self.op.carried;
        let found = n.add_all(self.op, &operands)?;
        let (kept, rows) = found.split_at(kept);
        let (rows, pieces) = rows.split_at(rows.len() - self.grown.len());
        let (mut kept, mut grown) = (kept.iter(), self.grown.iter().zip(pieces).peekable());
        let mut results = Values::new();
        for (place, &before) in self.carried.iter().enumerate() {
            match grown.next_if(|(growth, _)| growth.place == place) {
                Some((growth, &rows)) => results.push(control::with_appended(n, before, rows, growth.axis)?),
                None => results.extend(kept.next().copied()),
            }
        }
        results.extend_from_slice(rows);
        Ok(results)
    }
}

impl Choice {
    /// Adds the choice by a condition, and returns its results.
    pub(super) fn add(self, n: &mut impl Build, condition: ValueId) -> Result<Values, Refusal> {
        let operands: Values = [condition].into_iter().chain(self.reads).collect();
        n.add_all(self.op, &operands)
    }
}
