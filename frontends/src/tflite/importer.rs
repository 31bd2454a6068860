//! Import of a model: maps tensors to values. Constants are added at their first use.

use qcc_formats::tflite::{Blocks, BuiltinOperator, Details, Model, Operator, SubGraph, Tensor as Entry};
use qcc_ir::diagnostic::Diagnostic;
use qcc_ir::{Elem, Graph, Origin, QuantParams, Tensor, TensorType, ValueId};
use rustc_hash::FxHashMap;

use super::counted::Block;
use super::{sparse, types};
use crate::build::{End, Values, fixed_input};
use crate::refusal::Refusal;

/// What a tensor of the file is in the graph.
#[derive(Clone, Copy, Debug)]
pub(super) enum Binding {
    /// A constant without uses so far, or a result that is not computed yet.
    Open,
    /// A value of the graph.
    Value(ValueId),
    /// The result of a refused operator, whose error is already reported.
    Refused,
}

/// The state of the import of a model.
#[derive(Debug)]
pub(super) struct Importer<'m> {
    pub(super) graph: Graph,
    pub(super) errors: Vec<Diagnostic>,
    /// What the operators report beside errors.
    pub(super) notes: Vec<Diagnostic>,
    /// Samples of random results are inputs of the graph.
    pub(super) random_inputs: bool,
    pub(super) model: &'m Model,
    pub(super) main: &'m SubGraph,
    /// The binding of each tensor.
    pub(super) bindings: Vec<Binding>,
    /// The first handle of its variable for each handle of the main subgraph.
    handles: FxHashMap<i32, i32>,
    /// The value of each variable tensor and of each variable, by its first handle, after the run.
    pub(super) next: FxHashMap<i32, ValueId>,
    /// The subgraphs that are being called.
    calls: Vec<i32>,
    /// Number of operators and tensors of all subgraph calls.
    called: usize,
    /// The values of the graph that are others with a block replaced.
    pub(super) blocks: FxHashMap<ValueId, Block>,
}

/// Maximum depth of nested subgraph calls.
const DEEPEST: usize = 64;

/// Maximum number of operators and tensors of all subgraph calls: repeated calls can grow exponentially.
const MOST_CALLED: usize = 1 << 18;

impl<'m> Importer<'m> {
    /// `handles` are the first handle of its variable for each handle.
    pub(super) fn new(model: &'m Model, main: &'m SubGraph, handles: FxHashMap<i32, i32>) -> Self {
        Importer {
            graph: Graph::new(main.name.as_str()),
            errors: Vec::new(),
            notes: Vec::new(),
            random_inputs: false,
            model,
            main,
            bindings: vec![Binding::Open; main.tensors.len()],
            handles,
            next: FxHashMap::default(),
            calls: Vec::new(),
            called: 0,
            blocks: FxHashMap::default(),
        }
    }

    /// Inlines a subgraph and returns its results.
    pub(super) fn call(&mut self, index: i32, operands: &[ValueId]) -> Result<Values, Refusal> {
        let subgraph = self.subgraph(index)?;
        if index == 0 || self.calls.contains(&index) {
            return Err(Refusal::Invalid(format!("subgraph {index} calls itself")));
        }
        if self.calls.len() >= DEEPEST {
            return Err(Refusal::Unsupported(format!("more than {DEEPEST} subgraphs that call each other")));
        }
        self.called += subgraph.operators.len() + subgraph.tensors.len();
        if self.called > MOST_CALLED {
            return Err(Refusal::Unsupported(format!("subgraphs come to more than {MOST_CALLED} operators")));
        }
        if operands.len() != subgraph.inputs.len() {
            let (found, expected) = (operands.len(), subgraph.inputs.len());
            return Err(Refusal::Invalid(format!("{found} operands for a subgraph of {expected} inputs")));
        }
        for (&tensor, &v) in subgraph.inputs.iter().zip(operands) {
            let (declared, found) = (types::elem(entry(subgraph, tensor)?)?, &self.graph.ty(v).elem);
            if declared != *found {
                return Err(Refusal::Invalid(format!("an operand {found} for a subgraph that takes {declared}")));
            }
        }
        let scope = std::mem::replace(&mut self.main, subgraph);
        let bindings = std::mem::replace(&mut self.bindings, vec![Binding::Open; subgraph.tensors.len()]);
        self.calls.push(index);
        for (&tensor, &v) in subgraph.inputs.iter().zip(operands) {
            self.bind(tensor, Binding::Value(v));
        }
        subgraph.operators.iter().for_each(|operator| self.operator(operator));
        let results = subgraph.outputs.iter().map(|&tensor| self.value(tensor)).collect();
        self.calls.pop();
        (self.main, self.bindings) = (scope, bindings);
        results
    }

    /// The operator of this kind that gives a tensor of the subgraph that is imported.
    pub(super) fn producer(&self, tensor: i32, kind: BuiltinOperator) -> Option<&'m Operator> {
        let operator = self.main.operators.iter().find(|operator| operator.outputs.contains(&tensor))?;
        (self.model.builtin(operator) == Some(kind)).then_some(operator)
    }

    /// A subgraph.
    pub(super) fn subgraph(&self, index: i32) -> Result<&'m SubGraph, Refusal> {
        let subgraph = usize::try_from(index).ok().and_then(|i| self.model.subgraphs.get(i));
        subgraph.ok_or_else(|| Refusal::Invalid(format!("there is no subgraph {index}")))
    }

    /// A place of the graph that is no operator.
    pub(super) fn place(&mut self, origin: &Origin) -> End<'_> {
        End(&mut self.graph, origin.clone())
    }

    /// Sets the value of a variable tensor, which later operators read, and which it has after the run.
    pub(super) fn keep(&mut self, tensor: i32, next: ValueId) {
        self.bind(tensor, Binding::Value(next));
        // Variable tensors of called subgraphs are not graph inputs: their use is refused.
        if self.calls.is_empty() {
            self.next.insert(tensor, next);
        }
    }

    /// The first handle of the variable of this handle.
    pub(super) fn variable(&self, handle: i32) -> Result<i32, Refusal> {
        let first = self.handles.get(&handle).filter(|_| self.calls.is_empty()).copied();
        first.ok_or_else(|| Refusal::Unsupported("variables of called subgraphs are not supported".into()))
    }

    /// The entry of a tensor.
    pub(super) fn entry(&self, tensor: i32) -> Result<&'m Entry, Refusal> {
        entry(self.main, tensor)
    }

    /// A warning where an input or output has another element type in the graph than in the file.
    pub(super) fn interface(&self, port: &str, tensor: i32, name: &str) -> Option<Diagnostic> {
        let stored = types::stored(self.entry(tensor).ok()?.elem).ok()?;
        stored.interface(port, name)
    }

    pub(super) fn add_input(&mut self, tensor: i32, name: &str, ty: TensorType) {
        let value = self.graph.add_input(name, ty);
        self.bind(tensor, Binding::Value(value));
    }

    /// Binds an input to the constant that the user gave for it.
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

    /// The value of a constant tensor; `None` if the tensor is not constant. Sparse constants become dense, within the
    /// limit of [`Graph::room`].
    fn constant(&self, entry: &Entry) -> Result<Option<Tensor>, Refusal> {
        let Some(data) = types::bytes(entry, self.model)? else { return Ok(None) };
        if let Some(Details::Blocks(blocks)) = entry.quantization.as_ref().map(|q| &q.details) {
            return types::tensor_of(entry, Elem::Quantized(self.in_blocks(entry, blocks)?), data).map(Some);
        }
        let Some(sparsity) = &entry.sparsity else { return types::tensor(entry, data).map(Some) };
        self.graph.room(sparse::size(entry)? as u64)?;
        types::tensor(entry, &sparse::dense(entry, sparsity, data)?).map(Some)
    }

    /// The quantization parameters of a constant with blockwise scales.
    fn in_blocks(&self, entry: &Entry, blocks: &Blocks) -> Result<QuantParams, Refusal> {
        let known = |tensor: i32| -> Result<Tensor, Refusal> {
            let entry = self.entry(tensor)?;
            let data = types::bytes(entry, self.model)?;
            types::tensor(entry, data.ok_or_else(|| Refusal::Invalid(format!("{} is no constant", entry.name)))?)
        };
        if blocks.zero_points >= 0 && known(blocks.zero_points)?.floats().iter().any(|&z| z != 0.0) {
            return Err(Refusal::Unsupported("zero points other than 0 with a scale for each block".into()));
        }
        types::qparams_in_blocks(entry, blocks.block_size, &known(blocks.scales)?)
    }

    /// True for a constant that the file stores as a sparse tensor.
    pub(super) fn is_sparse(&self, tensor: i32) -> bool {
        self.entry(tensor).is_ok_and(|entry| entry.sparsity.is_some())
    }
}

/// The entry of a tensor.
pub(super) fn entry(main: &SubGraph, tensor: i32) -> Result<&Entry, Refusal> {
    let entry = usize::try_from(tensor).ok().and_then(|t| main.tensors.get(t));
    entry.ok_or_else(|| Refusal::Invalid(format!("there is no tensor {tensor}")))
}
