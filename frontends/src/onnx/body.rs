//! Nested graphs that stay graphs: bodies of loops and branches, where what they do is known at run time only.

use qcc_formats::onnx::GraphProto;
use qcc_ir::ops::{If, Loop, Op};
use qcc_ir::{Elem, Expr, Graph, Origin, Shape, Tensor, TensorType, ValueId};
use rustc_hash::{FxHashMap, FxHashSet};

use super::importer::{Binding, Importer};
use super::schedule::reads_of;
use crate::build::control::{self, SET};
use crate::build::{Build, End, Values};
use crate::refusal::Refusal;

/// An operator with graphs inside, and its last operands: the values that these graphs read.
pub(super) struct Nesting<T> {
    pub(super) op: T,
    pub(super) reads: Values,
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
    pub(super) fn repeated(&mut self, turns: Turns<'m, '_>, path: String) -> Result<Nesting<Loop>, Refusal> {
        let Turns { body, carried, sliced, most, count } = turns;
        let own = if sliced.is_some() { 0 } else { 2 };
        let reads = self.reads(&[body], true)?;
        let whole: Values = sliced.unwrap_or_default().iter().map(|&(v, ..)| v).collect();
        carried.iter().chain(&whole).try_for_each(|&v| self.passes_into(v))?;
        let (mut graph, mut values) = self.within(&path, |importer, outer| {
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
            importer.leaves(
                std::iter::once("again").chain(names),
                std::iter::once(again).chain(outputs[1..].iter().copied()),
            )?;
            Ok(values)
        })?;
        control::same_after(&self.graph, carried, &graph)?;
        values.extend(self.carry(&mut [&mut graph])?);
        let op = control::repeat(carried.len(), most, count, graph);
        Ok(Nesting { op, reads: whole.into_iter().chain(values).collect() })
    }

    /// Imports the branches of an If.
    pub(super) fn branches(
        &mut self,
        branches: [&'m GraphProto; 2],
        path: &str,
        symbol: impl FnMut() -> String,
    ) -> Result<Nesting<If>, Refusal> {
        let reads = self.reads(&branches, false)?;
        let mut branch = |body: &'m GraphProto, name: &str| {
            self.within(&format!("{path}/{name}"), |importer, outer| {
                let values = importer.bind_reads(outer, &reads);
                let outputs = importer.inline(body, &[], None)?;
                importer.leaves(body.output.iter().map(|o| o.name()), outputs.into_iter())?;
                Ok(values)
            })
        };
        let ((mut then, mut values), (mut otherwise, _)) = (branch(branches[0], "then")?, branch(branches[1], "else")?);
        values.extend(self.carry(&mut [&mut then, &mut otherwise])?);
        Ok(Nesting { op: If::of(then.into(), otherwise.into(), symbol), reads: values })
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
    fn leaves<'n>(
        &mut self,
        names: impl Iterator<Item = &'n str>,
        values: impl Iterator<Item = ValueId>,
    ) -> Result<(), Refusal> {
        for (name, v) in names.zip(values) {
            self.passes_into(v)?;
            self.graph.add_output(name, v);
        }
        Ok(())
    }
}

impl<T> Nesting<T> {
    /// Adds the operator with these first operands, and returns its results.
    pub(super) fn add(self, n: &mut impl Build, first: impl IntoIterator<Item = ValueId>) -> Result<Values, Refusal>
    where
        Op: From<T>,
    {
        let operands: Values = first.into_iter().chain(self.reads).collect();
        n.add_all(self.op, &operands)
    }
}
