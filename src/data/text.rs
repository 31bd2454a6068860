//! Text files that users write: lists, and YAML.

use std::path::Path;

use serde::de::DeserializeOwned;

use super::DataError;

/// Maximum bytes of a YAML file.
const YAML_BYTES: u64 = 1 << 24;

/// Maximum nesting depth of a YAML file: the time of its parser is quadratic in the depth.
const YAML_DEPTH: usize = 64;

/// The error that a file cannot be read.
pub(super) fn unreadable(path: &Path) -> impl FnOnce(std::io::Error) -> DataError {
    let path = path.to_path_buf();
    move |source| DataError::Unreadable { path, source }
}

/// The text of a file of at most `most` bytes, without a byte order mark. Anything but a regular file is refused:
/// opening a pipe would block until it has a writer.
pub(crate) fn read(path: &Path, most: u64) -> Result<String, DataError> {
    let meta = std::fs::metadata(path).map_err(unreadable(path))?;
    if !meta.is_file() {
        return Err(unreadable(path)(std::io::Error::other("not a file")));
    }
    if meta.len() > most {
        let why = format!("it has {} bytes; {most} at most are read", meta.len());
        return Err(unreadable(path)(std::io::Error::other(why)));
    }
    let text = std::fs::read_to_string(path).map_err(unreadable(path))?;
    Ok(text.strip_prefix('\u{feff}').map_or_else(|| text.clone(), str::to_owned))
}

/// The content of a YAML or JSON file, which messages call `what`.
pub(crate) fn yaml<T: DeserializeOwned>(path: &Path, what: &str) -> Result<T, DataError> {
    let bad = |reason: String| DataError::Description { path: path.into(), reason: format!("no {what}: {reason}") };
    let text = read(path, YAML_BYTES)?;
    if depth(&text) > YAML_DEPTH {
        return Err(bad(format!("brackets are nested deeper than {YAML_DEPTH}")));
    }
    serde_norway::from_str(&text).map_err(|e| bad(e.to_string()))
}

/// Maximum nesting depth of brackets, ignoring comment lines.
fn depth(yaml: &str) -> usize {
    let lines = yaml.lines().filter(|l| !l.trim_start().starts_with('#'));
    let (mut open, mut most) = (0usize, 0);
    for c in lines.flat_map(str::chars) {
        match c {
            '[' | '{' => open += 1,
            ']' | '}' => open = open.saturating_sub(1),
            _ => {}
        }
        most = most.max(open);
    }
    most
}
