//! `qcc report`.

use std::process::ExitCode;

use qcc::Report as Told;
use qcc::compare::{Failed, Settings};
use qcc::examine::{Request, examine};
use qcc::frontends::ImportOptions;
use qcc::ir::diagnostic::{Diagnostic, Severity};

use super::compile::{command, data, preparation};
use crate::args::{Report, shapes};
use crate::interrupt;
use crate::report;

/// Reports on an artefact.
pub(crate) fn report(args: &Report) -> ExitCode {
    interrupt::name_lost_files(&[&args.artefact]);
    let told = match try_report(args) {
        Ok(told) => told,
        Err(Failed { model, failure }) => return report::failure(&failure, &model, false),
    };
    let shown = |d: &&Diagnostic| d.severity != Severity::Note;
    report::show(&told.diagnostics.iter().filter(shown).cloned().collect::<Vec<_>>(), &args.artefact);
    report::say(&report::summary(&told, args.verbose));
    ExitCode::SUCCESS
}

fn try_report(args: &Report) -> Result<Told, Failed> {
    let import = ImportOptions {
        shapes: shapes(&args.shape),
        values: args.set.iter().map(|s| (s.name.clone(), s.values.clone())).collect(),
        ..ImportOptions::default()
    };
    let against = args.source.clone().zip(args.data.data.as_deref()).map(|(source, path)| {
        let settings = Settings {
            import: import.clone(),
            data: data(path),
            samples: args.data.samples,
            preparation: preparation(&args.data),
        };
        (source, settings)
    });
    examine(&Request {
        artefact: args.artefact.clone(),
        import,
        source: against,
        reports: args.output.clone(),
        command: Some(command()),
    })
}
