//! `qcc calibrate` and `qcc merge`.

use crate::backends::{Format, WriteOptions};
use crate::ir::diagnostic::Diagnostic;
use crate::{Calibrated, Compiler, DATA_HELP, Failure, Options, Precision, merge as merged};

use super::compile::{backend, calibration, image_order, method, preparation, to};
use crate::cli::args::{Calibrate, Merge, import_options, open_shapes};
use crate::cli::interrupt;
use crate::cli::report::{self, Progress};

/// Evaluates a model on data and writes statistics.
pub(crate) fn calibrate(args: &Calibrate) -> u8 {
    interrupt::leave_nothing();
    interrupt::name_lost_files(&[&args.model]);
    match try_calibrate(args) {
        Ok((calibrated, diagnostics)) => {
            report::tell(&diagnostics, &args.model, args.quiet, false);
            if !args.quiet {
                report::say(&match calibrated {
                    Calibrated::Statistics(statistics) => report::statistics(&statistics, &args.output),
                    Calibrated::Ranges(tensors) => report::ranges(tensors, &args.output),
                });
            }
            report::DONE
        }
        Err(failure) => report::failure(&failure, &args.model, args.quiet),
    }
}

fn try_calibrate(args: &Calibrate) -> Result<(Calibrated, Vec<Diagnostic>), Failure> {
    let formats = match (args.to.as_slice(), args.device) {
        ([], Some(device)) => vec![to(device.format)],
        ([], None) => Format::ALL.iter().map(|&format| to(format)).collect(),
        (formats, _) => formats.to_vec(),
    };
    let write = WriteOptions { device: args.device, ..WriteOptions::PLAIN };
    let mut options = Options::new(formats.into_iter().map(|to| backend(to, write)), Precision::Int8);
    options.import = import_options(open_shapes(&args.shape), &args.set, args.random);
    options.import.cut.clone_from(&args.cut);
    options.layout.input = image_order(args.input_layout);
    options.preparation = preparation(&args.data);
    options.calibration = calibration(&args.data);
    options.statistics.clone_from(&args.stats);
    options.method = args.calibrator.map(method);
    options.compare = false;
    if options.calibration.is_none() && options.statistics.is_none() {
        let error = Diagnostic::error("usage", "a model is calibrated on data");
        return Err(Failure::usage(error.with_help(DATA_HELP)));
    }
    Compiler::new(options).calibrate(&args.model, &args.output, &mut Progress::new(&[], args.quiet))
}

/// Merges statistics.
pub(crate) fn merge(args: &Merge) -> u8 {
    interrupt::leave_nothing();
    match merged(&args.files, &args.exclude, &args.output) {
        Ok(statistics) => {
            if !args.quiet {
                report::say(&report::statistics(&statistics, &args.output));
            }
            report::DONE
        }
        Err(failure) => report::failure(&failure, &args.output, args.quiet),
    }
}
