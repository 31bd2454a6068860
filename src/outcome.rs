//! The result of a compilation: artefacts and report, or the reason of failure.

use std::fmt;
use std::path::{Path, PathBuf};

use qcc_ir::diagnostic::Diagnostic;
use qcc_passes::{PassError, UnknownPass};
use serde::Serialize;

use crate::cost::Costs;
use crate::details::NodeReport;
use crate::digest::FileDigest;
use crate::explain::NodeDecision;
use crate::matching::Matched;
use crate::observer::StageTime;
use crate::port::Port;
use crate::precision::Precision;
use crate::quality::{Quality, Validation};

/// Why no artefact was written.
#[derive(Debug)]
#[non_exhaustive]
pub enum Failure {
    /// The options contradict each other or a required one is missing.
    Usage(Box<Diagnostic>),
    /// The model or the data are refused, or the artefact cannot be written.
    Refused(Vec<Diagnostic>),
    /// The quality is below [`Options::gate`](crate::Options::gate); no artefact is written.
    Gate {
        /// The report of the compilation.
        report: Box<Report>,
        /// The requirements that are not met.
        unmet: Vec<Diagnostic>,
    },
    /// The [`Observer`](crate::Observer) cancelled the compilation.
    Cancelled,
}

impl std::error::Error for Failure {}

impl fmt::Display for Failure {
    /// The messages, one per line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all: Vec<String> = self.diagnostics().iter().map(|d| d.to_string()).collect();
        f.write_str(if all.is_empty() { "cancelled" } else { "" })?;
        f.write_str(&all.join("\n"))
    }
}

impl Failure {
    /// The errors; empty if the compilation was cancelled.
    pub fn diagnostics(&self) -> &[Diagnostic] {
        match self {
            Failure::Usage(d) => std::slice::from_ref(d),
            Failure::Refused(all) | Failure::Gate { unmet: all, .. } => all,
            Failure::Cancelled => &[],
        }
    }

    /// An error in the options.
    pub fn usage(d: Diagnostic) -> Self {
        Failure::Usage(Box::new(d))
    }
}

impl From<Diagnostic> for Failure {
    fn from(d: Diagnostic) -> Self {
        Failure::Refused(vec![d])
    }
}

impl From<Box<Diagnostic>> for Failure {
    fn from(d: Box<Diagnostic>) -> Self {
        Failure::Refused(vec![*d])
    }
}

impl From<Vec<Diagnostic>> for Failure {
    fn from(all: Vec<Diagnostic>) -> Self {
        Failure::Refused(all)
    }
}

impl From<UnknownPass> for Failure {
    fn from(e: UnknownPass) -> Self {
        let known = format!("passes: {}", e.known.join(", "));
        let some = if e.several { "several passes" } else { "no pass" };
        Failure::usage(Diagnostic::error("unknown-pass", format!("{} names {some}", e.asked)).with_help(known))
    }
}

impl From<PassError> for Failure {
    fn from(e: PassError) -> Self {
        Failure::Refused(match e {
            PassError::Cancelled => return Failure::Cancelled,
            PassError::Refused(all) => all,
            other => {
                let error = Diagnostic::error("pass", other.to_string());
                vec![error.with_help("this is a fault of qcc: please report it with the model")]
            }
        })
    }
}

/// Where artefacts are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// The main file of the only artefact.
    File(PathBuf),
    /// A folder, created if missing; artefacts are named after the model.
    Folder(PathBuf),
}

/// What was written for one target.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Artefact {
    /// Name of the target.
    pub target: &'static str,
    /// The main file; for a model in memory, the name that it would have.
    pub output: PathBuf,
    /// Total length of all its files in bytes.
    pub output_bytes: u64,
    /// Its inputs.
    pub inputs: Vec<Port>,
    /// Its outputs.
    pub outputs: Vec<Port>,
    /// Values that it keeps from run to run ([`Options::states`](crate::Options::states)).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub states: Vec<Port>,
    /// SHA-256 of each file, if a report is written.
    pub digests: Vec<FileDigest>,
    /// Number of operators in it.
    pub operators: usize,
    /// The cost of running the artefact, and that of the float model, with [`Options::details`](crate::Options::details).
    pub costs: Option<Costs>,
    /// Quality compared with the float model, if there were data.
    pub quality: Option<Quality>,
    /// What corresponds to the source, of an artefact that was not compiled in this run.
    pub matching: Option<Matched>,
    /// Its operators, in order; empty until the artefact is written, and without
    /// [`Options::details`](crate::Options::details).
    pub nodes: Vec<NodeReport>,
    /// How each node of the model is computed, and why, in the order of the model; empty if nothing is quantized. There
    /// are as many entries as the model has nodes, so the JSON report omits them.
    #[serde(skip)]
    pub decisions: Vec<NodeDecision>,
}

/// Version of the report's JSON (`docs/report.md`). It changes if a field changes its meaning or is removed.
pub const REPORT_SCHEMA: &str = "qcc-report/1";

/// What was compiled and written.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Report {
    /// The version of the report: [`REPORT_SCHEMA`].
    pub schema: &'static str,
    /// The version of qcc.
    pub qcc: &'static str,
    /// The command line, if known ([`Options::command`](crate::Options::command)).
    pub command: Option<String>,
    /// SHA-256 of the model file, if a report is written.
    pub model_digest: Option<String>,
    /// SHA-256 of the file of the calibration data, or of the digests of its files, one per line, if a report is
    /// written. `None` if nothing was read from files.
    pub calibration_digest: Option<String>,
    /// The same of the data on which artefacts were compared with the float model.
    pub validation_digest: Option<String>,
    /// The model file; empty for a model in memory.
    pub model: PathBuf,
    /// Its length in bytes with that of the files with weights that it refers to, if it is a file.
    pub model_bytes: u64,
    /// The precision of the artefacts.
    pub precision: Precision,
    /// Description of the calibration data.
    pub calibration: Option<String>,
    /// Description of the data on which artefacts were compared with the float model.
    pub validation: Option<Validation>,
    /// The artefacts, in the order of the targets.
    pub artefacts: Vec<Artefact>,
    /// The duration of each stage, in order.
    pub stages: Vec<StageTime>,
    /// Warnings and notes for the user; no errors.
    #[serde(skip)]
    pub diagnostics: Vec<Diagnostic>,
}

impl Report {
    /// True if it is about an artefact of an earlier run or of another tool ([`examine`](crate::examine::examine)).
    pub fn is_examination(&self) -> bool {
        self.artefacts.iter().any(|a| a.matching.is_some() || a.output == self.model)
    }

    /// Sets the path and the length of the model, and the paths of the artefacts.
    pub(crate) fn name_files(&mut self, model: &Path, length: u64, outputs: &[PathBuf]) {
        self.model = model.into();
        self.model_bytes = length;
        self.artefacts.iter_mut().zip(outputs).for_each(|(artefact, path)| artefact.output.clone_from(path));
    }

    /// The lowest SQNR of any output of any artefact, in dB.
    pub fn worst_sqnr(&self) -> Option<f64> {
        self.artefacts.iter().filter_map(|a| a.quality.as_ref()?.worst_sqnr()).reduce(f64::min)
    }

    /// The lowest agreement of any output of any artefact, in percent.
    pub fn worst_agreement(&self) -> Option<f64> {
        let known = self.artefacts.iter().filter_map(|a| a.quality.as_ref()?.worst_agreement());
        known.map(|(_, a)| a.percent).reduce(f64::min)
    }
}
