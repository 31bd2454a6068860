//! What the user sees: diagnostics on stderr, the summary on stdout.

use std::fmt::Write as _;
use std::io::{IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;

use indicatif::{ProgressBar, ProgressStyle};
use qcc::compare::{Comparison, Match};
use qcc::ir::diagnostic::{Diagnostic, Severity};
use qcc::ir::{Graph, Origin};
use qcc::{Artefact, Deviation, Failure, Quality, Report, Watch};

/// Exit codes: 0 done, 1 refused or failed, 2 usage, 3 gate not met.
pub(crate) const REFUSED: u8 = 1;
const USAGE: u8 = 2;
const GATE: u8 = 3;

/// Inputs and outputs that a summary shows, each, unless it shows all.
const PORTS: usize = 4;

/// Writes to stdout; whoever closes it early wants no more.
pub(crate) fn say(text: &str) {
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
}

/// Text on one line of a terminal: what would move the cursor, give orders to the terminal or turn the direction of
/// reading is spelled out.
pub(crate) fn shown(text: &str) -> String {
    text.to_owned()
}

/// A mistake in how qcc is called.
pub(crate) fn usage(message: &str) -> ExitCode {
    show(&[Diagnostic::error("usage", message)], Path::new(""));
    ExitCode::from(USAGE)
}

/// Why there is no artefact.
pub(crate) fn failure(failure: &Failure, model: &Path, quiet: bool) -> ExitCode {
    match failure {
        Failure::Usage(d) => {
            show(std::slice::from_ref(&**d), model);
            ExitCode::from(USAGE)
        }
        Failure::Refused(all) => {
            show(all, model);
            ExitCode::from(REFUSED)
        }
        Failure::Gate(report) => {
            if !quiet {
                show(&report.diagnostics, model);
                say(&summary(report, false));
            }
            show(&[below(report.worst_sqnr()).with_note("nothing was written")], model);
            ExitCode::from(GATE)
        }
    }
}

/// The gate of a comparison is not met.
pub(crate) fn gate(worst: Option<f64>, model: &Path) -> ExitCode {
    show(&[below(worst)], model);
    ExitCode::from(GATE)
}

fn below(worst: Option<f64>) -> Diagnostic {
    let worst = worst.map_or_else(|| "unknown".into(), decibels);
    Diagnostic::error("gate", format!("the worst output has an SQNR of {worst}, below --min-sqnr"))
}

/// The outputs of two models side by side.
pub(crate) fn comparison(c: &Comparison) -> String {
    let percent = |share: Option<f64>| share.map_or_else(|| "-".into(), |s| format!("{:.2} %", s * 100.0));
    let row = |m: &Match| {
        let d = &m.deviation;
        let name = if d.name == m.other { d.name.clone() } else { format!("{} = {}", d.name, m.other) };
        [name, decibels(d.sqnr), format!("{:.6}", d.cosine), format!("{:.3e}", d.max_error), percent(m.top1)]
    };
    let head = ["output", "SQNR", "cosine", "largest error", "top-1"].map(String::from);
    let rows: Vec<[String; 5]> = std::iter::once(head).chain(c.outputs.iter().map(row)).collect();
    let width = |i: usize| rows.iter().map(|r| r[i].chars().count()).max().unwrap_or(0);
    let widths: [usize; 5] = std::array::from_fn(width);
    let mut out = format!("{:<12} {}\n", "data", c.data);
    for r in &rows {
        let _ = write!(out, "{:<w$}", r[0], w = widths[0]);
        for i in 1..5 {
            let _ = write!(out, "  {:>w$}", r[i], w = widths[i]);
        }
        out.push('\n');
    }
    out
}

/// Shows diagnostics on stderr, errors first; what differs in its place alone is said once.
pub(crate) fn show(diagnostics: &[Diagnostic], model: &Path) {
    let color = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let _ = std::io::stderr().lock().write_all(render(diagnostics, model, color).as_bytes());
}

fn render(diagnostics: &[Diagnostic], model: &Path, color: bool) -> String {
    let same = |a: &Diagnostic, b: &Diagnostic| {
        (a.code, &a.message, &a.notes, &a.help) == (b.code, &b.message, &b.notes, &b.help)
    };
    let mut groups: Vec<(&Diagnostic, Vec<&Origin>)> = Vec::new();
    for d in diagnostics {
        match groups.iter_mut().find(|(first, _)| same(first, d)) {
            Some((_, places)) => places.push(&d.origin),
            None => groups.push((d, vec![&d.origin])),
        }
    }
    // Stable: kinds of message stay in the order of their first.
    let code_place = |code: &str| diagnostics.iter().position(|d| d.code == code);
    groups.sort_by_key(|(d, _)| (d.severity as u8, code_place(d.code)));
    let mut out = String::new();
    for (d, places) in groups {
        let _ = writeln!(out, "{}: {}", head(d, color), d.message);
        for origin in places {
            place(&mut out, model, origin);
        }
        for note in &d.notes {
            let _ = writeln!(out, "  = note: {note}");
        }
        if let Some(help) = &d.help {
            let _ = writeln!(out, "  = help: {help}");
        }
    }
    out
}

fn head(d: &Diagnostic, color: bool) -> String {
    let (word, paint) = match d.severity {
        Severity::Error => ("error", "\x1b[1;31m"),
        Severity::Warning => ("warning", "\x1b[1;33m"),
        Severity::Note => ("note", "\x1b[1;36m"),
    };
    if color { format!("{paint}{word}[{}]\x1b[0m", d.code) } else { format!("{word}[{}]", d.code) }
}

fn place(out: &mut String, model: &Path, origin: &Origin) {
    for source in origin.sources() {
        let _ = write!(out, "  --> {}: {} ({})", model.display(), source.path, source.kind);
        let _ = match &source.line {
            Some(line) => writeln!(out, " at {line}"),
            None => writeln!(out),
        };
    }
}

/// The closing lines of a run.
pub(crate) fn summary(report: &Report, verbose: bool) -> String {
    let mut out = String::new();
    let mut row = |name: &str, text: String| {
        let _ = writeln!(out, "{name:<12} {text}");
    };
    for artefact in &report.artefacts {
        row("target", format!("{} {}", artefact.target, report.precision));
        if artefact.output_bytes > 0 {
            row("written", artefact.output.display().to_string());
            let ratio = report.model_bytes as f64 / artefact.output_bytes as f64;
            let (from, to) = (bytes(report.model_bytes), bytes(artefact.output_bytes));
            row("size", format!("{to} from {from} ({ratio:.2}x)"));
            row("operators", artefact.operators.to_string());
        }
        if let Some(quality) = &artefact.quality {
            work_rows(quality, verbose, &mut row);
        }
        port_rows(artefact, verbose, &mut row);
        for (i, layer) in artefact.quality.iter().flat_map(|q| &q.worst).enumerate() {
            row(if i == 0 { "worst" } else { "" }, format!("{:>8} {}", decibels(layer.sqnr), layer.name));
        }
    }
    if let Some(calibration) = &report.calibration {
        row("data", calibration.clone());
    }
    if let Some(quality) = report.artefacts.iter().find_map(|a| a.quality.as_ref()) {
        row("compared", format!("with the float graph on {}", counted(quality.samples, "sample")));
    }
    let total: f64 = report.stages.iter().map(|s| s.seconds).sum();
    let stages: Vec<String> = report.stages.iter().map(|s| format!("{} {:.3}", s.name, s.seconds)).collect();
    row("time", format!("{total:.3} s ({})", stages.join(", ")));
    out
}

/// Inputs and outputs; outputs with how far they are from the float graph's, where that is known.
fn port_rows(artefact: &Artefact, verbose: bool, row: &mut dyn FnMut(&str, String)) {
    let shown = if verbose { usize::MAX } else { PORTS };
    let measured: &[Deviation] = artefact.quality.as_ref().map_or(&[], |q| &q.outputs);
    let deviation = |d: &Deviation| format!(", SQNR {}, largest error {:.3e}", decibels(d.sqnr), d.max_error);
    for (name, ports, measured) in [("input", &artefact.inputs, &[][..]), ("output", &artefact.outputs, measured)] {
        for (i, port) in ports.iter().take(shown).enumerate() {
            let beside = measured.get(i).map(deviation).unwrap_or_default();
            row(if i == 0 { name } else { "" }, format!("{port}{beside}"));
        }
        if ports.len() > shown {
            let worst = measured.iter().skip(shown).map(|d| d.sqnr).reduce(f64::min);
            let worst = worst.map_or_else(String::new, |sqnr| format!(", SQNR {} or more", decibels(sqnr)));
            row("", format!(".. {} more{worst}", ports.len() - shown));
        }
    }
}

/// So many of a thing, in words.
fn counted(n: usize, thing: &str) -> String {
    format!("{n} {thing}{}", if n == 1 { "" } else { "s" })
}

/// How much of the work is done on integers.
fn work_rows(q: &Quality, verbose: bool, row: &mut dyn FnMut(&str, String)) {
    let beside = |share: f64, how: &str| match share {
        0.0 => String::new(),
        share => format!(", {:.2} % {how}", share * 100.0),
    };
    let at_run_time = beside(q.run_time_share, "with activations put on integers at run time");
    let weights = beside(q.weights_share, "with integer weights alone");
    row("integer", format!("{:.2} % of multiplications{at_run_time}{weights}", q.integer_share * 100.0));
    let shown = if verbose { q.float_nodes.len() } else { 4 };
    if !q.float_nodes.is_empty() {
        let names = q.float_nodes.iter().take(shown).cloned().collect::<Vec<_>>().join(", ");
        let more = if q.float_nodes.len() > shown { ", .." } else { "" };
        row("in float", format!("{}: {names}{more}", counted(q.float_nodes.len(), "operator")));
    }
}

fn decibels(sqnr: f64) -> String {
    match () {
        () if sqnr == f64::INFINITY => "exact".into(),
        () if sqnr == f64::NEG_INFINITY => "not finite".into(),
        () => format!("{sqnr:.1} dB"),
    }
}

fn bytes(n: u64) -> String {
    match n {
        0..1_000 => format!("{n} B"),
        1_000..1_000_000 => format!("{:.1} kB", n as f64 / 1e3),
        _ => format!("{:.2} MB", n as f64 / 1e6),
    }
}

/// Shows progress on a terminal and the graphs that were asked for.
pub(crate) struct Progress<'a> {
    print_after: &'a [String],
    quiet: bool,
    stage: &'static str,
    bar: Option<ProgressBar>,
}

impl<'a> Progress<'a> {
    pub(crate) fn new(print_after: &'a [String], quiet: bool) -> Self {
        Progress { print_after, quiet, stage: "", bar: None }
    }

    fn finish(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

impl Watch for Progress<'_> {
    fn stage(&mut self, name: &'static str) {
        self.finish();
        self.stage = name;
    }

    fn samples(&mut self, done: usize, all: usize) {
        if self.quiet || !std::io::stderr().is_terminal() {
            return;
        }
        let bar = self.bar.get_or_insert_with(|| {
            let style = ProgressStyle::with_template("{msg:<12} {bar:30} {pos}/{len} samples, {eta} left");
            let bar = ProgressBar::new(all as u64).with_message(self.stage);
            if let Ok(style) = style { bar.with_style(style) } else { bar }
        });
        bar.set_position(done as u64);
    }

    fn pass(&mut self, name: &'static str, graph: &Graph) {
        if self.print_after.iter().any(|p| p == name) {
            say(&format!("// after {name}\n{}", qcc::ir::text::print_brief(graph)));
        }
    }
}

impl Drop for Progress<'_> {
    fn drop(&mut self) {
        self.finish();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn diagnostics_are_grouped() {
        let at = |path: &str| Origin::new(path, "Foo");
        let all = [
            Diagnostic::note("open-shape", "input x is [N,3]; compiled for [1,3]"),
            Diagnostic::error("unsupported-op", "there is no operator Foo").at(&at("/a")),
            Diagnostic::error("bad-shape", "odd").with_note("one").with_note("two").with_help("make it even"),
            Diagnostic::error("unsupported-op", "there is no operator Foo").at(&at("/b")),
        ];
        insta::assert_snapshot!(render(&all, Path::new("m.onnx"), false), @r"
        error[unsupported-op]: there is no operator Foo
          --> m.onnx: /a (Foo)
          --> m.onnx: /b (Foo)
        error[bad-shape]: odd
          = note: one
          = note: two
          = help: make it even
        note[open-shape]: input x is [N,3]; compiled for [1,3]
        ");
    }

    #[test]
    fn sizes_are_decimal() {
        for (n, want) in [(999, "999 B"), (1_500, "1.5 kB"), (9_941_964, "9.94 MB")] {
            assert_eq!(bytes(n), want);
        }
    }
}
