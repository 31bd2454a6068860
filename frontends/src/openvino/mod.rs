//! OpenVINO IR, version 11, as written by qcc and by OpenVINO's own converter.
//!
//! Values have the axes of the file (images are N,C,H,W). A FakeQuantize with the levels of 8 or 16 bits becomes
//! quantization parameters, and so do integer constants that are converted and multiplied by scales.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use qcc_formats::openvino::{Info, Network, Node, Port, ReadError};
use qcc_ir::diagnostic::Diagnostic;
use qcc_ir::{Dim, Elem, Origin, QuantParams, Shape, TensorType};
use rustc_hash::FxHashSet;

use crate::elements::Stored;
use crate::mapped::Folder;
use crate::refusal::Refusal;
use crate::shapes::{self, ANONYMOUS, ExtentNames};
use crate::{DeclaredInput, ImportOptions, Imported, ModelFile, build};
use importer::Importer;
use integers::Scaled;
use types::{READ_VALUE, VARIABLE};

mod body;
mod importer;
mod integers;
mod node;
mod ops;
mod run;
mod states;
mod types;

pub use ops::supported;

/// Extension of the file of constants.
const WEIGHTS: &str = "bin";

/// The part of `rt_info` with the model's metadata; other parts describe the conversion and runtime options.
const MODEL: &str = "model_info";

/// A decoded file.
#[derive(Debug)]
pub(crate) struct File {
    network: Network,
    /// Dequantized integers.
    scaled: Scaled,
    weights: Bytes,
    place: Option<PathBuf>,
}

impl File {
    /// Reads a file called `main` in `folder`, which also contains the file of constants.
    pub(crate) fn read(bytes: &Bytes, folder: Folder, main: Option<&Path>) -> Result<File, Vec<Diagnostic>> {
        let network = Network::read(bytes).map_err(told)?;
        let layers = network.all().into_iter().flat_map(|network| &network.layers);
        let constants = layers.map(Node::constant).collect::<Result<Vec<_>, _>>().map_err(told)?;
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

    /// The layers that become inputs: parameters, and then what reads variables.
    fn parameters(&self) -> impl Iterator<Item = (usize, &Node)> {
        let of = |kind: &'static str| self.network.layers.iter().enumerate().filter(move |(_, l)| l.kind == kind);
        of("Parameter").chain(of(READ_VALUE))
    }

    /// An input, with its open extents.
    fn declared(&self, index: usize, layer: &Node) -> Result<DeclaredInput, Refusal> {
        let output = layer.outputs.first().ok_or_else(|| Refusal::Invalid("it has no output".into()))?;
        let own = || output.names.first().unwrap_or(&layer.name);
        let name = layer.attribute(VARIABLE).map_or_else(|| own().clone(), ToOwned::to_owned);
        let text = layer.attribute("shape").or_else(|| layer.attribute("variable_shape")).unwrap_or("...").trim();
        let dim = |text: &str| match text.trim() {
            "?" | "-1" => Ok(Dim::symbol(ANONYMOUS)),
            range if range.contains("..") => Ok(Dim::symbol(ANONYMOUS)),
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

    /// The quantization parameters of an integer input that the model dequantizes first.
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

    /// Metadata of the model; groups become paths.
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
        let settled = shapes::settle(&inputs, options, &mut notes);
        let at = |shapes, notes| self.import_at(&inputs, shapes, options, notes);
        shapes::import((&inputs, options, ExtentNames::Absent), settled, notes, Vec::new, at)
    }
}

impl File {
    /// Imports the model with these shapes of its inputs.
    fn import_at(
        &self,
        inputs: &[DeclaredInput],
        shapes: Vec<Shape>,
        options: &ImportOptions,
        mut notes: Vec<Diagnostic>,
    ) -> Result<Imported, Vec<Diagnostic>> {
        let mut importer = Importer::new(&self.network, &self.scaled, &self.weights);
        importer.graph.metadata = self.metadata();
        // With other input shapes, the declared shapes of all values do not apply.
        importer.declared = options.shapes.is_empty();
        let (values, unknown) = shapes::values(inputs, options);
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
        importer.run(notes)
    }
}

/// The error for a file that cannot be read: the format has features that are not supported.
fn told(error: ReadError) -> Vec<Diagnostic> {
    let help = match &error {
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

/// True if the bytes may be OpenVINO IR.
pub(crate) fn is_one(bytes: &[u8]) -> bool {
    Network::is_one(bytes)
}
