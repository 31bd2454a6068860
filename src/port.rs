//! Inputs and outputs of an artefact, as its callers see them.

use std::fmt;

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

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.r#type)
    }
}
