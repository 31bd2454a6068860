//! ONNX models: opsets 1 to 28 of the standard domain.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use prost::Message;
use qcc_formats::onnx::{
    DimensionValue, GraphProto, ModelProto, NodeProto, TypeProtoTensor, TypeValue, ValueInfoProto,
};
use qcc_ir::diagnostic::Diagnostic;
use qcc_ir::{Dim, Origin, Shape, TensorType};
use rustc_hash::{FxHashMap, FxHashSet};

use crate::build;
use crate::elements::Stored;
use crate::mapped::Folder;
use crate::refusal::Refusal;
use crate::shapes::{self, ANONYMOUS, ExtentNames};
use crate::{DeclaredInput, ImportOptions, Imported, ModelFile};
use functions::Functions;
use importer::Importer;

mod attributes;
mod body;
mod calls;
mod custom;
mod declared;
mod functions;
mod importer;
mod integers;
mod node;
mod ops;
mod qdq;
mod run;
mod schedule;
mod weights;

pub use ops::supported;

/// The versions of the standard operator set that the table covers.
const OPSETS: std::ops::RangeInclusive<i64> = 1..=28;

/// The version for a model that states only those of other operator sets.
const UNSTATED: i64 = 7;

/// A decoded file.
#[derive(Debug)]
pub(crate) struct File {
    model: ModelProto,
    folder: Folder,
}

impl File {
    pub(crate) fn read(bytes: Bytes, folder: Folder) -> Result<File, Vec<Diagnostic>> {
        let unknown = |message: &str| Diagnostic::error("unknown-format", message);
        let damaged = |e: prost::DecodeError| {
            // The innermost field comes last, and the message of a hostile file may be long.
            let text = e.to_string();
            let places: Vec<&str> = text.split(": ").collect();
            unknown("this is no ONNX model, or a damaged one")
                .with_note(places[places.len().saturating_sub(3)..].join(": "))
        };
        let model = ModelProto::decode(bytes).map_err(|e| vec![damaged(e)])?;
        // Before IR version 3 a model has no list of operator sets: its version is 1.
        let old = (1..3).contains(&model.ir_version());
        if model.graph.is_none() || model.opset_import.is_empty() && !old {
            return Err(vec![unknown("this is no ONNX model, or one without a graph")]);
        }
        Ok(File { model, folder })
    }

    fn graph(&self) -> Result<&GraphProto, Vec<Diagnostic>> {
        self.model.graph.as_ref().ok_or_else(|| vec![Diagnostic::invalid_model("the model has no graph")])
    }

    /// The version of the standard operator set, if the model only uses supported operator sets.
    fn opset(&self) -> Result<i64, Vec<Diagnostic>> {
        let version = self.model.opset_import.iter().find(|o| is_standard(o.domain())).map(|o| o.version());
        let version = version.unwrap_or(if self.model.opset_import.is_empty() { 1 } else { UNSTATED });
        if OPSETS.contains(&version) {
            return Ok(version);
        }
        let refusal = Diagnostic::error("unsupported", format!("opset {version} is not supported"));
        Err(vec![refusal.with_help(format!("export with an opset from {} to {}", OPSETS.start(), OPSETS.end()))])
    }
}

impl ModelFile for File {
    /// Files with external tensors.
    fn files(&self) -> Vec<PathBuf> {
        let mut locations = BTreeSet::new();
        let mut graphs: Vec<&GraphProto> = self.model.graph.iter().collect();
        let mut nodes: Vec<&NodeProto> = self.model.functions.iter().flat_map(|f| &f.node).collect();
        while !graphs.is_empty() || !nodes.is_empty() {
            for graph in std::mem::take(&mut graphs) {
                locations.extend(graph.initializer.iter().filter_map(weights::location));
                nodes.extend(&graph.node);
            }
            for attribute in std::mem::take(&mut nodes).into_iter().flat_map(|n| &n.attribute) {
                locations.extend(attribute.t.as_deref().and_then(weights::location));
                graphs.extend(attribute.g.as_deref());
            }
        }
        let home = self.folder.path();
        locations.iter().map(|l| if home == Path::new(".") { l.into() } else { home.join(l) }).collect()
    }

    fn metadata(&self) -> Vec<(String, String)> {
        self.model.metadata_props.iter().map(|e| (e.key().into(), e.value().into())).collect()
    }

    fn inputs(&self) -> Result<Vec<DeclaredInput>, Vec<Diagnostic>> {
        let graph = self.graph()?;
        let constants: FxHashSet<&str> = graph.initializer.iter().map(|t| t.name()).collect();
        let mut inputs = Vec::new();
        let mut errors = Vec::new();
        // Before IR version 4 constants are listed among the inputs; since then, such an input has a default value.
        let mut names = FxHashSet::default();
        for info in graph.input.iter().filter(|i| !constants.contains(i.name())) {
            if !names.insert(info.name()) {
                errors.push(Diagnostic::invalid_model(format!("two inputs have the name {}", info.name())));
            }
            match declared(info) {
                Ok(input) => inputs.push(input),
                Err(e) => errors.extend(e.diagnostic(&Origin::new(info.name(), "Input"))),
            }
        }
        if errors.is_empty() { Ok(inputs) } else { Err(errors) }
    }

    fn import(&self, options: &ImportOptions) -> Result<Imported, Vec<Diagnostic>> {
        self.opset()?;
        let inputs = self.inputs()?;
        let mut notes = Vec::new();
        let settled = shapes::settle(&inputs, options, &mut notes);
        // They are reported even if missing shapes prevent the import.
        let unknown = || {
            let graph = self.model.graph.as_ref();
            graph.into_iter().flat_map(|g| unknown_operators(g, &Functions::of(&self.model))).collect()
        };
        let at = |shapes, notes| self.import_at(&inputs, shapes, options, notes);
        shapes::import((&inputs, options, ExtentNames::Given), settled, notes, unknown, at)
    }
}

impl File {
    /// Imports the model with these shapes of its inputs.
    fn import_at(
        &self,
        inputs: &[DeclaredInput],
        shapes: Vec<Shape>,
        options: &ImportOptions,
        notes: Vec<Diagnostic>,
    ) -> Result<Imported, Vec<Diagnostic>> {
        let graph = self.graph()?;
        let mut importer = Importer::new(graph.name(), self.opset()?, Functions::of(&self.model), &self.folder, notes);
        importer.graph.metadata = self.metadata();
        importer.opsets = &self.model.opset_import;
        importer.random_inputs = options.random_inputs;
        importer.extents = shapes::extents(inputs, &shapes);
        let (values, unknown) = shapes::values(inputs, options);
        importer.errors.extend(unknown);
        let stored = graph.input.iter().filter_map(|i| Some((i.name(), tensor_type(i)?.elem_type())));
        let stored: FxHashMap<&str, i32> = stored.collect();
        for (input, shape) in inputs.iter().zip(shapes) {
            let data_type = stored.get(input.name.as_str()).copied().unwrap_or_default();
            importer.wide_unsigned |= weights::is_wide_unsigned(data_type);
            // An input that the user set is not an input of the artefact.
            if !values.contains_key(input.name.as_str()) {
                let stored = weights::stored(data_type).ok();
                importer.notes.extend(stored.and_then(|s| s.interface("input", &input.name)));
            }
            let ty = TensorType::new(input.elem.clone(), shape);
            match values.get(input.name.as_str()) {
                Some(values) => importer.set_input(&input.name, ty, data_type, values),
                None => importer.add_input(&input.name, ty, data_type),
            }
        }
        importer.run(graph)
    }
}

/// True for the domain of standard operators.
fn is_standard(domain: &str) -> bool {
    matches!(domain, "" | "ai.onnx")
}

/// Errors for nodes whose operators are neither supported nor functions of the model.
fn unknown_operators(graph: &GraphProto, functions: &Functions<'_>) -> Vec<Diagnostic> {
    let nodes = schedule::schedule(graph).unwrap_or_default();
    let refused = |node: &NodeProto| match functions.find(node) {
        Some(_) => None,
        None if ops::is_custom(node) => None,
        None => ops::find(node).err()?.diagnostic(&run::origin(node, run::node_name(node))),
    };
    nodes.into_iter().filter_map(refused).collect()
}

fn tensor_type(info: &ValueInfoProto) -> Option<&TypeProtoTensor> {
    match info.r#type.as_ref()?.value.as_ref()? {
        TypeValue::Tensor(t) => Some(t),
        _ => None,
    }
}

/// The file's element type of an input or output.
fn element(info: &ValueInfoProto) -> Option<Stored> {
    weights::stored(tensor_type(info)?.elem_type()).ok()
}

fn declared(info: &ValueInfoProto) -> Result<DeclaredInput, Refusal> {
    let ty = tensor_type(info).ok_or_else(|| Refusal::Unsupported(format!("input {} is no tensor", info.name())))?;
    let shape = declared_shape(ty)?;
    if let Some(shape) = shape.as_ref().filter(|s| s.rank() > 8) {
        return Err(Refusal::Unsupported(format!("input {} has rank {}; 8 is the most", info.name(), shape.rank())));
    }
    Ok(DeclaredInput { name: info.name().into(), elem: weights::elem(ty.elem_type())?, shape })
}

/// The extents that a type has, where it has a rank.
fn declared_shape(ty: &TypeProtoTensor) -> Result<Option<Shape>, Refusal> {
    let shape = ty.shape.as_ref().map(|s| {
        let dims = s.dim.iter().map(|d| match &d.value {
            // Some exporters write 0 or -1 for an open extent.
            Some(DimensionValue::Value(n)) => match usize::try_from(*n) {
                Ok(n) if n > 0 => Ok(Dim::Known(build::extent(i64::try_from(n).unwrap_or(i64::MAX))?)),
                _ => Ok(Dim::symbol(ANONYMOUS)),
            },
            Some(DimensionValue::Param(name)) if !name.is_empty() => Ok(Dim::symbol(name.as_str())),
            _ => Ok(Dim::symbol(ANONYMOUS)),
        });
        dims.collect::<Result<Shape, Refusal>>()
    });
    shape.transpose()
}
