//! Import of the operators of a model, in order.

use qcc_formats::tflite::{Operator, OperatorCode, TensorType};
use qcc_ir::diagnostic::Diagnostic;
use qcc_ir::{Elem, Origin, ValueId};

use super::custom::custom;
use super::importer::{Binding, Importer};
use super::node::NodeCx;
use super::variables::State;
use super::{ops, types};
use crate::Imported;
use crate::build::Values;
use crate::build::states::add_next;
use crate::refusal::Refusal;

impl<'m> Importer<'m> {
    /// Imports the operators; inputs have been added. `outputs` are the names of the results, `states` are inputs that
    /// operators set for the next run.
    pub(super) fn run(
        mut self,
        outputs: &[String],
        states: &[State],
        mut notes: Vec<Diagnostic>,
    ) -> Result<Imported, Vec<Diagnostic>> {
        for operator in &self.main.operators {
            self.operator(operator);
        }
        notes.append(&mut self.notes);
        for (&tensor, name) in self.main.outputs.iter().zip(outputs) {
            match self.output(tensor) {
                Ok(value) => {
                    notes.extend(self.interface("output", tensor, name));
                    self.graph.add_output(name.as_str(), value);
                }
                Err(refusal) => self.refuse(refusal, &Origin::none()),
            }
        }
        for State { tensor, name, first, .. } in states {
            let Some(&next) = self.next.get(tensor) else { continue };
            notes.push(add_next(&mut self.graph, name, next, first));
        }
        Imported::complete(self.graph, notes, self.errors)
    }

    /// The value of an output of the model.
    fn output(&mut self, tensor: i32) -> Result<ValueId, Refusal> {
        if self.entry(tensor)?.elem == TensorType::COMPLEX64 {
            let name = &self.entry(tensor)?.name;
            return Err(Refusal::Unsupported(format!("output {name} has complex numbers")));
        }
        self.value(tensor)
    }

    pub(super) fn operator(&mut self, operator: &'m Operator) {
        let code = self.model.code(operator);
        let first = operator.outputs.first();
        let own = first.and_then(|&t| self.entry(t).ok()).map(|t| t.name.as_str()).filter(|name| !name.is_empty());
        // An operator without a name is named by its tensor.
        let name = own.map_or_else(|| first.map_or_else(String::new, |t| format!("%{t}")), Into::into);
        let origin = Origin::new(name, code.map_or_else(String::new, ops::name));
        let bound = self.results(operator, code, &origin).and_then(|values| self.bind_results(operator, &values));
        if let Err(refusal) = bound {
            self.refuse(refusal, &origin);
            operator.outputs.iter().for_each(|&tensor| self.bind(tensor, Binding::Refused));
        }
    }

    fn results(
        &mut self,
        operator: &'m Operator,
        code: Option<&OperatorCode>,
        origin: &Origin,
    ) -> Result<Values, Refusal> {
        let code = code.ok_or_else(|| Refusal::Invalid(format!("there is no operator {}", operator.opcode_index)))?;
        // The operator is looked up before its operands, so that all unknown operators are reported at once.
        let import = ops::find(code)?;
        let mut cx = NodeCx::new(self, operator, origin.clone());
        let values = match import {
            Some(import) => import(&mut cx)?,
            None => custom(&mut cx, operator, code)?,
        };
        self.graph.room(0)?;
        Ok(values)
    }

    fn bind_results(&mut self, operator: &'m Operator, values: &[ValueId]) -> Result<(), Refusal> {
        // Handles of variables have no value.
        let has_value = |&&tensor: &&i32| self.entry(tensor).map_or(true, |entry| entry.elem != TensorType::RESOURCE);
        let outputs: Vec<i32> = operator.outputs.iter().filter(has_value).copied().collect();
        if values.len() != outputs.len() {
            let (found, expected) = (outputs.len(), values.len());
            return Err(Refusal::Invalid(format!("it has {found} results; expected {expected}")));
        }
        for (tensor, &value) in outputs.into_iter().zip(values) {
            let entry = self.entry(tensor)?;
            let declared = match entry.elem {
                // Their parts are a last axis.
                TensorType::COMPLEX64 => Elem::F32,
                _ => types::elem(entry)?,
            };
            let found = &self.graph.ty(value).elem;
            if declared != *found {
                let name = &entry.name;
                return Err(Refusal::Invalid(format!("{name} is declared {declared}; the operator gives {found}")));
            }
            if !matches!(self.bindings.get(tensor as usize), Some(Binding::Open)) {
                return Err(Refusal::Invalid(format!("{} is given twice", entry.name)));
            }
            if self.graph.name(value).is_none() && !entry.name.is_empty() {
                self.graph.set_name(value, entry.name.as_str());
            }
            self.bind(tensor, Binding::Value(value));
        }
        Ok(())
    }
}
