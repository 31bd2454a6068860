//! `qcc inspect` and `qcc diff`.

use crate::backends::disassembly::Disassembly;
use crate::inspect::{diff as changes, inspect as disassembly, inspect_graph};
use crate::ir::diagnostic::Diagnostic;
use crate::{Failure, json};
use serde::Serialize;

use crate::cli::args::{Diff, Format, Inspect, import_options, shapes};
use crate::cli::interrupt;
use crate::cli::report;

/// Prints the contents of a model.
pub(crate) fn inspect(args: &Inspect) -> u8 {
    interrupt::name_lost_files(&[&args.file]);
    let json = args.json || args.format == Format::Json;
    match contents(args).and_then(|all| shown(&all, json)) {
        Ok(text) => {
            report::say(&text);
            report::DONE
        }
        Err(failure) => report::failure(&failure, &args.file, false),
    }
}

/// The contents of the model that the arguments name.
pub(crate) fn contents(args: &Inspect) -> Result<Disassembly, Failure> {
    let options = import_options(shapes(&args.shape), &[], None);
    let graph = args.graph || !args.shape.is_empty();
    if graph { inspect_graph(&args.file, &options) } else { disassembly(&args.file) }
}

/// Prints the differences. The exit code is 0 if there are none, 1 if there are some, and 2 if the files cannot be
/// compared.
pub(crate) fn diff(args: &Diff) -> u8 {
    interrupt::name_lost_files(&[&args.before, &args.after]);
    let told = changes(&args.before, &args.after).and_then(|all| Ok((all.equal, shown(&all, args.json)?)));
    match told {
        Ok((equal, text)) => {
            report::say(&text);
            if equal { report::DONE } else { report::DIFFERENT }
        }
        Err(failure) => {
            report::failure(&failure, &args.before, false);
            report::USAGE
        }
    }
}

/// The value as text or as JSON.
fn shown(told: &(impl Serialize + std::fmt::Display), json: bool) -> Result<String, Failure> {
    if !json {
        return Ok(told.to_string());
    }
    Ok(json::pretty(told).map_err(|e| Diagnostic::error("inspect", e.to_string()))?)
}
