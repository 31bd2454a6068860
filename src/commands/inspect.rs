//! Showing what is in a model.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use std::process::ExitCode;

use qcc::backends::tflite;
use qcc::frontends::{ImportOptions, open};
use qcc::ir::Graph;
use qcc::ir::diagnostic::{Diagnostic, printable};
use qcc::ir::text::print_brief;
use qcc::{Failure, Port, json};
use serde::Serialize;

use crate::args::{Format, Inspect, shapes};
use crate::interrupt;
use crate::report;

/// Shows a model in the form asked for.
pub(crate) fn inspect(args: &Inspect) -> ExitCode {
    interrupt::name_lost_files(&[&args.file]);
    match shown(args) {
        Ok(text) => {
            report::say(&text);
            ExitCode::SUCCESS
        }
        Err(failure) => report::failure(&failure, &args.file, false),
    }
}

fn shown(args: &Inspect) -> Result<String, Failure> {
    if args.format == Format::Text && is_tflite(&args.file) {
        return tflite_text(args);
    }
    let options = ImportOptions { shapes: shapes(&args.shape), ..ImportOptions::default() };
    let graph = open(&args.file, &options)?.graph;
    let contents = Contents::of(&graph);
    Ok(match args.format {
        Format::Text => format!("{contents}\n{}", print_brief(&graph)),
        Format::Json => json::pretty(&contents).map_err(|e| Diagnostic::error("inspect", e.to_string()))?,
    })
}

/// True where a file has TFLite's identifier; what cannot be read is left to the reader to report.
fn is_tflite(path: &Path) -> bool {
    use std::io::Read;
    // To open a pipe would wait for its writer.
    let is_file = std::fs::metadata(path).is_ok_and(|m| m.is_file());
    let mut start = [0; 8];
    let read = |start: &mut [u8]| std::fs::File::open(path).and_then(|mut f| f.read_exact(start));
    is_file && read(&mut start).is_ok() && start[4..] == *b"TFL3"
}

/// The tables of a TFLite file say more than the graph.
fn tflite_text(args: &Inspect) -> Result<String, Failure> {
    let bytes = std::fs::read(&args.file)
        .map_err(|e| Diagnostic::error("unreadable-file", format!("cannot read {}: {e}", args.file.display())))?;
    let text = tflite::disassemble(&bytes.into());
    Ok(text.map_err(|e| Diagnostic::error("bad-tflite", format!("{}: {e}", args.file.display())))?)
}

/// What a model is made of.
#[derive(Debug, Serialize)]
struct Contents<'g> {
    name: &'g str,
    inputs: Vec<Port>,
    outputs: Vec<Port>,
    operators: BTreeMap<&'static str, usize>,
    metadata: BTreeMap<&'g str, &'g str>,
}

impl<'g> Contents<'g> {
    fn of(g: &'g Graph) -> Self {
        let mut operators = BTreeMap::new();
        for n in g.order() {
            *operators.entry(g.op(n).kind().name()).or_insert(0) += 1;
        }
        Contents {
            name: &g.name,
            inputs: Port::inputs(g),
            outputs: Port::outputs(g),
            operators,
            metadata: g.metadata.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect(),
        }
    }
}

impl std::fmt::Display for Contents<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut out = String::new();
        let mut row = |name: &str, text: &dyn std::fmt::Display| {
            let _ = writeln!(out, "// {name:<10} {}", printable(&text.to_string()));
        };
        row("model", &self.name);
        for input in &self.inputs {
            row("input", input);
        }
        for output in &self.outputs {
            row("output", output);
        }
        let counts: Vec<String> = self.operators.iter().map(|(name, n)| format!("{n} {name}")).collect();
        row("operators", &counts.join(", "));
        for (key, value) in &self.metadata {
            row("metadata", &format_args!("{key} = {value}"));
        }
        f.write_str(&out)
    }
}
