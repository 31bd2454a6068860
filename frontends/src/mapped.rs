//! Files mapped into memory.

use std::fmt;
use std::fs::File;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use rustc_hash::FxHashMap;

/// Returns a file that the model refers to, by its name, or the reason why there is none.
pub(crate) type Lookup = dyn Fn(&str) -> Result<Bytes, String> + Send + Sync;

/// The folder of a model, from which additional files with weights are mapped, each once. They must not change while
/// their bytes are in use.
pub struct Folder {
    path: PathBuf,
    /// The source of the files if they are not in a folder.
    lookup: Option<Box<Lookup>>,
    maps: Mutex<FxHashMap<String, Bytes>>,
}

impl fmt::Debug for Folder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Folder").field("path", &self.path).field("lookup", &self.lookup.is_some()).finish()
    }
}

impl Folder {
    /// The folder of a model.
    pub fn new(path: &Path) -> Self {
        let path = if path.as_os_str().is_empty() { PathBuf::from(".") } else { path.to_path_buf() };
        Folder { path, lookup: None, maps: Mutex::default() }
    }

    /// Files that are looked up by the names that the model has for them.
    pub(crate) fn of(lookup: Box<Lookup>) -> Self {
        Folder { lookup: Some(lookup), ..Folder::new(Path::new("")) }
    }

    /// Its path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The bytes of a file in the folder.
    ///
    /// # Errors
    /// The reason: the file cannot be read, or it is outside the folder.
    pub fn map(&self, location: &str) -> Result<Bytes, String> {
        let mut maps = self.maps.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bytes) = maps.get(location) {
            return Ok(bytes.clone());
        }
        if let Some(lookup) = &self.lookup {
            let bytes = lookup(location).map_err(|why| format!("there is no file {location} with its data: {why}"))?;
            maps.insert(location.into(), bytes.clone());
            return Ok(bytes);
        }
        let inside = Path::new(location).components().all(|c| matches!(c, Component::Normal(_) | Component::CurDir));
        let unreadable = |e| format!("the file {location} with its data cannot be read: {e}");
        let outside = || format!("its data is in \"{location}\", outside the folder of the model");
        if !inside || location.is_empty() {
            return Err(outside());
        }
        let folder = self.path.canonicalize().map_err(unreadable)?;
        let file = folder.join(location).canonicalize().map_err(unreadable)?;
        if !file.starts_with(&folder) {
            return Err(outside());
        }
        let bytes = map(&file).map_err(unreadable)?;
        maps.insert(location.into(), bytes.clone());
        Ok(bytes)
    }
}

/// The bytes of a mapped file. It must not change while they are in use.
///
/// # Errors
/// If the file cannot be read.
pub fn map(path: &Path) -> io::Result<Bytes> {
    // Checked before it is opened: opening a pipe would block until it has a writer.
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a file"));
    }
    qcc_ir::mapped::map(&File::open(path)?)
}
