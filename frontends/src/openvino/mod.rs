//! OpenVINO IR, version 11: what qcc and OpenVINO's own converter write.
//!
//! Values have the axes of the file (images are N,C,H,W). A FakeQuantize whose levels are those of 8 or 16 bits is a
//! grid; constants of integers that are widened and multiplied by scales lie on one.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use qcc_formats::openvino::{Info, Network, Node, Port, ReadError};
use qcc_ir::diagnostic::Diagnostic;
use qcc_ir::{Dim, Elem, Origin, QuantParams, Shape, TensorType};
use rustc_hash::FxHashSet;

use crate::elements::Stored;
use crate::mapped::Folder;
use crate::refusal::Refusal;
use crate::shapes::{self, ANONYMOUS};
use crate::{DeclaredInput, ImportOptions, Imported, ModelFile, build};
use importer::Importer;
use integers::Scaled;

mod importer;
mod integers;
mod node;
mod ops;
mod run;
mod types;

pub use ops::supported;

/// Extension of the file of constants, in place of that of the main one.
const WEIGHTS: &str = "bin";

/// Part of `rt_info` that says what the model is; the others say how it was made and how plugins run it.
const MODEL: &str = "model_info";

/// A decoded file.
#[derive(Debug)]
pub(crate) struct File {
    network: Network,
    /// Constants on integers that scales make real.
    scaled: Scaled,
    weights: Bytes,
    place: Option<PathBuf>,
}

impl File {
    /// Reads a file called `main`, beside which its constants are.
    pub(crate) fn read(bytes: &Bytes, folder: Folder, main: Option<&Path>) -> Result<File, Vec<Diagnostic>> {
        let network = Network::read(bytes).map_err(told)?;
        let constants = network.layers.iter().map(Node::constant).collect::<Result<Vec<_>, _>>().map_err(told)?;
        let (mut weights, mut place) = (Bytes::new(), None);
        if constants.iter().flatten().any(|c| c.size > 0) {
            let missing = |why: String| {
                let help = "keep the .bin file beside the .xml, under the same name";
                vec![Diagnostic::error("missing-data", why).with_help(help)]
            };
            let Some(name) = main.map(|main| main.with_extension(WEIGHTS)) else {
                return Err(missing(
                    "its constants are in a file beside it; give the model by its path or with its name".into(),
                ));
            };
            weights = folder.map(&name.to_string_lossy()).map_err(missing)?;
            place = Some(folder.path().join(name));
        }
        let scaled = Scaled::find(&network);
        Ok(File { network, scaled, weights, place })
    }

    fn parameters(&self) -> impl Iterator<Item = (usize, &Node)> {
        self.network.layers.iter().enumerate().filter(|(_, l)| l.kind == "Parameter")
    }

    /// An input, with its open extents.
    fn declared(&self, index: usize, layer: &Node) -> Result<DeclaredInput, Refusal> {
        let output = layer.outputs.first().ok_or_else(|| Refusal::Invalid("it has no output".into()))?;
        let name = output.names.first().unwrap_or(&layer.name).clone();
        let text = layer.attribute("shape").unwrap_or("...").trim();
        let dim = |text: &str| match text.trim() {
            "?" | "-1" => Ok(Dim::Sym(ANONYMOUS.into())),
            range if range.contains("..") => Ok(Dim::Sym(ANONYMOUS.into())),
            known => {
                let extent = known.parse().map_err(|_| Refusal::Invalid(format!("its shape is \"{text}\"")))?;
                build::extent(extent).map(Dim::Known)
            }
        };
        let shape = match text {
            "..." => None,
            text => Some(text.split(',').filter(|d| !d.trim().is_empty()).map(dim).collect::<Result<Shape, _>>()?),
        };
        if shape.as_ref().is_some_and(|s| s.rank() > 8) {
            return Err(Refusal::Unsupported(format!("input {name} has more than 8 axes")));
        }
        let elem = match self.qparams_of_input(index, shape.as_ref()) {
            Some(qparams) => Elem::Quantized(qparams),
            None => types::stored(output.element)?.elem(),
        };
        Ok(DeclaredInput { name, elem, shape })
    }

    /// The grid of an input of integers that the model makes real first of all.
    fn qparams_of_input(&self, index: usize, shape: Option<&Shape>) -> Option<QuantParams> {
        let port = Port { layer: index, result: 0 };
        let qparams = self.scaled.qparams_of_input(&self.network, &self.weights, port)?;
        let ty = TensorType::new(Elem::Quantized(qparams.clone()), shape?.clone());
        ty.validate().is_ok().then_some(qparams)
    }
}

impl ModelFile for File {
    /// The file of constants.
    fn files(&self) -> Vec<PathBuf> {
        self.place.iter().cloned().collect()
    }

    /// What the file says about the model; groups are paths.
    fn metadata(&self) -> Vec<(String, String)> {
        let mut all = Vec::new();
        let told = |info: &&Info| matches!(info, Info::Group(key, _) if key == MODEL);
        self.network.info.iter().filter(told).for_each(|info| flatten("", info, &mut all));
        all
    }

    fn inputs(&self) -> Result<Vec<DeclaredInput>, Vec<Diagnostic>> {
        let (mut inputs, mut errors, mut names) = (Vec::<DeclaredInput>::new(), Vec::new(), FxHashSet::default());
        for (i, layer) in self.parameters() {
            match self.declared(i, layer) {
                Ok(input) if names.insert(input.name.clone()) => inputs.push(input),
                Ok(input) => {
                    errors.push(Diagnostic::invalid_model(format!("two inputs have the name {}", input.name)));
                }
                Err(e) => errors.extend(e.diagnostic(&Origin::new(layer.name.as_str(), "Parameter"))),
            }
        }
        if errors.is_empty() { Ok(inputs) } else { Err(errors) }
    }

    fn import(&self, options: &ImportOptions) -> Result<Imported, Vec<Diagnostic>> {
        let inputs = self.inputs()?;
        let mut notes = Vec::new();
        let shapes = shapes::settle(&inputs, options, &mut notes)?;
        let open = shapes::open(&inputs, options);
        let mut importer = Importer::new(&self.network, &self.scaled, &self.weights);
        importer.graph.metadata = self.metadata();
        // Other shapes than those that the file declares make others of all that follow.
        importer.declared = options.shapes.is_empty();
        let (values, unknown) = shapes::values(&inputs, options);
        importer.errors.extend(unknown);
        for ((input, shape), (layer, node)) in inputs.iter().zip(shapes).zip(self.parameters()) {
            let ty = TensorType::new(input.elem.clone(), shape);
            let stored = node.outputs.first().and_then(|t| types::stored(t.element).ok());
            let given = values.get(input.name.as_str());
            notes.extend(stored.filter(|_| given.is_none()).and_then(|s: Stored| s.interface("input", &input.name)));
            match given {
                Some(values) => importer.set_input(layer, &input.name, &ty, values),
                None => importer.add_input(layer, &input.name, ty),
            }
        }
        let mut imported = importer.run(notes)?;
        imported.open = open;
        Ok(imported)
    }
}

/// What the user is told of a file that cannot be read: the format has more than is supported here.
fn told(error: ReadError) -> Vec<Diagnostic> {
    let help = match &error {
        ReadError::Body { .. } => "convert the model with loops and branches resolved",
        ReadError::Element { .. } => "convert the model with other elements",
        ReadError::Version(_) => "convert the model with a current OpenVINO",
        _ => return vec![Diagnostic::invalid_model(error.to_string())],
    };
    vec![Diagnostic::error("unsupported", error.to_string()).with_help(help)]
}

fn flatten(path: &str, info: &Info, out: &mut Vec<(String, String)>) {
    let full = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}/{key}") };
    match info {
        Info::Value(key, value) => out.push((full(key), value.clone())),
        Info::Group(key, all) => all.iter().for_each(|info| flatten(&full(key), info, out)),
    }
}

/// True where bytes may be such a file.
pub(crate) fn is_one(bytes: &[u8]) -> bool {
    Network::is_one(bytes)
}
