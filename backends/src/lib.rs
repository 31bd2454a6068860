//! Writers of target artefacts.
//!
//! A backend exports a [`Target`]: what it asks of a graph, as data for the passes; and it writes a graph that meets
//! this as one file or several.

use std::path::{Path, PathBuf};

use qcc_ir::Graph;
use qcc_ir::diagnostic::Diagnostic;
use qcc_ir::target::Target;

pub mod disassembly;
mod files;
mod metadata;
mod names;
pub mod onnx;
pub mod openvino;
mod pack;
pub mod tflite;
mod unsupported;

pub use files::{Files, Memory};
pub(crate) use unsupported::Unsupported;

/// A format that qcc writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Backend {
    /// TensorFlow Lite (LiteRT).
    Tflite,
    /// ONNX (ONNX Runtime).
    Onnx,
    /// OpenVINO IR.
    Openvino,
}

/// How a graph is written, where a format knows several ways.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Form {
    /// ONNX: operators on integers (`QLinearConv`) in place of `QuantizeLinear` and `DequantizeLinear` around real ones.
    pub qoperator: bool,
    /// ONNX: weights in a file of their own, however small.
    pub external_data: bool,
    /// Where weights alone are narrow: activations of products are quantized when the model runs. TensorFlow Lite's
    /// kernels always do that.
    pub dynamic: bool,
}

impl Form {
    /// The default.
    pub const PLAIN: Form = Form { qoperator: false, external_data: false, dynamic: false };
}

/// What was written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Length of all files together.
    pub bytes: u64,
    /// Number of operators.
    pub operators: usize,
    /// Number of distinct constants.
    pub constants: usize,
}

impl Backend {
    /// All backends.
    pub const ALL: &'static [Backend] = &[Backend::Tflite, Backend::Onnx, Backend::Openvino];

    /// What the backend asks of a graph; its name is the one on the command line.
    pub fn target(self) -> &'static Target {
        self.target_for(Form::default())
    }

    /// As [`Backend::target`], of a graph that is written in that form.
    pub fn target_for(self, form: Form) -> &'static Target {
        match (self, form.dynamic) {
            (Backend::Tflite, _) => &tflite::TARGET,
            (Backend::Onnx, false) => &onnx::TARGET,
            (Backend::Onnx, true) => &onnx::DYNAMIC,
            (Backend::Openvino, false) => &openvino::TARGET,
            (Backend::Openvino, true) => &openvino::DYNAMIC,
        }
    }

    /// Extension of the main file, without the dot.
    pub fn extension(self) -> &'static str {
        match self {
            Backend::Tflite => "tflite",
            Backend::Onnx => "onnx",
            Backend::Openvino => "xml",
        }
    }

    /// Path of the main file in a folder, for a model called `stem` that says `metadata` of itself; `suffix` tells the
    /// precision. The Ultralytics library finds an OpenVINO model by the name of its folder.
    pub fn file_name(self, stem: &str, suffix: &str, metadata: &[(String, String)]) -> PathBuf {
        let plain = || format!("{stem}{suffix}.{}", self.extension()).into();
        match self {
            Backend::Openvino => openvino::folder(metadata, stem, suffix).unwrap_or_else(plain),
            Backend::Tflite | Backend::Onnx => plain(),
        }
    }

    /// Names of the files that are written beside the main one, whatever the weights. Those of more than
    /// [`onnx::MOST_INSIDE`] bytes get a file in any form.
    pub fn beside(self, main: &Path, form: Form, metadata: &[(String, String)]) -> Vec<String> {
        let named = |extension: &str| files::beside(&main.file_name().unwrap_or_default().to_string_lossy(), extension);
        match self {
            Backend::Tflite => Vec::new(),
            Backend::Onnx if form.external_data => vec![named(onnx::WEIGHTS)],
            Backend::Onnx => Vec::new(),
            Backend::Openvino => {
                let metadata = openvino::describes(metadata).then(|| openvino::METADATA.to_owned());
                std::iter::once(named(openvino::WEIGHTS)).chain(metadata).collect()
            }
        }
    }

    /// Writes a graph that was lowered and laid out for [`Backend::target`]. All that cannot be written is reported
    /// together, and then nothing is written.
    pub fn write(self, graph: &Graph, form: Form, files: &mut dyn Files) -> Result<Summary, Vec<Diagnostic>> {
        match self {
            Backend::Tflite => {
                let failed = |e| vec![Diagnostic::error("write", format!("the model cannot be written: {e}"))];
                let name = files.main().to_owned();
                tflite::write(graph, files.create(&name).map_err(failed)?)
            }
            Backend::Onnx => onnx::write(graph, form, files),
            Backend::Openvino => openvino::write(graph, files),
        }
    }
}
