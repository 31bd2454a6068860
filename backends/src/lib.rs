//! Writers of target artefacts.
//!
//! A backend exports a [`Target`]: what it asks of a graph, as data for the passes; and it writes a graph that meets
//! this as a file.

use std::io::Write;

use qcc_ir::Graph;
use qcc_ir::diagnostic::Diagnostic;
use qcc_ir::target::Target;

pub mod tflite;

/// A format that qcc writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// TensorFlow Lite (LiteRT).
    Tflite,
}

/// What was written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Length of the file.
    pub bytes: u64,
    /// Number of operators.
    pub operators: usize,
    /// Number of distinct constants.
    pub constants: usize,
}

impl Backend {
    /// All backends.
    pub const ALL: &'static [Backend] = &[Backend::Tflite];

    /// What the backend asks of a graph; its name is the one on the command line.
    pub fn target(self) -> &'static Target {
        match self {
            Backend::Tflite => &tflite::TARGET,
        }
    }

    /// Extension of the files, without the dot.
    pub fn extension(self) -> &'static str {
        match self {
            Backend::Tflite => "tflite",
        }
    }

    /// Writes a graph that was lowered and laid out for [`Backend::target`]. All that cannot be written is reported
    /// together, and then nothing is written.
    pub fn write(self, graph: &Graph, out: &mut dyn Write) -> Result<Summary, Vec<Diagnostic>> {
        match self {
            Backend::Tflite => tflite::write(graph, out),
        }
    }
}
