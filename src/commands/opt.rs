//! `qcc opt`.

use std::process::ExitCode;

use qcc::Failure;
use qcc::backends::WriteOptions;
use qcc::frontends::ImportOptions;
use qcc::ir::diagnostic::printable;
use qcc::ir::text::print_brief;
use qcc::opt::{OptOptions, Optimised, optimise};

use crate::args::{Opt, shapes};
use crate::interrupt;
use crate::report;

use super::compile::backend;

/// Runs the passes and prints the graph or writes it.
pub(crate) fn opt(args: &Opt) -> ExitCode {
    interrupt::leave_nothing();
    interrupt::name_lost_files(&[&args.file]);
    match optimised(args) {
        Ok(done) => {
            report::show(&done.diagnostics, &args.file);
            if args.explain {
                let line = |(node, rule, why): &(String, &str, String)| {
                    printable(&format!("{node}: {rule}: {why}")).into_owned() + "\n"
                };
                report::say(&done.reasons.iter().map(line).collect::<String>());
            } else if args.output.is_none() {
                report::say(&print_brief(&done.graph));
            }
            ExitCode::SUCCESS
        }
        Err(failure) => report::failure(&failure, &args.file, false),
    }
}

fn optimised(args: &Opt) -> Result<Optimised, Failure> {
    let mut options = OptOptions::new(backend(args.to, WriteOptions::PLAIN), args.pass.clone());
    options.import = ImportOptions { shapes: shapes(&args.shape), ..ImportOptions::default() };
    options.stop_after = args.stop_after;
    optimise(&args.file, &options, args.output.as_deref())
}
