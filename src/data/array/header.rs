//! The headers of .npy files.

use std::io::{self, Read};

use super::elements::Kind;

/// Maximum bytes of the header's text; usual ones are below 200.
const HEADER: usize = 1 << 16;

/// The header of an array: a Python dictionary literal.
pub(super) struct Header(String);

impl Header {
    /// Reads the header of a .npy file; also returns its length.
    pub(super) fn read(file: &mut impl Read) -> io::Result<(Self, u64)> {
        let bad = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
        let mut magic = [0; 8];
        file.read_exact(&mut magic)?;
        if magic[..6] != *b"\x93NUMPY" {
            return Err(bad("it does not start as one"));
        }
        let mut length = [0; 4];
        let field = if magic[6] == 1 { 2 } else { 4 };
        file.read_exact(&mut length[..field])?;
        let length = u32::from_le_bytes(length) as usize;
        if length > HEADER {
            return Err(bad("its header is too long"));
        }
        let mut text = vec![0; length];
        file.read_exact(&mut text)?;
        let text = String::from_utf8(text).map_err(|_| bad("its header is not text"))?;
        Ok((Header(text), (8 + field + length) as u64))
    }

    fn field(&self, name: &str) -> Option<&str> {
        let at = self.0.find(&format!("'{name}':"))? + name.len() + 3;
        Some(self.0[at..].trim_start())
    }

    /// Element type and shape, if supported.
    pub(super) fn parse(&self) -> Result<(Kind, Vec<usize>), String> {
        let quoted = |t: &str| t.strip_prefix('\'').and_then(|t| t.split_once('\'')).map(|(d, _)| d.to_owned());
        let descr = self.field("descr").and_then(quoted).ok_or("an array of records cannot be fed")?;
        let kind = Kind::of(&descr).ok_or_else(|| format!("elements of type {descr} cannot be fed"))?;
        let extents = |t: &str| t.split(',').map(str::trim).filter(|t| !t.is_empty()).map(|t| t.parse().ok()).collect();
        let shape = self.field("shape").and_then(|t| t.strip_prefix('(')?.split_once(')'));
        let dims: Vec<usize> = shape.and_then(|(t, _)| extents(t)).ok_or("its header has no shape")?;
        if dims.len() > 1 && self.field("fortran_order").is_none_or(|t| !t.starts_with("False")) {
            return Err("it is stored column by column; save numpy.ascontiguousarray(a)".into());
        }
        Ok((kind, dims))
    }
}
