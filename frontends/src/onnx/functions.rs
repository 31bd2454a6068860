//! Operators that the model defines itself, by nodes: where one is called, its nodes are imported.

use qcc_formats::onnx::{FunctionProto, ModelProto, NodeProto};
use qcc_ir::Origin;
use qcc_ir::diagnostic::Diagnostic;
use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use super::attributes::{Referred, resolved};
use super::importer::{Binding, Importer};
use super::schedule::ordered;
use super::{OPSETS, is_standard};
use crate::build::Values;
use crate::refusal::Refusal;

/// Nodes of functions, called again and again, that a model may come to.
const MOST_NODES: usize = 1 << 18;

/// Bytes of names that nodes and values of functions get, at most: each has that of the call before its own.
pub(super) const MOST_NAMED: usize = 1 << 26;

/// Functions that call each other, at most.
const DEEPEST: usize = 64;

/// Domain, name and overload of an operator.
type Key<'m> = (&'m str, &'m str, &'m str);

/// The operators that a model defines.
#[derive(Clone, Debug, Default)]
pub(super) struct Functions<'m>(FxHashMap<Key<'m>, &'m FunctionProto>);

fn domain(name: &str) -> &str {
    if is_standard(name) { "" } else { name }
}

impl<'m> Functions<'m> {
    pub(super) fn of(model: &'m ModelProto) -> Self {
        let key = |f: &'m FunctionProto| (domain(f.domain()), f.name(), f.overload());
        Functions(model.functions.iter().map(|f| (key(f), f)).collect())
    }

    /// The function that a node calls, where it calls one.
    pub(super) fn find(&self, node: &NodeProto) -> Option<&'m FunctionProto> {
        self.0.get(&(domain(node.domain()), node.op_type(), node.overload())).copied()
    }
}

/// A call that is being imported.
#[derive(Debug)]
pub(super) struct Call<'m> {
    function: &'m FunctionProto,
    /// Its attributes.
    referred: Referred<'m>,
    /// What stands before the names of its nodes and values.
    path: String,
}

impl<'m> Importer<'m> {
    /// The attributes of the function whose nodes are imported, if any.
    pub(super) fn referred(&self) -> Option<&Referred<'m>> {
        self.calls.last().map(|call| &call.referred)
    }

    /// The name of a node or value: that of the call before that of what lies in its function.
    pub(super) fn path(&mut self, name: &str) -> String {
        let Some(call) = self.calls.last() else { return name.to_owned() };
        let path = format!("{}/{name}", call.path);
        let before = self.named;
        self.named += path.len();
        if before <= MOST_NAMED && self.named > MOST_NAMED {
            let message = format!("names of what functions are made of come to more than {MOST_NAMED} bytes");
            let error = Diagnostic::error("too-large", message).at(&Origin::new(path.as_str(), call.function.name()));
            self.errors.push(error.with_help("give shorter names, or inline the functions before export"));
        }
        path
    }

    /// Imports the nodes of a function for a node that calls it. Gives its outputs. They see its inputs and each other
    /// only.
    pub(super) fn call(
        &mut self,
        function: &'m FunctionProto,
        node: &'m NodeProto,
        inputs: SmallVec<[Option<qcc_ir::ValueId>; 4]>,
        origin: &Origin,
    ) -> Result<Values, Refusal> {
        let name = function.name();
        if self.calls.iter().any(|call| std::ptr::eq(call.function, function)) {
            return Err(Refusal::Invalid(format!("function {name} calls itself")));
        }
        self.called += function.node.len();
        if self.called > MOST_NODES || self.calls.len() >= DEEPEST {
            return Err(Refusal::Unsupported(format!("functions come to more than {MOST_NODES} nodes")));
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
        let path = origin.path().to_owned();
        self.calls.push(Call { function, referred, path });
        let outer = std::mem::replace(&mut self.scopes, vec![FxHashMap::default()]);
        let outer_opset = std::mem::replace(&mut self.opset, opset);
        let operands = inputs.into_iter().chain(std::iter::repeat(None));
        for (input, value) in function.input.iter().zip(operands) {
            self.bind(input, value.map_or(Binding::LeftOut, Binding::Value));
        }
        let wanted = function.output.iter().take(node.output.len());
        let results = self.body(function, wanted.map(String::as_str).collect());
        self.scopes = outer;
        self.opset = outer_opset;
        self.calls.pop();
        results
    }

    fn body(&mut self, function: &'m FunctionProto, wanted: Vec<&'m str>) -> Result<Values, Refusal> {
        let taken = function.input.iter().map(String::as_str);
        for node in ordered(&function.node, taken, wanted.iter().copied())? {
            self.node(node);
        }
        wanted.into_iter().map(|output| self.value(output)).collect()
    }

    /// What attributes of a function's nodes refer to: those of the call, else the defaults.
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
