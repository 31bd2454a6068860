//! `qcc ops`.

use std::process::ExitCode;

use qcc::frontends::{onnx_operators, torch_operators};

use crate::args::{Ops, Spelling};
use crate::report;

/// Lists the supported operators, one per line.
pub(crate) fn ops(args: &Ops) -> ExitCode {
    let names = match args.of {
        Spelling::Onnx => onnx_operators(),
        Spelling::Pt2 => torch_operators(),
    };
    report::say(&(names.join("\n") + "\n"));
    ExitCode::SUCCESS
}
