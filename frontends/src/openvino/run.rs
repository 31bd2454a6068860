//! Import of the layers of a model, in order.

use qcc_formats::openvino::{Node, Port};
use qcc_ir::diagnostic::Diagnostic;
use qcc_ir::{Dim, Origin, ValueId};

use super::importer::{Binding, Importer};
use super::node::NodeCx;
use super::types::{ASSIGN, READ_VALUE};
use super::{ops, types};
use crate::Imported;
use crate::build::Values;
use crate::refusal::Refusal;

impl<'m> Importer<'m> {
    /// Imports the layers; inputs have been added.
    pub(super) fn run(mut self, mut notes: Vec<Diagnostic>) -> Result<Imported, Vec<Diagnostic>> {
        let network = self.network;
        self.layers();
        network.layers.iter().filter(|l| l.kind == "Result").for_each(|l| self.output(l, &mut notes));
        network.layers.iter().filter(|l| l.kind == ASSIGN).for_each(|l| self.assigned(l, &mut notes));
        Imported::complete(self.graph, notes, self.errors)
    }

    /// Imports the layers of the network; its inputs are bound.
    pub(super) fn layers(&mut self) {
        let network = self.network;
        for (i, layer) in network.layers.iter().enumerate() {
            let is_end = matches!(layer.kind.as_str(), "Parameter" | "Const" | "Result");
            let is_state = self.path.is_empty() && matches!(layer.kind.as_str(), READ_VALUE | ASSIGN);
            if !is_end && !is_state && !self.scaled.is_inside(i) {
                self.layer(i, layer);
            }
        }
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
        let origin = self.origin(layer);
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

    /// Binds the results of a layer. Additional declared results are not supported.
    fn bind_results(&mut self, index: usize, layer: &Node, values: &[ValueId]) -> Result<(), Refusal> {
        for (result, tensor) in layer.outputs.iter().enumerate() {
            let port = Port { layer: index, result };
            let Some(&value) = values.get(result) else {
                self.bind(port, Binding::Absent);
                continue;
            };
            let ty = self.graph.ty(value);
            let differs = |(declared, found): (&Option<usize>, &Dim)| {
                declared.is_some_and(|declared| found.agreed(&Dim::Known(declared)).is_none())
            };
            // The file has no extents for a result of any rank either.
            let unranked = tensor.dims.is_empty() && ty.shape.is_open();
            let odd = tensor.dims.len() != ty.rank() || tensor.dims.iter().zip(ty.shape.dims()).any(differs);
            if self.declared && odd && !unranked {
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
