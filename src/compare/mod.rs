//! How two models compare: both are evaluated on the same samples.
//!
//! ```
//! use qcc::{Data, NoObserver};
//! use qcc::compare::{Settings, compare};
//! let model = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/models/mnist_lenet.onnx");
//! let settings = Settings {
//!     import: Default::default(),
//!     data: Data::Random,
//!     samples: Some(2),
//!     preparation: Default::default(),
//! };
//! let same = compare(model.as_ref(), model.as_ref(), &settings, &mut NoObserver).unwrap();
//! assert_eq!(same.worst_sqnr(), Some(f64::INFINITY));
//! ```

use std::path::{Path, PathBuf};

use qcc_ir::diagnostic::{Diagnostic, Severity};
use qcc_ir::eval::opaque;
use qcc_passes::quality::OutputQuality;
use serde::Serialize;

use crate::observer::Observer;
use crate::outcome::Failure;
use crate::quality::{NOT_COMPARED, OutputReport, not_compared};

mod evaluate;
pub(crate) mod interface;
pub(crate) mod models;

use evaluate::evaluate;
use interface::Wire;
use models::Models;
pub use models::{Failed, Settings};

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

/// Evaluates both models on the data. Inputs and outputs are matched by name, else by position. If an image is N,C,H,W
/// in one model and N,H,W,C in the other, its axes are transposed. Boxes of Ultralytics' detectors are pixels in other
/// formats and fractions of the image size in TFLite; they are compared as fractions.
///
/// # Errors
/// If a model is refused, the data do not match the first one, the interfaces of the models do not match, or the observer
/// cancels the comparison.
pub fn compare(
    truth: &Path,
    other: &Path,
    settings: &Settings,
    observer: &mut dyn Observer,
) -> Result<Comparison, Failed> {
    let Models { truth: a, other: b, samples, inputs, outputs, hints, mut diagnostics, .. } =
        Models::open(truth, other, settings)?;
    let about = |model: &Path| {
        let model = model.to_path_buf();
        move |failure: Failure| Failed { model, failure }
    };
    let (found, read, unread) =
        evaluate([&a, &b], &inputs, &outputs, hints, &samples, observer).map_err(about(other))?;
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
