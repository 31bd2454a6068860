//! The Python oracles: data that they write before the tests run, and the runtimes that they call.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use bytes::Bytes;
use qcc_ir::{Elem, Shape, Tensor, TensorType};

use crate::runtime::Outcome;

/// A file of oracle data. A test without its oracle fails.
pub(crate) fn read(name: &str) -> Bytes {
    let path = folder().join(name);
    match fs::read(&path) {
        Ok(bytes) => bytes.into(),
        Err(e) => panic!("{} is missing ({e}): run the tests with tests/run, which writes it", path.display()),
    }
}

pub(crate) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/oracle")
}

/// The output of a script of `tests/oracle`; fails if it fails. `QCC` is the path of the tested program.
pub(crate) fn python(script: &str, argument: &Path) -> String {
    python_of(".venv", "tests/run", script, argument)
}

/// Prints the table that a script makes for people, in a folder of its own; fails unless it has so many lines.
#[expect(clippy::print_stdout, reason = "people read the table")]
pub(crate) fn table(script: &str, lines: usize) {
    let folder = tempfile::tempdir().unwrap();
    let table = python(script, folder.path());
    println!("{table}");
    assert_eq!(table.lines().count(), lines, "{table}");
}

/// As [`python`], in the environment of that name, which `run` makes.
pub(crate) fn python_of(environment: &str, run: &str, script: &str, argument: &Path) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut command = Command::new(root.join(environment).join("bin/python"));
    command.arg(root.join("tests/oracle").join(script)).arg(argument).env("QCC", env!("CARGO_BIN_EXE_qcc"));
    let out = match command.output() {
        Ok(out) => out,
        Err(e) => panic!("{environment} has no Python ({e}): run the tests with {run}, which makes it"),
    };
    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(out.status.success(), "{script}: {said}{}", String::from_utf8_lossy(&out.stderr));
    said
}

/// A model and its inputs for a runtime.
#[derive(Debug)]
pub(crate) struct Run {
    /// The file.
    pub(crate) model: Bytes,
    /// One tensor for each input.
    pub(crate) inputs: Vec<Tensor>,
    /// Whether the runtime's optimizations are enabled.
    pub(crate) optimized: bool,
}

/// Runs models with a script, which exchanges files in a folder of that name.
pub(crate) fn run(script: &str, name: &str, runs: &[Run]) -> Vec<Outcome> {
    #[derive(serde::Serialize)]
    struct Case {
        model: Span,
        inputs: Vec<Span>,
        optimized: bool,
    }
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Line {
        Outputs(Vec<Stored>),
        Error(String),
    }
    let at = folder().join(name);
    fs::create_dir_all(&at).unwrap();
    let mut file = Vec::new();
    let mut put = |bytes: &Bytes| {
        file.extend_from_slice(bytes);
        Span(file.len() - bytes.len(), bytes.len())
    };
    let cases: Vec<Case> = runs
        .iter()
        .map(|run| Case {
            model: put(&run.model),
            inputs: run.inputs.iter().map(|t| put(t.data())).collect(),
            optimized: run.optimized,
        })
        .collect();
    fs::write(at.join("cases.bin"), file).unwrap();
    fs::write(at.join("cases.json"), serde_json::to_vec(&cases).unwrap()).unwrap();
    python(script, &at);
    let file: Bytes = fs::read(at.join("results.bin")).unwrap().into();
    let lines = fs::read_to_string(at.join("results.jsonl")).unwrap();
    let outcomes: Vec<Outcome> = lines
        .lines()
        .map(|line| match serde_json::from_str(line).unwrap() {
            Line::Outputs(outputs) => Ok(outputs.iter().map(|o| o.tensor(&file)).collect()),
            Line::Error(why) => Err(why),
        })
        .collect();
    assert_eq!(outcomes.len(), runs.len());
    outcomes
}

/// Offset and length in a file.
#[derive(Clone, Copy, Debug, serde::Deserialize, serde::Serialize)]
pub(crate) struct Span(usize, usize);

impl Span {
    pub(crate) fn of(self, file: &Bytes) -> Bytes {
        file.slice(self.0..self.0 + self.1)
    }
}

/// A tensor in a file.
#[derive(Debug, serde::Deserialize)]
pub(crate) struct Stored {
    elem: String,
    dims: Vec<usize>,
    at: Span,
}

impl Stored {
    pub(crate) fn tensor(&self, file: &Bytes) -> Tensor {
        let elem = Elem::plain(&self.elem).expect("oracles write plain elements");
        Tensor::new(TensorType::new(elem, Shape::known(&self.dims)), self.at.of(file)).expect("the bytes of a tensor")
    }
}
