//! `-o -` and `--report -`: an artefact or a report on standard output. The summary goes to standard error.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use crate::backends::Memory;
use crate::cli::args::{Compile, To};
use crate::frontends::Model;
use crate::ir::diagnostic::Diagnostic;
use crate::{Compiler, Failure, Observer, Output, Report, digest, reports};

/// The name that stands for standard output.
pub(super) const NAME: &str = "-";

/// What is written to standard output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Piped {
    /// The only artefact, of one file.
    Artefact,
    /// The report, as JSON.
    Report,
}

impl Piped {
    /// What the arguments ask for, if anything.
    ///
    /// # Errors
    /// If standard output would hold more than that.
    pub(super) fn of(args: &Compile) -> Result<Option<Self>, Failure> {
        let artefact = args.output.as_deref().is_some_and(is_standard);
        let report = args.report.iter().any(|path| is_standard(path));
        let refused = |message: &str, help: &str| {
            Err(Failure::usage(Diagnostic::error("usage", message.to_owned()).with_help(help.to_owned())))
        };
        if !artefact && !report {
            return Ok(None);
        }
        if args.explain.is_some() || !args.print_after.is_empty() {
            return refused("--explain and --print-after print to standard output", "name a file instead of `-`");
        }
        if report {
            return match artefact || args.report.len() > 1 {
                true => refused("`-` is the only report, and no artefact", "name a file instead of `-`"),
                false => Ok(Some(Piped::Report)),
            };
        }
        match args.to.as_slice() {
            _ if !args.report.is_empty() => {
                refused("an artefact on standard output has no report", "name a file, or leave --report out")
            }
            [To::Openvino] => refused("an OpenVINO model has two files", "name one of them: -o model.xml"),
            [_, _, ..] => refused("standard output takes one artefact", "name one target, or a folder: -o folder/"),
            _ if args.external_data => {
                refused("a model with --external-data has two files", "name one of them: -o model.onnx")
            }
            _ => Ok(Some(Piped::Artefact)),
        }
    }

    /// The arguments without `-`.
    pub(super) fn without(self, args: &Compile) -> Compile {
        let mut args = args.clone();
        match self {
            Piped::Artefact => args.output = None,
            Piped::Report => args.report.clear(),
        }
        args
    }

    /// Compiles the model and writes to standard output.
    pub(super) fn run(
        self,
        compiler: &Compiler,
        model: &Path,
        output: &Output,
        observer: &mut dyn Observer,
    ) -> Result<Report, Failure> {
        if self == Piped::Artefact {
            return artefact(compiler, model, observer);
        }
        let done = compiler.compile(model, output, observer)?;
        write(&reports::file(&done, Path::new(NAME)).map_err(|e| Failure::from(*e))?)?;
        Ok(done)
    }
}

/// Compiles the model and writes its only artefact.
fn artefact(compiler: &Compiler, path: &Path, observer: &mut dyn Observer) -> Result<Report, Failure> {
    let model = Model::open(path)?;
    let length = digest::length(path, &model);
    let mut compiled = compiler.compile_model(&model, observer)?;
    let mut files = Memory::new("model");
    compiled.write(0, &mut files)?;
    let mut report = compiled.finish();
    if observer.cancelled() {
        return Err(Failure::Cancelled);
    }
    let mut all = files.files.into_values();
    match (all.next(), all.next()) {
        (Some(file), None) => write(&file)?,
        _ => {
            let error = Diagnostic::error("usage", "the model is too large for one file");
            return Err(Failure::usage(error.with_help("name a file instead of `-`")));
        }
    }
    report.name_files(path, length, &[PathBuf::from(NAME)]);
    Ok(report)
}

fn is_standard(path: &Path) -> bool {
    path.as_os_str() == NAME
}

fn write(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    let done = out.write_all(bytes).and_then(|()| out.flush());
    done.map_err(|e| Diagnostic::error("write", format!("standard output cannot be written: {e}")).into())
}
