//! Import of the nodes of a model, in order.

use qcc_formats::onnx::{GraphProto, NodeProto, ValueInfoProto};
use qcc_ir::diagnostic::Diagnostic;
use qcc_ir::{Dim, Origin, Shape, ValueId};
use rustc_hash::FxHashMap;

use super::custom::custom;
use super::declared::Declared;
use super::functions::MOST_NAMED;
use super::importer::{Binding, Importer};
use super::integers::{self, Inputs};
use super::node::{Import, NodeCx};
use super::schedule::schedule;
use super::{declared, element, ops, qdq};
use crate::Imported;
use crate::build::control::expand;
use crate::build::{End, Values};
use crate::elements::Stored;
use crate::refusal::Refusal;

impl<'m> Importer<'m> {
    /// The file's type of the first of these values that the graph stores in wider integers.
    fn widened(&self, inputs: &Inputs) -> Option<Stored> {
        inputs.iter().flatten().find_map(|v| self.integers.widened(*v))
    }

    /// Records that a widened integer result has the file's type `stored`.
    pub(super) fn hand_on(&mut self, result: ValueId, stored: Stored) {
        if self.integers.widened(result).is_none() && self.graph.ty(result).elem == stored.elem() {
            self.integers.declare(result, stored);
        }
    }

    /// Imports the main graph; its inputs have been added.
    pub(super) fn run(mut self, graph: &'m GraphProto) -> Result<Imported, Vec<Diagnostic>> {
        let outputs = self.block(graph);
        match outputs {
            Ok(values) if self.errors.is_empty() => {
                for (output, value) in graph.output.iter().zip(values) {
                    if let Err(e) = self.output(output, value) {
                        self.refuse(e, &Origin::new(output.name(), "Output"));
                    }
                }
            }
            Ok(_) => {}
            Err(e) => {
                let origin = match &e {
                    Refusal::Result { name, .. } | Refusal::Undefined(name) => Origin::new(name.as_str(), "Output"),
                    _ => Origin::none(),
                };
                self.refuse(e, &origin);
            }
        }
        self.notes.extend(self.doubles.diagnostic());
        Imported::complete(self.graph, self.notes, self.errors)
    }

    /// Adds an output. A quantized value with another storage type than the file's is converted to the file's plain
    /// integers.
    fn output(&mut self, output: &ValueInfoProto, mut value: ValueId) -> Result<(), Refusal> {
        if self.sequences.contains_key(&value) {
            return Err(Refusal::Advised {
                message: "an output is a sequence, which no target has".into(),
                help: "export the model with the elements of the sequence as outputs",
            });
        }
        let is_quantized = self.graph.ty(value).elem.qparams().is_some();
        if let Some(stored) = self.integers.widened(value).filter(|s| is_quantized && s.bits() > 8) {
            value = integers::plain_integers(&mut End(&mut self.graph, Origin::none()), value, stored)?;
        }
        self.notes.extend(contradiction(output, &self.graph.ty(value).shape));
        self.notes.extend(element(output).and_then(|stored| stored.interface("output", output.name())));
        self.graph.add_output(output.name(), value);
        Ok(())
    }

    /// Imports a subgraph in place with these values as its first inputs, and returns its outputs. It may use names of
    /// enclosing graphs; some exporters list these as inputs. Names that it defines get the prefix: it may be imported
    /// several times.
    pub(super) fn inline(
        &mut self,
        graph: &'m GraphProto,
        inputs: &[ValueId],
        prefix: Option<String>,
    ) -> Result<Values, Refusal> {
        if graph.input.len() < inputs.len() {
            let (takes, given) = (graph.input.len(), inputs.len());
            return Err(Refusal::Invalid(format!("graph {} has {takes} inputs; {given} are given", graph.name())));
        }
        expand(&mut self.expanded, graph.node.len())?;
        let known = self.errors.len();
        let depth = self.prefixes.len();
        self.prefixes.extend(prefix);
        self.scopes.push(FxHashMap::default());
        for (input, &value) in graph.input.iter().zip(inputs) {
            self.bind(input.name(), Binding::Value(value));
        }
        let outputs = self.block(graph);
        self.scopes.pop();
        self.prefixes.truncate(depth);
        // The errors of one iteration are not repeated for others.
        if self.errors.len() > known { outputs.and(Err(Refusal::Depends)) } else { outputs }
    }

    fn block(&mut self, graph: &'m GraphProto) -> Result<Values, Refusal> {
        if !graph.sparse_initializer.is_empty() {
            return Err(Refusal::Unsupported("sparse initializers are not supported".into()));
        }
        for t in &graph.initializer {
            let known = self.scopes.last_mut().and_then(|s| s.insert(t.name(), Binding::Constant(t)));
            if known.is_some() {
                return Err(Refusal::Invalid(format!("two initializers have the name {}", t.name())));
            }
        }
        self.declared.push(Declared::by_graph(graph));
        for node in schedule(graph)? {
            self.node(node);
        }
        self.declared.pop();
        let mut values = Values::new();
        let mut refused = None;
        for output in &graph.output {
            match self.value(output.name()) {
                Ok(v) => values.push(v),
                Err(e) => refused = Some(self.first(refused, e)),
            }
        }
        refused.map_or(Ok(values), Err)
    }

    /// Returns one of two errors and reports the other.
    fn first(&mut self, known: Option<Refusal>, new: Refusal) -> Refusal {
        match known {
            Some(Refusal::Depends) | None => new,
            Some(known) => {
                self.refuse(new, &Origin::none());
                known
            }
        }
    }

    /// True if an operand is omitted, by the node or by the call of its function.
    fn is_left_out(&self, name: &str) -> bool {
        let binding = self.scopes.iter().rev().find_map(|s| s.get(name));
        name.is_empty() || matches!(binding, Some(Binding::LeftOut))
    }

    pub(super) fn node(&mut self, node: &'m NodeProto) {
        if self.named > MOST_NAMED {
            node.output.iter().for_each(|name| self.bind(name, Binding::Refused));
            return;
        }
        let path = self.path(node_name(node));
        let origin = origin(node, &path);
        let results = self.results(node, &origin);
        let results = results.map_err(|e| self.refuse(e, &origin));
        for (index, name) in node.output.iter().enumerate().filter(|o| !o.1.is_empty()) {
            let binding = match &results {
                Ok(values) => match values.get(index) {
                    Some(&value) => {
                        if self.graph.name(value).is_none() {
                            let name = self.path(name);
                            self.graph.set_name(value, name);
                        }
                        Binding::Value(value)
                    }
                    None => Binding::Absent { op: node.op_type(), index },
                },
                Err(()) => Binding::Refused,
            };
            self.bind(name, binding);
        }
    }

    fn results(&mut self, node: &'m NodeProto, origin: &Origin) -> Result<Values, Refusal> {
        // The operator is looked up before its operands, so that all unknown operators are reported at once.
        let import = ops::find(node);
        let function = import.is_err().then(|| self.functions.find(node)).flatten();
        let is_custom = function.is_none() && ops::is_custom(node);
        let import = match function {
            Some(_) => None,
            None if is_custom => Some(custom as Import),
            None => Some(import?),
        };
        let input = |name: &String| if self.is_left_out(name) { Ok(None) } else { self.value(name).map(Some) };
        // All are resolved, so that all damaged constants are reported.
        let inputs: Vec<Result<Option<ValueId>, Refusal>> = node.input.iter().map(input).collect();
        let inputs = inputs.into_iter().collect::<Result<Inputs, Refusal>>()?;
        let Some(import) = import else {
            return function.map_or(Err(Refusal::Depends), |f| self.call(f, node, inputs, origin));
        };
        let sequence = inputs.iter().position(|v| v.is_some_and(|v| self.sequences.contains_key(&v)));
        if let Some(i) = sequence.filter(|_| !ops::takes_sequences(node)) {
            return Err(Refusal::Invalid(format!("input {i} is a sequence; expected a tensor")));
        }
        let stored = self.widened(&inputs);
        let is_quantized = inputs.iter().flatten().any(|v| self.graph.ty(*v).elem.qparams().is_some());
        let mut cx = NodeCx::new(self, node, inputs, origin.clone());
        let results =
            if is_quantized && !ops::takes_quantized(node) { qdq::results(&mut cx, import)? } else { import(&mut cx)? };
        // A hint for memory; some exporters write it for later opsets, too.
        cx.ints("consumed_inputs")?;
        // All attributes of a custom operator are kept.
        if !is_custom {
            cx.finish()?;
        }
        self.graph.room(0)?;
        if let Some(stored) = stored.filter(|_| !ops::names_elements(node)) {
            results.iter().for_each(|&v| self.hand_on(v, stored));
        }
        Ok(results)
    }
}

/// A warning if the declared shape of an output contradicts the computed one.
fn contradiction(output: &ValueInfoProto, shape: &Shape) -> Option<Diagnostic> {
    let declared = declared(output).ok()?.shape?;
    let differs = |(declared, found): (&Dim, &Dim)| declared.known().is_some() && declared != found;
    let contradicts = declared.rank() != shape.rank() || declared.dims().iter().zip(shape.dims()).any(differs);
    let message = format!("output {} is declared {declared}; the graph computes {shape}", output.name());
    contradicts.then(|| Diagnostic::warning("output-shape", message))
}

/// A node's name, or that of its first result.
pub(super) fn node_name(node: &NodeProto) -> &str {
    let first = node.output.iter().find(|o| !o.is_empty()).map_or("", String::as_str);
    if node.name().is_empty() { first } else { node.name() }
}

/// The origin of imported nodes.
pub(super) fn origin(node: &NodeProto, path: &str) -> Origin {
    Origin::new(path, node.op_type())
}
