//! Additional data of an artefact besides its graph.

use qcc_ir::{Elem, Symbols, Tensor, TensorType};

use crate::Unsupported;

/// Additional data that the users of an artefact expect. A format that cannot hold a part of it omits that part.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attachments {
    /// Separate files, by name.
    pub files: Vec<(String, Vec<u8>)>,
    /// Entries of an archive that is appended to the model, by name (TensorFlow Lite).
    pub archive: Vec<(String, Vec<u8>)>,
    /// Groups of keys and values in the model (OpenVINO).
    pub info: Vec<(String, Vec<(String, String)>)>,
    /// The names of classes, by number (C++ sources).
    pub labels: Vec<String>,
    /// Metadata about how the artefact was made, as keys and values.
    pub facts: Vec<(String, String)>,
    /// Values of open extents at which the model is known to run, for a format that states a size beside open extents
    /// (TensorFlow Lite).
    pub extents: Symbols,
    /// Values that the model keeps from run to run, for targets that [keep states](qcc_ir::target::Target::keeps_states).
    pub states: Vec<State>,
}

/// A value that a model keeps from run to run. It is neither an input nor an output of the artefact. Its first value is zero
/// everywhere; an open extent that no input of the artefact has is 0 in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// The input of the graph that takes it.
    pub input: String,
    /// The output of the graph with its value for the next run.
    pub output: String,
}

impl Attachments {
    /// The state that an input of the graph takes.
    pub(crate) fn state_of_input(&self, name: &str) -> Option<&State> {
        self.states.iter().find(|s| s.input == name)
    }

    /// The state that an output of the graph gives.
    pub(crate) fn state_of_output(&self, name: &str) -> Option<&State> {
        self.states.iter().find(|s| s.output == name)
    }

    /// The facts with a prefix, for formats whose metadata keys are shared with other tools.
    pub(crate) fn named_facts(&self) -> impl Iterator<Item = (String, String)> {
        self.facts.iter().map(|(key, value)| (format!("qcc_{key}"), value.clone()))
    }
}

/// A tensor with zeros everywhere, the first value of a state.
pub(crate) fn zeros(ty: &TensorType) -> Result<Tensor, Unsupported> {
    let zero = |elem: &Elem| match elem {
        Elem::Quantized(q) => Some(q.storage.filled(ty.clone(), q.zero_point())),
        Elem::F32 => Some(Tensor::of(ty.clone(), vec![0f32; ty.shape.elements()?])),
        Elem::I32 => Some(Tensor::of(ty.clone(), vec![0i32; ty.shape.elements()?])),
        Elem::I64 => Some(Tensor::of(ty.clone(), vec![0i64; ty.shape.elements()?])),
        _ => None,
    };
    zero(&ty.elem).ok_or_else(|| format!("a state {ty} is not written").into())
}
