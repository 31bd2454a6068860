//! The archive appended to a model.

use std::io::{self, Cursor, Seek, SeekFrom, Write};

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

/// A ZIP archive of these entries, to be appended to a file at `offset`; empty if there are no entries.
pub(super) fn archive(entries: &[(String, Vec<u8>)], offset: u64) -> io::Result<Vec<u8>> {
    if entries.is_empty() {
        return Ok(Vec::new());
    }
    let mut zip = ZipWriter::new(Behind { offset, archive: Cursor::new(Vec::new()) });
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    let options = options.last_modified_time(zip::DateTime::default());
    for (name, bytes) in entries {
        zip.start_file(name.as_str(), options)?;
        zip.write_all(bytes)?;
    }
    Ok(zip.finish()?.archive.into_inner())
}

/// A writer at `offset` of a file: positions in the archive are relative to the start of the file.
struct Behind {
    offset: u64,
    archive: Cursor<Vec<u8>>,
}

impl Write for Behind {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.archive.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Behind {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let to = match to {
            SeekFrom::Start(at) => SeekFrom::Start(at.checked_sub(self.offset).ok_or(io::ErrorKind::InvalidInput)?),
            relative => relative,
        };
        Ok(self.offset + self.archive.seek(to)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_archive_is_found_behind_the_model() {
        let entries = [("metadata.json".to_owned(), b"{}".to_vec()), ("b".to_owned(), vec![1, 2, 3])];
        let mut file = vec![7u8; 1000];
        file.extend(archive(&entries, 1000).unwrap());
        let mut zip = zip::ZipArchive::new(Cursor::new(file)).unwrap();
        for (name, bytes) in &entries {
            let mut found = Vec::new();
            io::copy(&mut zip.by_name(name).unwrap(), &mut found).unwrap();
            assert_eq!(found, *bytes);
        }
        assert_eq!(archive(&[], 0).unwrap(), Vec::<u8>::new());
    }
}
