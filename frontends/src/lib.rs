//! Readers of model files into the typed graph.
//!
//! A model is opened once ([`Model::open`]) and imported with the shapes that the user or the calibration data give
//! ([`Model::import`]). What a format spells in its own way (negative axes, automatic padding, attributes that became
//! inputs) ends here: the graph knows one spelling. All refusals of a model are reported together.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use qcc_ir::diagnostic::Diagnostic;
use qcc_ir::{Elem, Graph, OpenExtent, Origin, Shape, ValueId};
use rustc_hash::{FxHashMap, FxHashSet};

mod build;
mod elements;
mod mapped;
mod onnx;
mod openvino;
mod refusal;
mod shapes;
mod tflite;
mod torch;

pub use mapped::{Folder, map};
pub use onnx::supported as onnx_operators;
pub use shapes::OPEN_SHAPE;
pub use torch::supported as torch_operators;

/// The key in a graph's metadata of the PyTorch class that the model was exported from.
pub const MODULE: &str = "module";

/// What the user says about a model besides its file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ImportOptions {
    /// Shapes of inputs, by name: `--shape NAME=1,3,640,640`.
    pub shapes: Vec<(String, Vec<usize>)>,
    /// Inputs that become constants, by name: `--set NAME=16000`. One value fills the input, more must fit it.
    pub values: Vec<(String, Vec<f64>)>,
}

/// A model in the graph, and what the user should know about its import.
#[derive(Clone, Debug)]
pub struct Imported {
    /// The graph.
    pub graph: Graph,
    /// Notes and warnings, no errors.
    pub notes: Vec<Diagnostic>,
    /// Extents of inputs that the file leaves open and nothing settled but the rule for batches: 1 in the graph.
    pub open: Vec<OpenExtent>,
}

/// An input as the file declares it, before shapes are given.
#[derive(Clone, Debug, PartialEq)]
pub struct DeclaredInput {
    /// Its name.
    pub name: String,
    /// Its element, as the graph will have it (double precision becomes `F32`).
    pub elem: Elem,
    /// Its extents; an open one has a name (`?` where the file has none). Absent where not even the rank is declared.
    pub shape: Option<Shape>,
}

/// A model file, read but not yet imported.
#[derive(Debug)]
pub struct Model(Format);

#[derive(Debug)]
enum Format {
    Onnx(Box<onnx::File>),
    Pt2(Box<torch::File>),
    Tflite(Box<tflite::File>),
    Openvino(Box<openvino::File>),
}

impl Model {
    /// Maps a file into memory, finds out its format by its content and reads it. The file must not change while the
    /// model or graphs made from it are in use: their weights stay where they are in the file.
    pub fn open(path: &Path) -> Result<Model, Vec<Diagnostic>> {
        let bytes = mapped::map(path)
            .map_err(|e| vec![Diagnostic::error("unreadable-file", format!("cannot read {}: {e}", path.display()))])?;
        let folder = path.parent().map(Path::to_path_buf).unwrap_or_default();
        Model::read_as(bytes, &folder, path.file_name().map(Path::new))
    }

    /// Reads a model from bytes. `folder` is where files that the model refers to are looked for. OpenVINO IR with constants
    /// has to be opened by its path, which says where these are.
    pub fn read(bytes: Bytes, folder: &Path) -> Result<Model, Vec<Diagnostic>> {
        Model::read_as(bytes, folder, None)
    }

    fn read_as(bytes: Bytes, folder: &Path, main: Option<&Path>) -> Result<Model, Vec<Diagnostic>> {
        if bytes.starts_with(b"PK") {
            return Ok(Model(Format::Pt2(Box::new(torch::File::read(bytes)?))));
        }
        if torch::checkpoint::is_pickle(&bytes) {
            return Err(torch::checkpoint::bare(&bytes).diagnostic(&Origin::none()).into_iter().collect());
        }
        if bytes.get(4..8) == Some(b"TFL3") {
            return Ok(Model(Format::Tflite(Box::new(tflite::File::read(&bytes)?))));
        }
        if openvino::is_one(&bytes) {
            return Ok(Model(Format::Openvino(Box::new(openvino::File::read(&bytes, folder, main)?))));
        }
        Ok(Model(Format::Onnx(Box::new(onnx::File::read(bytes, folder)?))))
    }

    /// The inputs, in the file's order.
    pub fn inputs(&self) -> Result<Vec<DeclaredInput>, Vec<Diagnostic>> {
        match &self.0 {
            Format::Onnx(file) => file.inputs(),
            Format::Pt2(file) => file.inputs(),
            Format::Tflite(file) => file.inputs(),
            Format::Openvino(file) => file.inputs(),
        }
    }

    /// Files beside the model that it names as places of its weights, whether they are there or not.
    pub fn files(&self) -> Vec<PathBuf> {
        match &self.0 {
            Format::Onnx(file) => file.files(),
            Format::Openvino(file) => file.files(),
            Format::Pt2(_) | Format::Tflite(_) => Vec::new(),
        }
    }

    /// What the file says about itself, in its order.
    pub fn metadata(&self) -> Vec<(String, String)> {
        match &self.0 {
            Format::Onnx(file) => file.metadata(),
            Format::Pt2(file) => file.metadata(),
            Format::Tflite(file) => file.metadata(),
            Format::Openvino(file) => file.metadata(),
        }
    }

    /// True where images have their channels last. The graph has the axes of the file.
    pub fn channels_last(&self) -> bool {
        match &self.0 {
            Format::Onnx(_) | Format::Pt2(_) | Format::Openvino(_) => false,
            Format::Tflite(_) => true,
        }
    }

    /// Brings the model into the graph.
    pub fn import(&self, options: &ImportOptions) -> Result<Imported, Vec<Diagnostic>> {
        let mut imported = match &self.0 {
            Format::Onnx(file) => file.import(options),
            Format::Pt2(file) => file.import(options),
            Format::Tflite(file) => file.import(options),
            Format::Openvino(file) => file.import(options),
        }?;
        tell_apart(&mut imported);
        Ok(imported)
    }
}

/// Inputs and outputs of one name are one value, as most formats demand; TFLite's signatures do not. An output that has
/// the name of something else gets another one.
fn tell_apart(Imported { graph, notes, .. }: &mut Imported) {
    let inputs = graph.inputs().filter_map(|v| Some((graph.name(v)?.clone(), v)));
    let mut known: FxHashMap<Arc<str>, ValueId> = inputs.collect();
    let all: FxHashSet<Arc<str>> =
        known.keys().cloned().chain(graph.outputs().iter().map(|o| o.name.clone())).collect();
    for i in 0..graph.outputs().len() {
        let (name, value) = (graph.outputs()[i].name.clone(), graph.outputs()[i].value);
        if *known.entry(name.clone()).or_insert(value) == value {
            continue;
        }
        let free = |n: &Arc<str>| !all.contains(n) && !known.contains_key(n);
        let Some(other) = (1..).map(|n| Arc::from(format!("{name}_{n}"))).find(free) else { continue };
        notes.push(Diagnostic::warning(
            "output-name",
            format!("output {name} is called {other} here: the model gives its name to another value as well"),
        ));
        known.insert(Arc::clone(&other), value);
        graph.rename_output(i, other);
    }
}

/// Opens and imports a model.
pub fn open(path: &Path, options: &ImportOptions) -> Result<Imported, Vec<Diagnostic>> {
    Model::open(path)?.import(options)
}
