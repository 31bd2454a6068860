//! `qcc report`.

use std::ffi::OsString;

use crate::compare::{Failed, Settings};
use crate::examine::{Request, examine};
use crate::ir::diagnostic::{Diagnostic, Severity};

use super::compile::{command, data, preparation};
use crate::cli::args::{Report, import_options, shapes};
use crate::cli::interrupt;
use crate::cli::report;

/// Reports on an artefact.
pub(crate) fn report(args: &Report, line: &[OsString]) -> u8 {
    interrupt::name_lost_files(&[&args.artefact]);
    let told = match examine(&Request { command: Some(command(line)), ..request(args) }) {
        Ok(told) => told,
        Err(Failed { model, failure }) => return report::failure(&failure, &model, false),
    };
    let shown = |d: &&Diagnostic| d.severity != Severity::Note;
    report::show(&told.diagnostics.iter().filter(shown).cloned().collect::<Vec<_>>(), &args.artefact);
    report::say(&report::summary(&told, args.verbose));
    report::DONE
}

/// What the arguments describe.
pub(crate) fn request(args: &Report) -> Request {
    let import = import_options(shapes(&args.shape), &args.set, args.random);
    let against = args.source.clone().zip(args.data.data.as_deref()).map(|(source, path)| {
        let settings = Settings {
            import: import.clone(),
            data: data(path),
            samples: args.data.samples,
            preparation: preparation(&args.data),
        };
        (source, settings)
    });
    Request { artefact: args.artefact.clone(), import, source: against, reports: args.output.clone(), command: None }
}
