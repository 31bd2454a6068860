//! Merging of files of calibration statistics.

use std::path::{Path, PathBuf};

use qcc_backends::unwritten;
use qcc_ir::diagnostic::Diagnostic;

use crate::artefact::{Protected, Publication};
use crate::outcome::Failure;
use crate::statistics::{StatisticsFile, merged};

/// Merges the statistics of `files`, except those of data whose names match a pattern of `exclude`, and writes them to
/// `output`. The result depends neither on the order of the files nor on what was merged before.
///
/// # Errors
/// If a file cannot be read, files do not fit together, samples would count twice, excluded data are merged with others
/// already, or the output cannot be written.
pub fn merge(files: &[PathBuf], exclude: &[String], output: &Path) -> Result<StatisticsFile, Failure> {
    let mut protected = Protected::default();
    protected.add("a file that is merged", files.iter().cloned());
    let mut publication = Publication::new(protected);
    publication.artefact(output, &[])?;
    let merged = merged(files, exclude).map_err(|e| Diagnostic::from(&e))?;
    publication.write_whole(&merged.to_bytes().map_err(unwritten)?)?;
    Ok(merged)
}
