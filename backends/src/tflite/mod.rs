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

use std::collections::HashSet;
use std::io::Write;

use bytes::Bytes;
use qcc_formats::tflite::{BuiltinOperator, Model, Operator};
use qcc_ir::diagnostic::Diagnostic;
use qcc_ir::{Checked, NodeId};

use crate::device::Takes;
use crate::operation::{Operation, ensure};
use crate::{Attachments, Device, Files, OnCpu, Summary, unwritten};
use nodes::Written;

mod archive;
mod arena;
mod check;
mod devices;
mod disassemble;
mod emit;
mod in_place;
pub(crate) mod micro;
mod nodes;
mod ops;
mod states;
mod target;
mod temporaries;
mod tensors;

pub use devices::{CMSIS_NN, EDGETPU, ESP32S3, ETHOS_U55, ETHOS_U65, ETHOS_U85, TFLM, XNNPACK};
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
    let Written { mut model, names, origins } = model(graph, device, attachments)?;
    let constants = model.buffers.iter().filter(|b| !b.data.is_empty()).count();
    let on_cpu = on_cpu(&model, &origins, device);
    let arena_bytes = if device.is_none() { arena::length(&model) } else { None };
    emit::attach(&mut model, attachments);
    let end = model.write(out).map_err(unwritten)?;
    let archive = archive::archive(&attachments.archive, end).map_err(unwritten)?;
    out.write_all(&archive).map_err(unwritten)?;
    Ok(Summary {
        bytes: end + archive.len() as u64,
        operators: model.subgraphs.iter().map(|s| s.operators.len()).sum(),
        constants,
        names,
        on_cpu,
        arena_bytes,
    })
}

/// As [`write`], as C++ sources.
pub(crate) fn write_sources(
    graph: Checked<'_>,
    device: Option<&Device>,
    attachments: &Attachments,
    files: &mut dyn Files,
) -> Result<Summary, Vec<Diagnostic>> {
    let Written { mut model, names, .. } = model(graph, device, attachments)?;
    let constants = model.buffers.iter().filter(|b| !b.data.is_empty()).count();
    emit::attach(&mut model, attachments);
    let bytes = micro::write(&model, &attachments.labels, files)?;
    let operators = model.subgraphs.iter().map(|s| s.operators.len()).sum();
    Ok(Summary { bytes, operators, constants, names, ..Summary::default() })
}

/// The tables of the file, checked, and the tensors of values by name.
fn model(graph: Checked<'_>, device: Option<&Device>, attachments: &Attachments) -> Result<Written, Vec<Diagnostic>> {
    let mut written = nodes::emit(graph, device, attachments)?;
    let origins = &mut written.origins;
    in_place::keep_values(&mut written.model, |graph, position| {
        if graph == 0 {
            origins.insert(position, origins[position]);
        }
    });
    let wrong = check::check(&written.model);
    if wrong.is_empty() { Ok(written) } else { Err(wrong) }
}

/// Bytes of the values of a file in LiteRT with its reference kernels: those that `allocate_tensors` reserves, for the
/// shapes in the file. `None` for files that are no models, and for very large ones.
pub(crate) fn arena_bytes(file: &Bytes) -> Option<u64> {
    arena::length(&Model::read(file).ok()?)
}

/// The rule for operators of a second part of the model, where an accelerator runs one part.
const SECOND_PART: &str = "it depends on an operator that does not run there, and only one part of a model does";

/// The operators that the device's accelerator does not run.
fn on_cpu(model: &Model, origins: &[NodeId], device: Option<&Device>) -> Vec<OnCpu> {
    let (Some(split), Some(graph)) = (device.and_then(|d| d.split), model.subgraphs.first()) else {
        return Vec::new();
    };
    let Takes::Written(takes) = split.takes else { return Vec::new() };
    // The tensors that it cannot read, where it runs one part.
    let mut behind: HashSet<i32> = HashSet::new();
    let placed = |(op, &node): (&Operator, &NodeId)| {
        let code = model.builtin(op)?;
        let taken = takes(Operation { model, graph, code, op });
        let second = op.inputs.iter().any(|i| behind.contains(i));
        let rule = taken.and_then(|()| ensure(!second, SECOND_PART)).err()?;
        // The part need not begin with the inputs of the model: conversions may precede it.
        let converts = code == BuiltinOperator::QUANTIZE && op.inputs.iter().all(|i| graph.inputs.contains(i));
        if split.one_part && !converts {
            behind.extend(&op.outputs);
        }
        let result = op.outputs.first().and_then(|&i| graph.tensors.get(usize::try_from(i).ok()?));
        let result = result.map_or_else(String::new, |t| t.name.clone());
        Some(OnCpu { node, operator: code.to_string(), result, rule })
    };
    graph.operators.iter().zip(origins).filter_map(placed).collect()
}

#[cfg(test)]
mod tests;
