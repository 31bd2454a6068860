//! States: variables that are read at the beginning of a run and assigned at its end. A subgraph that runs once, before the
//! first run, sets them to zero.

use qcc_formats::tflite::{BuiltinOperator as B, CallOnce, Options, VarHandle};
use qcc_ir::{Dim, NodeId, TensorType, ValueId};

use super::emit::{Emitter, Unsupported};
use crate::attachments::{State, zeros};

/// The variables of a model.
#[derive(Default)]
pub(super) struct States {
    /// Each variable: its name, its handle in the main subgraph, its type, and the input that reads it.
    variables: Vec<(String, i32, TensorType, NodeId)>,
}

impl States {
    /// Writes that a tensor has the value of a state.
    pub(super) fn read(
        &mut self,
        e: &mut Emitter<'_>,
        state: &State,
        v: ValueId,
        tensor: i32,
    ) -> Result<(), Unsupported> {
        let ty = e.graph.ty(v).clone();
        if !ty.shape.dims().iter().all(|d| matches!(d, Dim::Known(_))) {
            return Err("a state has a known shape: fix it with --shape".into());
        }
        let handle = handle(e, &state.input, v.node);
        e.push_operator(B::READ_VARIABLE, 1, Options::None, &[handle], &[tensor]);
        self.variables.push((state.input.clone(), handle, ty, v.node));
        Ok(())
    }

    /// Writes the value of a state for the next run.
    pub(super) fn assign(&self, e: &mut Emitter<'_>, state: &State, tensor: i32) {
        if let Some((_, handle, ..)) = self.variables.iter().find(|(name, ..)| *name == state.input) {
            e.push_operator(B::ASSIGN_VARIABLE, 1, Options::None, &[*handle, tensor], &[]);
        }
    }

    /// Writes the first values, before all other operators.
    pub(super) fn begin(&self, e: &mut Emitter<'_>) -> Result<(), Unsupported> {
        let Some(&(.., node)) = self.variables.first() else { return Ok(()) };
        let subgraph = e.subgraph(node, &[], |e, _| {
            for (name, _, ty, node) in &self.variables {
                let (handle, zeros) = (handle(e, name, *node), e.part(name, &zeros(ty)?));
                e.push_operator(B::ASSIGN_VARIABLE, 1, Options::None, &[handle, zeros], &[]);
            }
            Ok(Vec::new())
        })?;
        e.push_first(B::CALL_ONCE, CallOnce { subgraph });
        Ok(())
    }
}

/// A handle of the variable with that name.
fn handle(e: &mut Emitter<'_>, name: &str, node: NodeId) -> i32 {
    let handle = e.resource(node);
    let variable = VarHandle { container: String::new(), shared_name: name.to_owned() };
    e.push_operator(B::VAR_HANDLE, 1, variable, &[], &[handle]);
    handle
}
