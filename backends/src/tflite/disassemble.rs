//! A model as text.

use std::fmt::Write;

use bytes::Bytes;
use qcc_formats::tflite::{Model, OperatorCode, Quantization, ReadError, SubGraph, Tensor};
use qcc_ir::diagnostic::{is_order, printable};

/// The tables of a file as text: tensors, operators with their options, quantization; of buffers the length only.
pub fn disassemble(file: &Bytes) -> Result<String, ReadError> {
    let model = Model::read(file)?;
    let mut out = String::new();
    // Writing to a string does not fail.
    let _ = print(&model, &mut out);
    Ok(out)
}

fn print(model: &Model, out: &mut String) -> std::fmt::Result {
    writeln!(out, "tflite version {}: {}", model.version, printable(&model.description))?;
    for entry in &model.metadata {
        let data = model.buffers.get(entry.buffer as usize).map_or(&[][..], |b| &b.data);
        let text = std::str::from_utf8(data).map(|t| t.trim_end_matches('\0')).ok();
        let name = printable(&entry.name);
        match text.filter(|t| !t.contains(is_order)) {
            Some(text) => writeln!(out, "metadata {name}: {text}")?,
            None => writeln!(out, "metadata {name}: {} bytes", data.len())?,
        }
    }
    for subgraph in &model.subgraphs {
        print_subgraph(model, subgraph, out)?;
    }
    for s in &model.signature_defs {
        writeln!(out, "signature {} of subgraph {}", printable(&s.signature_key), s.subgraph_index)?;
        for (way, maps) in [("in ", &s.inputs), ("out", &s.outputs)] {
            for m in maps {
                writeln!(out, "  {way} {} = %{}", printable(&m.name), m.tensor_index)?;
            }
        }
    }
    Ok(())
}

fn print_subgraph(model: &Model, subgraph: &SubGraph, out: &mut String) -> std::fmt::Result {
    writeln!(out, "subgraph {:?} ({}) -> ({})", subgraph.name, list(&subgraph.inputs), list(&subgraph.outputs))?;
    for (i, tensor) in subgraph.tensors.iter().enumerate() {
        write!(out, "  %{i} {:?}: ", tensor.name)?;
        print_type(tensor, out)?;
        match model.buffers.get(tensor.buffer as usize) {
            Some(buffer) if !buffer.data.is_empty() => {
                writeln!(out, " = {} bytes in buffer {}", buffer.data.len(), tensor.buffer)?;
            }
            _ => writeln!(out)?,
        }
    }
    for op in &subgraph.operators {
        write!(out, "  {} = ", list(&op.outputs))?;
        match model.operator_codes.get(op.opcode_index as usize) {
            Some(code) => print_code(code, out)?,
            None => write!(out, "operator {}", op.opcode_index)?,
        }
        write!(out, " {}", list(&op.inputs))?;
        let options = op.options.to_string();
        writeln!(
            out,
            "{}{options}{}",
            if options.is_empty() { "" } else { " {" },
            if options.is_empty() { "" } else { "}" }
        )?;
    }
    Ok(())
}

fn print_code(code: &OperatorCode, out: &mut String) -> std::fmt::Result {
    write!(out, "{}", code.operator())?;
    if !code.custom_code.is_empty() {
        write!(out, " {:?}", code.custom_code)?;
    }
    write!(out, ".{}", code.version)
}

fn print_type(tensor: &Tensor, out: &mut String) -> std::fmt::Result {
    let shape = if tensor.shape_signature.is_empty() { &tensor.shape } else { &tensor.shape_signature };
    write!(out, "{} {shape:?}", tensor.elem)?;
    match &tensor.quantization {
        Some(Quantization { scale, zero_point, dimension, .. }) => match (scale.as_slice(), zero_point.as_slice()) {
            ([], _) => Ok(()),
            ([scale], [zero]) => write!(out, " <{scale}:{zero}>"),
            (many, _) => {
                let (lo, hi) = many.iter().fold((f32::MAX, 0f32), |(lo, hi), &s| (lo.min(s), hi.max(s)));
                write!(out, " <axis {dimension}: {} scales {lo}..{hi}>", many.len())
            }
        },
        None => Ok(()),
    }
}

/// Tensors, by index.
fn list(tensors: &[i32]) -> String {
    let names: Vec<String> = tensors.iter().map(|&t| if t < 0 { "none".into() } else { format!("%{t}") }).collect();
    names.join(" ")
}
