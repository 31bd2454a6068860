//! OpenVINO IR.

use qcc_ir::Graph;
use qcc_ir::diagnostic::Diagnostic;

use crate::{Files, Summary};

mod target;

pub use target::TARGET;

/// Writes a graph that was lowered for [`TARGET`]. All that cannot be written is reported together, and then nothing is
/// written.
pub fn write(_graph: &Graph, _files: &mut dyn Files) -> Result<Summary, Vec<Diagnostic>> {
    Err(vec![Diagnostic::error("unsupported-target", "this format is not written yet")])
}
