//! Disassembly of ONNX files.

use bytes::Bytes;
use prost::Message;
use qcc_formats::onnx::{
    AttributeProto, AttributeType, DataLocation, FunctionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto,
    StringStringEntryProto, TensorProto, ValueInfoProto,
};

use super::annotate::annotate;
use super::tensors::{Tensors, element, extent};
use crate::disassembly::{Beside, Constant, Disassembly, Entry, Extent, Listing, Named, Operator, Unreadable};

/// Maximum number of elements of an attribute that are shown individually.
const SHOWN: usize = 64;

/// The contents of a file: operators with their attributes, types, constants. `beside` reads the files of external
/// constants.
///
/// # Errors
/// If it is not an ONNX file, or the bytes of a constant are not available.
pub fn disassemble(file: &Bytes, beside: Beside<'_>) -> Result<Disassembly, Unreadable> {
    let model =
        ModelProto::decode(file.clone()).map_err(|e| Unreadable::Invalid(format!("it is no ONNX file: {e}")))?;
    let mut all = Disassembly::new("onnx");
    let (producer, version) = (model.producer_name(), model.producer_version());
    all.header.push(Entry::new("ir_version", model.ir_version().to_string()));
    let opset = |set: &OperatorSetIdProto| {
        let domain = if set.domain().is_empty() { "ai.onnx" } else { set.domain() };
        Entry::new(format!("opset {domain}"), set.version().to_string())
    };
    all.header.extend(model.opset_import.iter().map(opset));
    let producer = format!("{producer} {version}");
    for (name, value) in [("producer", producer.trim()), ("domain", model.domain()), ("doc_string", model.doc_string())]
    {
        all.header.extend((!value.is_empty()).then(|| Entry::new(name, value)));
    }
    if model.model_version() != 0 {
        all.header.push(Entry::new("model_version", model.model_version().to_string()));
    }
    all.metadata = model.metadata_props.iter().map(|e| Entry::new(e.key(), e.value())).collect();
    let mut reader = Reader { beside, graphs: Vec::new() };
    if let Some(graph) = &model.graph {
        reader.graph(graph.name().to_owned(), graph)?;
    }
    for function in &model.functions {
        reader.function(function)?;
    }
    all.graphs = reader.graphs;
    Ok(all)
}

struct Reader<'b> {
    beside: Beside<'b>,
    graphs: Vec<Listing>,
}

impl Reader<'_> {
    /// Adds a graph, followed by the subgraphs of its nodes.
    fn graph(&mut self, name: String, graph: &GraphProto) -> Result<(), Unreadable> {
        let place = self.graphs.len();
        self.graphs.push(Listing::default());
        let named = |v: &ValueInfoProto| Named { name: v.name().into(), tensor: v.name().into() };
        let mut tensors = Tensors::default();
        graph.input.iter().for_each(|v| tensors.describe(v));
        for t in &graph.initializer {
            let element = element(t.data_type());
            let bytes = stored(t, &element, self.beside)
                .map_err(|why| Unreadable::Missing { constant: t.name().into(), why })?;
            let tensor = tensors.of(t.name());
            tensor.shape = Some(t.dims.iter().map(|&n| extent(n)).collect());
            tensor.constant = Some(Constant::new(&element, &bytes));
            tensor.element = element;
            tensors.known.insert(t.name().to_owned(), bytes);
        }
        for (i, bytes) in graph.sparse_initializer.iter().enumerate() {
            let tensor = tensors.of(&format!("sparse_initializer {i}"));
            tensor.constant = Some(Constant::new("sparse", bytes));
        }
        graph.value_info.iter().chain(&graph.output).for_each(|v| tensors.describe(v));
        let operators = self.nodes(&name, &graph.node)?;
        annotate(&operators, &mut tensors);
        self.graphs[place] = Listing {
            name,
            inputs: graph.input.iter().map(named).collect(),
            outputs: graph.output.iter().map(named).collect(),
            tensors: tensors.all,
            operators,
        };
        Ok(())
    }

    fn function(&mut self, function: &FunctionProto) -> Result<(), Unreadable> {
        let place = self.graphs.len();
        self.graphs.push(Listing::default());
        let overload =
            function.overload.as_deref().filter(|o| !o.is_empty()).map_or(String::new(), |o| format!(":{o}"));
        let domain = function.domain.as_deref().unwrap_or_default();
        let name = format!("function {domain}.{}{overload}", function.name.as_deref().unwrap_or_default());
        let operators = self.nodes(&name, &function.node)?;
        let named = |name: &String| Named { name: name.clone(), tensor: name.clone() };
        self.graphs[place] = Listing {
            name,
            inputs: function.input.iter().map(named).collect(),
            outputs: function.output.iter().map(named).collect(),
            tensors: Vec::new(),
            operators,
        };
        Ok(())
    }

    fn nodes(&mut self, graph: &str, nodes: &[NodeProto]) -> Result<Vec<Operator>, Unreadable> {
        nodes.iter().map(|node| self.node(graph, node)).collect()
    }

    fn node(&mut self, graph: &str, node: &NodeProto) -> Result<Operator, Unreadable> {
        let domain = node.domain.as_deref().filter(|d| !d.is_empty()).map_or(String::new(), |d| format!("{d}."));
        let overload = node.overload.as_deref().filter(|o| !o.is_empty()).map_or(String::new(), |o| format!(":{o}"));
        let given = |names: &[String]| names.iter().map(|n| Some(n.clone()).filter(|n| !n.is_empty())).collect();
        let path = format!("{graph}/{}", if node.name().is_empty() { node.op_type() } else { node.name() });
        let attributes =
            node.attribute.iter().map(|a| Ok(Entry::new(a.name(), self.value(&path, a)?))).collect::<Result<_, _>>()?;
        Ok(Operator {
            name: Some(node.name().to_owned()).filter(|n| !n.is_empty()),
            kind: format!("{domain}{}{overload}", node.op_type()),
            inputs: given(&node.input),
            outputs: given(&node.output),
            attributes,
        })
    }

    /// The value of an attribute. A subgraph is listed separately, under the path of the node.
    fn value(&mut self, path: &str, a: &AttributeProto) -> Result<String, Unreadable> {
        if let Some(from) = a.ref_attr_name.as_deref().filter(|n| !n.is_empty()) {
            return Ok(format!("@{from}"));
        }
        Ok(match (a.r#type(), &a.t, &a.g) {
            (AttributeType::Int, ..) => a.i().to_string(),
            (AttributeType::Ints, ..) => list(&a.ints, |n| n.to_string(), |n| n.to_le_bytes().to_vec()),
            (AttributeType::Float, ..) => format!("{:?}", a.f()),
            (AttributeType::Floats, ..) => list(&a.floats, |x| format!("{x:?}"), |x| x.to_le_bytes().to_vec()),
            (AttributeType::String, ..) => a.s.as_ref().map(text).unwrap_or_default(),
            (AttributeType::Strings, ..) => list(&a.strings, text, |s| [s.as_ref(), &[0]].concat()),
            (AttributeType::Tensor, Some(t), _) => self.tensor(path, t)?,
            (AttributeType::Graph, _, Some(g)) => {
                let name = format!("{path}.{}", a.name());
                self.graph(name.clone(), g)?;
                format!("graph {name}")
            }
            // Attribute types that qcc does not decode.
            (other, ..) => format!("{other:?}").to_lowercase(),
        })
    }

    fn tensor(&mut self, path: &str, t: &TensorProto) -> Result<String, Unreadable> {
        let element = element(t.data_type());
        let bytes =
            stored(t, &element, self.beside).map_err(|why| Unreadable::Missing { constant: path.into(), why })?;
        let dims: Vec<Extent> = t.dims.iter().map(|&n| extent(n)).collect();
        Ok(format!("{element} {} = {}", crate::disassembly::shape(&dims), Constant::new(&element, &bytes)))
    }
}

fn text(bytes: &Bytes) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A list, or its length and the digest of its bytes.
fn list<T>(all: &[T], show: impl Fn(&T) -> String, bytes: impl Fn(&T) -> Vec<u8>) -> String {
    if all.len() <= SHOWN {
        return format!("[{}]", all.iter().map(show).collect::<Vec<String>>().join(", "));
    }
    let bytes: Vec<u8> = all.iter().flat_map(bytes).collect();
    format!("{} elements in {}", all.len(), Constant::new("", &bytes))
}

/// The bytes of a tensor in the encoding of `raw_data`: little-endian, row-major.
fn stored(t: &TensorProto, element: &str, beside: Beside<'_>) -> Result<Bytes, String> {
    if t.data_location == Some(DataLocation::External.into()) {
        return external(&t.external_data, beside);
    }
    if let Some(raw) = t.raw_data.as_ref().filter(|raw| !raw.is_empty()) {
        return Ok(raw.clone());
    }
    let mut bytes = Vec::new();
    bytes.extend(t.float_data.iter().flat_map(|x| x.to_le_bytes()));
    bytes.extend(t.double_data.iter().flat_map(|x| x.to_le_bytes()));
    bytes.extend(t.int64_data.iter().flat_map(|x| x.to_le_bytes()));
    let width = match element {
        "int32" | "uint32" => 4,
        "int16" | "uint16" | "float16" | "bfloat16" => 2,
        _ => 1,
    };
    bytes.extend(t.int32_data.iter().flat_map(|x| x.to_le_bytes().into_iter().take(width)));
    let width = if element == "uint32" { 4 } else { 8 };
    bytes.extend(t.uint64_data.iter().flat_map(|x| x.to_le_bytes().into_iter().take(width)));
    // A string may contain any byte; its length delimits it.
    for text in &t.string_data {
        bytes.extend((text.len() as u64).to_le_bytes());
        bytes.extend_from_slice(text);
    }
    Ok(bytes.into())
}

/// The bytes of an external tensor.
fn external(entries: &[StringStringEntryProto], beside: Beside<'_>) -> Result<Bytes, String> {
    let entry = |key: &str| entries.iter().find(|e| e.key() == key).map(|e| e.value());
    let number = |key: &str| match entry(key) {
        None => Ok(None),
        Some(text) => text
            .parse::<usize>()
            .map(Some)
            .map_err(|_| format!("{key} of its external data is \"{text}\", which is no number")),
    };
    let location = entry("location").ok_or("its data is in another file, but no location is given")?;
    let file = beside(location)?;
    let offset = number("offset")?.unwrap_or(0);
    let length = number("length")?.unwrap_or(file.len().saturating_sub(offset));
    match offset.checked_add(length) {
        Some(end) if end <= file.len() => Ok(file.slice(offset..end)),
        _ => Err(format!("{length} bytes at {offset} lie beyond the end of {location} ({} bytes)", file.len())),
    }
}
