//! `qcc passes`.

use std::path::Path;
use std::process::ExitCode;

use qcc::backends::WriteOptions;
use qcc::{Compiler, Failure, Options};

use crate::args::Passes;
use crate::report;

use super::compile::{backend, named};

/// Lists the passes for each target, one per line.
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
    let options = Options::new(args.to.iter().map(|&to| backend(to, WriteOptions::PLAIN)), named(args.quantize)?);
    let targets = options.targets.clone();
    let mut text = String::new();
    for (target, pipeline) in targets.iter().zip(Compiler::new(options).pipelines()?) {
        if targets.len() > 1 {
            text += &format!("{}:\n", target.target().name);
        }
        pipeline.ids().for_each(|id| text += &format!("{id}\n"));
    }
    Ok(text)
}
