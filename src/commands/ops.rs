//! The operators that models may use.

use std::fmt::Write;
use std::process::ExitCode;

use qcc::frontends::onnx_operators;

use crate::report;

/// Lists the ONNX operators that are read.
pub(crate) fn ops() -> ExitCode {
    let mut out = String::new();
    for name in onnx_operators() {
        let _ = writeln!(out, "{name}");
    }
    report::say(&out);
    ExitCode::SUCCESS
}
