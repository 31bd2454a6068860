//! Diagnostics: messages for users. They are data; only the command line renders them.
//!
//! ```
//! use qcc_ir::Origin;
//! use qcc_ir::diagnostic::Diagnostic;
//! let error = Diagnostic::error("odd-shape", "3 channels are expected").at(&Origin::new("/conv", "Conv")).with_help("give 3");
//! assert_eq!(error.to_string(), "error[odd-shape]: 3 channels are expected (at /conv); give 3");
//! ```

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use crate::graph::Origin;

/// Escapes text that may contain names from a file, for one line of a terminal or a text file: control characters
/// (including line breaks and terminal escape sequences), invisible characters and those that change the text
/// direction.
pub fn printable(text: &str) -> Cow<'_, str> {
    if !text.contains(is_order) {
        return Cow::Borrowed(text);
    }
    let spelled = |c: char| if is_order(c) { c.escape_default().to_string() } else { c.to_string() };
    Cow::Owned(text.chars().map(spelled).collect())
}

/// True for characters that [`printable`] escapes.
pub fn is_order(c: char) -> bool {
    let formats = matches!(c,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{feff}'
        | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{fff9}'..='\u{fffb}'
        | '\u{e0000}'..='\u{e007f}');
    c.is_control() || formats
}

/// The severity of a diagnostic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The run fails.
    Error,
    /// The run continues; the result may not be what the user expects.
    Warning,
    /// Information.
    Note,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Note => "note",
        })
    }
}

/// One message: what is wrong, where, and what to do.
#[derive(Clone, Debug, PartialEq)]
pub struct Diagnostic {
    /// The severity.
    pub severity: Severity,
    /// A short stable word for the kind of message, such as `unsupported-op`.
    pub code: &'static str,
    /// What is wrong, in one line.
    pub message: String,
    /// The source node that it is about.
    pub origin: Origin,
    /// Details.
    pub notes: Vec<String>,
    /// What to do.
    pub help: Option<String>,
    /// A symbol of the inputs' shapes and the value that it must have.
    pub extent: Option<(Arc<str>, usize)>,
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
            extent: None,
        }
    }

    /// An error in the model itself, which its format does not allow.
    pub fn invalid_model(message: impl Into<String>) -> Self {
        let help = "the model is not valid here: mend what wrote it, or export it again";
        Diagnostic::error("bad-model", message).with_help(help)
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

    /// The same message with another detail.
    pub fn with_note(mut self, note: impl Into<String>) -> Self {
        self.notes.push(note.into());
        self
    }

    /// The same message with advice.
    pub fn with_help(self, help: impl Into<String>) -> Self {
        Diagnostic { help: Some(help.into()), ..self }
    }
}

impl fmt::Display for Diagnostic {
    /// The message, where it applies, and what to do, in one line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[{}]: {}", self.severity, self.code, printable(&self.message))?;
        if !self.origin.sources().is_empty() {
            write!(f, " (at {})", printable(&self.origin.to_string()))?;
        }
        match &self.help {
            Some(help) => write!(f, "; {}", printable(help)),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Diagnostic {}

/// Numbers as messages show them.
pub fn list(numbers: &[impl fmt::Display]) -> String {
    let shown: Vec<String> = numbers.iter().map(|n| n.to_string()).collect();
    format!("[{}]", shown.join(", "))
}

/// A count with its noun.
pub fn counted(n: usize, thing: &str) -> String {
    format!("{n} {thing}{}", if n == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped() {
        for (text, want) in [
            ("/conv/Conv_1: é 日本 🙂 \\ \"", "/conv/Conv_1: é 日本 🙂 \\ \""),
            ("a\nerror[fake]: b\r", "a\\nerror[fake]: b\\r"),
            ("\u{1b}[2J\u{1b}]0;t\u{7}\0\u{7f}", "\\u{1b}[2J\\u{1b}]0;t\\u{7}\\u{0}\\u{7f}"),
            // A C1 control character that starts a sequence.
            ("\u{9b}2J", "\\u{9b}2J"),
            ("\u{202e}gpj.\u{2066}\u{200f}\u{feff}", "\\u{202e}gpj.\\u{2066}\\u{200f}\\u{feff}"),
            ("\u{2028}\u{85}", "\\u{2028}\\u{85}"),
        ] {
            assert_eq!(printable(text), want);
        }
    }
}
