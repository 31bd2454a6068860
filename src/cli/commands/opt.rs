//! `qcc opt`.

use crate::Failure;
use crate::backends::WriteOptions;
use crate::ir::diagnostic::printable;
use crate::ir::text::print_brief;
use crate::opt::{OptOptions, Optimised, optimise};

use crate::cli::args::{Opt, import_options, shapes};
use crate::cli::interrupt;
use crate::cli::report;

use super::compile::backend;

/// Runs the passes and prints the graph or writes it.
pub(crate) fn opt(args: &Opt) -> u8 {
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
            report::DONE
        }
        Err(failure) => report::failure(&failure, &args.file, false),
    }
}

fn optimised(args: &Opt) -> Result<Optimised, Failure> {
    let mut options = OptOptions::new(backend(args.to, WriteOptions::PLAIN), args.pass.clone());
    options.import = import_options(shapes(&args.shape), &[], None);
    options.import.cut.clone_from(&args.cut);
    options.stop_after = args.stop_after;
    optimise(&args.file, &options, args.output.as_deref())
}
