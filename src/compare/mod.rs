//! How two models compare: both are evaluated on the same samples.
//!
//! ```
//! use qcc::Data;
//! use qcc::compare::{Settings, compare};
//! let model = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/models/mnist_lenet.onnx");
//! let settings = Settings {
//!     import: Default::default(),
//!     data: Data::Random,
//!     samples: Some(2),
//!     preparation: Default::default(),
//! };
//! let same = compare(model.as_ref(), model.as_ref(), &settings).unwrap();
//! assert_eq!(same.worst_sqnr(), Some(f64::INFINITY));
//! ```

use std::path::{Path, PathBuf};

use qcc_backends::{Format, WriteOptions};
use qcc_frontends::{DeclaredInput, ImportOptions, Imported, Model, OPEN_SHAPE};
use qcc_ir::diagnostic::{Diagnostic, Severity};
use qcc_ir::eval::opaque;
use qcc_ir::{Graph, Shape};
use qcc_passes::layout::ImageOrder;
use qcc_passes::quality::OutputQuality;
use qcc_passes::{Context, Pipeline, Stage, ignore};
use serde::Serialize;

use crate::data::{Preparation, Samples};
use crate::options::Data;
use crate::outcome::Failure;
use crate::quality::{NOT_COMPARED, OutputReport, hints, not_compared};
use crate::vendor;

mod evaluate;
mod interface;

use evaluate::evaluate;
use interface::{Wire, by_name, filled, match_inputs, match_outputs, name};

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

/// The comparison of a model with a reference model.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// The reference model.
    pub truth: PathBuf,
    /// The other model.
    pub other: PathBuf,
    /// Description of the data.
    pub data: String,
    /// Samples that could be read.
    pub samples: usize,
    /// The comparison of each output that can be evaluated.
    pub outputs: Vec<Match>,
    /// Warnings and notes for the user; no errors.
    #[serde(skip)]
    pub diagnostics: Vec<Diagnostic>,
}

/// The comparison of an output.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Match {
    /// The deviation of the other model's output from the reference.
    #[serde(flatten)]
    pub output: OutputReport,
    /// Its name in the other model.
    pub other: String,
}

impl Comparison {
    /// The lowest SQNR of any output, in dB.
    pub fn worst_sqnr(&self) -> Option<f64> {
        self.outputs.iter().filter_map(|o| o.output.deviation.sqnr).reduce(f64::min)
    }

    /// The lowest agreement of any output, in percent.
    pub fn worst_agreement(&self) -> Option<f64> {
        self.outputs.iter().filter_map(|o| Some(o.output.agreement.as_ref()?.percent)).reduce(f64::min)
    }
}

/// Why models cannot be compared, and the model concerned.
#[derive(Debug)]
pub struct Failed {
    /// The model file.
    pub model: PathBuf,
    /// What is wrong.
    pub failure: Failure,
}

/// Evaluates both models on the data. Inputs and outputs are matched by name, else by position. If an image is N,C,H,W
/// in one model and N,H,W,C in the other, its axes are transposed. Boxes of Ultralytics' detectors are pixels in other
/// formats and fractions of the image size in TFLite; they are compared as fractions.
///
/// # Errors
/// If a model is refused, the data do not match the first one, or the interfaces of the models do not match.
pub fn compare(truth: &Path, other: &Path, settings: &Settings) -> Result<Comparison, Failed> {
    let (a, b) = (open(truth)?, open(other)?);
    let inputs = [declared(truth, &a)?, declared(other, &b)?];
    check_names(truth, &inputs, &settings.import)?;
    let order = [a.channels_last(), b.channels_last()];
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
    let (found, read, unread) = evaluate([&a, &b], &inputs, &outputs, hints, &samples).map_err(about(other))?;
    if read == 0 {
        let error = Diagnostic::error("no-samples", format!("none of {} samples can be read", samples.len()));
        return Err(about(truth)(unread.into_iter().take(3).fold(error, |e, d| e.with_note(d.message)).into()));
    }
    diagnostics.extend(unread);
    diagnostics.extend([&a, &b].into_iter().find_map(not_compared));
    let opaque = [opaque(&a), opaque(&b)];
    let known = |(i, (_, wire)): &(usize, (&OutputQuality, &Wire))| {
        let [x, y] = [&a.outputs()[*i], &b.outputs()[wire.at]];
        !opaque[0].contains_key(&x.value.node) && !opaque[1].contains_key(&y.value.node)
    };
    let matched = found.iter().zip(&outputs).enumerate().filter(known).map(|(_, (quality, wire))| Match {
        output: OutputReport::of(quality),
        other: b.outputs()[wire.at].name.to_string(),
    });
    let matched: Vec<Match> = matched.collect();
    if let (true, Some(unknown)) = (matched.is_empty(), diagnostics.iter().find(|d| d.code == NOT_COMPARED)) {
        let error = Diagnostic { severity: Severity::Error, ..unknown.clone() };
        return Err(about(truth)(error.into()));
    }
    Ok(Comparison {
        truth: truth.into(),
        other: other.into(),
        data: samples.to_string(),
        samples: read,
        outputs: matched,
        diagnostics,
    })
}

fn open(path: &Path) -> Result<Model, Failed> {
    Model::open(path).map_err(|all| Failed { model: path.into(), failure: all.into() })
}

fn declared(path: &Path, model: &Model) -> Result<Vec<DeclaredInput>, Failed> {
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
fn for_one(import: &ImportOptions, own: &[DeclaredInput], other: &[DeclaredInput]) -> ImportOptions {
    let given = |name: &str| import.shapes.iter().find(|s| s.0 == name).map(|s| Shape::known(&s.1));
    let in_order = || (own.len() == other.len()).then(|| (0..own.len()).collect());
    let places = by_name(own.iter().map(|i| i.name.as_str()), other.iter().map(|o| o.name.as_str())).or_else(in_order);
    let mut options = ImportOptions { fixed: true, ..import.clone() };
    options.shapes.retain(|s| own.iter().any(|i| i.name == s.0));
    options.values.retain(|v| own.iter().any(|i| i.name == v.0));
    let pairs = own.iter().zip(places.into_iter().flatten().map(|at| &other[at]));
    for (input, counterpart) in pairs.filter(|(input, _)| given(&input.name).is_none()) {
        let shape = given(&counterpart.name).or_else(|| counterpart.shape.clone());
        if let Some(shape) = shape.and_then(|shape| filled(input.shape.as_ref()?, &shape)) {
            options.shapes.push((input.name.clone(), shape));
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
