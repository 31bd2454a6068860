//! Files that appear whole or not at all.

use std::fmt;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use qcc_backends::Files;
use qcc_ir::diagnostic::Diagnostic;
use tempfile::NamedTempFile;

/// The files of an artefact while they are written: temporary ones in the folder where they will lie.
#[derive(Debug)]
pub(crate) struct Staged {
    folder: PathBuf,
    main: String,
    files: Vec<(String, BufWriter<NamedTempFile>)>,
}

impl Staged {
    /// Begins an artefact with its main file at `path`.
    pub(crate) fn new(path: &Path) -> Result<Self, Vec<Diagnostic>> {
        let main = path.file_name().ok_or_else(|| unwritable(path, &"it names no file"))?;
        let main = main.to_string_lossy().into_owned();
        replaceable(path)?;
        let mut staged =
            Staged { folder: path.parent().map(PathBuf::from).unwrap_or_default(), main, files: Vec::new() };
        // That the folder takes files shows before anything is done.
        staged.begin(staged.main.clone()).map_err(|e| unwritable(path, &e.kind()))?;
        Ok(staged)
    }

    fn begin(&mut self, name: String) -> io::Result<()> {
        let folder = if self.folder == Path::new("") { Path::new(".") } else { &self.folder };
        let temporary = tempfile::Builder::new().prefix(".qcc-").tempfile_in(folder)?;
        self.files.push((name, BufWriter::with_capacity(1 << 20, temporary)));
        Ok(())
    }

    /// Puts all files in their places, the main one last.
    pub(crate) fn publish(self) -> Result<(), Vec<Diagnostic>> {
        let main = self.main;
        let (last, first): (Vec<_>, Vec<_>) = self.files.into_iter().partition(|(name, _)| *name == main);
        let mut complete = Vec::new();
        for (name, file) in first.into_iter().chain(last) {
            let path = self.folder.join(name);
            replaceable(&path)?;
            // The kind alone: the rest names the temporary file.
            let file = file.into_inner().map_err(|e| unwritable(&path, &e.error().kind()))?;
            shared(file.as_file()).map_err(|e| unwritable(&path, &e.kind()))?;
            complete.push((path, file));
        }
        for (path, file) in complete {
            file.persist(&path).map_err(|e| unwritable(&path, &e.error.kind()))?;
        }
        Ok(())
    }
}

impl Files for Staged {
    fn main(&self) -> &str {
        &self.main
    }

    fn create(&mut self, name: &str) -> io::Result<&mut dyn Write> {
        if !self.files.iter().any(|(n, _)| n == name) {
            self.begin(name.to_owned())?;
        }
        self.files
            .iter_mut()
            .find(|(n, _)| n == name)
            .map(|(_, file)| file as &mut dyn Write)
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

fn unwritable(path: &Path, why: &dyn fmt::Display) -> Vec<Diagnostic> {
    vec![Diagnostic::error("unwritable-output", format!("cannot write {}: {why}", path.display()))]
}

/// Fails where something lies at `path` that must not be replaced.
fn replaceable(path: &Path) -> Result<(), Vec<Diagnostic>> {
    let Ok(there) = std::fs::metadata(path) else { return Ok(()) };
    // Renaming would put a file in the place of a device, and does not mind that a file may not be written.
    if !there.is_file() {
        return Err(unwritable(path, &"it is not a file"));
    }
    if there.permissions().readonly() {
        return Err(unwritable(path, &"it is read-only"));
    }
    Ok(())
}

/// Temporary files are their owner's alone; artefacts are readable by all who may read other new files.
#[cfg(unix)]
fn shared(file: &std::fs::File) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    file.set_permissions(std::fs::Permissions::from_mode(0o644))
}

#[cfg(not(unix))]
fn shared(_file: &std::fs::File) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_appear_together_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.xml");
        std::fs::write(&path, "old").unwrap();
        let mut dropped = Staged::new(&path).unwrap();
        dropped.create("a.xml").unwrap().write_all(b"half").unwrap();
        drop(dropped);
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        let mut files = Staged::new(&path).unwrap();
        files.create("a.xml").unwrap().write_all(b"new").unwrap();
        files.create("a.bin").unwrap().write_all(b"weights").unwrap();
        assert_eq!(files.beside("bin"), "a.bin");
        files.publish().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
        assert_eq!(std::fs::read(dir.path().join("a.bin")).unwrap(), b"weights");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
    }

    #[test]
    fn what_is_no_file_stays() {
        let dir = tempfile::tempdir().unwrap();
        let mut files = Staged::new(&dir.path().join("taken")).unwrap();
        std::fs::create_dir(dir.path().join("taken")).unwrap();
        files.create("taken").unwrap().write_all(b"x").unwrap();
        assert!(files.publish().is_err());
    }
}
