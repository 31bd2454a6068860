//! The ZIP archive of a `.pt2` file.

use std::io::{Cursor, Read};

use bytes::Bytes;
use zip::read::{ArchiveOffset, Config};
use zip::{CompressionMethod, ZipArchive};

use crate::refusal::Refusal;

/// Maximum compression ratio of an entry. PyTorch does not compress; recompressed weights and programs have lower
/// ratios.
const LARGEST_RATIO: u64 = 100;

/// An archive over mapped bytes. Entries are read on request.
#[derive(Clone, Debug)]
pub(super) struct Archive {
    bytes: Bytes,
    zip: ZipArchive<Cursor<Bytes>>,
}

impl Archive {
    /// Reads the directory. Entries must have unique names, must not overlap, and must lie inside the archive.
    pub(super) fn open(bytes: Bytes) -> Result<Archive, Refusal> {
        let damaged = |e: zip::result::ZipError| Refusal::Invalid(format!("the archive is damaged: {e}"));
        // The archive starts at offset 0. Without a search for its start, nested archives are not mistaken for it.
        let config = Config { archive_offset: ArchiveOffset::Known(0) };
        let mut zip = ZipArchive::with_config(config, Cursor::new(bytes.clone())).map_err(damaged)?;
        if zip.has_duplicate_names() || zip.has_overlapping_entries().map_err(damaged)? {
            return Err(Refusal::Invalid("two entries of the archive have one name or share bytes".into()));
        }
        for name in zip.file_names() {
            let name = name.map_err(damaged)?;
            if name.starts_with(['/', '\\']) || name.split(['/', '\\']).any(|part| part == "..") {
                return Err(Refusal::Invalid(format!("entry \"{name}\" leaves the archive")));
            }
        }
        Ok(Archive { bytes, zip })
    }

    /// The names of all entries.
    pub(super) fn names(&self) -> impl Iterator<Item = String> + '_ {
        self.zip.file_names().filter_map(|name| name.ok().map(String::from))
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.zip.index_for_name(name).is_some()
    }

    /// The bytes of an entry, with verified checksum. Uncompressed entries are not copied.
    pub(super) fn read(&self, name: &str) -> Result<Bytes, Refusal> {
        let wrong = |e: &dyn std::fmt::Display| Refusal::Invalid(format!("entry {name} of the archive: {e}"));
        // A copy of the reader's position; the directory is shared.
        let mut zip = self.zip.clone();
        let index = zip.index_for_name(name).ok_or_else(|| Refusal::Invalid(format!("the archive has no {name}")))?;
        let mut entry = zip.by_index(index).map_err(|e| wrong(&e))?;
        if entry.compression() != CompressionMethod::Stored {
            let size = entry.size();
            if size > entry.compressed_size().saturating_mul(LARGEST_RATIO) {
                return Err(wrong(&format!(
                    "{size} bytes are too many for {} compressed ones",
                    entry.compressed_size()
                )));
            }
            let mut inflated = Vec::new();
            entry.by_ref().take(size + 1).read_to_end(&mut inflated).map_err(|e| wrong(&e))?;
            let whole = inflated.len() as u64 == size;
            return if whole { Ok(inflated.into()) } else { Err(wrong(&"it does not have the size declared")) };
        }
        // Reading to the end verifies the checksum.
        let size = std::io::copy(&mut entry, &mut std::io::sink()).map_err(|e| wrong(&e))?;
        let start = entry.data_start().ok_or_else(|| wrong(&"it has no data"))?;
        match (usize::try_from(start), usize::try_from(start + size)) {
            (Ok(start), Ok(end)) if size == entry.size() && end <= self.bytes.len() => Ok(self.bytes.slice(start..end)),
            _ => Err(wrong(&"it does not have the size declared")),
        }
    }
}
