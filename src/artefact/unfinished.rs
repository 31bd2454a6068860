//! What a process would leave on disk if a signal ended it now.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tempfile::NamedTempFile;

/// Files and folders that are removed when the runs that made them end.
#[derive(Debug)]
struct Unfinished {
    files: Vec<PathBuf>,
    folders: Vec<PathBuf>,
}

static UNFINISHED: Mutex<Unfinished> = Mutex::new(Unfinished { files: Vec::new(), folders: Vec::new() });

/// Held while files get their names.
static PUBLISHING: Mutex<()> = Mutex::new(());

fn locked<T>(mutex: &'static Mutex<T>) -> MutexGuard<'static, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Removes the temporary files of the process and the empty folders that it made. Runs that are about to publish finish
/// that first; none begins or publishes a file afterwards. For those who end the process when a signal asks for it.
pub fn abandon() {
    std::mem::forget(locked(&PUBLISHING));
    let unfinished = locked(&UNFINISHED);
    for file in &unfinished.files {
        let _ = std::fs::remove_file(file);
    }
    for folder in unfinished.folders.iter().rev() {
        let _ = std::fs::remove_dir(folder);
    }
    std::mem::forget(unfinished);
}

/// Does what [`abandon`] must not come between.
pub(super) fn publishing<T>(act: impl FnOnce() -> T) -> T {
    let _guard = locked(&PUBLISHING);
    act()
}

/// Makes a temporary file, to be removed by [`abandon`].
pub(super) fn file(make: impl FnOnce() -> io::Result<NamedTempFile>) -> io::Result<NamedTempFile> {
    let mut unfinished = locked(&UNFINISHED);
    let file = make()?;
    unfinished.files.push(absolute(file.path()));
    Ok(file)
}

/// The temporary file is gone, or has its own name.
pub(super) fn forget_file(path: &Path) {
    let path = absolute(path);
    locked(&UNFINISHED).files.retain(|f| *f != path);
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.into())
}

/// Folders that a run made. Those that are empty when it ends are removed.
#[derive(Debug, Default)]
pub(super) struct Folders(Vec<PathBuf>);

impl Folders {
    /// Makes a folder and those around it, where they are missing.
    pub(super) fn make(&mut self, folder: &Path) -> io::Result<()> {
        let mut unfinished = locked(&UNFINISHED);
        let missing: Vec<&Path> = folder.ancestors().take_while(|f| *f != Path::new("") && !f.is_dir()).collect();
        for folder in missing.into_iter().rev() {
            match std::fs::create_dir(folder) {
                Ok(()) => {
                    unfinished.folders.push(absolute(folder));
                    self.0.push(absolute(folder));
                }
                // Another process made it meanwhile.
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
