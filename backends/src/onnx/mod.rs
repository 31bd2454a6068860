//! ONNX, run by ONNX Runtime.
//!
//! A graph becomes a [`ModelProto`] of the lowest operator set that has all of its operators. Quantized values become
//! QuantizeLinear and DequantizeLinear around float operators, placed so that ONNX Runtime fuses them, or operands of
//! integer operators ([`WriteOptions::qoperator`]).
//!
//! ```
//! let target = qcc_backends::Format::Onnx.target();
//! assert!(target.negative_indices && target.half_graphs);
//! ```

use std::io;

use bytes::Bytes;
use qcc_formats::onnx::{DataLocation, ModelProto, NodeProto, StringStringEntryProto, TensorProto};
use qcc_ir::diagnostic::Diagnostic;
use qcc_ir::{Checked, NodeId};

use crate::device::Takes;
use crate::{Attachments, Files, OnCpu, Summary, WriteOptions, unwritten};

mod annotate;
mod call;
mod check;
mod devices;
mod disassemble;
mod emit;
mod nodes;
mod ops;
mod target;
mod tensors;

pub use devices::{ORT_WEB, QNN, TENSORRT};
pub use disassemble::disassemble;
pub use target::{DYNAMIC, TARGET};

/// The versions of the standard operator set that are written. The forms of operators that are written have not changed up
/// to the last one.
pub const OPSETS: std::ops::RangeInclusive<i64> = 13..=23;

/// Size of all weights in bytes from which they are stored in a separate file: messages are limited to 2 GiB, and
/// runtimes copy their content.
pub const MOST_INSIDE: u64 = 1_500_000_000;

/// Extension of the file of weights, after the stem of the main file.
pub(crate) const WEIGHTS: &str = "onnx.data";

/// Operators that are written around others, for the form of their operands and results.
const AROUND: [&str; 9] =
    ["Cast", "Concat", "DequantizeLinear", "Not", "QuantizeLinear", "Reshape", "Slice", "Squeeze", "Transpose"];

/// Size in bytes from which a weight is stored externally.
const LEAST_OUTSIDE: usize = 1024;

/// Alignment of weights in their file, which allows to map them.
const ALIGNMENT: u64 = 4096;

/// Writes a graph that was checked for [`TARGET`] or [`DYNAMIC`]. All nodes that cannot be written are reported
/// together, and then nothing is written.
pub(crate) fn write(
    graph: Checked<'_>,
    options: WriteOptions,
    attachments: &Attachments,
    files: &mut dyn Files,
) -> Result<Summary, Vec<Diagnostic>> {
    let (mut model, origins) = model(graph, options)?;
    let on_cpu = on_cpu(graph, &model, &origins, options);
    let weights = model.graph.iter().flat_map(|g| &g.initializer).map(|t| t.raw_data().len() as u64).sum();
    if let Some(refusal) = too_large(options, weights) {
        return Err(vec![refusal]);
    }
    model.metadata_props.extend(attachments.named_facts().map(|fact| emit::entry(&fact)));
    let summary = put(model, options, files).map_err(unwritten)?;
    Ok(Summary { on_cpu, ..summary })
}

/// The operators that the device's accelerator does not run, without those that prepare their operands and results.
fn on_cpu(graph: Checked<'_>, model: &ModelProto, origins: &[NodeId], options: WriteOptions) -> Vec<OnCpu> {
    let Some(Takes::Node(takes)) = options.device.and_then(|device| device.split()).map(|split| split.takes) else {
        return Vec::new();
    };
    let written: Vec<_> = model.graph.iter().flat_map(|g| &g.node).zip(origins).collect();
    let mut left = Vec::new();
    for group in written.chunk_by(|a, b| a.1 == b.1) {
        let Some((node, rule)) =
            group.first().and_then(|(_, node)| Some((**node, takes(graph.graph(), **node).err()?)))
        else {
            continue;
        };
        let computes = |operator: &NodeProto| !AROUND.contains(&operator.op_type());
        let one = group.iter().any(|(operator, _)| computes(operator));
        let operators = group.iter().map(|(operator, _)| operator).filter(|operator| !one || computes(operator));
        left.extend(operators.map(|operator| {
            let result = operator.output.first().cloned().unwrap_or_default();
            OnCpu { node, operator: operator.op_type().into(), result, rule: rule.clone() }
        }));
    }
    left
}

fn put(mut model: ModelProto, options: WriteOptions, files: &mut dyn Files) -> io::Result<Summary> {
    let main = model.graph.get_or_insert_default();
    let mut summary = Summary { operators: main.node.len(), constants: main.initializer.len(), ..Summary::default() };
    let inside: u64 = main.initializer.iter().map(|t| t.raw_data().len() as u64).sum();
    if options.external_data || inside > MOST_INSIDE {
        summary.bytes += write_outside(&mut main.initializer, files)?;
    }
    let name = files.main().to_owned();
    summary.bytes += model.write(files.create(&name)?)?;
    Ok(summary)
}

/// The refusal of weights of so many bytes, if the device has no memory for them.
fn too_large(options: WriteOptions, weights: u64) -> Option<Diagnostic> {
    let device = options.device?;
    let most = device.most_bytes.filter(|&most| weights >= most)?;
    let [most, weights] = [most, weights].map(|bytes| bytes as f64 / 1e9);
    let message = format!("{} has memory for {most:.1} GB, and the weights alone have {weights:.1} GB", device.name);
    Some(Diagnostic::error("memory", message).with_help("--fp16, --w8a32 or --quantize w4a32 make them smaller"))
}

/// The message, checked, and the nodes that its operators are written for.
fn model(graph: Checked<'_>, options: WriteOptions) -> Result<(ModelProto, Vec<NodeId>), Vec<Diagnostic>> {
    let (model, origins) = nodes::emit(graph, options)?;
    let wrong = check::check(&model);
    if wrong.is_empty() { Ok((model, origins)) } else { Err(wrong) }
}

/// Moves large weights into a separate file and returns its length.
fn write_outside(tensors: &mut [TensorProto], files: &mut dyn Files) -> io::Result<u64> {
    let location = files.beside(WEIGHTS);
    let file = files.create(&location)?;
    let mut end = 0u64;
    for tensor in tensors.iter_mut().filter(|t| t.raw_data().len() >= LEAST_OUTSIDE) {
        let raw: Bytes = tensor.raw_data.take().unwrap_or_default();
        let offset = end.next_multiple_of(ALIGNMENT);
        io::copy(&mut io::Read::take(io::repeat(0), offset - end), &mut &mut *file)?;
        file.write_all(&raw)?;
        end = offset + raw.len() as u64;
        let entry = |key: &str, value: String| StringStringEntryProto { key: Some(key.into()), value: Some(value) };
        tensor.data_location = Some(DataLocation::External.into());
        tensor.external_data = vec![
            entry("location", location.clone()),
            entry("offset", offset.to_string()),
            entry("length", raw.len().to_string()),
        ];
    }
    Ok(end)
}

#[cfg(test)]
mod tests;
