//! `qcc compare`.

use std::process::ExitCode;

use qcc::compare::{Comparison, Failed, Settings, compare as compared};
use qcc::frontends::ImportOptions;
use qcc::ir::diagnostic::{Diagnostic, Severity};
use qcc::{DATA_HELP, Failure, Gate, NOT_COMPARED, json};

use crate::args::{Compare, shapes};
use crate::interrupt;
use crate::report;

use super::compile::{data, preparation};

/// Compares two models and prints the result.
pub(crate) fn compare(args: &Compare) -> ExitCode {
    interrupt::name_lost_files(&[&args.truth, &args.other]);
    let comparison = match try_compare(args) {
        Ok(comparison) => comparison,
        Err(Failed { model, failure }) => return report::failure(&failure, &model, false),
    };
    let shown = |d: &&Diagnostic| d.severity != Severity::Note;
    report::show(&comparison.diagnostics.iter().filter(shown).cloned().collect::<Vec<_>>(), &args.truth);
    match json::pretty(&comparison) {
        Ok(json) if args.json => report::say(&json),
        _ => report::say(&report::comparison(&comparison)),
    }
    let gate = Gate { min_sqnr: args.min_sqnr, min_agreement: args.min_agreement, max_drop: None };
    let mut unmet = gate.unmet(comparison.worst_sqnr(), comparison.worst_agreement());
    if !gate.is_open() {
        let unknown = comparison.diagnostics.iter().filter(|d| d.code == NOT_COMPARED);
        unmet.extend(unknown.map(|d| Diagnostic { severity: Severity::Error, code: "gate", ..d.clone() }));
    }
    if unmet.is_empty() { ExitCode::SUCCESS } else { report::gate(&unmet, &args.other) }
}

fn try_compare(args: &Compare) -> Result<Comparison, Failed> {
    let Some(path) = &args.data.data else {
        let error = Diagnostic::error("usage", "models are compared on data").with_help(DATA_HELP);
        return Err(Failed { model: args.truth.clone(), failure: Failure::usage(error) });
    };
    let import = ImportOptions {
        shapes: shapes(&args.shape),
        values: args.set.iter().map(|s| (s.name.clone(), s.values.clone())).collect(),
        ..ImportOptions::default()
    };
    let settings =
        Settings { import, data: data(path), samples: args.data.samples, preparation: preparation(&args.data) };
    compared(&args.truth, &args.other, &settings)
}
