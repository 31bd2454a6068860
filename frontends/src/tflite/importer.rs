//! A model on its way into the graph: tensors to values, constants when they are first read.

use qcc_formats::tflite::{Model, SubGraph, Tensor as Entry};
use qcc_ir::diagnostic::Diagnostic;
use qcc_ir::{Graph, Origin, Tensor, TensorType, ValueId};

use super::{sparse, types};
use crate::build::fixed_input;
use crate::refusal::Refusal;

/// What a tensor of the file stands for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Binding {
    /// A constant that nothing has read yet, or a result that is not there yet.
    Open,
    /// A value of the graph.
    Value(ValueId),
    /// What was refused; the user has been told.
    Refused,
}

/// A model on its way into the graph.
#[derive(Debug)]
pub(super) struct Importer<'m> {
    pub(super) graph: Graph,
    pub(super) errors: Vec<Diagnostic>,
    pub(super) model: &'m Model,
    pub(super) main: &'m SubGraph,
    /// One for each tensor.
    pub(super) bindings: Vec<Binding>,
}

impl<'m> Importer<'m> {
    pub(super) fn new(model: &'m Model, main: &'m SubGraph) -> Self {
        Importer {
            graph: Graph::new(main.name.as_str()),
            errors: Vec::new(),
            model,
            main,
            bindings: vec![Binding::Open; main.tensors.len()],
        }
    }

    /// The entry of a tensor.
    pub(super) fn entry(&self, tensor: i32) -> Result<&'m Entry, Refusal> {
        entry(self.main, tensor)
    }

    /// A warning where an input or output has another element in the graph than in the file.
    pub(super) fn interface(&self, port: &str, tensor: i32, name: &str) -> Option<Diagnostic> {
        let stored = types::stored(self.entry(tensor).ok()?.elem).ok()?;
        stored.interface(port, name)
    }

    pub(super) fn add_input(&mut self, tensor: i32, name: &str, ty: TensorType) {
        let value = self.graph.add_input(name, ty);
        self.bind(tensor, Binding::Value(value));
    }

    /// An input that the user gave a value: a constant.
    pub(super) fn set_input(&mut self, tensor: i32, name: &str, ty: &TensorType, values: &[f64]) {
        let binding = match fixed_input(&mut self.graph, name, ty, values) {
            Ok(value) => Binding::Value(value),
            Err(refused) => {
                self.errors.push(*refused);
                Binding::Refused
            }
        };
        self.bind(tensor, binding);
    }

    pub(super) fn bind(&mut self, tensor: i32, binding: Binding) {
        if let Some(place) = usize::try_from(tensor).ok().and_then(|t| self.bindings.get_mut(t)) {
            *place = binding;
        }
    }

    pub(super) fn refuse(&mut self, refusal: Refusal, origin: &Origin) {
        self.errors.extend(refusal.diagnostic(origin));
    }

    /// The value of a tensor.
    pub(super) fn value(&mut self, tensor: i32) -> Result<ValueId, Refusal> {
        let entry = self.entry(tensor)?;
        let binding = usize::try_from(tensor).ok().and_then(|t| self.bindings.get(t)).copied();
        match binding.unwrap_or(Binding::Open) {
            Binding::Value(v) => return Ok(v),
            Binding::Refused => return Err(Refusal::Depends),
            Binding::Open => {}
        }
        let origin = Origin::new(entry.name.as_str(), "Constant");
        match self.constant(entry) {
            Ok(Some(constant)) => {
                let value = match entry.sparsity {
                    Some(_) => self.graph.add_computed(constant, origin),
                    None => self.graph.add_const(constant, origin),
                };
                self.graph.set_name(value, entry.name.as_str());
                self.bind(tensor, Binding::Value(value));
                Ok(value)
            }
            Ok(None) if entry.is_variable => Err(Refusal::Unsupported(format!(
                "{} keeps its value from run to run, which is not supported",
                entry.name
            ))),
            Ok(None) => Err(Refusal::Undefined(entry.name.clone())),
            Err(refusal) => {
                self.refuse(refusal, &origin);
                self.bind(tensor, Binding::Refused);
                Err(Refusal::Depends)
            }
        }
    }

    /// The constant that a tensor is; `None` where it is none. A sparse one is written out, where there is room for it.
    fn constant(&self, entry: &Entry) -> Result<Option<Tensor>, Refusal> {
        let Some(data) = types::bytes(entry, self.model)? else { return Ok(None) };
        let Some(sparsity) = &entry.sparsity else { return types::tensor(entry, data).map(Some) };
        self.graph.room(sparse::size(entry)? as u64)?;
        types::tensor(entry, &sparse::dense(entry, sparsity, data)?).map(Some)
    }

    /// True for a constant that the file holds as a sparse one.
    pub(super) fn is_sparse(&self, tensor: i32) -> bool {
        self.entry(tensor).is_ok_and(|entry| entry.sparsity.is_some())
    }
}

/// The entry of a tensor.
pub(super) fn entry(main: &SubGraph, tensor: i32) -> Result<&Entry, Refusal> {
    let entry = usize::try_from(tensor).ok().and_then(|t| main.tensors.get(t));
    entry.ok_or_else(|| Refusal::Invalid(format!("there is no tensor {tensor}")))
}
