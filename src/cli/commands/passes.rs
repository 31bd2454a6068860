//! `qcc passes`.

use std::path::Path;

use crate::backends::WriteOptions;
use crate::{Compiler, Failure, Options};

use crate::cli::args::Passes;
use crate::cli::report;

use super::compile::{backend, named};

/// Lists the passes for each target, one per line.
pub(crate) fn passes(args: &Passes) -> u8 {
    match listed(args) {
        Ok(text) => {
            report::say(&text);
            report::DONE
        }
        Err(failure) => report::failure(&failure, Path::new(""), false),
    }
}

fn listed(args: &Passes) -> Result<String, Failure> {
    let options = Options::new(args.to.iter().map(|&to| backend(to, WriteOptions::PLAIN)), named(args.quantize));
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
