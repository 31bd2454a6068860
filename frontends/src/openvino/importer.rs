//! Import state: ports are bound to values; constants are created at first use.

use bytes::Bytes;
use qcc_formats::openvino::{Network, Node, Port};
use qcc_ir::diagnostic::Diagnostic;
use qcc_ir::{Graph, Origin, TensorType, ValueId};

use super::integers::Scaled;
use super::types;
use crate::build::fixed_input;
use crate::refusal::Refusal;

/// The binding of a port.
#[derive(Clone, Copy, Debug)]
pub(super) enum Binding {
    /// A constant that has not been used yet, or a result that has not been imported yet.
    Open,
    /// A value of the graph.
    Value(ValueId),
    /// A result that qcc does not support; its use is refused.
    Absent,
    /// The result of a refused layer; the error has been reported.
    Refused,
}

/// A model during import.
#[derive(Debug)]
pub(super) struct Importer<'m> {
    pub(super) graph: Graph,
    pub(super) errors: Vec<Diagnostic>,
    /// True if values have the shapes that the file declares.
    pub(super) declared: bool,
    pub(super) network: &'m Network,
    pub(super) scaled: &'m Scaled,
    pub(super) weights: &'m Bytes,
    /// For each layer the bindings of its results.
    pub(super) bindings: Vec<Vec<Binding>>,
    /// The path of the layer whose network is imported, with a separator.
    pub(super) path: String,
    /// Layers of the networks in layers that were imported.
    pub(super) expanded: usize,
    /// Assumptions about open extents so far. Where one does not hold, the model fails at run time.
    pub(super) assumed: usize,
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
            bindings: unbound(network),
            path: String::new(),
            expanded: 0,
            assumed: 0,
        }
    }

    /// The origin of a layer.
    pub(super) fn origin(&self, layer: &Node) -> Origin {
        Origin::new(format!("{}{}", self.path, layer.name), layer.kind.as_str())
    }

    pub(super) fn add_input(&mut self, layer: usize, name: &str, ty: TensorType) {
        let value = self.graph.add_input(name, ty);
        self.bind(Port { layer, result: 0 }, Binding::Value(value));
    }

    /// Binds an input that the user set to a constant.
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

    pub(super) fn bind(&mut self, port: Port, binding: Binding) {
        if let Some(place) = self.bindings[port.layer].get_mut(port.result) {
            *place = binding;
        }
    }

    pub(super) fn refuse(&mut self, refusal: Refusal, origin: &Origin) {
        self.errors.extend(refusal.diagnostic(origin));
    }

    /// The value of a port.
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
        let origin = self.origin(layer);
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
}

/// Bindings of the layers of a network before it is imported.
pub(super) fn unbound(network: &Network) -> Vec<Vec<Binding>> {
    network.layers.iter().map(|l| vec![Binding::Open; l.outputs.len()]).collect()
}
