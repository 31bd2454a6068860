//! The files of a report; the file name decides on the format.

use std::path::Path;

use qcc_backends::Format;
use qcc_ir::diagnostic::Diagnostic;

use crate::outcome::Report;
use crate::overlay::overlay;
use crate::{json, page};

/// The format of a report file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// JSON with all numbers.
    Json,
    /// An HTML page.
    Page,
    /// Node data for Model Explorer.
    Overlay,
}

impl Kind {
    pub(crate) fn of(path: &Path) -> Self {
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
        match () {
            () if name.ends_with(".html") || name.ends_with(".htm") => Kind::Page,
            () if name.ends_with(".overlay.json") => Kind::Overlay,
            () => Kind::Json,
        }
    }
}

/// True if artefacts of the target name their tensors, which an overlay needs.
pub(crate) fn has_names(target: &str) -> bool {
    target == Format::Tflite.target().name
}

/// The content of a report file (`docs/report.md`), whose format follows from its name: a page (`.html`), node data for
/// Model Explorer (`.overlay.json`), or JSON.
///
/// # Errors
/// If it cannot be written as JSON.
pub fn file(report: &Report, path: &Path) -> Result<Vec<u8>, Box<Diagnostic>> {
    let text = match Kind::of(path) {
        Kind::Page => Ok(page::html(report)),
        Kind::Overlay => json::pretty(&report.artefacts.iter().find(|a| has_names(a.target)).map(overlay)),
        Kind::Json => json::pretty(report),
    };
    let text = text.map_err(|e| Diagnostic::error("report", format!("the report cannot be written: {e}")))?;
    Ok(text.into_bytes())
}
