//! Import state: bindings of the program's names.

use std::collections::BTreeMap;

use qcc_ir::diagnostic::Diagnostic;
use qcc_ir::{Graph, Origin, TensorType, ValueId};
use rustc_hash::{FxHashMap, FxHashSet};

use super::quantity::Quantity;
use super::schema::{Program, TensorMeta};
use super::symbols::Symbols;
use super::views::View;
use super::weights::Weights;
use crate::build::fixed_input;
use crate::elements::Doubles;
use crate::refusal::Refusal;

/// A complex value: real and imaginary parts of the same shape.
pub(super) type Complex = [ValueId; 2];

/// The binding of a name of the program.
#[derive(Clone, Debug)]
pub(super) enum Binding<'m> {
    /// A value of the graph, which may be a view of another one.
    Value { value: ValueId, view: Option<View<'m>> },
    /// A tensor of the archive that has not been used yet.
    Weight(&'m str),
    /// A complex value.
    Complex(Complex),
    /// A number, such as an extent.
    Number(Quantity),
    /// Neither tensor nor number.
    Foreign(&'static str),
    /// A value that a write through another name has changed or not.
    Undecided,
    /// The result of a refused node; the error has been reported.
    Refused,
}

impl From<ValueId> for Binding<'_> {
    fn from(value: ValueId) -> Self {
        Binding::Value { value, view: None }
    }
}

pub(super) type Types = BTreeMap<String, TensorMeta>;

/// A program during import.
#[derive(Debug)]
pub(super) struct Importer<'m> {
    pub(super) graph: Graph,
    pub(super) errors: Vec<Diagnostic>,
    pub(super) weights: &'m Weights,
    pub(super) program: &'m Program,
    pub(super) symbols: Symbols,
    pub(super) notes: Vec<Diagnostic>,
    /// Samples of random results are inputs of the graph.
    pub(super) random_inputs: bool,
    pub(super) doubles: Doubles,
    /// Number of errors of nodes that decomposition removes.
    pub(super) decomposable: usize,
    /// Names that are views of complex values, which must not be written to.
    pub(super) complex_shown: FxHashSet<&'m str>,
    /// Number of nodes of inlined graphs.
    pub(super) expanded: usize,
    /// Names in scope with the types that the file declares; the innermost graph is last.
    pub(super) scopes: Vec<(FxHashMap<&'m str, Binding<'m>>, &'m Types)>,
}

impl<'m> Importer<'m> {
    pub(super) fn new(
        name: &str,
        weights: &'m Weights,
        program: &'m Program,
        symbols: Symbols,
        notes: Vec<Diagnostic>,
    ) -> Self {
        let types = &program.graph_module.graph.tensor_values;
        Importer {
            graph: Graph::new(name),
            errors: Vec::new(),
            weights,
            program,
            symbols,
            notes,
            random_inputs: false,
            doubles: Doubles::default(),
            decomposable: 0,
            complex_shown: FxHashSet::default(),
            expanded: 0,
            scopes: vec![(FxHashMap::default(), types)],
        }
    }

    pub(super) fn add_input(&mut self, name: &'m str, ty: TensorType) {
        let value = self.graph.add_input(name, ty);
        self.bind(name, Binding::Value { value, view: None });
    }

    /// Binds an input that the user set to a constant.
    pub(super) fn set_input(&mut self, name: &'m str, ty: TensorType, values: &[f64]) {
        let binding = match fixed_input(&mut self.graph, name, &ty, values) {
            Ok(value) => Binding::Value { value, view: None },
            Err(refused) => {
                self.errors.push(*refused);
                Binding::Refused
            }
        };
        self.bind(name, binding);
    }

    pub(super) fn bind(&mut self, name: &'m str, binding: Binding<'m>) {
        if let Some(scope) = self.scopes.last_mut() {
            scope.0.insert(name, binding);
        }
    }

    /// Binds the result of a node to a new name.
    pub(super) fn bind_new(&mut self, name: &'m str, binding: Binding<'m>) -> Result<(), Refusal> {
        if self.scopes.last().is_some_and(|s| s.0.contains_key(name)) {
            return Err(Refusal::Invalid(format!("two values have the name {name}")));
        }
        self.bind(name, binding);
        Ok(())
    }

    pub(super) fn refuse(&mut self, refusal: Refusal, origin: &Origin) {
        self.errors.extend(refusal.diagnostic(origin));
    }

    pub(super) fn binding(&self, name: &str) -> Result<&Binding<'m>, Refusal> {
        let found = self.scopes.iter().rev().find_map(|s| s.0.get(name));
        found.ok_or_else(|| Refusal::Undefined(name.into()))
    }

    /// The parts of a complex value.
    pub(super) fn complex(&self, name: &str) -> Option<Complex> {
        match self.binding(name) {
            Ok(Binding::Complex(parts)) => Some(*parts),
            _ => None,
        }
    }

    /// The number bound to a name.
    pub(super) fn number(&self, name: &str) -> Result<Quantity, Refusal> {
        match self.binding(name) {
            Ok(Binding::Number(n)) => Ok(n.clone()),
            Ok(Binding::Refused) => Err(Refusal::Depends),
            Ok(_) => Err(Refusal::Invalid(format!("{name} is not a number"))),
            // An input's extent is not the result of a node.
            Err(e) => self.symbols.get(name).cloned().map(Quantity::whole).ok_or(e),
        }
    }

    /// The type that the file declares for a name.
    pub(super) fn declared(&self, name: &str) -> Option<&'m TensorMeta> {
        self.scopes.iter().rev().find_map(|s| s.1.get(name))
    }
}
