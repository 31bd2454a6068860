//! The passes of a compilation.

use std::path::Path;
use std::process::ExitCode;

use qcc::{Compiler, Failure, Options};

use crate::args::Passes;
use crate::report;

use super::compile::{backend, named};

/// Lists the passes for each target, one a line.
pub(crate) fn passes(args: &Passes) -> ExitCode {
    match listed(args) {
        Ok(text) => {
            report::say(&text);
            ExitCode::SUCCESS
        }
        Err(failure) => report::failure(&failure, Path::new(""), false),
    }
}

fn listed(args: &Passes) -> Result<String, Failure> {
    let mut text = String::new();
    for to in &args.to {
        let pipeline = Compiler::new(Options::new([backend(*to)], named(args.quantize)?)).pipeline(backend(*to))?;
        if args.to.len() > 1 {
            text += &format!("{}:\n", backend(*to).target().name);
        }
        pipeline.ids().for_each(|id| text += &format!("{id}\n"));
    }
    Ok(text)
}
