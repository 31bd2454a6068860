//! Inputs and outputs of an artefact, as its callers see them.

use std::fmt;

use qcc_backends::State;
use qcc_ir::{Graph, TensorType};
use serde::Serialize;

/// An input or output of a model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Port {
    /// Its name in the model.
    pub name: String,
    /// Its element type and shape in memory order: `f32[1,640,640,3]`.
    pub r#type: String,
}

impl Port {
    fn new(name: &str, ty: &TensorType) -> Self {
        Port { name: name.into(), r#type: format!("{}{}", ty.elem, ty.layout.physical(&ty.shape)) }
    }

    /// The inputs of a graph, in order.
    pub fn inputs(g: &Graph) -> Vec<Port> {
        g.inputs().map(|v| Port::new(g.name(v).map_or("", |n| n), g.ty(v))).collect()
    }

    /// The outputs of a graph, in order.
    pub fn outputs(g: &Graph) -> Vec<Port> {
        g.outputs().iter().map(|o| Port::new(&o.name, g.ty(o.value))).collect()
    }
}

/// What the callers of an artefact see of its graph.
pub(crate) struct Ports {
    pub(crate) inputs: Vec<Port>,
    pub(crate) outputs: Vec<Port>,
    /// The values that it keeps, by the names of the inputs that they were.
    pub(crate) states: Vec<Port>,
}

impl Ports {
    pub(crate) fn new(g: &Graph, states: &[State]) -> Self {
        let (states_read, inputs) = Port::inputs(g).into_iter().partition(|p| states.iter().any(|s| s.input == p.name));
        let outputs = Port::outputs(g).into_iter().filter(|p| states.iter().all(|s| s.output != p.name)).collect();
        Ports { inputs, outputs, states: states_read }
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.r#type)
    }
}
