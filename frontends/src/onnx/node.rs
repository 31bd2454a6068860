//! The context of a node during import, used by the rows of the operator table.

use qcc_formats::onnx::{GraphProto, NodeProto, TensorProto};
use qcc_ir::diagnostic::Diagnostic;
use qcc_ir::{Elem, Expr, Graph, Origin, Shape, Tensor, ValueId};
use smallvec::{SmallVec, smallvec};

use super::attributes::Attributes;
use super::body::{Choice, Repetition, Turns};
use super::importer::Importer;
use super::integers::{Inputs, Integers};
use super::weights;
use crate::build::attempt::Attempt;
use crate::build::control::MOST_NODES;
use crate::build::random::{Samples, samples};
use crate::build::{Build, Operands, Values, computed};
use crate::elements::Stored;
use crate::refusal::{ASSUMED_EXTENT, Refusal};

/// Imports one node.
pub(super) type Import = fn(&mut NodeCx<'_, '_>) -> Result<Values, Refusal>;

/// A node and its importer. Unused inputs and attributes are refused by [`NodeCx::finish`].
#[derive(Debug)]
pub(super) struct NodeCx<'a, 'm> {
    importer: &'a mut Importer<'m>,
    node: &'m NodeProto,
    inputs: Inputs,
    read: SmallVec<[bool; 4]>,
    attributes: Attributes<'m>,
    origin: Origin,
    opset: i64,
}

impl<'a, 'm> NodeCx<'a, 'm> {
    pub(super) fn new(importer: &'a mut Importer<'m>, node: &'m NodeProto, inputs: Inputs, origin: Origin) -> Self {
        let read = SmallVec::from_elem(false, inputs.len());
        let opset = importer.opset;
        let attributes = Attributes::new(&node.attribute, importer.referred());
        NodeCx { importer, node, inputs, read, attributes, origin, opset }
    }

    /// Fails if an input or an attribute was not used.
    pub(super) fn finish(&self) -> Result<(), Refusal> {
        match (0..self.inputs.len()).find(|&i| self.inputs[i].is_some() && !self.read[i]) {
            Some(i) => Err(Refusal::UnreadInput(i)),
            None => self.attributes.finish(),
        }
    }

    // The node.

    /// The node as the file has it.
    pub(super) fn node(&self) -> &'m NodeProto {
        self.node
    }

    /// The model around the node.
    pub(super) fn importer(&self) -> &Importer<'m> {
        self.importer
    }

    /// Version of the operator set.
    pub(super) fn opset(&self) -> i64 {
        self.opset
    }

    /// Interprets the node by another version of the operator set.
    pub(super) fn set_opset(&mut self, opset: i64) {
        self.opset = opset;
    }

    /// Number of inputs, without trailing empty names.
    pub(super) fn inputs(&self) -> usize {
        self.inputs.len()
    }

    /// Applies another row to this node's attributes and other inputs.
    pub(super) fn with_row(&mut self, inputs: &[Option<ValueId>], row: Import) -> Result<Values, Refusal> {
        let own = std::mem::replace(&mut self.inputs, inputs.into());
        let read = std::mem::replace(&mut self.read, SmallVec::from_elem(false, inputs.len()));
        let results = row(self);
        (self.inputs, self.read) = (own, read);
        results
    }

    /// All inputs, unchecked.
    pub(super) fn input_values(&self) -> &Inputs {
        &self.inputs
    }

    /// Applies a row to this node with other values as inputs.
    pub(super) fn with_values(&mut self, inputs: Inputs, import: Import) -> Result<Values, Refusal> {
        let own = std::mem::replace(&mut self.inputs, inputs);
        let results = import(self);
        self.inputs = own;
        results
    }

    /// True if result `i` is named.
    pub(super) fn names_output(&self, i: usize) -> bool {
        self.node.output.get(i).is_some_and(|name| !name.is_empty())
    }

    /// Number of results, without trailing empty names.
    pub(super) fn outputs(&self) -> usize {
        self.node.output.len()
    }

    /// Input `i`, if given.
    pub(super) fn optional(&mut self, i: usize) -> Option<ValueId> {
        if let Some(read) = self.read.get_mut(i) {
            *read = true;
        }
        self.inputs.get(i).copied().flatten()
    }

    /// Input `i`.
    pub(super) fn input(&mut self, i: usize) -> Result<ValueId, Refusal> {
        self.optional(i).ok_or(Refusal::MissingInput(i))
    }

    /// All inputs; at least one.
    pub(super) fn all_inputs(&mut self) -> Result<Values, Refusal> {
        (0..self.inputs.len().max(1)).map(|i| self.input(i)).collect()
    }

    /// Integers as [`Operands::whole`] that are an attribute before opset `since` and input `i` since then.
    pub(super) fn attribute_or_whole(
        &mut self,
        name: &str,
        since: i64,
        i: usize,
    ) -> Result<Option<Vec<Expr>>, Refusal> {
        if self.opset() >= since {
            return self.optional_extents(i);
        }
        Ok(self.ints(name)?.map(|values| values.iter().copied().map(Expr::from).collect()))
    }

    // Attributes.

    /// An integer attribute.
    pub(super) fn optional_int(&mut self, name: &str) -> Result<Option<i64>, Refusal> {
        self.attributes.int(name)
    }

    /// An integer attribute or its default.
    pub(super) fn int(&mut self, name: &str, default: i64) -> Result<i64, Refusal> {
        Ok(self.attributes.int(name)?.unwrap_or(default))
    }

    /// A boolean attribute (0 or 1) or its default.
    pub(super) fn flag(&mut self, name: &str, default: bool) -> Result<bool, Refusal> {
        match self.attributes.int(name)? {
            None => Ok(default),
            Some(0) => Ok(false),
            Some(1) => Ok(true),
            Some(_) => Err(Refusal::Attribute { name: name.into(), problem: "expected 0 or 1" }),
        }
    }

    /// A float attribute.
    pub(super) fn optional_float(&mut self, name: &str) -> Result<Option<f32>, Refusal> {
        self.attributes.float(name)
    }

    /// A float attribute or its default.
    pub(super) fn float(&mut self, name: &str, default: f32) -> Result<f32, Refusal> {
        Ok(self.attributes.float(name)?.unwrap_or(default))
    }

    /// A string attribute or its default.
    pub(super) fn string(&mut self, name: &str, default: &'m str) -> Result<&'m str, Refusal> {
        Ok(self.attributes.string(name)?.unwrap_or(default))
    }

    /// A strings attribute.
    pub(super) fn strings(&mut self, name: &str) -> Result<Option<Vec<&'m str>>, Refusal> {
        self.attributes.strings(name)
    }

    /// An integers attribute.
    pub(super) fn ints(&mut self, name: &str) -> Result<Option<&'m [i64]>, Refusal> {
        self.attributes.ints(name)
    }

    /// A floats attribute.
    pub(super) fn floats(&mut self, name: &str) -> Result<Option<&'m [f32]>, Refusal> {
        self.attributes.floats(name)
    }

    /// A tensor attribute.
    pub(super) fn tensor(&mut self, name: &str) -> Result<Option<Tensor>, Refusal> {
        self.attributes.tensor(name)?.map(|t: &TensorProto| self.importer.tensor(t)).transpose()
    }

    /// The elements of a tensor attribute, in double precision where the file has it.
    pub(super) fn doubles(&mut self, name: &str) -> Result<Option<Vec<f64>>, Refusal> {
        self.attributes.tensor(name)?.map(|t: &TensorProto| self.importer.doubles(t)).transpose()
    }

    /// Adds the constant of a tensor attribute.
    pub(super) fn tensor_constant(&mut self, name: &str) -> Result<Option<ValueId>, Refusal> {
        let Some(message) = self.attributes.tensor(name)? else { return Ok(None) };
        let tensor = self.importer.tensor(message)?;
        let value = self.add_constant(tensor);
        self.importer.declare(value, message.data_type());
        Ok(Some(value))
    }

    /// A graph attribute.
    pub(super) fn graph(&mut self, name: &str) -> Result<&'m GraphProto, Refusal> {
        let missing = || Refusal::Attribute { name: name.into(), problem: "is missing" };
        self.attributes.graph(name)?.ok_or_else(missing)
    }

    /// Integers that are an attribute before opset `since` and input `i` since then.
    pub(super) fn attribute_or_input(&mut self, name: &str, since: i64, i: usize) -> Result<Option<Vec<i64>>, Refusal> {
        if self.opset() < since { Ok(self.ints(name)?.map(<[i64]>::to_vec)) } else { self.optional_integers(i) }
    }

    /// The element type for an attribute of type INT.
    pub(super) fn elem(&mut self, data_type: i64) -> Result<Elem, Refusal> {
        Ok(self.stored_as(data_type)?.elem())
    }

    /// True if signed integers of the graph may represent unsigned ones of half their width.
    pub(super) fn may_be_unsigned(&self, v: ValueId) -> bool {
        self.importer.wide_unsigned && matches!(self.ty(v).elem, Elem::I32 | Elem::I64)
    }

    // The graph.

    /// Information on the integers of the file.
    pub(super) fn integers_of_file(&mut self) -> &mut Integers {
        &mut self.importer.integers
    }

    /// The file's type of a value, if it is an integer of at most 32 bits.
    pub(super) fn stored(&self, v: ValueId) -> Option<Stored> {
        self.importer.integers.stored(v, self.ty(v))
    }

    /// The file's type for an attribute of type INT.
    pub(super) fn stored_as(&mut self, data_type: i64) -> Result<Stored, Refusal> {
        let data_type = i32::try_from(data_type).unwrap_or(-1);
        self.importer.note(data_type, false);
        weights::stored(data_type)
    }

    /// Imports a graph attribute in place with these values as its inputs, and returns its outputs. See
    /// [`Importer::inline`].
    pub(super) fn inline(
        &mut self,
        graph: &'m GraphProto,
        inputs: &[ValueId],
        prefix: Option<String>,
    ) -> Result<Values, Refusal> {
        self.importer.inline(graph, inputs, prefix)
    }

    /// A loop whose body stays a graph. See [`Importer::repeated`].
    pub(super) fn repeated(&mut self, turns: Turns<'m, '_>) -> Result<Repetition, Refusal> {
        let path = self.origin.path().to_owned();
        self.importer.repeated(turns, path)
    }

    /// Branches that stay graphs. See [`Importer::branches`].
    pub(super) fn branches(&mut self, branches: [&'m GraphProto; 2]) -> Result<Choice, Refusal> {
        let (path, mut symbols) = (self.origin.path().to_owned(), computed::all_fresh(self));
        self.importer.branches(branches, &path, move || symbols.next().unwrap_or_default())
    }

    /// Nodes that may still be imported for functions, branches and iterations.
    pub(super) fn nodes_left(&self) -> usize {
        MOST_NODES.saturating_sub(self.importer.expanded)
    }

    /// The samples of a random result, as an input of the model.
    pub(super) fn samples(&mut self, of: Samples, shape: Shape) -> Result<ValueId, Refusal> {
        let wanted = self.importer.random_inputs;
        let (samples, note) = samples(self, wanted, of, shape)?;
        self.note_here(note);
        Ok(samples)
    }

    /// Reports something about this node.
    pub(super) fn note_here(&mut self, note: Diagnostic) {
        self.importer.notes.push(note.at(&self.origin));
    }

    /// The number of assumptions about open extents so far. Where one does not hold, the model fails at run time.
    pub(super) fn assumed_extents(&self) -> usize {
        self.importer.notes.iter().filter(|note| note.code == ASSUMED_EXTENT).count()
    }

    /// The elements of the sequence at input `i`.
    pub(super) fn sequence(&mut self, i: usize) -> Result<Values, Refusal> {
        let v = self.input(i)?;
        self.elements(v).ok_or_else(|| Refusal::Invalid(format!("input {i} is a tensor; expected a sequence")))
    }

    /// The elements of a value, if it is a sequence.
    pub(super) fn elements(&self, v: ValueId) -> Option<Values> {
        self.importer.sequences.get(&v).cloned()
    }

    /// Adds a sequence of these values.
    pub(super) fn add_sequence(&mut self, elements: Values) -> ValueId {
        let sequence = self.add_constant(Tensor::from_vec(Shape::known(&[0]), Vec::<f32>::new()));
        self.importer.sequences.insert(sequence, elements);
        sequence
    }

    /// Records that `result` has the integers of the file's type that `like` has.
    pub(super) fn hand_on(&mut self, result: ValueId, like: ValueId) {
        if let Some(stored) = self.importer.integers.widened(like) {
            self.importer.hand_on(result, stored);
        }
    }
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
        Ok(self.optional(i))
    }

    fn operand_name(&self, i: usize) -> String {
        self.node.input[i].clone()
    }
}

impl Attempt for NodeCx<'_, '_> {
    fn reported(&mut self) -> SmallVec<[&mut Vec<Diagnostic>; 2]> {
        let Importer { notes, errors, .. } = &mut *self.importer;
        smallvec![notes, errors]
    }
}
