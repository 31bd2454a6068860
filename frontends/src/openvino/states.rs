//! Variables: values that a model keeps from run to run. What reads one is an input, what is assigned to it an output.

use qcc_formats::openvino::{Node, Port};
use qcc_ir::diagnostic::Diagnostic;
use qcc_ir::ops::Op;
use qcc_ir::{Origin, Tensor};

use super::importer::Importer;
use super::types::{ASSIGN, READ_VALUE, VARIABLE};
use crate::build::states::{ZEROS, add_next};

impl Importer<'_> {
    /// Adds the next value of a variable that is an input.
    pub(super) fn assigned(&mut self, layer: &Node, notes: &mut Vec<Diagnostic>) {
        let (network, variable) = (self.network, layer.attribute(VARIABLE).unwrap_or_default());
        let read = network.layers.iter().position(|l| l.kind == READ_VALUE && l.attribute(VARIABLE) == Some(variable));
        let input = read.and_then(|i| self.value(Port { layer: i, result: 0 }).ok());
        let (Some(read), Some(&next)) = (read, layer.inputs.first()) else { return };
        // A variable that is set to a constant is no input.
        if !input.is_some_and(|v| matches!(self.graph.producer(v), Op::Input(_))) {
            return;
        }
        match self.value(next) {
            Ok(value) => {
                let first = network.layers[read].inputs.first().map_or_else(|| ZEROS.into(), |&p| self.first(p));
                notes.push(add_next(&mut self.graph, variable, value, &first));
            }
            Err(refusal) => self.refuse(refusal, &Origin::new(layer.name.as_str(), ASSIGN)),
        }
    }

    /// The first value of a variable, in words.
    fn first(&mut self, port: Port) -> String {
        let zero = |c: &Tensor| c.floats().iter().all(|&x| x == 0.0);
        let known = self.value(port).ok().and_then(|v| Some(self.graph.constant(v)?.clone()));
        if known.is_some_and(|c| zero(&c)) {
            ZEROS.into()
        } else {
            format!("what {} gives", self.network.layers[port.layer].name)
        }
    }
}
