//! What a command line that is not understood probably means.

use std::ffi::OsString;
use std::path::Path;

use clap::CommandFactory;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::cli::args::Args;
use crate::ir::diagnostic::Diagnostic;

/// Commands of other tools that compile a model.
const COMPILES: [&str; 5] = ["compile", "convert", "export", "optimize", "quantize"];

/// Extensions of files that a compilation writes.
const OUTPUTS: [&str; 6] = ["tflite", "onnx", "xml", "qir", "cc", "h"];

/// Options of other tools, and what to do instead.
const OPTIONS: [(&[&str], &str); 5] = [
    (&["--model", "--input", "--input-model"], "the model has no option: qcc MODEL --to tflite"),
    (&["--calib", "--calib-data", "--calibration-data", "--dataset"], "calibration data are given with --data"),
    (&["--input-shape", "--input_shape", "--overwrite-input-shape"], "shapes are given with --shape NAME=1,3,640,640"),
    (&["--nms"], "artefacts have the outputs of the model: export it with nms=True, or take a model without NMS"),
    (&["--simplify", "--optimize"], "graphs are always simplified: leave it out"),
];

/// The least similarity of a word with the name of a command that it may mean, from 0 to 1.
const SIMILAR: f64 = 0.8;

/// The error of a command line that says better than the parser what is wrong and what to do; `None` where the parser's
/// own message is all that can be said. The command line may be empty if it has no command.
pub(super) fn of(error: &clap::Error, line: &[OsString]) -> Option<Diagnostic> {
    if !error.use_stderr() {
        return None;
    }
    let first = line.get(1).and_then(|word| word.to_str()).filter(|word| !word.starts_with('-'));
    let (message, help) = match first.filter(|word| !Path::new(word).exists()).and_then(command) {
        Some(found) => found,
        None => pattern(error, line).or_else(|| argument(error))?,
    };
    Some(Diagnostic::error("usage", message).with_help(help))
}

/// A message and what to do.
type Hint = (String, String);

/// About a word that is no file, in the place of a command or a model.
fn command(word: &str) -> Option<Hint> {
    if COMPILES.contains(&word) {
        let message = format!("there is no command `{word}`: a model is compiled without one");
        return Some((message, "qcc MODEL --to tflite, onnx or openvino".into()));
    }
    let commands = Args::command();
    if word == "help" || commands.find_subcommand(word).is_some() {
        return None;
    }
    let alike = |name: &&str| strsim::jaro_winkler(word, name);
    let names = commands.get_subcommands().map(clap::Command::get_name);
    let nearest = names.max_by(|a, b| alike(a).total_cmp(&alike(b))).filter(|name| alike(name) >= SIMILAR)?;
    Some((format!("there is no command `{word}`, and no file of this name"), format!("did you mean `qcc {nearest}`?")))
}

/// About an argument that is unknown, missing or too many.
fn argument(error: &clap::Error) -> Option<Hint> {
    let words = |kind| match error.get(kind) {
        Some(ContextValue::String(word)) => vec![word.as_str()],
        Some(ContextValue::Strings(words)) => words.iter().map(String::as_str).collect(),
        _ => Vec::new(),
    };
    let context = |kind| words(kind).first().copied();
    match error.kind() {
        ErrorKind::UnknownArgument => {
            let unknown = context(ContextKind::InvalidArg)?;
            let (_, help) = OPTIONS.iter().find(|(names, _)| names.contains(&unknown))?;
            Some((format!("there is no option {unknown}"), (*help).into()))
        }
        // A second word beside the model is taken for a command.
        ErrorKind::ArgumentConflict => {
            let word = context(ContextKind::InvalidSubcommand)?;
            let extension = Path::new(word).extension()?.to_str()?;
            if Path::new(word).exists() {
                return Some((format!("`{word}` stands beside the model"), "a run compiles one model".into()));
            }
            let message = format!("`{word}` stands beside the model: a run compiles one model");
            OUTPUTS.contains(&extension).then(|| (message, format!("the output is named with -o: -o {word}")))
        }
        ErrorKind::MissingRequiredArgument => match words(ContextKind::InvalidArg)[..] {
            ["--to <TO>"] => Some((
                "there is no target".into(),
                "--to tflite, onnx or openvino; or -o FILE, whose extension tells the format".into(),
            )),
            ["--to <TO>", "<MODEL>"] => {
                Some(("there is no model".into(), "qcc MODEL --to tflite; `qcc --help` shows all options".into()))
            }
            _ => None,
        },
        _ => None,
    }
}

/// About `--explain PATTERN`, where the pattern is taken for another argument.
fn pattern(error: &clap::Error, line: &[OsString]) -> Option<Hint> {
    let explains = line.iter().any(|arg| arg == "--explain") && error.kind() == ErrorKind::ArgumentConflict;
    let message = "a word after --explain is taken for another argument".into();
    explains.then(|| (message, "a pattern of nodes stands behind `=`: --explain=PATTERN".into()))
}
