//! The operators that models may use.

use std::process::ExitCode;

use qcc::frontends::onnx_operators;

use crate::report;

/// Lists the ONNX operators that are read, one a line.
pub(crate) fn ops() -> ExitCode {
    report::say(&(onnx_operators().join("\n") + "\n"));
    ExitCode::SUCCESS
}
