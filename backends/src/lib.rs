//! Writers of target artefacts.
//!
//! A backend exports a [`Target`]: what it asks of a graph, as data for the passes; and it writes a graph that meets
//! this as one file or several.

use std::io;
use std::path::{Path, PathBuf};

use qcc_ir::Checked;
use qcc_ir::diagnostic::Diagnostic;
use qcc_ir::target::Target;

mod attachments;
pub mod disassembly;
mod files;
mod kind;
mod names;
pub mod onnx;
pub mod openvino;
mod pack;
pub mod tflite;
mod unsupported;

pub use attachments::Attachments;
pub use files::{Files, Memory};
pub use kind::Kind;
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

    /// Name of the main file, for a model called `stem`; `suffix` tells the precision.
    pub fn file_name(self, stem: &str, suffix: &str) -> PathBuf {
        format!("{stem}{suffix}.{}", self.extension()).into()
    }

    /// Names of the files that are written beside the main one, whatever the weights. Those of more than
    /// [`onnx::MOST_INSIDE`] bytes get a file in any form.
    pub fn beside(self, main: &Path, form: Form, attachments: &Attachments) -> Vec<String> {
        let named = |extension: &str| files::beside(&main.file_name().unwrap_or_default().to_string_lossy(), extension);
        let weights = match self {
            Backend::Onnx if form.external_data => Some(named(onnx::WEIGHTS)),
            Backend::Tflite | Backend::Onnx => None,
            Backend::Openvino => Some(named(openvino::WEIGHTS)),
        };
        weights.into_iter().chain(attachments.files.iter().map(|(name, _)| name.clone())).collect()
    }

    /// Writes a graph that was checked for [`Backend::target_for`] this form.
    ///
    /// # Errors
    /// All that cannot be written, together; then nothing is written. Likewise where the graph was checked for another
    /// target.
    pub fn write(
        self,
        graph: Checked<'_>,
        form: Form,
        attachments: &Attachments,
        files: &mut dyn Files,
    ) -> Result<Summary, Vec<Diagnostic>> {
        let target = self.target_for(form);
        if !std::ptr::eq(graph.target(), target) {
            let message = format!("the graph was checked for another target or form than that of {}", target.name);
            return Err(vec![Diagnostic::error("target", message).with_help("check it for Backend::target_for")]);
        }
        let failed = |e: io::Error| vec![Diagnostic::error("write", format!("the model cannot be written: {e}"))];
        let mut summary = match self {
            Backend::Tflite => {
                let name = files.main().to_owned();
                tflite::write(graph, attachments, files.create(&name).map_err(failed)?)?
            }
            Backend::Onnx => onnx::write(graph, form, files)?,
            Backend::Openvino => openvino::write(graph, attachments, files)?,
        };
        for (name, bytes) in &attachments.files {
            files.create(name).and_then(|file| file.write_all(bytes)).map_err(failed)?;
            summary.bytes += bytes.len() as u64;
        }
        Ok(summary)
    }
}
