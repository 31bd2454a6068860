//! A file without a name until it is complete.

use std::fs::File;
use std::io;
use std::path::Path;

use tempfile::TempPath;

use super::unfinished;

/// What stands before the random part of the name of a temporary file.
const PREFIX: &str = ".qcc-";

/// A file that is being written in the folder where it will lie. Readers of that folder see it when it is complete.
#[derive(Debug)]
pub(super) struct Temporary {
    file: File,
    /// Its name; none where the file system keeps files without one, which are gone with the process.
    path: Option<TempPath>,
}

impl Temporary {
    /// Begins a file. The process's mask for new files decides who may read it.
    pub(super) fn new(folder: &Path) -> io::Result<Self> {
        #[cfg(target_os = "linux")]
        if let Some(file) = unnamed::open(folder) {
            return Ok(Temporary { file, path: None });
        }
        Temporary::named(folder)
    }

    /// A file with a name that nobody asks for.
    pub(super) fn named(folder: &Path) -> io::Result<Self> {
        let mut builder = tempfile::Builder::new();
        builder.prefix(PREFIX);
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        let made = unfinished::file(|| builder.tempfile_in(folder)).map_err(|e| nameless(&e))?;
        let (file, path) = made.into_parts();
        Ok(Temporary { file, path: Some(path) })
    }

    /// Gives the file its name. What has that name is replaced.
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

/// The kind of an error, without the name of the temporary file that its message has.
fn nameless(e: &io::Error) -> io::Error {
    e.kind().into()
}

/// Files without a name (open(2), `O_TMPFILE`).
#[cfg(target_os = "linux")]
mod unnamed {
    use std::fs::File;
    use std::io;
    use std::os::fd::AsRawFd;
    use std::path::{Path, PathBuf};

    use rustix::fs::{AtFlags, CWD, Mode, OFlags, linkat, open as open_at};

    use super::{PREFIX, nameless};

    /// A new file in a folder, or none where it could not be given a name later.
    pub(super) fn open(folder: &Path) -> Option<File> {
        let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
        let file = File::from(open_at(folder, flags, Mode::from_raw_mode(0o666)).ok()?);
        place(&file).exists().then_some(file)
    }

    /// Where an open file can be linked from.
    fn place(file: &File) -> PathBuf {
        format!("/proc/self/fd/{}", file.as_raw_fd()).into()
    }

    pub(super) fn link(file: &File, destination: &Path) -> io::Result<()> {
        let link = |to: &Path| linkat(CWD, place(file), CWD, to, AtFlags::SYMLINK_FOLLOW).map_err(io::Error::from);
        match link(destination) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            done => return done,
        }
        // Only what has a name can take the place of another file.
        let folder = destination.parent().filter(|f| *f != Path::new("")).unwrap_or(Path::new("."));
        let named = tempfile::Builder::new().prefix(PREFIX).make_in(folder, link).map_err(|e| nameless(&e))?;
        named.into_temp_path().persist(destination).map_err(|e| nameless(&e.error))
    }
}
