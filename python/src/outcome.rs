//! The result of a compilation.

use std::path::{Path, PathBuf};

use pyo3::prelude::*;
use pyo3::types::PyBytes;
use qcc::{Report, cli, json, report_file};

use crate::errors::{Message, failed, messages};
use crate::shown;

/// A report of the compiler.
#[pyclass(frozen, module = "qcc._qcc")]
pub(crate) struct Outcome {
    pub(crate) report: Report,
}

#[pymethods]
impl Outcome {
    /// The report as JSON (docs/report.md).
    fn json(&self, py: Python<'_>) -> PyResult<String> {
        shown(py, json::pretty(&self.report))
    }

    /// The content of a report file of that name.
    fn file<'py>(&self, py: Python<'py>, name: PathBuf) -> PyResult<Bound<'py, PyBytes>> {
        match report_file(&self.report, &name) {
            Ok(content) => Ok(PyBytes::new(py, &content)),
            Err(error) => Err(failed(py, &(*error).into(), Path::new(""))),
        }
    }

    /// The summary that the command line prints.
    fn summary(&self, verbose: bool) -> String {
        cli::summary(&self.report, verbose)
    }

    /// How nodes are computed, and why; `None` if no name matches.
    fn explanation(&self, pattern: &str) -> Option<String> {
        cli::explanation(&self.report, pattern)
    }

    /// Warnings and notes.
    fn diagnostics(&self) -> Vec<Message> {
        messages(&self.report.diagnostics)
    }
}
