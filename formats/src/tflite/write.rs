//! Writing: the tables first, built in memory; then the buffers, streamed without copies.

use std::io::{self, Write};

use bytes::Bytes;
use flatbuffers::FlatBufferBuilder;

use super::table::{Builder, File, ReadError, Table};
use super::{Buffer, IDENTIFIER, Model};

/// Alignment of buffers, as `force_align` in the schema requires.
const ALIGN: u64 = 16;
/// Maximum size of a FlatBuffer.
const REACH: u64 = i32::MAX as u64;

impl Model {
    /// Writes the file and returns its length in bytes. Beyond 2 GiB, buffers are referred to by `Buffer.offset`.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn write(&self, out: &mut (impl Write + ?Sized)) -> io::Result<u64> {
        let mut header = self.header(false);
        let mut places = self.places(header.len() as u64, false);
        if places.end > REACH {
            header = self.header(true);
            places = self.places(header.len() as u64, true);
        }
        let header = places.patch(header).map_err(io::Error::other)?;
        out.write_all(&header)?;
        let mut written = header.len() as u64;
        for (buffer, &start) in self.buffers.iter().zip(&places.starts) {
            if buffer.data.is_empty() {
                continue;
            }
            let prefix = if places.large { 0 } else { 4 };
            const ZEROS: [u8; 2 * ALIGN as usize] = [0; 2 * ALIGN as usize];
            out.write_all(&ZEROS[..(start - prefix - written) as usize])?;
            if !places.large {
                out.write_all(&(buffer.data.len() as u32).to_le_bytes())?;
            }
            out.write_all(&buffer.data)?;
            written = start + buffer.data.len() as u64;
        }
        Ok(written)
    }

    /// The tables, with placeholders for the offsets of the buffers.
    fn header(&self, large: bool) -> Vec<u8> {
        let mut b = Builder { fbb: FlatBufferBuilder::new(), large };
        let fields = self.store(&mut b);
        let root = b.table(fields);
        b.fbb.finish(root, Some(IDENTIFIER));
        b.fbb.finished_data().to_vec()
    }

    fn places(&self, header: u64, large: bool) -> Places {
        let mut end = header;
        let starts = self.buffers.iter().map(|buffer| {
            // Inside the FlatBuffer the length of the vector precedes its bytes.
            let prefix = if large || buffer.data.is_empty() { 0 } else { 4 };
            let start = (end + prefix).next_multiple_of(ALIGN);
            if !buffer.data.is_empty() {
                end = start + buffer.data.len() as u64;
            }
            start
        });
        let starts = starts.collect();
        Places { starts, end, large }
    }
}

/// Offsets of the buffers in the file.
struct Places {
    starts: Vec<u64>,
    end: u64,
    large: bool,
}

impl Places {
    /// Writes the offsets into the buffer tables of a finished header.
    fn patch(&self, header: Vec<u8>) -> Result<Vec<u8>, ReadError> {
        let header = Bytes::from(header);
        let fields = self.fields(&header)?;
        let mut header = Vec::from(header);
        for (at, start) in fields {
            if self.large {
                header[at..at + 8].copy_from_slice(&start.to_le_bytes());
            } else {
                let to_vector = start - 4 - at as u64;
                header[at..at + 4].copy_from_slice(&(to_vector as u32).to_le_bytes());
            }
        }
        Ok(header)
    }

    /// For each buffer, the position of its offset field, and the offset.
    fn fields(&self, header: &Bytes) -> Result<Vec<(usize, u64)>, ReadError> {
        let file = File::new(header);
        let Some(buffers) = file.root()?.field(Model::BUFFERS)? else { return Ok(Vec::new()) };
        let (first, _) = file.vector(buffers, 4)?;
        let slot = if self.large { Buffer::OFFSET } else { Buffer::DATA };
        let mut fields = Vec::new();
        for (i, &start) in self.starts.iter().enumerate() {
            if let Some(at) = file.table(first + 4 * i)?.field(slot)? {
                fields.push((at, start));
            }
        }
        Ok(fields)
    }
}
