//! The `qcc` command.

mod args;
mod commands;
mod interrupt;
mod report;

use std::process::ExitCode;

use args::{Args, Command};
use clap::Parser;

fn main() -> ExitCode {
    interrupt::hush_contained_panics();
    let Args { command, compile, data } = Args::try_parse().unwrap_or_else(|error| args::refuse(&error));
    match (command, compile) {
        (Some(Command::Inspect(args)), _) => commands::inspect(&args),
        (Some(Command::Diff(args)), _) => commands::diff(&args),
        (Some(Command::Compare(args)), _) => commands::compare(&args),
        (Some(Command::Report(args)), _) => commands::report(&args),
        (Some(Command::Ops(args)), _) => commands::ops(&args),
        (Some(Command::Opt(args)), _) => commands::opt(&args),
        (Some(Command::Calibrate(args)), _) => commands::calibrate(&args),
        (Some(Command::Merge(args)), _) => commands::merge(&args),
        (Some(Command::Passes(args)), _) => commands::passes(&args),
        (None, Some(args)) => commands::compile(&args, &data),
        (None, None) => report::usage("no model is given; `qcc --help` shows the usage"),
    }
}
