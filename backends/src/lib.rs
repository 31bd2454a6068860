//! Writers of target artefacts.
//!
//! A backend exports a [`Target`]: what it asks of a graph, as data for the passes; and it writes a graph that meets
//! this as one file or several.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

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
mod qir;
pub mod tflite;
mod unsupported;

pub use attachments::Attachments;
pub use files::{Files, Memory, unwritten};
pub use kind::Kind;
pub use qir::Qir;
pub(crate) use unsupported::Unsupported;

/// What writes graphs for a runtime.
pub trait Backend: fmt::Debug + Send + Sync {
    /// What it asks of a graph; its name is that of the target in options and reports.
    fn target(&self) -> &Target;

    /// The format, where it is one of qcc's own.
    fn format(&self) -> Option<Format> {
        None
    }

    /// Extension of the main file, without the dot.
    fn extension(&self) -> &str;

    /// Name of the main file, for a model called `stem`; `suffix` tells the precision.
    fn file_name(&self, stem: &str, suffix: &str) -> PathBuf {
        format!("{stem}{suffix}.{}", self.extension()).into()
    }

    /// Names of the files that are written beside the main one, whatever the weights.
    fn beside(&self, _main: &Path, attachments: &Attachments) -> Vec<String> {
        attachments.files.iter().map(|(name, _)| name.clone()).collect()
    }

    /// True where it was asked to quantize activations when the model runs, beside weights that alone are narrow.
    fn is_dynamic(&self) -> bool {
        false
    }

    /// Writes a graph that was checked for [`Backend::target`].
    ///
    /// # Errors
    /// All that cannot be written, together; then what was written is of no use.
    fn write(
        &self,
        graph: Checked<'_>,
        attachments: &Attachments,
        files: &mut dyn Files,
    ) -> Result<Summary, Vec<Diagnostic>>;
}

/// A format that qcc writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Format {
    /// TensorFlow Lite (LiteRT).
    Tflite,
    /// ONNX (ONNX Runtime).
    Onnx,
    /// OpenVINO IR.
    Openvino,
}

/// How a graph is written, where a format knows several ways.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WriteOptions {
    /// ONNX: operators on integers (`QLinearConv`) in place of `QuantizeLinear` and `DequantizeLinear` around real ones.
    pub qoperator: bool,
    /// ONNX: weights in a file of their own, however small.
    pub external_data: bool,
    /// Where weights alone are narrow: activations of products are quantized when the model runs. TensorFlow Lite's
    /// kernels always do that.
    pub dynamic: bool,
}

impl WriteOptions {
    /// The default.
    pub const PLAIN: WriteOptions = WriteOptions { qoperator: false, external_data: false, dynamic: false };
}

/// Values of a graph and their names in a file.
pub type ValueNames = Vec<(qcc_ir::ValueId, String)>;

/// What was written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Length of all files together.
    pub bytes: u64,
    /// Number of operators.
    pub operators: usize,
    /// Number of distinct constants.
    pub constants: usize,
    /// Names that values of the graph have in the file, where the format names values alone and each once.
    pub names: ValueNames,
}

impl Format {
    /// All formats.
    pub const ALL: &'static [Format] = &[Format::Tflite, Format::Onnx, Format::Openvino];

    /// The backend that writes the format in a form. What the format does not know of it counts for nothing.
    pub fn with(self, form: WriteOptions) -> Arc<dyn Backend> {
        Arc::new(Writer { format: self, form })
    }

    /// What the format asks of a graph.
    pub fn target(self) -> &'static Target {
        self.target_for(WriteOptions::default())
    }

    /// As [`Format::target`], of a graph that is written in that form.
    pub fn target_for(self, form: WriteOptions) -> &'static Target {
        match (self, form.dynamic) {
            (Format::Tflite, _) => &tflite::TARGET,
            (Format::Onnx, false) => &onnx::TARGET,
            (Format::Onnx, true) => &onnx::DYNAMIC,
            (Format::Openvino, false) => &openvino::TARGET,
            (Format::Openvino, true) => &openvino::DYNAMIC,
        }
    }
}

impl From<Format> for Arc<dyn Backend> {
    fn from(format: Format) -> Self {
        format.with(WriteOptions::default())
    }
}

/// Writes a format in a form.
#[derive(Clone, Copy, Debug)]
struct Writer {
    format: Format,
    form: WriteOptions,
}

impl Backend for Writer {
    fn target(&self) -> &Target {
        self.format.target_for(self.form)
    }

    fn format(&self) -> Option<Format> {
        Some(self.format)
    }

    fn extension(&self) -> &str {
        match self.format {
            Format::Tflite => "tflite",
            Format::Onnx => "onnx",
            Format::Openvino => "xml",
        }
    }

    /// ONNX models of more than [`onnx::MOST_INSIDE`] bytes get a file of weights in any form.
    fn beside(&self, main: &Path, attachments: &Attachments) -> Vec<String> {
        let named = |extension: &str| files::beside(&main.file_name().unwrap_or_default().to_string_lossy(), extension);
        let weights = match self.format {
            Format::Onnx if self.form.external_data => Some(named(onnx::WEIGHTS)),
            Format::Tflite | Format::Onnx => None,
            Format::Openvino => Some(named(openvino::WEIGHTS)),
        };
        weights.into_iter().chain(attachments.files.iter().map(|(name, _)| name.clone())).collect()
    }

    fn is_dynamic(&self) -> bool {
        self.form.dynamic
    }

    fn write(
        &self,
        graph: Checked<'_>,
        attachments: &Attachments,
        files: &mut dyn Files,
    ) -> Result<Summary, Vec<Diagnostic>> {
        let target = self.format.target_for(self.form);
        if !std::ptr::eq(graph.target(), target) {
            let message = format!("the graph was checked for another target or form than that of {}", target.name);
            return Err(vec![Diagnostic::error("target", message).with_help("check it for Backend::target")]);
        }
        let mut summary = match self.format {
            Format::Tflite => {
                let name = files.main().to_owned();
                tflite::write(graph, attachments, files.create(&name).map_err(unwritten)?)?
            }
            Format::Onnx => onnx::write(graph, self.form, attachments, files)?,
            Format::Openvino => openvino::write(graph, attachments, files)?,
        };
        for (name, bytes) in &attachments.files {
            files.create(name).and_then(|file| file.write_all(bytes)).map_err(unwritten)?;
            summary.bytes += bytes.len() as u64;
        }
        Ok(summary)
    }
}
