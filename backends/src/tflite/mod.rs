//! TensorFlow Lite.
//!
//! A graph becomes a [`Model`] (the schema's tables as plain structs), which is checked against what is known to go
//! wrong at run time and then written.
//!
//! ```
//! use qcc_backends::{Attachments, Format, Memory, tflite};
//! use qcc_ir::Checked;
//! use qcc_ir::text::{Weights, parse};
//! let g = parse("graph g { %x: f32[2] = input %y = unary(f:Neg) %x output y = %y }", &Weights::new())?;
//! let (backend, mut files) = (Format::Tflite.with(Default::default()), Memory::new("m.tflite"));
//! let checked = Checked::new(&g, backend.target()).unwrap();
//! backend.write(checked, &Attachments::default(), &mut files).unwrap();
//! let file = files.files.remove("m.tflite").unwrap();
//! assert!(tflite::disassemble(&file.into())?.to_string().contains("NEG"));
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! ```

use std::io::Write;

use qcc_formats::tflite::Model;
use qcc_ir::Checked;
use qcc_ir::diagnostic::Diagnostic;

use crate::{Attachments, Device, Summary, ValueNames, unwritten};

mod archive;
mod check;
mod devices;
mod disassemble;
mod emit;
mod nodes;
mod ops;
mod target;

pub use devices::TFLM;
pub use disassemble::disassemble;
pub use target::TARGET;

/// Writes a graph that was checked for [`TARGET`]. All nodes that cannot be written are reported together, and then
/// nothing is written.
pub(crate) fn write(
    graph: Checked<'_>,
    device: Option<&Device>,
    attachments: &Attachments,
    out: &mut (impl Write + ?Sized),
) -> Result<Summary, Vec<Diagnostic>> {
    let (mut model, names) = model(graph, device)?;
    let constants = model.buffers.iter().filter(|b| !b.data.is_empty()).count();
    emit::attach(&mut model, attachments);
    let end = model.write(out).map_err(unwritten)?;
    let archive = archive::archive(&attachments.archive, end).map_err(unwritten)?;
    out.write_all(&archive).map_err(unwritten)?;
    Ok(Summary {
        bytes: end + archive.len() as u64,
        operators: model.subgraphs.iter().map(|s| s.operators.len()).sum(),
        constants,
        names,
    })
}

/// The tables of the file, checked, and the tensors of values by name.
fn model(graph: Checked<'_>, device: Option<&Device>) -> Result<(Model, ValueNames), Vec<Diagnostic>> {
    let (model, names) = nodes::emit(graph, device)?;
    let wrong = check::check(&model);
    if wrong.is_empty() { Ok((model, names)) } else { Err(wrong) }
}

#[cfg(test)]
mod tests;
