//! The command line as a library: [`run`] is the `qcc` command; the other functions do what arguments ask for and
//! return the result instead of printing it, for programs that offer the same options ([`options`]).
//!
//! ```
//! assert_eq!(qcc::cli::run(["qcc", "model.onnx", "--too", "tflite"]), 2);
//! let refused = qcc::cli::compilation(["qcc", "--to=tflite", "--int9", "--", "model.onnx"]);
//! assert!(refused.is_err_and(|error| error.to_string().contains("--int8")));
//! ```

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::error::{ContextKind, ContextValue};
use clap::{ArgAction, CommandFactory, Parser};

use crate::backends::disassembly::{Changes, Disassembly};
use crate::compare::{Comparison, Settings};
use crate::examine::Request;
use crate::ir::diagnostic::Diagnostic;
use crate::{Failure, inspect};

mod args;
mod commands;
mod hint;
mod interrupt;
mod report;

use args::{Args, Command};
pub use commands::Compilation;
pub use interrupt::hush_contained_panics;
pub use report::{comparison as comparison_table, explanation, summary};

/// Runs a command line, whose first argument is the program's name. It prints to stdout and stderr, handles SIGINT and
/// SIGTERM, and returns the exit code.
pub fn run(line: impl IntoIterator<Item = impl Into<OsString>>) -> u8 {
    hush_contained_panics();
    let line: Vec<OsString> = line.into_iter().map(Into::into).collect();
    let Args { command, compile, data } = match Args::try_parse_from(&line) {
        Ok(args) => args,
        Err(error) => return refuse(&error, &line),
    };
    match (command, compile) {
        (Some(Command::Inspect(args)), _) => commands::inspect(&args),
        (Some(Command::Diff(args)), _) => commands::diff(&args),
        (Some(Command::Compare(args)), _) => commands::compare(&args),
        (Some(Command::Report(args)), _) => commands::report(&args, &line),
        (Some(Command::Ops(args)), _) => commands::ops(&args),
        (Some(Command::Opt(args)), _) => commands::opt(&args),
        (Some(Command::Calibrate(args)), _) => commands::calibrate(&args),
        (Some(Command::Merge(args)), _) => commands::merge(&args),
        (Some(Command::Completions(args)), _) => commands::completions(&args),
        (Some(Command::Passes(args)), _) => commands::passes(&args),
        (None, Some(args)) => commands::compile(&args, &data, &line),
        (None, None) => report::usage("no model is given; `qcc --help` shows the usage"),
    }
}

/// Prints a usage error of a command line, or the help that it asks for. Returns the exit code.
fn refuse(error: &clap::Error, line: &[OsString]) -> u8 {
    match hint::of(error, line) {
        Some(better) => report::show(&[better], Path::new("")),
        // An error of printing cannot be reported.
        None => drop(error.print()),
    }
    if error.use_stderr() { report::USAGE } else { report::DONE }
}

/// The compilation that `qcc MODEL ..` describes.
///
/// # Errors
/// If the arguments are wrong or contradict each other.
pub fn compilation(line: impl IntoIterator<Item = impl Into<OsString> + Clone>) -> Result<Compilation, Failure> {
    match parse(line)? {
        Args { command: None, compile: Some(compile), data } => Compilation::of(&compile, &data),
        _ => Err(other("a compilation")),
    }
}

/// What `qcc inspect MODEL ..` shows.
///
/// # Errors
/// If the arguments are wrong, or the file cannot be read.
pub fn inspection(line: impl IntoIterator<Item = impl Into<OsString> + Clone>) -> Result<Disassembly, Failure> {
    match parse(line)?.command {
        Some(Command::Inspect(args)) => commands::contents(&args),
        _ => Err(other("an inspection")),
    }
}

/// What `qcc diff OLD NEW ..` shows.
///
/// # Errors
/// If the arguments are wrong, a file cannot be read, or their formats differ.
pub fn differences(line: impl IntoIterator<Item = impl Into<OsString> + Clone>) -> Result<Changes, Failure> {
    match parse(line)?.command {
        Some(Command::Diff(args)) => inspect::diff(&args.before, &args.after),
        _ => Err(other("two files to compare")),
    }
}

/// A comparison that arguments describe.
#[derive(Debug)]
pub struct Compared {
    /// The reference model.
    pub truth: PathBuf,
    /// The model that is compared with it.
    pub other: PathBuf,
    /// The data and the inputs.
    pub settings: Settings,
    args: args::Compare,
}

impl Compared {
    /// The requirements (`--min-sqnr` ..) that a comparison does not meet.
    pub fn unmet(&self, comparison: &Comparison) -> Vec<Diagnostic> {
        commands::unmet(&self.args, comparison)
    }
}

/// The comparison that `qcc compare MODEL OTHER ..` describes.
///
/// # Errors
/// If the arguments are wrong.
pub fn comparison(line: impl IntoIterator<Item = impl Into<OsString> + Clone>) -> Result<Compared, Failure> {
    match parse(line)?.command {
        Some(Command::Compare(args)) => {
            let settings = commands::settings(&args)?;
            Ok(Compared { truth: args.truth.clone(), other: args.other.clone(), settings, args: *args })
        }
        _ => Err(other("two models to compare")),
    }
}

/// The report that `qcc report ARTEFACT ..` describes.
///
/// # Errors
/// If the arguments are wrong.
pub fn examination(line: impl IntoIterator<Item = impl Into<OsString> + Clone>) -> Result<Request, Failure> {
    match parse(line)?.command {
        Some(Command::Report(args)) => Ok(commands::request(&args)),
        _ => Err(other("an artefact to report on")),
    }
}

fn other(expected: &str) -> Failure {
    Failure::usage(Diagnostic::error("usage", format!("the arguments do not describe {expected}")))
}

fn parse(line: impl IntoIterator<Item = impl Into<OsString> + Clone>) -> Result<Args, Failure> {
    Args::try_parse_from(line).map_err(|error| Failure::usage(refusal(&error)))
}

/// The parser's message as a diagnostic: the first line, the values that are possible, what to do.
fn refusal(error: &clap::Error) -> Diagnostic {
    if let Some(better) = hint::of(error, &[]) {
        return better;
    }
    let text = error.to_string();
    let message = text.lines().next().unwrap_or_default();
    let d = Diagnostic::error("usage", message.strip_prefix("error: ").unwrap_or(message));
    let strings = |kind| match error.get(kind) {
        Some(ContextValue::String(one)) => vec![one.clone()],
        Some(ContextValue::Strings(all)) => all.clone(),
        _ => Vec::new(),
    };
    let likely = [ContextKind::SuggestedArg, ContextKind::SuggestedValue, ContextKind::SuggestedSubcommand];
    let likely = likely.into_iter().flat_map(strings).collect::<Vec<_>>();
    let possible = strings(ContextKind::ValidValue);
    let d = if possible.is_empty() { d } else { d.with_note(format!("possible values: {}", possible.join(", "))) };
    if likely.is_empty() { d } else { d.with_help(format!("did you mean {}?", likely.join(" or "))) }
}

/// An option of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CommandOption {
    /// Its name, without the hyphens before it.
    pub name: String,
    /// Other names that mean the same.
    pub aliases: Vec<String>,
    /// The name of its value; `None` if it takes none.
    pub value: Option<String>,
    /// Whether it may be given several times.
    pub repeats: bool,
    /// The help text.
    pub help: String,
}

/// The options of a command; those of a compilation for `None`. `None` is returned if there is no such command.
pub fn options(command: Option<&str>) -> Option<Vec<CommandOption>> {
    let mut all = Args::command();
    all.build();
    let of = match command {
        None => &all,
        Some(name) => all.find_subcommand(name)?,
    };
    let named = |arg: &clap::Arg| {
        let takes = arg.get_action().takes_values();
        let value = arg.get_value_names().and_then(|names| names.first());
        Some(CommandOption {
            name: arg.get_long()?.to_owned(),
            aliases: arg.get_all_aliases().unwrap_or_default().into_iter().map(String::from).collect(),
            value: value.filter(|_| takes).map(ToString::to_string),
            repeats: matches!(arg.get_action(), ArgAction::Append),
            help: arg.get_help().map(ToString::to_string).unwrap_or_default(),
        })
    };
    let asks = |arg: &&clap::Arg| !matches!(arg.get_id().as_str(), "help" | "version");
    Some(of.get_arguments().filter(asks).filter_map(named).collect())
}
