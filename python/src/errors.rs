//! Failures as exceptions of the package.

use std::path::Path;

use pyo3::prelude::*;
use qcc::Failure;
use qcc::ir::diagnostic::{Diagnostic, Severity, printable};
use qcc::render::render;

use crate::outcome::Outcome;

/// A diagnostic: severity, code, message, place, notes, help.
pub(crate) type Message = (String, &'static str, String, Option<String>, Vec<String>, Option<String>);

/// The diagnostics as Python takes them.
pub(crate) fn messages(diagnostics: &[Diagnostic]) -> Vec<Message> {
    let message = |d: &Diagnostic| {
        let place = (!d.origin.sources().is_empty()).then(|| printable(&d.origin.to_string()).into_owned());
        (d.severity.to_string(), d.code, d.message.clone(), place, d.notes.clone(), d.help.clone())
    };
    diagnostics.iter().map(message).collect()
}

/// The exception for a failure, with the text that the command line prints.
pub(crate) fn failed(py: Python<'_>, failure: &Failure, model: &Path) -> PyErr {
    let (class, report) = match failure {
        Failure::Usage(_) => ("UsageError", None),
        Failure::Gate { report, .. } => ("GateError", Some(Outcome { report: (**report).clone() })),
        _ => ("Error", None),
    };
    let all = match failure.diagnostics() {
        [] => &[Diagnostic::error("failed", failure.to_string())],
        all => all,
    };
    raised(py, class, all, model, report).unwrap_or_else(|e| e)
}

/// The exception for requirements that a comparison does not meet.
pub(crate) fn gate(py: Python<'_>, unmet: &[Diagnostic], model: &Path) -> PyResult<PyErr> {
    raised(py, "GateError", unmet, model, None)
}

fn raised(py: Python<'_>, class: &str, all: &[Diagnostic], model: &Path, report: Option<Outcome>) -> PyResult<PyErr> {
    let errors: Vec<Diagnostic> = all.iter().filter(|d| d.severity == Severity::Error).cloned().collect();
    let text = render(&errors, model, false);
    let class = py.import("qcc._errors")?.getattr(class)?;
    Ok(PyErr::from_value(class.call_method1("_of", (text, messages(&errors), report))?))
}
