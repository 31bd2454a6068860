//! Output files of artefacts.

use std::collections::BTreeMap;
use std::io::{self, Write};

use qcc_ir::diagnostic::Diagnostic;

/// The files of one artefact, all in one folder.
pub trait Files {
    /// Name of the main file, with its extension.
    fn main(&self) -> &str;

    /// Begins a file of that name and completes the previous one.
    ///
    /// # Errors
    /// Errors of the file system.
    fn create(&mut self, name: &str) -> io::Result<&mut dyn Write>;

    /// Discards all that was written; the artefact is written again from the start.
    ///
    /// # Errors
    /// Errors of the file system.
    fn restart(&mut self) -> io::Result<()>;

    /// Name of a file that belongs to the main one: the same name with another extension.
    fn beside(&self, extension: &str) -> String {
        beside(self.main(), extension)
    }
}

/// `main` with another extension.
pub(crate) fn beside(main: &str, extension: &str) -> String {
    let stem = main.rsplit_once('.').map_or(main, |(stem, _)| stem);
    format!("{stem}.{extension}")
}

/// The error if the files of an artefact cannot be written.
pub fn unwritten(why: io::Error) -> Vec<Diagnostic> {
    vec![Diagnostic::error("write", format!("the model cannot be written: {why}"))]
}

/// Files that keep nothing, to learn whether an artefact can be written.
#[derive(Clone, Debug, Default)]
pub struct Discarded {
    sink: io::Sink,
}

impl Files for Discarded {
    fn main(&self) -> &str {
        "model"
    }

    fn create(&mut self, _: &str) -> io::Result<&mut dyn Write> {
        Ok(&mut self.sink)
    }

    fn restart(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Files in memory, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    main: String,
    /// What was written.
    pub files: BTreeMap<String, Vec<u8>>,
}

impl Memory {
    /// No files yet; `main` is the name of the main file.
    pub fn new(main: impl Into<String>) -> Self {
        Memory { main: main.into(), files: BTreeMap::new() }
    }
}

impl Files for Memory {
    fn main(&self) -> &str {
        &self.main
    }

    fn create(&mut self, name: &str) -> io::Result<&mut dyn Write> {
        let file = self.files.entry(name.to_owned()).or_default();
        file.clear();
        Ok(file)
    }

    fn restart(&mut self) -> io::Result<()> {
        self.files.clear();
        Ok(())
    }
}
