//! Disassembly of TFLite files.

use bytes::Bytes;
use qcc_formats::tflite::{
    Model, Operator as Entry, OperatorCode, Options, Quantization as Scales, ReadError, SignatureDef, SubGraph,
    Tensor as Described, TensorMap,
};
use qcc_ir::diagnostic::is_order;
use rustc_hash::FxHashMap;

use crate::disassembly::{self, Constant, Digest, Disassembly, Extent, Listing, Named, Operator, Quantization, Tensor};

/// The contents of a file: tensors, operators with their options, quantization parameters.
///
/// # Errors
/// If it is not a TFLite file.
pub fn disassemble(file: &Bytes) -> Result<Disassembly, ReadError> {
    let model = Model::read(file)?;
    let mut all = Disassembly::new("tflite");
    let entry = |name: &str, value: String| disassembly::Entry::new(name, value);
    all.header = vec![entry("version", model.version.to_string()), entry("description", model.description.clone())];
    let signature = |s: &SignatureDef| {
        let of = |maps: &[TensorMap]| -> String {
            maps.iter().map(|m| format!(" {} = %{}", m.name, m.tensor_index)).collect::<Vec<String>>().join(",")
        };
        let (inputs, outputs) = (of(&s.inputs), of(&s.outputs));
        entry(
            &format!("signature {}", s.signature_key),
            format!("subgraph {}, in{inputs}, out{outputs}", s.subgraph_index),
        )
    };
    all.header.extend(model.signature_defs.iter().map(signature));
    for named in &model.metadata {
        let data = model.buffers.get(named.buffer as usize).map_or(&[][..], |b| &b.data);
        let text = std::str::from_utf8(data).map(|t| t.trim_end_matches('\0')).ok();
        let value = match text.filter(|t| !t.contains(is_order)) {
            Some(text) => text.to_owned(),
            None => format!("{} bytes {}", data.len(), Digest::of(data)),
        };
        all.metadata.push(entry(&named.name, value));
    }
    // A buffer may be shared by any number of tensors.
    let mut digests = FxHashMap::default();
    for (i, subgraph) in model.subgraphs.iter().enumerate() {
        all.graphs.push(listing(&model, i, subgraph, &mut digests));
    }
    Ok(all)
}

fn listing(model: &Model, index: usize, subgraph: &SubGraph, digests: &mut FxHashMap<u32, Digest>) -> Listing {
    let signature = model.signature_defs.iter().find(|s| s.subgraph_index as usize == index);
    Listing {
        name: subgraph.name.clone(),
        inputs: interface(subgraph, &subgraph.inputs, signature.map_or(&[], |s| &s.inputs)),
        outputs: interface(subgraph, &subgraph.outputs, signature.map_or(&[], |s| &s.outputs)),
        tensors: subgraph.tensors.iter().enumerate().map(|(i, t)| tensor(model, i, t, digests)).collect(),
        operators: subgraph.operators.iter().map(|o| operator(model, o)).collect(),
    }
}

/// Inputs or outputs by their names in the signature, else by the names of the tensors.
fn interface(subgraph: &SubGraph, tensors: &[i32], signature: &[TensorMap]) -> Vec<Named> {
    // A tensor may have several names: they are used in order.
    let mut given: FxHashMap<i64, Vec<&String>> = FxHashMap::default();
    for map in signature.iter().rev() {
        given.entry(map.tensor_index.into()).or_default().push(&map.name);
    }
    let named = |&t: &i32| {
        let own = usize::try_from(t).ok().and_then(|t| subgraph.tensors.get(t)).map(|t| &t.name);
        let name = given.get_mut(&i64::from(t)).and_then(Vec::pop).or(own);
        Named { name: name.cloned().unwrap_or_default(), tensor: id(t) }
    };
    tensors.iter().map(named).collect()
}

fn id(tensor: i32) -> String {
    format!("%{tensor}")
}

fn tensor(model: &Model, index: usize, tensor: &Described, digests: &mut FxHashMap<u32, Digest>) -> Tensor {
    let signature = if tensor.shape_signature.is_empty() { &tensor.shape } else { &tensor.shape_signature };
    let extent = |&n: &i32| u64::try_from(n).map_or(Extent::Open("?".into()), Extent::Known);
    let element = tensor.elem.to_string();
    let data = model.buffers.get(tensor.buffer as usize).map(|b| &b.data).filter(|d| !d.is_empty());
    let constant = data.map(|data| {
        let digest = *digests.entry(tensor.buffer).or_insert_with(|| Digest::of(data));
        Constant::known(&element, data, digest)
    });
    // Other properties of the tensor.
    let sparse = tensor.sparsity.as_ref().map(|s| format!("sparse {}", Digest::of(format!("{s:?}").as_bytes())));
    Tensor {
        id: format!("%{index}"),
        name: Some(tensor.name.clone()),
        element,
        shape: Some(signature.iter().map(extent).collect()),
        layout: sparse.or_else(|| tensor.is_variable.then(|| "variable".into())),
        quantization: tensor.quantization.as_ref().and_then(quantization),
        constant,
    }
}

fn quantization(scales: &Scales) -> Option<Quantization> {
    let axis = usize::try_from(scales.dimension).ok().filter(|_| scales.scale.len() > 1);
    // Most files have equal zero points for all scales.
    let same = scales.zero_point.first().filter(|&first| scales.zero_point.iter().all(|z| z == first));
    (!scales.scale.is_empty()).then(|| Quantization {
        axis,
        scales: scales.scale.clone(),
        zero_points: same.map_or_else(|| scales.zero_point.clone(), |&zero| vec![zero]),
        ..Quantization::default()
    })
}

fn operator(model: &Model, op: &Entry) -> Operator {
    let kind = match model.code(op) {
        Some(code) => kind(code),
        None => format!("operator {}", op.opcode_index),
    };
    let tensors = |all: &[i32]| all.iter().map(|&t| (t >= 0).then(|| id(t))).collect();
    let mut attributes: Vec<disassembly::Entry> = op
        .options
        .fields()
        .into_iter()
        .chain(op.further_options.fields())
        .map(|(name, value)| disassembly::Entry::new(name, value))
        .collect();
    if let Options::Other(kind) = op.options {
        attributes.push(disassembly::Entry::new("options", kind.to_string()));
    }
    if !op.custom_options.is_empty() {
        let (length, digest) = (op.custom_options.len(), Digest::of(&op.custom_options));
        attributes.push(disassembly::Entry::new("custom_options", format!("{length} bytes {digest}")));
    }
    Operator { name: None, kind, inputs: tensors(&op.inputs), outputs: tensors(&op.outputs), attributes }
}

fn kind(code: &OperatorCode) -> String {
    let custom = if code.custom_code.is_empty() { String::new() } else { format!(":{}", code.custom_code) };
    format!("{}{custom}.{}", code.operator(), code.version)
}
