//! Files mapped into memory.

use std::fs::File;
use std::io;
use std::path::Path;

use bytes::Bytes;

/// The bytes of a file, mapped.
pub(crate) fn map(path: &Path) -> io::Result<Bytes> {
    // Before it is opened: to open a pipe waits for its writer.
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a file"));
    }
    let file = File::open(path)?;
    let meta = file.metadata()?;
    if meta.len() == 0 {
        return Ok(Bytes::new());
    }
    // SAFETY: the map is private and read-only; `Model::open` asks that the file not change while it is in use.
    #[expect(unsafe_code, reason = "mapping a file is the one way to read weights without copying them")]
    let map = unsafe { memmap2::Mmap::map(&file)? };
    Ok(Bytes::from_owner(map))
}
