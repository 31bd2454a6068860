//! Importers of model files into the typed graph.
//!
//! A model is opened once ([`Model::open`]) and imported with the shapes that the user or the calibration data define
//! ([`Model::import`]). The importers resolve what formats express differently (negative axes, automatic padding,
//! attributes that became inputs): the graph has one canonical form. All errors of a model are reported together.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use qcc_ir::diagnostic::Diagnostic;
use qcc_ir::{Elem, Graph, OpenExtent, Origin, Shape, ValueId};
use rustc_hash::{FxHashMap, FxHashSet};

mod build;
mod cut;
mod elements;
mod mapped;
mod onnx;
mod openvino;
mod qir;
mod refusal;
mod shapes;
mod tflite;
mod torch;

pub use build::random::RANDOM_INPUT;
pub use mapped::{Folder, map};
pub use onnx::supported as onnx_operators;
pub use openvino::supported as openvino_operators;
pub use refusal::OPEN_SHAPE;
pub use shapes::explain;
pub use tflite::{python_string, supported as tflite_operators};
pub use torch::supported as torch_operators;

/// Metadata key of the PyTorch class from which the model was exported.
pub const MODULE: &str = "module";

/// The shape of an input that options give; `None` leaves an extent open.
pub type GivenShape = Vec<Option<usize>>;

/// Import options that the user gives in addition to the file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ImportOptions {
    /// Shapes of inputs, by name: `--shape NAME=1,3,640,640`, or with an extent that stays open `--shape NAME=N,64`.
    pub shapes: Vec<(String, GivenShape)>,
    /// Inputs that become constants, by name: `--set NAME=16000`. A single value fills the input, otherwise the number
    /// of values must match.
    pub values: Vec<(String, Vec<f64>)>,
    /// No extent stays open: a batch without a value is 1, other open extents without a value are errors. Otherwise open
    /// extents stay open where all of the model can be imported so.
    pub fixed: bool,
    /// Operators with random results take their samples from inputs of the graph, which the notes name: `--random input`.
    /// Otherwise they are errors.
    pub random_inputs: bool,
    /// The part of the model that is imported: all of it by default.
    pub cut: Option<Cut>,
}

/// A part of a model, between values by name. It has no metadata: those of the model describe all of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cut {
    /// The values that become inputs; where none is named, the part begins at the inputs of the model. Inputs of the
    /// model that outputs depend on otherwise stay inputs.
    pub inputs: Vec<String>,
    /// The values that become the outputs; those of the model where none is named.
    pub outputs: Vec<String>,
}

/// An imported model.
#[derive(Clone, Debug)]
pub struct Imported {
    /// The graph.
    pub graph: Graph,
    /// Notes and warnings, no errors.
    pub notes: Vec<Diagnostic>,
    /// Open extents of inputs that are 1 in the graph by the rule for batches.
    pub open: Vec<OpenExtent>,
}

impl Imported {
    /// The graph if it is complete, else all errors.
    pub(crate) fn complete(
        mut graph: Graph,
        notes: Vec<Diagnostic>,
        errors: Vec<Diagnostic>,
    ) -> Result<Imported, Vec<Diagnostic>> {
        if !errors.is_empty() {
            return Err(errors);
        }
        if graph.outputs().is_empty() {
            return Err(vec![Diagnostic::invalid_model("the model has no outputs")]);
        }
        graph.sweep();
        Ok(Imported { graph, notes, open: Vec::new() })
    }
}

/// An input as declared by the file, before shapes are given.
#[derive(Clone, Debug, PartialEq)]
pub struct DeclaredInput {
    /// Its name.
    pub name: String,
    /// Its element type in the graph (double precision becomes `F32`).
    pub elem: Elem,
    /// Its extents; an open one has a name (`?` if the file has none). Absent if the rank is unknown.
    pub shape: Option<Shape>,
}

/// A model in some format, parsed but not yet imported.
pub trait ModelFile: fmt::Debug + Send + Sync {
    /// The inputs, in file order.
    ///
    /// # Errors
    /// All errors in the declarations of inputs.
    fn inputs(&self) -> Result<Vec<DeclaredInput>, Vec<Diagnostic>>;

    /// Metadata of the model, in file order.
    fn metadata(&self) -> Vec<(String, String)> {
        Vec::new()
    }

    /// Paths of additional files with weights that the model refers to, whether they exist or not.
    fn files(&self) -> Vec<PathBuf> {
        Vec::new()
    }

    /// True if images have channels last. The graph has the axis order of the file.
    fn channels_last(&self) -> bool {
        false
    }

    /// Imports the model into the graph.
    ///
    /// # Errors
    /// All parts of the model that cannot be imported, with the names of their nodes.
    fn import(&self, options: &ImportOptions) -> Result<Imported, Vec<Diagnostic>>;
}

/// A model of any format.
#[derive(Debug)]
pub struct Model(Box<dyn ModelFile>);

impl From<Graph> for Model {
    fn from(graph: Graph) -> Self {
        Model::new(qir::Built(graph))
    }
}

impl Model {
    /// A model in a format that the caller implements.
    pub fn new(file: impl ModelFile + 'static) -> Model {
        Model(Box::new(file))
    }

    /// Maps a file into memory, detects its format by its content and parses it. The file must not change while the
    /// model or graphs made from it are in use: weights are not copied.
    ///
    /// # Errors
    /// If the file cannot be read or is damaged, or its format is unknown.
    pub fn open(path: &Path) -> Result<Model, Vec<Diagnostic>> {
        let bytes = mapped::map(path)
            .map_err(|e| vec![Diagnostic::error("unreadable-file", format!("cannot read {}: {e}", path.display()))])?;
        let folder = path.parent().map(Path::to_path_buf).unwrap_or_default();
        Model::read_as(bytes, Folder::new(&folder), path.file_name().map(Path::new))
    }

    /// Parses a model in memory. `folder` contains the files that the model refers to. OpenVINO IR with constants needs a
    /// name: [`Model::read_with`].
    ///
    /// # Errors
    /// As [`Model::open`].
    pub fn read(bytes: Bytes, folder: &Path) -> Result<Model, Vec<Diagnostic>> {
        Model::read_as(bytes, Folder::new(folder), None)
    }

    /// Reads a model called `name` from bytes, and the files that it refers to by `files`: external data of ONNX under the
    /// names that the model has for them, the constants of OpenVINO IR under `name` with the extension `bin`. What is wrong
    /// with a file, `files` says.
    ///
    /// ```
    /// # use qcc_frontends::Model;
    /// # let (xml, bin) = (bytes::Bytes::new(), bytes::Bytes::new());
    /// let read = Model::read_with(xml, "model.xml", move |name| match name {
    ///     "model.bin" => Ok(bin.clone()),
    ///     _ => Err("only the constants are in memory".into()),
    /// });
    /// # assert!(read.is_err());
    /// ```
    ///
    /// # Errors
    /// As [`Model::open`].
    pub fn read_with(
        bytes: Bytes,
        name: &str,
        files: impl Fn(&str) -> Result<Bytes, String> + Send + Sync + 'static,
    ) -> Result<Model, Vec<Diagnostic>> {
        Model::read_as(bytes, Folder::of(Box::new(files)), Some(Path::new(name)))
    }

    fn read_as(bytes: Bytes, folder: Folder, main: Option<&Path>) -> Result<Model, Vec<Diagnostic>> {
        if bytes.starts_with(b"PK") {
            return Ok(Model::new(torch::File::read(bytes)?));
        }
        if torch::checkpoint::is_pickle(&bytes) {
            return Err(torch::checkpoint::bare(&bytes).diagnostic(&Origin::none()).into_iter().collect());
        }
        if qcc_ir::text::file::is_graph(&bytes) {
            return Ok(Model::new(qir::read(&bytes)?));
        }
        if bytes.get(4..8) == Some(b"TFL3") {
            return Ok(Model::new(tflite::File::read(&bytes)?));
        }
        if openvino::is_one(&bytes) {
            return Ok(Model::new(openvino::File::read(&bytes, folder, main)?));
        }
        Ok(Model::new(onnx::File::read(bytes, folder)?))
    }

    /// See [`ModelFile::inputs`].
    ///
    /// # Errors
    /// Those of [`ModelFile::inputs`].
    pub fn inputs(&self) -> Result<Vec<DeclaredInput>, Vec<Diagnostic>> {
        self.0.inputs()
    }

    /// See [`ModelFile::files`].
    pub fn files(&self) -> Vec<PathBuf> {
        self.0.files()
    }

    /// See [`ModelFile::metadata`].
    pub fn metadata(&self) -> Vec<(String, String)> {
        self.0.metadata()
    }

    /// See [`ModelFile::channels_last`].
    pub fn channels_last(&self) -> bool {
        self.0.channels_last()
    }

    /// Imports the model into the graph. Outputs whose name is also that of another value are renamed, with a warning.
    ///
    /// # Errors
    /// Those of [`ModelFile::import`].
    pub fn import(&self, options: &ImportOptions) -> Result<Imported, Vec<Diagnostic>> {
        let mut imported = match &options.cut {
            Some(cut) => cut::import(&*self.0, cut, options)?,
            None => self.0.import(options)?,
        };
        tell_apart(&mut imported);
        Ok(imported)
    }
}

/// Makes names of inputs and outputs unique: an input and an output with one name must be the same value, which
/// TFLite's signatures do not require. Other outputs are renamed.
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
///
/// # Errors
/// Those of [`Model::open`] and [`Model::import`].
pub fn open(path: &Path, options: &ImportOptions) -> Result<Imported, Vec<Diagnostic>> {
    Model::open(path)?.import(options)
}

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
