//! ONNX, run by ONNX Runtime.

use qcc_ir::Graph;
use qcc_ir::diagnostic::Diagnostic;

use crate::{Files, Form, Summary};

mod target;

pub use target::TARGET;

/// Writes a graph that was lowered for [`TARGET`]. All that cannot be written is reported together, and then nothing is
/// written.
pub fn write(_graph: &Graph, _form: Form, _files: &mut dyn Files) -> Result<Summary, Vec<Diagnostic>> {
    Err(vec![Diagnostic::error("unsupported-target", "this format is not written yet")])
}
