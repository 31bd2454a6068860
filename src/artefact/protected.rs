//! Files that are read, which nothing that is written may replace.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What tells a file from all others, whatever names and links lead to it.
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

/// The files that a run reads. Readers add theirs before anything is written.
#[derive(Debug, Default)]
pub(crate) struct Protected {
    files: Vec<(PathBuf, &'static str)>,
    /// Made when first asked for: most outputs replace nothing.
    identities: OnceCell<BTreeMap<Identity, usize>>,
}

impl Protected {
    /// Adds files; `role` says what they are to the run.
    pub(crate) fn add(&mut self, role: &'static str, files: impl IntoIterator<Item = PathBuf>) {
        self.files.extend(files.into_iter().map(|f| (f, role)));
        self.identities.take();
    }

    /// What the file at `path` is to the run, in words, where the run reads it; with the name that it is read by, where
    /// that is another.
    pub(super) fn role(&self, path: &Path) -> Option<String> {
        let wanted = identity(path)?;
        let all = || {
            let each = self.files.iter().enumerate().filter_map(|(i, (f, _))| Some((identity(f)?, i)));
            // The first reader names the file.
            each.collect::<Vec<_>>().into_iter().rev().collect()
        };
        let (file, role) = &self.files[*self.identities.get_or_init(all).get(&wanted)?];
        Some(if file == path { (*role).to_owned() } else { format!("{role}, {}", file.display()) })
    }
}
