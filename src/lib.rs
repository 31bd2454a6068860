//! The qcc compiler as a library: [`Compiler`] takes a model file and options and gives a compiled file and a
//! [`Report`].
//!
//! ```no_run
//! use qcc::{Compiler, Options, Output, Silent};
//! # fn main() -> Result<(), qcc::Failure> {
//! let compiler = Compiler::new(Options::default());
//! let report = compiler.compile("yolo26n.onnx".as_ref(), &Output::File("yolo26n.tflite".into()), &mut Silent)?;
//! assert_eq!(report.artefacts[0].target, "tflite");
//! # Ok(())
//! # }
//! ```

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod artefact;
mod batch;
pub mod compare;
mod compiler;
pub mod data;
pub mod inspect;
pub mod json;
mod memory;
mod options;
mod port;
mod quality;
mod watch;

pub use artefact::abandon;
pub use compiler::{Artefact, Compiler, Failure, Output, Report};
pub use options::{Calibration, DATA_HELP, Data, Options, Precision};
pub use port::Port;
pub use qcc_backends as backends;
pub use qcc_frontends as frontends;
pub use qcc_ir as ir;
pub use qcc_passes as passes;
pub use quality::{AgreementReport, Deviation, Gate, OutputReport, Quality, Validation};
pub use watch::{Silent, Stage, Watch};
