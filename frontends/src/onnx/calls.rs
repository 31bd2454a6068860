//! Calls of model-local functions: the nodes of the function are imported in place of the call.

use qcc_formats::onnx::{FunctionProto, NodeProto};
use qcc_ir::Origin;
use rustc_hash::FxHashMap;

use super::attributes::{Referred, resolved};
use super::declared::Declared;
use super::functions::{Call, DEEPEST};
use super::importer::{Binding, Importer};
use super::integers::Inputs;
use super::schedule::ordered;
use super::{OPSETS, is_standard};
use crate::build::Values;
use crate::build::control::expand;
use crate::refusal::Refusal;

impl<'m> Importer<'m> {
    /// Imports the nodes of a function for a node that calls it, and returns its outputs. They only see its inputs and
    /// each other.
    pub(super) fn call(
        &mut self,
        function: &'m FunctionProto,
        node: &'m NodeProto,
        inputs: Inputs,
        origin: &Origin,
    ) -> Result<Values, Refusal> {
        let name = function.name();
        if self.calls.iter().any(|call| std::ptr::eq(call.function, function)) {
            return Err(Refusal::Invalid(format!("function {name} calls itself")));
        }
        expand(&mut self.expanded, function.node.len())?;
        if self.calls.len() >= DEEPEST {
            return Err(Refusal::Unsupported(format!("functions call each other more than {DEEPEST} deep")));
        }
        if let Some(i) = (function.input.len()..inputs.len()).find(|&i| inputs[i].is_some()) {
            return Err(Refusal::UnreadInput(i));
        }
        let version = function.opset_import.iter().find(|o| is_standard(o.domain())).map(|o| o.version());
        let opset = version.unwrap_or(self.opset);
        if !OPSETS.contains(&opset) {
            return Err(Refusal::Unsupported(format!("function {name} is written for opset {opset}")));
        }
        let referred = self.attributes(function, node)?;
        self.prefixes.push(origin.path().to_owned());
        self.calls.push(Call { function, referred });
        let outer = std::mem::replace(&mut self.scopes, vec![FxHashMap::default()]);
        let outer_opset = std::mem::replace(&mut self.opset, opset);
        let outer_opsets = std::mem::replace(&mut self.opsets, &function.opset_import);
        let outer_declared = std::mem::replace(&mut self.declared, vec![Declared::by_function(function)]);
        let operands = inputs.into_iter().chain(std::iter::repeat(None));
        for (input, value) in function.input.iter().zip(operands) {
            self.bind(input, value.map_or(Binding::LeftOut, Binding::Value));
        }
        let wanted = function.output.iter().take(node.output.len());
        let results = self.body(function, wanted.map(String::as_str).collect());
        self.scopes = outer;
        self.opset = outer_opset;
        self.opsets = outer_opsets;
        self.declared = outer_declared;
        self.calls.pop();
        self.prefixes.pop();
        results
    }

    fn body(&mut self, function: &'m FunctionProto, wanted: Vec<&'m str>) -> Result<Values, Refusal> {
        let taken = function.input.iter().map(String::as_str);
        for node in ordered(&function.node, taken, wanted.iter().copied())? {
            self.node(node);
        }
        wanted.into_iter().map(|output| self.value(output)).collect()
    }

    /// The values of referenced attributes: those of the call, else the defaults.
    fn attributes(&self, function: &'m FunctionProto, node: &'m NodeProto) -> Result<Referred<'m>, Refusal> {
        let mut referred: Referred<'m> = function.attribute_proto.iter().map(|a| (a.name(), a)).collect();
        for (name, value) in resolved(&node.attribute, self.referred()) {
            if !referred.contains_key(name) && !function.attribute.iter().any(|a| a == name) {
                return Err(Refusal::Unread(name.into()));
            }
            referred.insert(name, value);
        }
        Ok(referred)
    }
}
