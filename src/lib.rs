//! The qcc compiler as a library: [`Compiler`] compiles a model file with [`Options`] and returns a [`Report`].
//!
//! ```no_run
//! use qcc::{Compiler, NoObserver, Options, Output};
//! # fn main() -> Result<(), qcc::Failure> {
//! let compiler = Compiler::new(Options::default());
//! let report = compiler.compile("yolo26n.onnx".as_ref(), &Output::File("yolo26n.tflite".into()), &mut NoObserver)?;
//! assert_eq!(report.artefacts[0].target, "tflite");
//! # Ok(())
//! # }
//! ```

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod artefact;
mod batch;
#[cfg(feature = "cli")]
pub mod cli;
pub mod compare;
mod compiler;
mod cost;
pub mod data;
mod details;
mod digest;
pub mod examine;
mod explain;
pub mod inspect;
pub mod json;
mod labels;
mod matching;
mod memory;
mod merge;
mod observer;
pub mod opt;
mod options;
mod outcome;
mod overlay;
mod page;
mod placement;
mod port;
mod precision;
mod quality;
mod ranges;
mod reader;
pub mod render;
mod reports;
mod sizes;
mod statistics;
mod unfinished;
pub mod vendor;

pub use compiler::{Calibrated, Compiled, Compiler};
pub use cost::{Cost, Costs, ENERGY_SOURCE, ElemBytes, LATENCY_SOURCE};
pub use details::{NodeReport, QuantizationReport, UnstableValue, ValueReport};
pub use digest::FileDigest;
pub use explain::{NodeDecision, Part};
pub use matching::Matched;
pub use merge::merge;
pub use observer::{NoObserver, Observer, StageTime};
pub use options::{Budget, Calibration, DATA_HELP, Data, Effort, Options};
pub use outcome::{Artefact, Failure, Output, REPORT_SCHEMA, Report};
pub use port::Port;
pub use precision::Precision;
pub use qcc_backends as backends;
pub use qcc_frontends as frontends;
pub use qcc_ir as ir;
pub use qcc_passes as passes;
pub use quality::{
    Agreement, Choice, Deviation, Gate, NOT_COMPARED, OutputReport, ParetoPoint, Quality, Repair, Validation,
};
pub use reports::file as report_file;
pub use sizes::InputSizes;
pub use statistics::{CalibratedModel, SampleKind, Shard, StatisticsError, StatisticsFile};
pub use unfinished::abandon;
