//! The two models of a comparison.

use std::path::{Path, PathBuf};

use qcc_backends::{Format, WriteOptions};
use qcc_frontends::{DeclaredInput, ImportOptions, Imported, Model, OPEN_SHAPE};
use qcc_ir::diagnostic::Diagnostic;
use qcc_ir::{Dim, Graph, Shape};
use qcc_passes::layout::ImageOrder;
use qcc_passes::quality::Hints;
use qcc_passes::{Context, Pipeline, Stage, ignore};

use super::interface::{Wire, by_name, filled, match_inputs, match_outputs, name};
use crate::data::{Preparation, Samples};
use crate::digest;
use crate::options::Data;
use crate::outcome::Failure;
use crate::quality::hints;
use crate::vendor;

/// Options of a comparison.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Shapes and values of inputs; each applies to the models that have an input of that name.
    pub import: ImportOptions,
    /// The data on which both models are evaluated.
    pub data: Data,
    /// Maximum number of samples.
    pub samples: Option<usize>,
    /// Preprocessing of images; it overrides the models' metadata.
    pub preparation: Preparation,
}

/// Why models cannot be compared, and the model concerned.
#[derive(Debug)]
pub struct Failed {
    /// The model file.
    pub model: PathBuf,
    /// What is wrong.
    pub failure: Failure,
}

/// Two imported models, and what they are evaluated on.
pub(crate) struct Models {
    /// The reference.
    pub(crate) truth: Graph,
    /// The length of its files in bytes.
    pub(crate) truth_bytes: u64,
    /// The model that is compared with it.
    pub(crate) other: Graph,
    /// The data, bound to the inputs of the reference.
    pub(crate) samples: Samples,
    /// For each input of the other model, its counterpart.
    pub(crate) inputs: Vec<Wire>,
    /// For each output of the reference, its counterpart.
    pub(crate) outputs: Vec<Wire>,
    /// What the outputs are.
    pub(crate) hints: Hints,
    pub(crate) diagnostics: Vec<Diagnostic>,
}

impl Models {
    /// Imports both models, and matches their inputs and outputs.
    pub(crate) fn open(truth: &Path, other: &Path, settings: &Settings) -> Result<Models, Failed> {
        let (a, b) = (open(truth)?, open(other)?);
        let inputs = [declared(truth, &a)?, declared(other, &b)?];
        check_names(truth, &inputs, &settings.import)?;
        let (truth_bytes, order) = (digest::length(truth, &a), [a.channels_last(), b.channels_last()]);
        let a = import(truth, &a, &for_one(&settings.import, &inputs[0], &inputs[1]))?;
        let b = import(other, &b, &for_one(&settings.import, &inputs[1], &inputs[0]))?;
        let mut diagnostics = [a.notes, b.notes].concat();
        // The notes on open shapes do not apply: both models are evaluated on one sample at a time.
        diagnostics.retain(|d| d.code != OPEN_SHAPE);
        let (mut a, mut b) = (a.graph, b.graph);
        match order {
            [false, true] => like_tflite(truth, &mut a)?,
            [true, false] => like_tflite(other, &mut b)?,
            _ => {}
        }
        let about = |model: &Path| {
            let model = model.to_path_buf();
            move |failure: Failure| Failed { model, failure }
        };
        let samples = bind(&a, &b, settings).map_err(about(truth))?;
        let inputs = match_inputs(&a, &b, &mut diagnostics).map_err(about(other))?;
        let outputs = match_outputs(&a, &b, &mut diagnostics).map_err(about(other))?;
        let hints = hints(if a.metadata.is_empty() { &b } else { &a });
        Ok(Models { truth: a, truth_bytes, other: b, samples, inputs, outputs, hints, diagnostics })
    }
}

pub(crate) fn open(path: &Path) -> Result<Model, Failed> {
    Model::open(path).map_err(|all| Failed { model: path.into(), failure: all.into() })
}

pub(crate) fn declared(path: &Path, model: &Model) -> Result<Vec<DeclaredInput>, Failed> {
    model.inputs().map_err(|all| Failed { model: path.into(), failure: all.into() })
}

/// Fails if an option names an input that neither model has.
fn check_names(truth: &Path, inputs: &[Vec<DeclaredInput>; 2], import: &ImportOptions) -> Result<(), Failed> {
    let names: Vec<&str> = inputs.iter().flatten().map(|i| i.name.as_str()).collect();
    let asked = import.shapes.iter().map(|s| &s.0).chain(import.values.iter().map(|v| &v.0));
    match asked.into_iter().find(|name| !names.contains(&name.as_str())) {
        None => Ok(()),
        Some(odd) => {
            let error = Diagnostic::error("unknown-input", format!("neither model has an input {odd}"));
            Err(Failed { model: truth.into(), failure: Failure::usage(error.with_help(names.join(", "))) })
        }
    }
}

/// The options that apply to one model: those of its own inputs, and for its open inputs the shapes of the other
/// model's inputs.
pub(crate) fn for_one(import: &ImportOptions, own: &[DeclaredInput], other: &[DeclaredInput]) -> ImportOptions {
    let given = |name: &str| -> Option<Shape> {
        import.shapes.iter().find(|s| s.0 == name)?.1.iter().map(|d| d.map(Dim::Known)).collect()
    };
    let in_order = || (own.len() == other.len()).then(|| (0..own.len()).collect());
    let places = by_name(own.iter().map(|i| i.name.as_str()), other.iter().map(|o| o.name.as_str())).or_else(in_order);
    let mut options = ImportOptions { fixed: true, ..import.clone() };
    options.shapes.retain(|s| own.iter().any(|i| i.name == s.0));
    options.values.retain(|v| own.iter().any(|i| i.name == v.0));
    let pairs = own.iter().zip(places.into_iter().flatten().map(|at| &other[at]));
    for (input, counterpart) in pairs.filter(|(input, _)| given(&input.name).is_none()) {
        let shape = given(&counterpart.name).or_else(|| counterpart.shape.clone());
        if let Some(shape) = shape.and_then(|shape| filled(input.shape.as_ref()?, &shape)) {
            options.shapes.push((input.name.clone(), shape.into_iter().map(Some).collect()));
        }
    }
    options
}

fn import(path: &Path, model: &Model, options: &ImportOptions) -> Result<Imported, Failed> {
    model.import(options).map_err(|all| Failed { model: path.into(), failure: all.into() })
}

/// Normalizes the boxes of a detector as its TFLite artefact does.
fn like_tflite(path: &Path, g: &mut Graph) -> Result<(), Failed> {
    let mut passes = Pipeline::empty();
    vendor::prepare(&*Format::Tflite.with(WriteOptions::PLAIN), ImageOrder::Nhwc)
        .into_iter()
        .for_each(|p| passes.push_shared(Stage::Lower, p.into()));
    let done = passes.run(.., g, &mut Context::new(Format::Tflite.target()), &mut ignore);
    done.map_err(|e| Failed { model: path.into(), failure: e.into() })
}

/// The data bound to the float inputs of the first model.
fn bind(a: &Graph, b: &Graph, settings: &Settings) -> Result<Samples, Failure> {
    let mut interface = Graph::new(a.name.as_str());
    for v in a.inputs() {
        interface.add_input(name(a, v), a.ty(v).real());
    }
    let dataset = settings.data.open().map_err(|e| Diagnostic::from(&e))?;
    let dataset = match settings.samples {
        Some(n) => dataset.limited(n),
        None => dataset,
    };
    let metadata = if a.metadata.is_empty() { &b.metadata } else { &a.metadata };
    Ok(dataset
        .bind(&interface, settings.preparation.resolve(vendor::preprocess(metadata)))
        .map_err(|e| Diagnostic::from(&e))?)
}
