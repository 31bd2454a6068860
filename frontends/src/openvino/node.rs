//! The context of a layer during import, used by the rows of the operation table.

use std::str::FromStr;

use qcc_formats::openvino::{Element, Node, Port};
use qcc_ir::diagnostic::Diagnostic;
use qcc_ir::ops::{Extents, If};
use qcc_ir::{Elem, Graph, Origin, Tensor, ValueId};
use rustc_hash::FxHashSet;
use smallvec::{SmallVec, smallvec};

use super::body::{Branch, Inside, Turns};
use super::importer::Importer;
use super::integers::{Integers, Scheme};
use super::types;
use crate::build::attempt::Attempt;
use crate::build::{Build, Operands, Values, computed, count_axes, extents, integers};
use crate::refusal::Refusal;

/// Operations whose results are quantized as their operand is.
const MOVES: [&str; 10] = [
    "Convert",
    "Identity",
    "Reshape",
    "Slice",
    "Split",
    "Squeeze",
    "StridedSlice",
    "Transpose",
    "Unsqueeze",
    "VariadicSplit",
];

/// A layer and its importer.
#[derive(Debug)]
pub(super) struct NodeCx<'a, 'm> {
    importer: &'a mut Importer<'m>,
    index: usize,
    layer: &'m Node,
    origin: Origin,
    /// Attributes that the row has used.
    read: FxHashSet<&'static str>,
}

impl Build for NodeCx<'_, '_> {
    fn graph(&self) -> &Graph {
        &self.importer.graph
    }

    fn graph_mut(&mut self) -> &mut Graph {
        &mut self.importer.graph
    }

    fn origin(&self) -> &Origin {
        &self.origin
    }
}

impl Operands for NodeCx<'_, '_> {
    fn operand(&mut self, i: usize) -> Result<Option<ValueId>, Refusal> {
        self.optional(i)
    }

    fn operand_name(&self, i: usize) -> String {
        let Some(&port) = self.layer.inputs.get(i) else { return String::new() };
        let network = self.importer.network;
        network.tensor(port).names.first().unwrap_or(&network.layers[port.layer].name).clone()
    }
}

impl<'a, 'm> NodeCx<'a, 'm> {
    pub(super) fn new(importer: &'a mut Importer<'m>, index: usize, layer: &'m Node, origin: Origin) -> Self {
        NodeCx { importer, index, layer, origin, read: FxHashSet::default() }
    }

    // Networks inside.

    /// The networks in the layer.
    pub(super) fn nested(&self) -> Vec<Inside<'m>> {
        let scaled = self.importer.scaled.nested(self.index);
        self.layer.nested.iter().zip(scaled).map(|(nested, scaled)| Inside { nested, scaled }).collect()
    }

    /// Imports a network in place. See [`Importer::inline`].
    pub(super) fn inline(
        &mut self,
        inside: Inside<'m>,
        turn: &str,
        inputs: &[(usize, ValueId)],
        results: &[usize],
    ) -> Result<Values, Refusal> {
        let path = format!("{}/{turn}", self.origin.path());
        self.importer.inline(inside, path, inputs, results)
    }

    /// A loop whose body stays a graph. See [`Importer::repeated`].
    pub(super) fn repeated(&mut self, turns: &Turns<'m>) -> Result<(Graph, Values), Refusal> {
        let origin = self.origin.clone();
        self.importer.repeated(turns, &origin)
    }

    /// The number of an iteration as a layer of the network takes it. See [`Importer::numbered`].
    pub(super) fn numbered(&mut self, inside: &Inside<'m>, layer: usize, number: ValueId) -> Result<ValueId, Refusal> {
        let origin = self.origin.clone();
        self.importer.numbered(inside, layer, number, &origin)
    }

    /// Branches that stay graphs. See [`Importer::branches`].
    pub(super) fn branches(&mut self, branches: &[Branch<'m>; 2]) -> Result<(If, Values), Refusal> {
        let (origin, mut symbols) = (self.origin.clone(), computed::all_fresh(self));
        self.importer.branches(branches, &origin, move || symbols.next().unwrap_or_default())
    }

    /// Records that an open extent is assumed to have one value.
    pub(super) fn assume(&mut self, extents: usize) {
        self.importer.assumed += extents;
    }

    /// The number of such assumptions so far.
    pub(super) fn assumed(&self) -> usize {
        self.importer.assumed
    }

    // Attributes.

    /// Fails if an attribute was not used.
    pub(super) fn all_read(&self) -> Result<(), Refusal> {
        let unread = self.layer.data.iter().find(|(name, _)| !self.read.contains(name.as_str()));
        unread.map_or(Ok(()), |(name, value)| Err(Refusal::Unread(format!("{name}=\"{value}\""))))
    }

    /// An attribute, if given.
    pub(super) fn text(&mut self, name: &'static str) -> Option<&'m str> {
        self.read.insert(name);
        self.layer.attribute(name)
    }

    /// Marks attributes that do not affect results as used.
    pub(super) fn ignore(&mut self, names: &[&'static str]) {
        self.read.extend(names);
    }

    /// A numeric attribute, if given.
    pub(super) fn number<T: FromStr>(&mut self, name: &'static str) -> Result<Option<T>, Refusal> {
        let Some(text) = self.text(name) else { return Ok(None) };
        let number =
            text.trim().parse().map_err(|_| Refusal::Attribute { name: name.into(), problem: "not a number" })?;
        Ok(Some(number))
    }

    /// A required numeric attribute.
    pub(super) fn required<T: FromStr>(&mut self, name: &'static str) -> Result<T, Refusal> {
        self.number(name)?.ok_or(Refusal::Attribute { name: name.into(), problem: "is missing" })
    }

    /// A boolean attribute.
    pub(super) fn flag(&mut self, name: &'static str, default: bool) -> Result<bool, Refusal> {
        match self.text(name) {
            None => Ok(default),
            Some("true" | "True" | "1") => Ok(true),
            Some("false" | "False" | "0") => Ok(false),
            Some(_) => Err(Refusal::Attribute { name: name.into(), problem: "neither true nor false" }),
        }
    }

    /// A list of integers; empty if not given.
    pub(super) fn list(&mut self, name: &'static str) -> Result<Vec<i64>, Refusal> {
        let text = self.text(name).unwrap_or_default();
        let number = |t: &str| t.trim().parse::<i64>();
        let numbers = text.split(',').filter(|t| !t.trim().is_empty()).map(number).collect::<Result<_, _>>();
        numbers.map_err(|_| Refusal::Attribute { name: name.into(), problem: "not a list of integers" })
    }

    /// A list of extents.
    pub(super) fn sizes(&mut self, name: &'static str) -> Result<Extents, Refusal> {
        Ok(extents(&self.list(name)?)?.into())
    }

    /// Fails unless operands broadcast as in NumPy.
    pub(super) fn broadcasts(&mut self) -> Result<(), Refusal> {
        match self.text("auto_broadcast") {
            None | Some("numpy" | "none") => Ok(()),
            Some(other) => Err(Refusal::Unsupported(format!("auto_broadcast {other} is not supported"))),
        }
    }

    // Operands.

    /// Number of inputs.
    pub(super) fn inputs(&self) -> usize {
        self.layer.inputs.len()
    }

    /// Number of results.
    pub(super) fn outputs(&self) -> usize {
        self.layer.outputs.len()
    }

    /// The port of input `i`.
    fn port(&self, i: usize) -> Result<Port, Refusal> {
        self.layer.inputs.get(i).copied().ok_or(Refusal::MissingInput(i))
    }

    /// The layer that produces input `i`.
    pub(super) fn giver(&self, i: usize) -> Result<&'m Node, Refusal> {
        Ok(&self.importer.network.layers[self.port(i)?.layer])
    }

    /// Input `i`. Of a quantized value the integers, except where they are only moved.
    pub(super) fn input(&mut self, i: usize) -> Result<ValueId, Refusal> {
        let port = self.port(i)?;
        let v = self.importer.value(port)?;
        if MOVES.contains(&self.layer.kind.as_str()) { Ok(v) } else { integers::plain(self, v) }
    }

    /// Input `i`, if given.
    pub(super) fn optional(&mut self, i: usize) -> Result<Option<ValueId>, Refusal> {
        if i < self.inputs() { self.input(i).map(Some) } else { Ok(None) }
    }

    /// All inputs.
    pub(super) fn all_inputs(&mut self) -> Result<Values, Refusal> {
        (0..self.inputs()).map(|i| self.input(i)).collect()
    }

    /// Input `i` of the layer that produces input 0.
    pub(super) fn behind(&mut self, i: usize) -> Result<ValueId, Refusal> {
        let port = self.giver(0)?.inputs.get(i).copied().ok_or(Refusal::MissingInput(i))?;
        self.importer.value(port)
    }

    /// The constant of a value.
    pub(super) fn known(&mut self, v: ValueId, index: usize) -> Result<Tensor, Refusal> {
        let name = || self.graph().name(v).map_or_else(String::new, ToString::to_string);
        self.constant(v).cloned().ok_or_else(|| Refusal::NotConstant { index, name: name() })
    }

    /// The constant float at input `i`.
    pub(super) fn real(&mut self, i: usize) -> Result<f32, Refusal> {
        let v = self.input(i)?;
        match *self.known(v, i)?.floats() {
            [x] => Ok(x),
            ref other => Err(Refusal::Invalid(format!("input {i} has {} elements; expected one", other.len()))),
        }
    }

    /// The axes of `x` at input `i`.
    pub(super) fn axes(&mut self, i: usize, x: ValueId) -> Result<Extents, Refusal> {
        count_axes(&self.integers(i)?, self.rank(x))
    }

    /// The axis of `x` at input `i`.
    pub(super) fn axis_at(&mut self, i: usize, x: ValueId) -> Result<usize, Refusal> {
        let axis = self.integer(i)?;
        self.axis(axis, x)
    }

    /// The axis of `x` in an attribute.
    pub(super) fn axis_of(&mut self, name: &'static str, default: i64, x: ValueId) -> Result<usize, Refusal> {
        let axis = self.number(name)?.unwrap_or(default);
        self.axis(axis, x)
    }

    // Element types.

    /// The element type in an attribute.
    pub(super) fn element(&mut self, name: &'static str) -> Result<Option<Elem>, Refusal> {
        let Some(text) = self.text(name) else { return Ok(None) };
        let element = Element::named(text);
        let element =
            element.ok_or_else(|| Refusal::Unsupported(format!("elements of type {text} are not supported")))?;
        Ok(Some(types::stored(element)?.elem()))
    }

    /// The dequantization pattern of this Multiply: integers, their parameters, extents and type.
    pub(super) fn scaled(&mut self) -> Result<Option<(Integers, Scheme, Vec<usize>)>, Refusal> {
        let Some(integers) = self.importer.scaled.at(self.index) else { return Ok(None) };
        let network = self.importer.network;
        let scheme = Scheme::read(network, self.importer.weights, integers)?;
        let dims = network.tensor(self.port(0)?).dims.iter().map(|d| d.unwrap_or(0)).collect();
        Ok(Some((integers, scheme, dims)))
    }

    /// The value of any port.
    pub(super) fn value(&mut self, port: Port) -> Result<ValueId, Refusal> {
        self.importer.value(port)
    }
}

impl Attempt for NodeCx<'_, '_> {
    fn reported(&mut self) -> SmallVec<[&mut Vec<Diagnostic>; 2]> {
        smallvec![&mut self.importer.errors]
    }
}
