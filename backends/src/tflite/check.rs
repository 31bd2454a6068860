//! What runtimes do not forgive, checked on the finished tables.

use qcc_formats::tflite::Model;
use qcc_ir::diagnostic::Diagnostic;

/// Everything in a model that would fail, or run and be wrong.
pub(super) fn check(_model: &Model) -> Vec<Diagnostic> {
    Vec::new()
}
