//! Writers of target artefacts.
//!
//! A backend provides a [`Target`], the requirements on a graph as data for the passes, and writes a graph that meets
//! them as one file or several.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use qcc_ir::Checked;
use qcc_ir::diagnostic::Diagnostic;
use qcc_ir::target::Target;

mod attachments;
mod device;
mod devices;
pub mod disassembly;
mod extents;
mod files;
mod kind;
mod names;
pub mod onnx;
pub mod openvino;
mod operation;
mod pack;
pub mod plan;
mod qir;
pub mod tflite;
mod unsupported;

pub use attachments::{Attachments, State};
pub use device::{Device, Split};
pub use files::{Discarded, Files, Memory, unwritten};
pub use kind::Kind;
pub use qir::Qir;
pub(crate) use unsupported::Unsupported;

/// Writes graphs in the format of a runtime.
pub trait Backend: fmt::Debug + Send + Sync {
    /// The requirements on a graph. Its name identifies the target in options and reports.
    fn target(&self) -> &Target;

    /// The format, if it is one of qcc's own.
    fn format(&self) -> Option<Format> {
        None
    }

    /// The device that the artefact is for, if not for all that run the format.
    fn device(&self) -> Option<&'static Device> {
        None
    }

    /// Extension of the main file, without the dot.
    fn extension(&self) -> &str;

    /// Name of the main file for a model called `stem`; `suffix` tells the precision.
    fn file_name(&self, stem: &str, suffix: &str) -> PathBuf {
        format!("{stem}{suffix}.{}", self.extension()).into()
    }

    /// Names of the files that are always written in addition to the main one.
    fn beside(&self, _main: &Path, attachments: &Attachments) -> Vec<String> {
        attachments.files.iter().map(|(name, _)| name.clone()).collect()
    }

    /// Bytes that the runtime reserves for the values of an artefact, for the shapes in the file, where they are known
    /// ([`Summary::arena_bytes`]).
    fn arena_bytes(&self, _file: &Bytes) -> Option<u64> {
        None
    }

    /// True if dynamic quantization of activations was requested for weight-only quantized products.
    fn is_dynamic(&self) -> bool {
        false
    }

    /// Writes a graph that was checked for [`Backend::target`].
    ///
    /// # Errors
    /// All nodes that cannot be written are reported together; the files are then incomplete and must be discarded.
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

/// Options of the formats on how a graph is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WriteOptions {
    /// ONNX: integer operators (`QLinearConv`) instead of `QuantizeLinear` and `DequantizeLinear` around float
    /// operators.
    pub qoperator: bool,
    /// ONNX: weights in a separate file, whatever their size.
    pub external_data: bool,
    /// ONNX: the version of the standard operator set, one of [`onnx::OPSETS`]; by default the lowest from 17 on that has
    /// all operators.
    pub opset: Option<i64>,
    /// Dynamic quantization of the activations of weight-only quantized products. TensorFlow Lite's kernels always do
    /// that.
    pub dynamic: bool,
    /// TensorFlow Lite: C++ sources for [`tflite::TFLM`] in place of a model file.
    pub sources: bool,
    /// The device that runs the artefact; it must be one of the format.
    pub device: Option<&'static Device>,
}

impl WriteOptions {
    /// The default.
    pub const PLAIN: WriteOptions = WriteOptions {
        qoperator: false,
        external_data: false,
        opset: None,
        dynamic: false,
        sources: false,
        device: None,
    };

    /// True for a device that takes QuantizeLinear and DequantizeLinear as the standard defines them.
    pub(crate) fn has_standard_qdq(&self) -> bool {
        self.device.is_some_and(|device| device.standard_qdq)
    }
}

/// Values of a graph and their names in a file.
pub type ValueNames = Vec<(qcc_ir::ValueId, String)>;

/// Statistics of an artefact.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Total length of all files.
    pub bytes: u64,
    /// Number of operators.
    pub operators: usize,
    /// Number of distinct constants.
    pub constants: usize,
    /// Names of the graph's values in the file, if the format has a unique name for each value.
    pub names: ValueNames,
    /// The operators that the device's accelerator does not run.
    pub on_cpu: Vec<OnCpu>,
    /// Bytes that the runtime reserves for values, where they are known: those of LiteRT with its reference kernels.
    pub arena_bytes: Option<u64>,
}

/// An operator of an artefact that the accelerator of its device does not run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OnCpu {
    /// The node that it was written for.
    pub node: qcc_ir::NodeId,
    /// The operator, in the spelling of the format.
    pub operator: String,
    /// The name of its first result.
    pub result: String,
    /// The rule that it breaks.
    pub rule: String,
}

impl Format {
    /// The format of files of a kind; `None` for the graph of qcc.
    pub fn of(kind: Kind) -> Option<Format> {
        match kind {
            Kind::Tflite => Some(Format::Tflite),
            Kind::Onnx => Some(Format::Onnx),
            Kind::Openvino => Some(Format::Openvino),
            Kind::Graph => None,
        }
    }

    /// All formats.
    pub const ALL: &'static [Format] = &[Format::Tflite, Format::Onnx, Format::Openvino];

    /// The backend that writes the format with these options. Options that do not apply to the format are ignored.
    pub fn with(self, options: WriteOptions) -> Arc<dyn Backend> {
        Arc::new(Writer { format: self, options })
    }

    /// The requirements of the format on a graph.
    pub fn target(self) -> &'static Target {
        self.target_for(WriteOptions::default())
    }

    /// As [`Format::target`], for these write options.
    pub fn target_for(self, options: WriteOptions) -> &'static Target {
        if let Some(device) = options.device.filter(|device| device.format == self) {
            return &device.target;
        }
        match (self, options.dynamic) {
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

/// Writes a format with options.
#[derive(Clone, Copy, Debug)]
struct Writer {
    format: Format,
    options: WriteOptions,
}

impl Backend for Writer {
    fn target(&self) -> &Target {
        self.format.target_for(self.options)
    }

    fn format(&self) -> Option<Format> {
        Some(self.format)
    }

    fn device(&self) -> Option<&'static Device> {
        self.options.device
    }

    fn extension(&self) -> &str {
        match self.format {
            Format::Tflite if self.options.sources => tflite::micro::SOURCE,
            Format::Tflite => "tflite",
            Format::Onnx => "onnx",
            Format::Openvino => "xml",
        }
    }

    /// ONNX models of more than [`onnx::MOST_INSIDE`] bytes always get a separate file of weights.
    fn beside(&self, main: &Path, attachments: &Attachments) -> Vec<String> {
        let named = |extension: &str| files::beside(&main.file_name().unwrap_or_default().to_string_lossy(), extension);
        let weights = match self.format {
            Format::Onnx if self.options.external_data => Some(named(onnx::WEIGHTS)),
            Format::Tflite if self.options.sources => {
                let header = main.extension().is_some_and(|extension| extension == tflite::micro::HEADER);
                Some(named(if header { tflite::micro::SOURCE } else { tflite::micro::HEADER }))
            }
            Format::Tflite | Format::Onnx => None,
            Format::Openvino => Some(named(openvino::WEIGHTS)),
        };
        weights.into_iter().chain(attachments.files.iter().map(|(name, _)| name.clone())).collect()
    }

    fn is_dynamic(&self) -> bool {
        self.options.dynamic
    }

    fn arena_bytes(&self, file: &Bytes) -> Option<u64> {
        match self.format {
            Format::Tflite if self.options.device.is_none() => tflite::arena_bytes(file),
            _ => None,
        }
    }

    fn write(
        &self,
        graph: Checked<'_>,
        attachments: &Attachments,
        files: &mut dyn Files,
    ) -> Result<Summary, Vec<Diagnostic>> {
        let target = self.format.target_for(self.options);
        if !std::ptr::eq(graph.target(), target) {
            let message = format!(
                "the graph was checked for another target or other write options than those of {}",
                target.title()
            );
            return Err(vec![Diagnostic::error("target", message).with_help("check it for Backend::target")]);
        }
        let mut summary = match self.format {
            Format::Tflite if self.options.sources => {
                tflite::write_sources(graph, self.options.device, attachments, files)?
            }
            Format::Tflite => {
                let name = files.main().to_owned();
                tflite::write(graph, self.options.device, attachments, files.create(&name).map_err(unwritten)?)?
            }
            Format::Onnx => onnx::write(graph, self.options, attachments, files)?,
            Format::Openvino => openvino::write(graph, attachments, files)?,
        };
        for (name, bytes) in &attachments.files {
            files.create(name).and_then(|file| file.write_all(bytes)).map_err(unwritten)?;
            summary.bytes += bytes.len() as u64;
        }
        Ok(summary)
    }
}
