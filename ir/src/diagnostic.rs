//! What a user is told. Diagnostics are data; only the command line renders them.

use crate::graph::Origin;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The run fails.
    Error,
    /// The run goes on; the result may not be what was wanted.
    Warning,
    /// Good to know.
    Note,
}

/// One message: what is wrong, where, and what to do.
#[derive(Clone, Debug, PartialEq)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// A short stable word for the kind of message, such as `unsupported-op`.
    pub code: &'static str,
    /// What is wrong, in one line.
    pub message: String,
    /// The source node it concerns.
    pub origin: Origin,
    /// Details.
    pub notes: Vec<String>,
    /// What to do.
    pub help: Option<String>,
}

impl Diagnostic {
    /// An error.
    pub fn error(code: &'static str, message: impl Into<String>) -> Self {
        Diagnostic {
            severity: Severity::Error,
            code,
            message: message.into(),
            origin: Origin::none(),
            notes: Vec::new(),
            help: None,
        }
    }

    /// A warning.
    pub fn warning(code: &'static str, message: impl Into<String>) -> Self {
        Diagnostic { severity: Severity::Warning, ..Diagnostic::error(code, message) }
    }

    /// A note.
    pub fn note(code: &'static str, message: impl Into<String>) -> Self {
        Diagnostic { severity: Severity::Note, ..Diagnostic::error(code, message) }
    }

    /// The same message about a source node.
    pub fn at(self, origin: &Origin) -> Self {
        Diagnostic { origin: origin.clone(), ..self }
    }

    /// The same message with a detail more.
    pub fn with_note(mut self, note: impl Into<String>) -> Self {
        self.notes.push(note.into());
        self
    }

    /// The same message with what to do.
    pub fn with_help(self, help: impl Into<String>) -> Self {
        Diagnostic { help: Some(help.into()), ..self }
    }
}
