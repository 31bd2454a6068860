//! Import state: names are bound to values; constants are created at first use.

use std::sync::Arc;

use qcc_formats::onnx::{OperatorSetIdProto, TensorProto};
use qcc_ir::diagnostic::Diagnostic;
use qcc_ir::{Graph, Origin, TensorType, ValueId};
use rustc_hash::FxHashMap;

use super::attributes::Referred;
use super::declared::Declared;
use super::functions::{Call, Functions, MOST_NAMED};
use super::integers::Integers;
use super::weights;
use crate::build::{Values, fixed_input};
use crate::elements::Doubles;
use crate::mapped::Folder;
use crate::refusal::Refusal;

/// The binding of a name of the model.
#[derive(Clone, Debug)]
pub(super) enum Binding<'m> {
    /// A value of the graph.
    Value(ValueId),
    /// A constant that has not been used yet.
    Constant(&'m TensorProto),
    /// A result that qcc does not support; its use is refused.
    Absent { op: &'m str, index: usize },
    /// An input of a function that the call omits.
    LeftOut,
    /// The result of a refused node; the error has been reported.
    Refused,
}

/// A model during import.
#[derive(Debug)]
pub(super) struct Importer<'m> {
    pub(super) graph: Graph,
    /// Version of the standard operator set.
    pub(super) opset: i64,
    /// All operator sets in scope.
    pub(super) opsets: &'m [OperatorSetIdProto],
    /// Samples of random results are inputs of the graph.
    pub(super) random_inputs: bool,
    /// The extents of the symbols of inputs; `None` for a symbol with several extents.
    pub(super) extents: FxHashMap<Arc<str>, Option<usize>>,
    pub(super) folder: &'m Folder,
    pub(super) errors: Vec<Diagnostic>,
    pub(super) notes: Vec<Diagnostic>,
    pub(super) doubles: Doubles,
    pub(super) integers: Integers,
    /// The model has values of unsigned types that the graph stores in wider signed types.
    pub(super) wide_unsigned: bool,
    /// Names in scope; the innermost graph is last.
    pub(super) scopes: Vec<FxHashMap<&'m str, Binding<'m>>>,
    /// The declared types of the graphs in scope; the innermost is last.
    pub(super) declared: Vec<Declared<'m>>,
    pub(super) functions: Functions<'m>,
    /// Enclosing function calls; the innermost is last.
    pub(super) calls: Vec<Call<'m>>,
    /// Prefixes of the names of nodes and values in functions, branches and iterations; the innermost is last.
    pub(super) prefixes: Vec<String>,
    /// Number of expanded nodes of functions, branches and iterations, and total size of their names.
    pub(super) expanded: usize,
    pub(super) named: usize,
    /// The elements of sequences, by the value that represents the sequence: an empty constant, which no node uses.
    pub(super) sequences: FxHashMap<ValueId, Values>,
}

impl<'m> Importer<'m> {
    pub(super) fn new(
        name: &str,
        opset: i64,
        functions: Functions<'m>,
        folder: &'m Folder,
        notes: Vec<Diagnostic>,
    ) -> Self {
        Importer {
            graph: Graph::new(name),
            opset,
            opsets: &[],
            random_inputs: false,
            extents: FxHashMap::default(),
            folder,
            errors: Vec::new(),
            notes,
            doubles: Doubles::default(),
            integers: Integers::default(),
            wide_unsigned: false,
            scopes: vec![FxHashMap::default()],
            declared: Vec::new(),
            functions,
            calls: Vec::new(),
            prefixes: Vec::new(),
            expanded: 0,
            named: 0,
            sequences: FxHashMap::default(),
        }
    }

    /// Records the use of an element type that the graph does not have, in a constant or in the computation of an
    /// operator.
    pub(super) fn note(&mut self, data_type: i32, constant: bool) {
        self.wide_unsigned |= weights::is_wide_unsigned(data_type);
        let double = weights::is_double(data_type);
        self.doubles.constants |= double && constant;
        self.doubles.computed |= double && !constant;
    }

    /// Records the file's type of a value that the graph stores in wider integers.
    pub(super) fn declare(&mut self, value: ValueId, data_type: i32) {
        if let Some(stored) = weights::stored(data_type).ok().filter(|s| s.is_widened()) {
            self.integers.declare(value, stored);
        }
    }

    pub(super) fn add_input(&mut self, name: &'m str, ty: TensorType, data_type: i32) {
        let value = self.graph.add_input(name, ty);
        self.declare(value, data_type);
        self.bind(name, Binding::Value(value));
    }

    /// Binds an input that the user set to a constant.
    pub(super) fn set_input(&mut self, name: &'m str, ty: TensorType, data_type: i32, values: &[f64]) {
        let binding = match fixed_input(&mut self.graph, name, &ty, values) {
            Ok(value) => {
                self.declare(value, data_type);
                Binding::Value(value)
            }
            Err(refused) => {
                self.errors.push(*refused);
                Binding::Refused
            }
        };
        self.bind(name, binding);
    }

    pub(super) fn bind(&mut self, name: &'m str, binding: Binding<'m>) {
        if let Some(scope) = self.scopes.last_mut() {
            scope.insert(name, binding);
        }
    }

    pub(super) fn refuse(&mut self, refusal: Refusal, origin: &Origin) {
        self.errors.extend(refusal.diagnostic(origin));
    }

    /// The value bound to a name.
    pub(super) fn value(&mut self, name: &str) -> Result<ValueId, Refusal> {
        let found = self.scopes.iter().rposition(|s| s.contains_key(name));
        let (Some(depth), Some(binding)) = (found, found.and_then(|d| self.scopes[d].get(name)).cloned()) else {
            return Err(Refusal::Undefined(name.into()));
        };
        match binding {
            Binding::Value(v) => Ok(v),
            Binding::Refused => Err(Refusal::Depends),
            Binding::LeftOut => Err(Refusal::Undefined(name.into())),
            Binding::Absent { op, index } => Err(Refusal::Result { index, op: op.into(), name: name.into() }),
            Binding::Constant(t) => {
                let origin = Origin::new(t.name(), "Initializer");
                let bound = match self.tensor(t) {
                    Ok(tensor) => {
                        let value = self.graph.add_const(tensor, origin);
                        self.graph.set_name(value, t.name());
                        self.declare(value, t.data_type());
                        Binding::Value(value)
                    }
                    Err(e) => {
                        self.refuse(e, &origin);
                        Binding::Refused
                    }
                };
                let value = if let Binding::Value(v) = bound { Ok(v) } else { Err(Refusal::Depends) };
                self.scopes[depth].insert(t.name(), bound);
                value
            }
        }
    }

    /// The tensor of a message.
    pub(super) fn tensor(&mut self, t: &TensorProto) -> Result<qcc_ir::Tensor, Refusal> {
        self.note(t.data_type(), true);
        weights::tensor(t, self.folder)
    }

    /// The elements of a message in double precision, where it has that.
    pub(super) fn doubles(&mut self, t: &TensorProto) -> Result<Vec<f64>, Refusal> {
        self.note(t.data_type(), true);
        weights::doubles(t)
    }

    /// The attributes of the enclosing function call, if any.
    pub(super) fn referred(&self) -> Option<&Referred<'m>> {
        self.calls.last().map(|call| &call.referred)
    }

    /// The name of a node or value, with a prefix in functions, branches and iterations.
    pub(super) fn path(&mut self, name: &str) -> String {
        let Some(prefix) = self.prefixes.last() else { return name.to_owned() };
        let path = format!("{prefix}/{name}");
        let before = self.named;
        self.named += path.len();
        if before <= MOST_NAMED && self.named > MOST_NAMED {
            let message = format!("names of nodes and values of functions have more than {MOST_NAMED} bytes in total");
            let kind = self.calls.last().map_or("Loop", |call| call.function.name());
            let error = Diagnostic::error("too-large", message).at(&Origin::new(path.as_str(), kind));
            self.errors.push(error.with_help("give shorter names, or inline the functions before export"));
        }
        path
    }
}
