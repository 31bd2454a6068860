//! Additional data of an artefact besides its graph.

use qcc_ir::Symbols;

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
}

impl Attachments {
    /// The facts with a prefix, for formats whose metadata keys are shared with other tools.
    pub(crate) fn named_facts(&self) -> impl Iterator<Item = (String, String)> {
        self.facts.iter().map(|(key, value)| (format!("qcc_{key}"), value.clone()))
    }
}
