//! A model as text.

use std::fmt::{self, Write};

use bytes::Bytes;
use prost::{DecodeError, Message};
use qcc_formats::onnx::{
    AttributeProto, AttributeType, DataType, DimensionValue, ModelProto, NodeProto, OperatorSetIdProto,
    StringStringEntryProto, TensorProto, TypeValue, ValueInfoProto,
};
use qcc_ir::diagnostic::printable;

/// Elements up to this number are shown.
const SHOWN: usize = 8;

/// The messages of a file as text: operators with their attributes; of large constants the length only.
pub fn disassemble(file: &Bytes) -> Result<String, DecodeError> {
    let model = ModelProto::decode(file.clone())?;
    let mut out = String::new();
    // Writing to a string does not fail.
    let _ = print(&model, &mut out);
    Ok(out)
}

/// Each line on its own: names may hold anything.
fn print(model: &ModelProto, out: &mut String) -> fmt::Result {
    let mut line = |text: String| writeln!(out, "{}", printable(&text));
    let set = |set: &OperatorSetIdProto| {
        let domain = if set.domain().is_empty() { "ai.onnx" } else { set.domain() };
        format!(", {domain} {}", set.version())
    };
    let sets: String = model.opset_import.iter().map(set).collect();
    let (version, producer) = (model.ir_version(), model.producer_name());
    line(format!("onnx version {version}, {producer} {}{sets}", model.producer_version()))?;
    for entry in &model.metadata_props {
        line(format!("metadata {}: {}", entry.key(), entry.value()))?;
    }
    let Some(graph) = &model.graph else { return Ok(()) };
    line(format!("graph \"{}\"", graph.name()))?;
    for input in &graph.input {
        line(format!("  input {}", value(input)))?;
    }
    for tensor in &graph.initializer {
        line(constant(tensor))?;
    }
    for of_graph in &graph.node {
        line(node(of_graph))?;
    }
    for output in &graph.output {
        line(format!("  output {}", value(output)))?;
    }
    Ok(())
}

fn constant(tensor: &TensorProto) -> String {
    let elem = DataType::try_from(tensor.data_type()).unwrap_or(DataType::Undefined);
    let raw = tensor.raw_data();
    let words = |width: usize| (raw.len() <= SHOWN * width).then(|| raw.chunks_exact(width));
    let numbers: Option<Vec<String>> = match elem {
        DataType::Float => words(4).map(|w| w.map(float).collect()),
        DataType::Int64 | DataType::Int32 | DataType::Int16 => {
            let width = match elem {
                DataType::Int64 => 8,
                DataType::Int32 => 4,
                _ => 2,
            };
            words(width).map(|w| w.map(|b| integer(b).to_string()).collect())
        }
        DataType::Int8 => words(1).map(|w| w.map(|b| integer(b).to_string()).collect()),
        DataType::Uint8 | DataType::Bool => words(1).map(|w| w.map(|b| b[0].to_string()).collect()),
        _ => None,
    };
    let shown = match numbers.filter(|_| tensor.external_data.is_empty()) {
        Some(numbers) => numbers.join(", "),
        None if tensor.external_data.is_empty() => format!("{} bytes", raw.len()),
        None => {
            let entry = |e: &StringStringEntryProto| format!("{} {}", e.key(), e.value());
            tensor.external_data.iter().map(entry).collect::<Vec<String>>().join(", ")
        }
    };
    format!("  {}: {} {:?} = {shown}", tensor.name(), elem, tensor.dims)
}

fn float(bytes: &[u8]) -> String {
    let bytes = <[u8; 4]>::try_from(bytes).unwrap_or_default();
    format!("{:?}", f32::from_le_bytes(bytes))
}

/// A signed integer from its bytes, the lowest first.
fn integer(bytes: &[u8]) -> i64 {
    let sign = bytes.last().is_some_and(|b| b & 0x80 != 0);
    let start = if sign { -1i64 } else { 0 };
    bytes.iter().rev().fold(start, |n, &b| n << 8 | i64::from(b))
}

fn node(node: &NodeProto) -> String {
    let domain = node.domain.as_deref().filter(|d| !d.is_empty()).map_or(String::new(), |d| format!("{d}."));
    let mut line = format!("  {} = {domain}{}", node.output.join(", "), node.op_type());
    for (i, input) in node.input.iter().enumerate() {
        line += if i == 0 { " " } else { ", " };
        line += if input.is_empty() { "-" } else { input };
    }
    for (i, attribute) in node.attribute.iter().enumerate() {
        line += if i == 0 { " {" } else { ", " };
        line += &format!("{}: {}", attribute.name(), attribute_value(attribute));
    }
    let end = if node.attribute.is_empty() { "" } else { "}" };
    line + &format!("{end} \"{}\"", node.name())
}

fn attribute_value(a: &AttributeProto) -> String {
    let text = |b: &Bytes| String::from_utf8_lossy(b).into_owned();
    match a.r#type() {
        AttributeType::Int => a.i().to_string(),
        AttributeType::Ints => format!("{:?}", a.ints),
        AttributeType::Float => format!("{:?}", a.f()),
        AttributeType::Floats => format!("{:?}", a.floats),
        AttributeType::String => a.s.as_ref().map(text).unwrap_or_default(),
        AttributeType::Strings => a.strings.iter().map(text).collect::<Vec<_>>().join(" "),
        other => format!("{other:?}"),
    }
}

fn value(v: &ValueInfoProto) -> String {
    let Some(TypeValue::Tensor(ty)) = v.r#type.as_ref().and_then(|t| t.value.as_ref()) else {
        return v.name().to_owned();
    };
    let elem = DataType::try_from(ty.elem_type()).unwrap_or(DataType::Undefined);
    let dims = ty.shape.iter().flat_map(|s| &s.dim).map(|d| match &d.value {
        Some(DimensionValue::Value(n)) => n.to_string(),
        Some(DimensionValue::Param(name)) => name.clone(),
        None => "?".to_owned(),
    });
    let dims: Vec<String> = dims.collect();
    format!("{}: {} [{}]", v.name(), elem, dims.join(", "))
}
