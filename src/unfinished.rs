//! Files that must be removed if a signal ends the process.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tempfile::{NamedTempFile, TempDir};

/// Temporary files and folders, which are removed when the run that created them ends.
#[derive(Debug)]
struct Unfinished {
    files: Vec<PathBuf>,
    folders: Vec<PathBuf>,
    /// Folders that are removed with their content.
    scratch: Vec<PathBuf>,
}

static UNFINISHED: Mutex<Unfinished> =
    Mutex::new(Unfinished { files: Vec::new(), folders: Vec::new(), scratch: Vec::new() });

/// Held while files get their final names.
static PUBLISHING: Mutex<()> = Mutex::new(());

fn locked<T>(mutex: &'static Mutex<T>) -> MutexGuard<'static, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Removes the temporary files of the process and the empty folders that it created. It waits for runs that are
/// publishing; no file is begun or published afterwards. Call it before the process ends on a signal.
pub fn abandon() {
    std::mem::forget(locked(&PUBLISHING));
    let unfinished = locked(&UNFINISHED);
    for file in &unfinished.files {
        let _ = std::fs::remove_file(file);
    }
    for folder in unfinished.folders.iter().rev() {
        let _ = std::fs::remove_dir(folder);
    }
    for folder in &unfinished.scratch {
        let _ = std::fs::remove_dir_all(folder);
    }
    std::mem::forget(unfinished);
}

/// Runs `act`, which [`abandon`] must not interrupt.
pub(crate) fn publishing<T>(act: impl FnOnce() -> T) -> T {
    let _guard = locked(&PUBLISHING);
    act()
}

/// Creates a temporary file, which [`abandon`] removes.
pub(crate) fn file(make: impl FnOnce() -> io::Result<NamedTempFile>) -> io::Result<NamedTempFile> {
    let mut unfinished = locked(&UNFINISHED);
    let file = make()?;
    unfinished.files.push(absolute(file.path()));
    Ok(file)
}

/// The temporary file is deleted or has its final name.
pub(crate) fn forget_file(path: &Path) {
    let path = absolute(path);
    locked(&UNFINISHED).files.retain(|f| *f != path);
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.into())
}

/// A temporary folder of files that a run reads, removed with its content.
#[derive(Debug)]
pub(crate) struct Scratch(TempDir);

impl Scratch {
    /// A new folder in the system's folder for temporary files, whose name begins with `prefix`.
    pub(crate) fn new(prefix: &str) -> io::Result<Self> {
        let mut unfinished = locked(&UNFINISHED);
        let folder = tempfile::Builder::new().prefix(prefix).tempdir()?;
        unfinished.scratch.push(absolute(folder.path()));
        Ok(Scratch(folder))
    }

    /// The folder.
    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let path = absolute(self.path());
        locked(&UNFINISHED).scratch.retain(|folder| *folder != path);
    }
}

/// Folders that a run created. They are removed if they are empty when it ends.
#[derive(Debug, Default)]
pub(crate) struct Folders(Vec<PathBuf>);

impl Folders {
    /// Creates a folder and its missing parents.
    pub(crate) fn make(&mut self, folder: &Path) -> io::Result<()> {
        let mut unfinished = locked(&UNFINISHED);
        let missing: Vec<&Path> = folder.ancestors().take_while(|f| *f != Path::new("") && !f.is_dir()).collect();
        for folder in missing.into_iter().rev() {
            match std::fs::create_dir(folder) {
                Ok(()) => {
                    unfinished.folders.push(absolute(folder));
                    self.0.push(absolute(folder));
                }
                // Another process created it meanwhile.
                Err(_) if folder.is_dir() => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}

impl Drop for Folders {
    fn drop(&mut self) {
        let mut unfinished = locked(&UNFINISHED);
        for folder in self.0.iter().rev() {
            let _ = std::fs::remove_dir(folder);
            unfinished.folders.retain(|f| f != folder);
        }
    }
}
