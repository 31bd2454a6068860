//! Networks in layers: branches and bodies of loops, in place or as graphs of their own.

use qcc_formats::openvino::{Nested, Port};
use qcc_ir::ops::If;
use qcc_ir::{Elem, Graph, Origin, Shape, Tensor, TensorType, ValueId};

use super::importer::{Binding, Importer, unbound};
use super::integers::Scaled;
use super::types;
use crate::build::{Build, End, Values, control, integers};
use crate::refusal::Refusal;

/// A network in a layer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Inside<'m> {
    pub(super) nested: &'m Nested,
    pub(super) scaled: &'m Scaled,
}

/// A branch of an If.
#[derive(Debug)]
pub(super) struct Branch<'m> {
    pub(super) inside: Inside<'m>,
    /// The Parameter layers and their values.
    pub(super) inputs: Vec<(usize, ValueId)>,
    /// The Result layer of each result.
    pub(super) results: Vec<usize>,
}

/// A loop.
#[derive(Debug)]
pub(super) struct Turns<'m> {
    pub(super) inside: Inside<'m>,
    /// The Parameter layer of the number of the iteration.
    pub(super) number: Option<usize>,
    /// The Result layer that says whether there is another iteration; without it there is.
    pub(super) condition: Option<usize>,
    pub(super) carried: Vec<Carried>,
    pub(super) sliced: Vec<Sliced>,
    /// The Parameter layers that have one value in all iterations.
    pub(super) fixed: Vec<(usize, ValueId)>,
    /// The Result layers whose values are joined.
    pub(super) joined: Vec<usize>,
}

/// A value that a loop carries: the Parameter layer, its first value, and the Result layer of the next one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Carried {
    pub(super) layer: usize,
    pub(super) first: ValueId,
    pub(super) next: usize,
}

/// A Parameter layer that has a slice of a value in each iteration. The axis before that of the slice is that of iterations.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sliced {
    pub(super) layer: usize,
    pub(super) whole: ValueId,
    pub(super) axis: usize,
    pub(super) backward: bool,
}

impl<'m> Importer<'m> {
    /// Imports a network in place with these values of its Parameter layers, and returns those of Result layers. Its layers
    /// get the path: it may be imported several times.
    pub(super) fn inline(
        &mut self,
        inside: Inside<'m>,
        path: String,
        inputs: &[(usize, ValueId)],
        results: &[usize],
    ) -> Result<Values, Refusal> {
        let network = &inside.nested.network;
        control::expand(&mut self.expanded, network.layers.len())?;
        for &(layer, v) in inputs {
            let (declared, found) = (network.layers[layer].outputs.first(), &self.graph.ty(v).elem);
            let declared = declared.map(|tensor| types::stored(tensor.element)).transpose()?.map(|s| s.elem());
            if declared.as_ref() != Some(found) {
                let name = &network.layers[layer].name;
                return Err(Refusal::Invalid(format!("input {name} of its network takes no {found}")));
            }
        }
        let known = self.errors.len();
        let outer = (self.network, self.scaled, std::mem::replace(&mut self.bindings, unbound(network)));
        (self.network, self.scaled) = (network, inside.scaled);
        let path = std::mem::replace(&mut self.path, path + "/");
        inputs.iter().for_each(|&(layer, v)| self.bind(Port { layer, result: 0 }, Binding::Value(v)));
        self.layers();
        let value = |&layer: &usize| {
            let given = network.layers[layer].inputs.first().copied();
            self.value(given.ok_or_else(|| Refusal::Invalid("its network has a result without a value".into()))?)
        };
        let values = results.iter().map(value).collect::<Result<Values, _>>();
        (self.network, self.scaled, self.bindings) = outer;
        self.path = path;
        // The errors of one iteration are not repeated for others.
        if self.errors.len() > known { values.and(Err(Refusal::Depends)) } else { values }
    }

    /// Imports a loop: its body, which gives the condition, the carried values and the rows, and what it reads besides the
    /// carried values.
    pub(super) fn repeated(&mut self, turns: &Turns<'m>, origin: &Origin) -> Result<(Graph, Values), Refusal> {
        let carried: Values = turns.carried.iter().map(|c| c.first).collect();
        let (mut graph, mut reads) = self.within(origin, |importer, outer| {
            let number = importer.graph.add_input("iteration", TensorType::new(Elem::I64, Shape::scalar()));
            let mut inputs = Vec::new();
            for (i, c) in turns.carried.iter().enumerate() {
                inputs.push((c.layer, importer.graph.add_input(format!("x{i}"), outer.ty(c.first).clone())));
            }
            if let Some(layer) = turns.number {
                inputs.push((layer, importer.numbered(&turns.inside, layer, number, origin)?));
            }
            let mut reads = Values::new();
            for sliced in &turns.sliced {
                let whole = importer.read(outer, sliced.whole, &mut reads);
                let mut end = End(&mut importer.graph, origin.clone());
                let slice = control::slice_of_turn(&mut end, whole, sliced.axis, number, sliced.backward)?;
                inputs.push((sliced.layer, slice));
            }
            for &(layer, v) in &turns.fixed {
                inputs.push((layer, importer.read(outer, v, &mut reads)));
            }
            let next = turns.carried.iter().map(|c| c.next).chain(turns.joined.iter().copied());
            let results: Vec<usize> = turns.condition.into_iter().chain(next).collect();
            let path = format!("{}/body", origin.path());
            let mut values = importer.inline(turns.inside, path, &inputs, &results)?;
            let again = match turns.condition {
                Some(_) => End(&mut importer.graph, origin.clone()).reshape(values.remove(0), &[])?,
                None => importer.graph.add_const(Tensor::from_bools(Shape::scalar(), [true]), origin.clone()),
            };
            importer.graph.add_output("again", again);
            importer.leave(&values, origin)?;
            Ok(reads)
        })?;
        control::same_after(&self.graph, &carried, &graph)?;
        reads.extend(control::carriers(&mut End(&mut self.graph, origin.clone()), &mut [&mut graph])?);
        Ok((graph, reads))
    }

    /// The number of the iteration as a layer takes it.
    pub(super) fn numbered(
        &mut self,
        inside: &Inside<'m>,
        layer: usize,
        number: ValueId,
        origin: &Origin,
    ) -> Result<ValueId, Refusal> {
        let layer = &inside.nested.network.layers[layer];
        let tensor = layer.outputs.first().ok_or_else(|| Refusal::Invalid("an input without a result".into()))?;
        let mut end = End(&mut self.graph, origin.clone());
        let number = end.cast(number, types::stored(tensor.element)?.elem())?;
        end.reshape(number, &vec![1; tensor.dims.len()])
    }

    /// Imports the branches of an If.
    pub(super) fn branches(
        &mut self,
        branches: &[Branch<'m>; 2],
        origin: &Origin,
        symbol: impl FnMut() -> String,
    ) -> Result<(If, Values), Refusal> {
        // Both branches have the same inputs.
        let mut all = Values::new();
        for &(_, v) in branches.iter().flat_map(|branch| &branch.inputs) {
            if !all.contains(&v) {
                all.push(v);
            }
        }
        let mut one = |branch: &Branch<'m>| {
            self.within(origin, |importer, outer| {
                let mut reads = Values::new();
                let inside: Values = all.iter().map(|&v| importer.read(outer, v, &mut reads)).collect();
                let value = |v: ValueId| all.iter().position(|&other| other == v).map_or(v, |i| inside[i]);
                let inputs: Vec<_> = branch.inputs.iter().map(|&(layer, v)| (layer, value(v))).collect();
                let path = format!("{}/{}", origin.path(), branch.inside.nested.role);
                let values = importer.inline(branch.inside, path, &inputs, &branch.results)?;
                importer.leave(&values, origin)?;
                Ok(reads)
            })
        };
        let ((mut then, mut reads), (mut otherwise, _)) = (one(&branches[0])?, one(&branches[1])?);
        let mut end = End(&mut self.graph, origin.clone());
        reads.extend(control::carriers(&mut end, &mut [&mut then, &mut otherwise])?);
        Ok((If::of(then.into(), otherwise.into(), symbol), reads))
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

    /// A value of the graph around the nested one: a constant or extents of its own, else an input, whose value is added to
    /// `reads`.
    fn read(&mut self, outer: &Graph, v: ValueId, reads: &mut Values) -> ValueId {
        control::known_inside(outer, v, &mut self.graph).unwrap_or_else(|| {
            let input = self.graph.add_input(format!("r{}", reads.len()), outer.ty(v).clone());
            reads.push(v);
            input
        })
    }

    /// Makes values outputs of the nested graph: of quantized ones their integers.
    fn leave(&mut self, values: &[ValueId], origin: &Origin) -> Result<(), Refusal> {
        for (i, &v) in values.iter().enumerate() {
            let v = integers::plain(&mut End(&mut self.graph, origin.clone()), v)?;
            self.graph.add_output(format!("y{i}"), v);
        }
        Ok(())
    }
}
