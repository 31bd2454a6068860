//! Files that have no visible name until they are complete.

use std::fs::File;
use std::io;
use std::path::Path;

use tempfile::TempPath;

use crate::unfinished;

/// Prefix of the names of temporary files.
const PREFIX: &str = ".qcc-";

/// A file that is being written in its destination folder. It appears under its name when it is complete.
#[derive(Debug)]
pub(super) struct Temporary {
    file: File,
    /// Its temporary name; `None` if the file system supports unnamed files, which vanish with the process.
    path: Option<TempPath>,
}

impl Temporary {
    /// Begins a file. The umask of the process decides its permissions.
    pub(super) fn new(folder: &Path) -> io::Result<Self> {
        #[cfg(target_os = "linux")]
        if let Some(file) = unnamed::open(folder) {
            return Ok(Temporary { file, path: None });
        }
        Temporary::named(folder)
    }

    /// A file with a temporary name.
    pub(super) fn named(folder: &Path) -> io::Result<Self> {
        let mut builder = tempfile::Builder::new();
        builder.prefix(PREFIX);
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        let made = unfinished::file(|| builder.tempfile_in(folder)).map_err(|e| nameless(&e))?;
        let (file, path) = made.into_parts();
        Ok(Temporary { file, path: Some(path) })
    }

    /// Gives the file its final name, replacing an existing file.
    pub(super) fn publish(mut self, destination: &Path) -> io::Result<()> {
        match self.path.take() {
            Some(path) => {
                unfinished::forget_file(&path);
                path.persist(destination).map_err(|e| nameless(&e.error))
            }
            #[cfg(target_os = "linux")]
            None => unnamed::link(&self.file, destination),
            #[cfg(not(target_os = "linux"))]
            None => Err(io::ErrorKind::Unsupported.into()),
        }
    }
}

impl io::Write for Temporary {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            unfinished::forget_file(path);
        }
    }
}

/// The error kind, without the name of the temporary file that the message contains.
fn nameless(e: &io::Error) -> io::Error {
    e.kind().into()
}

/// Unnamed files (open(2), `O_TMPFILE`).
#[cfg(target_os = "linux")]
mod unnamed {
    use std::fs::File;
    use std::io;
    use std::os::fd::AsRawFd;
    use std::path::{Path, PathBuf};

    use rustix::fs::{AtFlags, CWD, Mode, OFlags, linkat, open as open_at};

    use super::{PREFIX, nameless};

    /// A new unnamed file in a folder, or `None` if it could not be linked later.
    pub(super) fn open(folder: &Path) -> Option<File> {
        let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
        let file = File::from(open_at(folder, flags, Mode::from_raw_mode(0o666)).ok()?);
        place(&file).exists().then_some(file)
    }

    /// The path from which an open file can be linked.
    fn place(file: &File) -> PathBuf {
        format!("/proc/self/fd/{}", file.as_raw_fd()).into()
    }

    pub(super) fn link(file: &File, destination: &Path) -> io::Result<()> {
        let link = |to: &Path| linkat(CWD, place(file), CWD, to, AtFlags::SYMLINK_FOLLOW).map_err(io::Error::from);
        match link(destination) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            done => return done,
        }
        // Only a named file can replace another file.
        let folder = destination.parent().filter(|f| *f != Path::new("")).unwrap_or(Path::new("."));
        let named = tempfile::Builder::new().prefix(PREFIX).make_in(folder, link).map_err(|e| nameless(&e))?;
        named.into_temp_path().persist(destination).map_err(|e| nameless(&e.error))
    }
}
