//! OpenVINO IR.
//!
//! A graph becomes a [`Net`](qcc_formats::openvino::Net) (layers as plain structs) and the bytes of its constants, which
//! go into two files.
//!
//! ```
//! let backend = qcc_backends::Format::Openvino.with(Default::default());
//! assert_eq!(backend.beside("net.xml".as_ref(), &Default::default()), ["net.bin"]);
//! ```

use std::io;

use qcc_ir::Checked;
use qcc_ir::diagnostic::Diagnostic;

use crate::{Attachments, Files, Summary, unwritten};

mod disassemble;
mod emit;
mod nodes;
mod npu;
mod ops;
mod target;

pub use disassemble::disassemble;
use emit::Written;
pub use npu::NPU;
pub use target::{DYNAMIC, TARGET};

/// Extension of the file of constants, after the stem of the main file.
pub const WEIGHTS: &str = "bin";

/// Writes a graph that was checked for [`TARGET`] or [`DYNAMIC`]. All nodes that cannot be written are reported
/// together, and then nothing is written.
pub(crate) fn write(
    graph: Checked<'_>,
    attachments: &Attachments,
    files: &mut dyn Files,
) -> Result<Summary, Vec<Diagnostic>> {
    let written = nodes::emit(graph, attachments)?;
    let bytes = store(&written, files).map_err(unwritten)?;
    let layers = &written.net.layers;
    let passive = ["Parameter", "Const", "Result"];
    Ok(Summary {
        bytes,
        operators: layers.iter().filter(|l| !passive.contains(&l.operation.0)).count(),
        constants: written.constants.len(),
        ..Summary::default()
    })
}

/// Writes all files and returns their total length.
fn store(written: &Written, files: &mut dyn Files) -> io::Result<u64> {
    let (main, constants) = (files.main().to_owned(), files.beside(WEIGHTS));
    let mut bytes = written.net.write(files.create(&main)?)?;
    let out = files.create(&constants)?;
    let mut end = 0;
    for (offset, data) in &written.constants {
        io::copy(&mut io::Read::take(io::repeat(0), offset - end), out)?;
        out.write_all(data)?;
        end = offset + data.len() as u64;
    }
    bytes += end;
    Ok(bytes)
}

#[cfg(test)]
mod tests;
