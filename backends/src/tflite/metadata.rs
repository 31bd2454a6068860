//! What goes with a model besides its graph.

use std::io::{self, Cursor, Seek, SeekFrom, Write};

use serde_json::{Map, Value};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use crate::metadata::{is_ultralytics, literal};

/// The metadata of an Ultralytics model, as a ZIP archive with one entry `metadata.json`; empty for other models.
/// It is appended to the file at `offset`, where their loader finds it.
pub(super) fn archive(metadata: &[(String, String)], offset: u64) -> io::Result<Vec<u8>> {
    if !is_ultralytics(metadata) {
        return Ok(Vec::new());
    }
    let entries: Map<String, Value> = metadata.iter().map(|(k, v)| (k.clone(), literal(v).json())).collect();
    let mut zip = ZipWriter::new(Behind { offset, archive: Cursor::new(Vec::new()) });
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    let options = options.last_modified_time(zip::DateTime::default());
    zip.start_file("metadata.json", options)?;
    zip.write_all(Value::Object(entries).to_string().as_bytes())?;
    Ok(zip.finish()?.archive.into_inner())
}

/// An archive behind `offset` bytes of something else: the places that it records count from there.
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
        let entries = [("task", "detect"), ("names", "{0: 'a'}"), ("stride", "32")];
        let metadata: Vec<(String, String)> = entries.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        let mut file = vec![7u8; 1000];
        file.extend(archive(&metadata, 1000).unwrap());
        let mut zip = zip::ZipArchive::new(Cursor::new(file)).unwrap();
        let text = io::read_to_string(zip.by_name("metadata.json").unwrap()).unwrap();
        assert_eq!(text, r#"{"task":"detect","names":{"0":"a"},"stride":32}"#);
        assert_eq!(archive(&metadata[..1], 0).unwrap(), Vec::<u8>::new());
    }
}
