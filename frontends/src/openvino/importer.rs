//! From layers to the graph: ports to values, constants when they are first read, layers in order.

use bytes::Bytes;
use qcc_formats::openvino::{Network, Node, Port};
use qcc_ir::diagnostic::Diagnostic;
use qcc_ir::{Dim, Graph, Origin, TensorType, ValueId};

use super::integers::Scaled;
use super::node::NodeCx;
use super::{ops, types};
use crate::Imported;
use crate::build::{Values, fixed_input};
use crate::refusal::Refusal;

/// What a port of the file stands for.
#[derive(Clone, Copy, Debug)]
enum Binding {
    /// A constant that nothing has read yet, or a result that is not there yet.
    Open,
    /// A value of the graph.
    Value(ValueId),
    /// A result that qcc does not compute; to read it is refused.
    Absent,
    /// What was refused; the user has been told.
    Refused,
}

/// A model on its way into the graph.
#[derive(Debug)]
pub(super) struct Importer<'m> {
    pub(super) graph: Graph,
    pub(super) errors: Vec<Diagnostic>,
    /// True where values have the shapes that the file declares.
    pub(super) declared: bool,
    pub(super) network: &'m Network,
    pub(super) scaled: &'m Scaled,
    pub(super) weights: &'m Bytes,
    /// For each layer one for each result.
    bindings: Vec<Vec<Binding>>,
}

impl<'m> Importer<'m> {
    pub(super) fn new(network: &'m Network, scaled: &'m Scaled, weights: &'m Bytes) -> Self {
        Importer {
            graph: Graph::new(network.name.as_str()),
            errors: Vec::new(),
            declared: true,
            network,
            scaled,
            weights,
            bindings: network.layers.iter().map(|l| vec![Binding::Open; l.outputs.len()]).collect(),
        }
    }

    pub(super) fn add_input(&mut self, layer: usize, name: &str, ty: TensorType) {
        let value = self.graph.add_input(name, ty);
        self.bind(Port { layer, result: 0 }, Binding::Value(value));
    }

    /// An input that the user gave a value: a constant.
    pub(super) fn set_input(&mut self, layer: usize, name: &str, ty: &TensorType, values: &[f64]) {
        let binding = match fixed_input(&mut self.graph, name, ty, values) {
            Ok(value) => Binding::Value(value),
            Err(refused) => {
                self.errors.push(*refused);
                Binding::Refused
            }
        };
        self.bind(Port { layer, result: 0 }, binding);
    }

    fn bind(&mut self, port: Port, binding: Binding) {
        if let Some(place) = self.bindings[port.layer].get_mut(port.result) {
            *place = binding;
        }
    }

    fn refuse(&mut self, refusal: Refusal, origin: &Origin) {
        self.errors.extend(refusal.diagnostic(origin));
    }

    /// The value at a port.
    pub(super) fn value(&mut self, port: Port) -> Result<ValueId, Refusal> {
        let layer = &self.network.layers[port.layer];
        match self.bindings[port.layer][port.result] {
            Binding::Value(value) => return Ok(value),
            Binding::Refused => return Err(Refusal::Depends),
            Binding::Absent => {
                return Err(Refusal::Result { index: port.result, op: layer.kind.clone(), name: layer.name.clone() });
            }
            Binding::Open if layer.kind != "Const" => return Err(Refusal::Undefined(layer.name.clone())),
            Binding::Open => {}
        }
        let origin = Origin::new(layer.name.as_str(), "Const");
        match types::tensor(layer, self.weights) {
            Ok(tensor) => {
                let value = self.graph.add_const(tensor, origin);
                self.graph.set_name(value, layer.name.as_str());
                self.bind(port, Binding::Value(value));
                Ok(value)
            }
            Err(refusal) => {
                self.refuse(refusal, &origin);
                self.bind(port, Binding::Refused);
                Err(Refusal::Depends)
            }
        }
    }

    /// Imports the layers; inputs have been added.
    pub(super) fn run(mut self, mut notes: Vec<Diagnostic>) -> Result<Imported, Vec<Diagnostic>> {
        let network = self.network;
        for (i, layer) in network.layers.iter().enumerate() {
            match layer.kind.as_str() {
                "Parameter" | "Const" => {}
                "Result" => self.output(layer, &mut notes),
                _ if self.scaled.is_inside(i) => {}
                _ => self.layer(i, layer),
            }
        }
        if !self.errors.is_empty() {
            return Err(self.errors);
        }
        if self.graph.outputs().is_empty() {
            return Err(vec![Diagnostic::invalid_model("the model has no outputs")]);
        }
        self.graph.sweep();
        Ok(Imported { graph: self.graph, notes, open: Vec::new() })
    }

    fn output(&mut self, layer: &Node, notes: &mut Vec<Diagnostic>) {
        let Some(&port) = layer.inputs.first() else { return };
        let tensor = self.network.tensor(port);
        let name = tensor.names.first().unwrap_or(&self.network.layers[port.layer].name);
        match self.value(port) {
            Ok(value) => {
                notes.extend(types::stored(tensor.element).ok().and_then(|s| s.interface("output", name)));
                self.graph.add_output(name.as_str(), value);
            }
            Err(refusal) => self.refuse(refusal, &Origin::new(layer.name.as_str(), "Result")),
        }
    }

    fn layer(&mut self, index: usize, layer: &'m Node) {
        let origin = Origin::new(layer.name.as_str(), layer.kind.as_str());
        let bound = self.results(index, layer, &origin).and_then(|values| self.bind_results(index, layer, &values));
        if let Err(refusal) = bound {
            self.refuse(refusal, &origin);
            (0..layer.outputs.len()).for_each(|result| self.bind(Port { layer: index, result }, Binding::Refused));
        }
    }

    fn results(&mut self, index: usize, layer: &'m Node, origin: &Origin) -> Result<Values, Refusal> {
        // The operation is looked up before its operands, so that all unknown ones are reported at once.
        let import = ops::find(layer)?;
        let mut n = NodeCx::new(self, index, layer, origin.clone());
        let values = import(&mut n)?;
        n.all_read()?;
        self.graph.room(0)?;
        Ok(values)
    }

    /// Results behind those that an operator gives are not computed.
    fn bind_results(&mut self, index: usize, layer: &Node, values: &[ValueId]) -> Result<(), Refusal> {
        for (result, tensor) in layer.outputs.iter().enumerate() {
            let port = Port { layer: index, result };
            let Some(&value) = values.get(result) else {
                self.bind(port, Binding::Absent);
                continue;
            };
            let ty = self.graph.ty(value);
            let differs =
                |(declared, found): (&Option<usize>, &Dim)| declared.is_some_and(|d| Some(d) != found.known());
            let odd = tensor.dims.len() != ty.rank() || tensor.dims.iter().zip(ty.shape.dims()).any(differs);
            if self.declared && odd {
                let declared: Vec<String> =
                    tensor.dims.iter().map(|d| d.map_or("?".into(), |n| n.to_string())).collect();
                let declared = declared.join(",");
                return Err(Refusal::Invalid(format!("it declares [{declared}]; the operator gives {}", ty.shape)));
            }
            if self.graph.name(value).is_none() {
                self.graph.set_name(value, tensor.names.first().unwrap_or(&layer.name).as_str());
            }
            self.bind(port, Binding::Value(value));
        }
        Ok(())
    }
}
