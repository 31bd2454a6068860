//! Input files, which no output may replace.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Identifies a file, whatever names and links lead to it: device and inode.
#[cfg(unix)]
type Identity = (u64, u64);
#[cfg(not(unix))]
type Identity = PathBuf;

#[cfg(unix)]
fn identity(path: &Path) -> Option<Identity> {
    let meta = std::fs::metadata(path).ok()?;
    Some((std::os::unix::fs::MetadataExt::dev(&meta), std::os::unix::fs::MetadataExt::ino(&meta)))
}

#[cfg(not(unix))]
fn identity(path: &Path) -> Option<Identity> {
    path.canonicalize().ok()
}

/// The files that a run reads. They are added before anything is written.
#[derive(Debug, Default)]
pub(crate) struct Protected {
    files: Vec<(PathBuf, &'static str)>,
    /// Computed on first use: most outputs replace nothing.
    identities: OnceCell<BTreeMap<Identity, usize>>,
}

impl Protected {
    /// Adds files; `role` describes their use in the run.
    pub(crate) fn add(&mut self, role: &'static str, files: impl IntoIterator<Item = PathBuf>) {
        self.files.extend(files.into_iter().map(|f| (f, role)));
        self.identities.take();
    }

    /// The role of the file at `path` if the run reads it, with the path by which it is read if that differs.
    pub(super) fn role(&self, path: &Path) -> Option<String> {
        let wanted = identity(path)?;
        let all = || {
            let each = self.files.iter().enumerate().filter_map(|(i, (f, _))| Some((identity(f)?, i)));
            // If a file is read under several names, the first one counts.
            each.collect::<Vec<_>>().into_iter().rev().collect()
        };
        let (file, role) = &self.files[*self.identities.get_or_init(all).get(&wanted)?];
        Some(if file == path { (*role).to_owned() } else { format!("{role}, {}", file.display()) })
    }
}
