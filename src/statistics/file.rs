//! The file of statistics: a line with the version and a checksum, then JSON, compressed with zlib.

use std::io::{Read, Write};
use std::path::Path;

use flate2::Compression;
use flate2::read::ZlibDecoder;
use flate2::write::ZlibEncoder;
use qcc_backends::disassembly::Digest;

use super::{StatisticsError, StatisticsFile, VERSION};

/// The first word of a file.
const MAGIC: &str = "qstats";

/// Maximum length of the first line.
const LONGEST_HEADER: usize = 128;

/// Maximum length of the JSON text.
const LONGEST: u64 = 1 << 32;

impl StatisticsFile {
    /// The content of a file with these statistics.
    ///
    /// # Errors
    /// If the statistics cannot be serialized.
    pub fn to_bytes(&self) -> std::io::Result<Vec<u8>> {
        let mut packed = ZlibEncoder::new(Vec::new(), Compression::default());
        serde_json::to_writer(std::io::BufWriter::new(&mut packed), self)?;
        let packed = packed.finish()?;
        let mut bytes = Vec::with_capacity(LONGEST_HEADER + packed.len());
        writeln!(bytes, "{MAGIC} {VERSION} {}", Digest::of(&packed))?;
        bytes.extend(packed);
        Ok(bytes)
    }

    /// Reads a file.
    ///
    /// # Errors
    /// If it cannot be read, is of another kind or version, or is damaged.
    pub fn read(path: &Path) -> Result<Self, StatisticsError> {
        let bytes = std::fs::read(path).map_err(|source| StatisticsError::Unreadable { path: path.into(), source })?;
        StatisticsFile::from_bytes(&bytes, path)
    }

    /// Reads the content of the file at `path`.
    ///
    /// # Errors
    /// If it is of another kind or version, or is damaged.
    pub fn from_bytes(bytes: &[u8], path: &Path) -> Result<Self, StatisticsError> {
        let damaged = |reason: &str| StatisticsError::Damaged { path: path.into(), reason: reason.to_owned() };
        let kind = || StatisticsError::Kind(path.into());
        let line = bytes.iter().take(LONGEST_HEADER).position(|&b| b == b'\n').ok_or_else(kind)?;
        let (header, packed) = (&bytes[..line], &bytes[line + 1..]);
        let mut words = std::str::from_utf8(header).map_err(|_| kind())?.split(' ');
        if words.next() != Some(MAGIC) {
            return Err(kind());
        }
        match words.next() {
            Some(VERSION) => {}
            Some(other) => return Err(StatisticsError::Version { path: path.into(), found: other.to_owned() }),
            None => return Err(kind()),
        }
        if words.next() != Some(Digest::of(packed).to_string().as_str()) || words.next().is_some() {
            return Err(damaged("its checksum is another"));
        }
        let mut json = Vec::new();
        let length = ZlibDecoder::new(packed).take(LONGEST).read_to_end(&mut json);
        length.map_err(|_| damaged("it cannot be unpacked"))?;
        let file: StatisticsFile = match serde_json::from_slice(&json) {
            Ok(file) => file,
            Err(e) => return Err(made_elsewhere(&json, path).unwrap_or_else(|| damaged(&e.to_string()))),
        };
        if file.qcc != env!("CARGO_PKG_VERSION") {
            return Err(StatisticsError::Maker { path: path.into(), made: file.qcc });
        }
        let sorted = file.shards.windows(2).all(|pair| pair[0].samples.digest < pair[1].samples.digest);
        let valid = file.values.values().all(|v| v.stats.is_valid());
        if !sorted || !valid || file.shards.is_empty() {
            return Err(damaged("its numbers contradict each other"));
        }
        Ok(file)
    }
}

/// The error for a file that another version of qcc made with other fields.
fn made_elsewhere(json: &[u8], path: &Path) -> Option<StatisticsError> {
    let value: serde_json::Value = serde_json::from_slice(json).ok()?;
    let made = value.get("qcc")?.as_str().filter(|made| *made != env!("CARGO_PKG_VERSION"))?;
    Some(StatisticsError::Maker { path: path.into(), made: made.to_owned() })
}
