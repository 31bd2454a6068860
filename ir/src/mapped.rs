//! Bytes in mapped files, so that models larger than memory can be compiled.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

/// Computed bytes that are kept in memory. Further ones are kept in temporary files.
const IN_MEMORY: u64 = 1 << 27;

/// Fewer bytes are always kept in memory.
const SMALL: usize = 1 << 20;

/// Computed bytes that are kept in memory now.
static HELD: AtomicU64 = AtomicU64::new(0);

/// Maps an open file. It must not change while its bytes are in use.
///
/// # Errors
/// If the system cannot map the file.
pub fn map(file: &File) -> io::Result<Bytes> {
    if file.metadata()?.len() == 0 {
        return Ok(Bytes::new());
    }
    // SAFETY: the map is private and read-only; the documentation requires that the file does not change while it is in
    // use.
    #[expect(unsafe_code, reason = "mapping a file avoids copying weights")]
    let map = unsafe { memmap2::Mmap::map(file)? };
    Ok(Bytes::from_owner(map))
}

/// Bytes in memory that are counted in [`HELD`].
struct Held(Bytes);

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        HELD.fetch_sub(self.0.len() as u64, Ordering::Relaxed);
    }
}

/// The same bytes, which were computed and are kept: in memory if they are few or all that are kept there are, else in
/// a temporary file, which has no name and is removed with its last use. If no file can be written, they stay in memory.
pub fn keep(bytes: Bytes) -> Bytes {
    let len = bytes.len();
    if len < SMALL {
        return bytes;
    }
    let fits = |held: u64| held.checked_add(len as u64).filter(|&sum| sum <= IN_MEMORY);
    if HELD.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_ok() {
        return Bytes::from_owner(Held(bytes));
    }
    spill(&bytes, &temporary_folder()).unwrap_or(bytes)
}

/// The bytes in a temporary file in `folder`.
fn spill(bytes: &[u8], folder: &Path) -> io::Result<Bytes> {
    let mut file = tempfile::tempfile_in(folder)?;
    // Written, not copied to a map of an empty file: a full disk is an error here, and a signal there.
    file.write_all(bytes)?;
    map(&file)
}

/// The folder that the user names for temporary files, else one that is on a disk: the system's own may be in memory.
fn temporary_folder() -> PathBuf {
    let disk = Path::new("/var/tmp");
    if std::env::var_os("TMPDIR").is_none() && disk.is_dir() { disk.into() } else { std::env::temp_dir() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_in_a_file_are_the_same() {
        let bytes: Vec<u8> = (0..3 * SMALL).map(|i| (i % 251) as u8).collect();
        let spilt = spill(&bytes, &temporary_folder()).unwrap();
        assert_eq!(spilt, bytes);
        assert_eq!(spill(&[], &temporary_folder()).unwrap(), Bytes::new());
        assert!(spill(&bytes, Path::new("no such folder")).is_err());
    }

    #[test]
    fn memory_is_returned() {
        let bytes = Bytes::from(vec![7; 4 * SMALL]);
        let all: Vec<Bytes> = (0..40).map(|_| keep(bytes.clone())).collect();
        assert!(all.iter().all(|kept| *kept == bytes));
        assert!(HELD.load(Ordering::Relaxed) <= IN_MEMORY);
        // A file is not counted, and what was in memory is no more.
        let before = HELD.load(Ordering::Relaxed);
        drop(all);
        assert!(HELD.load(Ordering::Relaxed) < before);
    }
}
