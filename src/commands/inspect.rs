//! `qcc inspect` and `qcc diff`.

use std::process::ExitCode;

use qcc::frontends::ImportOptions;
use qcc::inspect::{diff as changes, inspect as disassembly, inspect_graph};
use qcc::ir::diagnostic::Diagnostic;
use qcc::{Failure, json};
use serde::Serialize;

use crate::args::{Diff, Format, Inspect, shapes};
use crate::interrupt;
use crate::report;

/// Prints the contents of a model.
pub(crate) fn inspect(args: &Inspect) -> ExitCode {
    interrupt::name_lost_files(&[&args.file]);
    let options = ImportOptions { shapes: shapes(&args.shape), ..ImportOptions::default() };
    let graph = args.graph || !args.shape.is_empty();
    let read = if graph { inspect_graph(&args.file, &options) } else { disassembly(&args.file) };
    let json = args.json || args.format == Format::Json;
    match read.and_then(|all| shown(&all, json)) {
        Ok(text) => {
            report::say(&text);
            ExitCode::SUCCESS
        }
        Err(failure) => report::failure(&failure, &args.file, false),
    }
}

/// Prints the differences. The exit code is 0 if there are none, 1 if there are some, and 2 if the files cannot be
/// compared.
pub(crate) fn diff(args: &Diff) -> ExitCode {
    interrupt::name_lost_files(&[&args.before, &args.after]);
    let told = changes(&args.before, &args.after).and_then(|all| Ok((all.equal, shown(&all, args.json)?)));
    match told {
        Ok((equal, text)) => {
            report::say(&text);
            if equal { ExitCode::SUCCESS } else { ExitCode::from(report::DIFFERENT) }
        }
        Err(failure) => {
            report::failure(&failure, &args.before, false);
            ExitCode::from(report::USAGE)
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
