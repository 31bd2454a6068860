//! `qcc compare`.

use crate::compare::{Comparison, Failed, Settings, compare as compared};
use crate::ir::diagnostic::{Diagnostic, Severity};
use crate::{DATA_HELP, Failure, Gate, NOT_COMPARED, json};

use crate::cli::args::{Compare, import_options, shapes};
use crate::cli::interrupt;
use crate::cli::report::{self, Progress};

use super::compile::{data, preparation};

/// Compares two models and prints the result.
pub(crate) fn compare(args: &Compare) -> u8 {
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
    let unmet = unmet(args, &comparison);
    if unmet.is_empty() { report::DONE } else { report::gate(&unmet, &args.other) }
}

/// The requirements that are not met.
pub(crate) fn unmet(args: &Compare, comparison: &Comparison) -> Vec<Diagnostic> {
    let gate = Gate { min_sqnr: args.min_sqnr, min_agreement: args.min_agreement, max_drop: None };
    let mut unmet = gate.unmet(comparison.worst_sqnr(), comparison.worst_agreement());
    if !gate.is_open() {
        let unknown = comparison.diagnostics.iter().filter(|d| d.code == NOT_COMPARED);
        unmet.extend(unknown.map(|d| Diagnostic { severity: Severity::Error, code: "gate", ..d.clone() }));
    }
    unmet
}

fn try_compare(args: &Compare) -> Result<Comparison, Failed> {
    let about = |failure| Failed { model: args.truth.clone(), failure };
    compared(&args.truth, &args.other, &settings(args).map_err(about)?, &mut Progress::new(&[], false))
}

/// What the arguments describe.
pub(crate) fn settings(args: &Compare) -> Result<Settings, Failure> {
    let Some(path) = &args.data.data else {
        let error = Diagnostic::error("usage", "models are compared on data").with_help(DATA_HELP);
        return Err(Failure::usage(error));
    };
    let import = import_options(shapes(&args.shape), &args.set, args.random);
    Ok(Settings { import, data: data(path), samples: args.data.samples, preparation: preparation(&args.data) })
}
