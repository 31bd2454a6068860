//! Output for the user: diagnostics on stderr, the summary on stdout.

use std::fmt::Write as _;
use std::io::{IsTerminal, Write};
use std::path::Path;

use crate::compare::{Comparison, Match};
use crate::data::SYNTHETIC_DATA;
use crate::ir::Graph;
use crate::ir::diagnostic::{Diagnostic, Severity, counted, printable};
use crate::passes::PassId;
use crate::passes::quantize::matches;
use crate::render::{line, render};
use crate::{
    Agreement, Artefact, Choice, Cost, Costs, ENERGY_SOURCE, Failure, LATENCY_SOURCE, Observer, OutputReport,
    Precision, Quality, Report, StatisticsFile,
};
use indicatif::{ProgressBar, ProgressStyle};

/// Exit codes: 0 done, 1 refused or failed, 2 usage, 3 gate not met.
pub(crate) const DONE: u8 = 0;
pub(crate) const REFUSED: u8 = 1;
pub(crate) const USAGE: u8 = 2;
const GATE: u8 = 3;
/// Exit code of `qcc diff` if the files differ.
pub(crate) const DIFFERENT: u8 = 1;

/// Number of inputs and of outputs that a summary shows, unless it is verbose.
const PORTS: usize = 4;

/// Writes to stdout; a closed pipe is not an error.
pub(crate) fn say(text: &str) {
    let mut stdout = std::io::stdout().lock();
    // The process may not be a Rust program that flushes at its end.
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}

/// Prints beside what is on standard output.
pub(crate) fn say_beside(text: &str) {
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}

/// A usage error.
pub(crate) fn usage(message: &str) -> u8 {
    show(&[Diagnostic::error("usage", message)], Path::new(""));
    USAGE
}

/// Reports why no artefact was written.
pub(crate) fn failure(failure: &Failure, model: &Path, quiet: bool) -> u8 {
    match failure {
        Failure::Usage(d) => {
            show(std::slice::from_ref(&**d), model);
            USAGE
        }
        Failure::Refused(all) => {
            show(all, model);
            REFUSED
        }
        Failure::Gate { report, unmet } => {
            tell(&report.diagnostics, model, quiet, true);
            if !quiet {
                say(&summary(report, false));
            }
            gate(unmet, model)
        }
        other => {
            show(&[Diagnostic::error("failed", other.to_string())], model);
            REFUSED
        }
    }
}

/// Shows what a run found out: of `quiet` runs only the warning about synthetic data, of others all, but notes only if
/// `verbose`.
pub(crate) fn tell(diagnostics: &[Diagnostic], model: &Path, quiet: bool, verbose: bool) {
    let wanted = |d: &&Diagnostic| match quiet {
        true => d.code == SYNTHETIC_DATA,
        false => verbose || d.severity != Severity::Note,
    };
    show(&diagnostics.iter().filter(wanted).cloned().collect::<Vec<_>>(), model);
}

/// Reports a gate that is not met.
pub(crate) fn gate(unmet: &[Diagnostic], model: &Path) -> u8 {
    show(unmet, model);
    GATE
}

/// The outputs of two models in a table.
pub fn comparison(c: &Comparison) -> String {
    let row = |m: &Match| {
        let d = &m.output.deviation;
        let name = if d.name == m.other { d.name.clone() } else { format!("{} = {}", d.name, m.other) };
        let agreement = m.output.agreement.as_ref().map_or_else(|| "-".into(), agreed);
        let name = printable(&name).into_owned();
        [name, ratio(d.sqnr), format!("{:.6}", d.cosine), format!("{:.3e}", d.max_error), agreement]
    };
    let head = ["output", "SQNR", "cosine", "largest error", "agreement"].map(String::from);
    let rows: Vec<[String; 5]> = std::iter::once(head).chain(c.outputs.iter().map(row)).collect();
    let width = |i: usize| rows.iter().map(|r| r[i].chars().count()).max().unwrap_or(0);
    let widths: [usize; 5] = std::array::from_fn(width);
    let mut out = format!("{:<12} {}\n", "data", printable(&c.data));
    for r in &rows {
        let _ = write!(out, "{:<w$}", r[0], w = widths[0]);
        for i in 1..5 {
            let _ = write!(out, "  {:>w$}", r[i], w = widths[i]);
        }
        out.push('\n');
    }
    out
}

/// Shows diagnostics on stderr, errors first; those that differ only in their place are merged.
pub(crate) fn show(diagnostics: &[Diagnostic], model: &Path) {
    let color = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let _ = std::io::stderr().lock().write_all(render(diagnostics, model, color).as_bytes());
}

/// How nodes are computed and why: a line for each node whose name matches, per target. `None` if no name matches.
pub fn explanation(report: &Report, pattern: &str) -> Option<String> {
    let mut out = String::new();
    for Artefact { target, decisions, .. } in &report.artefacts {
        if decisions.is_empty() {
            let _ = writeln!(out, "{target}: nothing is quantized");
        }
        for decision in decisions.iter().filter(|d| matches(pattern, &d.node)) {
            let _ = writeln!(out, "{target}: {}", printable(&decision.to_string()));
        }
    }
    (!out.is_empty()).then_some(out)
}

/// The summary of a run.
pub fn summary(report: &Report, verbose: bool) -> String {
    let mut out = String::new();
    let mut row = |name: &str, text: String| {
        let _ = writeln!(out, "{name:<12} {}", line(&text));
    };
    for artefact in &report.artefacts {
        row("target", format!("{} {}", artefact.target, report.precision));
        if artefact.output_bytes > 0 {
            let alone = artefact.output == report.model;
            let label = if report.is_examination() { "artefact" } else { "written" };
            row(label, artefact.output.display().to_string());
            let ratio = report.model_bytes as f64 / artefact.output_bytes as f64;
            let (from, to) = (bytes(report.model_bytes), bytes(artefact.output_bytes));
            row("size", if alone { to } else { format!("{to} from {from} ({ratio:.2}x)") });
            row("operators", artefact.operators.to_string());
        }
        if let Some(quality) = &artefact.quality {
            work_rows(quality, verbose, &mut row);
            dynamic_row(artefact.target, report.precision, quality, &mut row);
            rounding_row(quality, &mut row);
            repair_row(quality, verbose, &mut row);
            pareto_rows(quality, &mut row);
        }
        if let Some(costs) = &artefact.costs {
            cost_rows(costs, &mut row);
        }
        port_rows(artefact, verbose, &mut row);
        state_rows(artefact, &mut row);
        for (i, layer) in artefact.quality.iter().flat_map(|q| &q.worst).enumerate() {
            row(if i == 0 { "worst" } else { "" }, format!("{:>8} {}", ratio(layer.sqnr), layer.name));
        }
    }
    if let Some(calibration) = &report.calibration {
        row("calibrated", format!("on {calibration}"));
    }
    for matched in report.artefacts.iter().filter_map(|a| a.matching.as_ref()) {
        row("matched", matched.to_string());
    }
    if let Some(validation) = &report.validation {
        row("compared", format!("with the float model on {validation}"));
    } else if report.calibration.is_some() && report.precision.quantizes_activations() {
        row("compared", "not: --validate PATH compares with the float model and improves poor outputs".into());
    }
    let total: f64 = report.stages.iter().map(|s| s.seconds).sum();
    let stages: Vec<String> = report.stages.iter().map(|s| format!("{} {:.3}", s.name, s.seconds)).collect();
    row("time", format!("{total:.3} s ({})", stages.join(", ")));
    out
}

/// The summary of statistics that were written to `path`.
pub(crate) fn statistics(file: &StatisticsFile, path: &Path) -> String {
    let mut out = String::new();
    let mut row = |name: &str, text: String| {
        let _ = writeln!(out, "{name:<12} {}", line(&text));
    };
    row("statistics", path.display().to_string());
    row("model", format!("{}, {}", file.model.name, file.model.inputs.join(", ")));
    row("targets", file.model.targets.join(", "));
    row("values", file.values().to_string());
    for (i, shard) in file.shards.iter().enumerate() {
        let conversion =
            shard.conversion.iter().map(|c| format!(", {}", c.trim_start_matches(", "))).collect::<String>();
        let samples = counted(usize::try_from(shard.samples.count).unwrap_or(usize::MAX), "sample");
        row(if i == 0 { "data" } else { "" }, format!("{samples} of {}{conversion}", shard.name));
    }
    out
}

/// The summary of ranges that were written to `path`.
pub(crate) fn ranges(tensors: usize, path: &Path) -> String {
    format!("{:<12} {}\n", "ranges", line(&format!("{}, {}", path.display(), counted(tensors, "tensor"))))
}

/// The cost of the artefact, compared with that of the float model.
fn cost_rows(costs: &Costs, row: &mut dyn FnMut(&str, String)) {
    let Costs { before, after, .. } = costs;
    let beside = |shown: &dyn Fn(&Cost) -> String| match (shown(after), before.as_ref().map(shown)) {
        (after, Some(before)) if after != before => format!("{after} (float {before})"),
        (after, _) => after,
    };
    let (peak, weights) = (beside(&|c| bytes(c.peak_bytes)), beside(&|c| bytes(c.weight_bytes)));
    let arena = costs.arena_bytes.map_or_else(String::new, |n| format!(", {} in the runtime's arena", bytes(n)));
    row("memory", format!("{peak} of activations at the peak{arena}, {weights} of weights"));
    if after.latency_ms.is_some() {
        let latency = beside(&|c| c.latency_ms.map_or_else(String::new, |t| figures(t, "ms")));
        row("latency", format!("{latency}, {LATENCY_SOURCE}"));
    }
    let joules = |energy: f64| match energy {
        e if e >= 1000.0 => figures(e / 1000.0, "mJ"),
        e => figures(e, "uJ"),
    };
    let energy = beside(&|c| joules(c.energy_uj));
    row("energy", format!("{energy}, {ENERGY_SOURCE}"));
    if let Some(extents) = costs.open_extents() {
        row("", format!("memory, latency and energy are those of {extents}"));
    }
}

/// Three significant figures: proxies are not more accurate.
fn figures(value: f64, unit: &str) -> String {
    let digits = match value {
        v if v >= 100.0 => 0,
        v if v >= 10.0 => 1,
        v if v >= 1.0 => 2,
        _ => 4,
    };
    format!("{value:.digits$} {unit}")
}

/// Inputs and outputs; outputs with their quality compared with the float graph, if known.
fn port_rows(artefact: &Artefact, verbose: bool, row: &mut dyn FnMut(&str, String)) {
    let shown = if verbose { usize::MAX } else { PORTS };
    let measured: &[OutputReport] = artefact.quality.as_ref().map_or(&[], |q| &q.outputs);
    for (name, ports, measured) in [("input", &artefact.inputs, &[][..]), ("output", &artefact.outputs, measured)] {
        // Outputs that cannot be evaluated are not among those that were measured, and those of states have no port.
        let mut measured = measured.iter().filter(|o| ports.iter().any(|p| p.name == o.deviation.name)).peekable();
        for (i, port) in ports.iter().take(shown).enumerate() {
            let beside = measured.next_if(|o| o.deviation.name == port.name).map(compared).unwrap_or_default();
            row(if i == 0 { name } else { "" }, format!("{port}{beside}"));
        }
        if ports.len() > shown {
            let worst = measured.filter_map(|o| o.deviation.sqnr).reduce(f64::min);
            let worst = worst.map_or_else(String::new, |sqnr| format!(", SQNR {} or more", decibels(sqnr)));
            row("", format!(".. {} more{worst}", ports.len() - shown));
        }
    }
}

/// Values that the artefact keeps.
fn state_rows(artefact: &Artefact, row: &mut dyn FnMut(&str, String)) {
    for (i, state) in artefact.states.iter().enumerate() {
        row(if i == 0 { "state" } else { "" }, format!("{state}, zero before the first run"));
    }
}

/// The quality of an output, appended to its name.
fn compared(output: &OutputReport) -> String {
    let parts: Vec<String> = output.parts.iter().map(|p| format!("{} of {}", ratio(p.sqnr), p.name)).collect();
    let ratios = match (parts.is_empty(), output.deviation.sqnr) {
        (false, _) => format!("SQNR {}", parts.join(", ")),
        (true, Some(sqnr)) => format!("SQNR {}", decibels(sqnr)),
        (true, None) => "no SQNR: its order follows from scores".into(),
    };
    let agreement = output.agreement.iter().map(|a| format!(", {}", agreed(a))).collect::<String>();
    // Lists of different lengths have no error.
    let error = Some(output.deviation.max_error).filter(|&error| error > 0.0 || output.deviation.sqnr.is_some());
    let error = error.map_or_else(String::new, |error| format!(", largest error {error:.3e}"));
    format!(", {ratios}{agreement}{error}")
}

fn agreed(a: &Agreement) -> String {
    format!("{} {:.2} % of {}", a.measure, a.percent, a.of)
}

/// The shares of multiplications that are computed on integers.
fn work_rows(q: &Quality, verbose: bool, row: &mut dyn FnMut(&str, String)) {
    let beside = |share: f64, how: &str| match share {
        0.0 => String::new(),
        share => format!(", {:.2} % {how}", share * 100.0),
    };
    let at_run_time = beside(q.run_time_share, "with dynamically quantized activations");
    let weights = beside(q.weights_share, "with integer weights only");
    row("integer", format!("{:.2} % of multiplications{at_run_time}{weights}", q.integer_share * 100.0));
    let named = |nodes: &[String], thing: &str| {
        let shown = if verbose { nodes.len() } else { 4 };
        let names = nodes.iter().take(shown).cloned().collect::<Vec<_>>().join(", ");
        let more = if nodes.len() > shown { ", .." } else { "" };
        format!("{}: {names}{more}", counted(nodes.len(), thing))
    };
    if !q.float_nodes.is_empty() {
        row("in float", named(&q.float_nodes, "operator"));
    }
}

/// The nodes of an integer model that are quantized dynamically, which not every runtime of the format supports.
fn dynamic_row(target: &str, precision: Precision, q: &Quality, row: &mut dyn FnMut(&str, String)) {
    let Some(first) = q.dynamic_nodes.first().filter(|_| precision == Precision::Int8) else { return };
    let which = match q.dynamic_nodes.len() - 1 {
        0 => first.clone(),
        more => format!("{first} and {more} more"),
    };
    let runtimes = match target {
        "tflite" => {
            "; TensorFlow Lite for Microcontrollers and integer-only accelerators cannot run it, --static avoids it"
        }
        _ => "",
    };
    let gain = q.dynamic_gain.iter().map(|gain| format!(" ({gain})")).collect::<String>();
    row("dynamic", format!("{which} quantizes its activations at run time{gain}{runtimes}"));
}

/// How channels are scaled and weights are rounded, where it depends on samples.
fn rounding_row(q: &Quality, row: &mut dyn FnMut(&str, String)) {
    if let Some(gain) = &q.smoothing_gain {
        row("smoothing", format!("channels are scaled (SmoothQuant, cross-layer equalization): {gain}"));
    }
    if let Some(gain) = &q.compensation_gain {
        row("rounding", format!("weights compensate each other's errors (GPTQ): {gain}"));
    }
    if let Some(gain) = &q.bias_gain {
        row("biases", format!("biases make up for measured shifts of means (sequential bias correction): {gain}"));
    }
}

/// What is kept in higher precision for the quality of the outputs.
fn repair_row(q: &Quality, verbose: bool, row: &mut dyn FnMut(&str, String)) {
    let Some(repair) = &q.repair else { return };
    let shown = if verbose { repair.choices.len() } else { 4 };
    let choice = |c: &Choice| format!("{} ({:.1} % of the noise)", c.name, c.noise_share * 100.0);
    let names: Vec<String> = repair.choices.iter().take(shown).map(choice).collect();
    let more = if repair.choices.len() > shown { ", .." } else { "" };
    let latency = repair
        .latency_ms
        .map(|[before, after]| format!("; latency {} instead of {}", figures(after, "ms"), figures(before, "ms")));
    let unmet = if repair.reached { "" } else { "; this is the best that was found" };
    let parts = counted(repair.choices.len(), "part");
    let text = format!("{parts}: {}{more}{}{unmet}", names.join(", "), latency.unwrap_or_default());
    row("raised", format!("to higher precision: {text}"));
    for before in repair.before.iter().take(if verbose { usize::MAX } else { PORTS }) {
        row("", format!("before, {}{}", before.deviation.name, compared(before)));
    }
}

/// Models with more and more parts in higher precision.
fn pareto_rows(q: &Quality, row: &mut dyn FnMut(&str, String)) {
    for (i, point) in q.pareto.iter().enumerate() {
        let cost = format!("{}, {}", figures(point.latency_ms, "ms"), bytes(point.weight_bytes));
        let outputs = point.outputs.iter().take(PORTS).map(|o| format!("{}{}", o.deviation.name, compared(o)));
        let outputs = outputs.collect::<Vec<_>>().join("; ");
        let parts = match point.parts {
            0 => "all quantized".to_owned(),
            n => format!("{} with float {}", counted(n, "part"), point.raised),
        };
        row(if i == 0 { "pareto" } else { "" }, format!("{cost}: {outputs} ({parts})"));
    }
}

fn ratio(sqnr: Option<f64>) -> String {
    sqnr.map_or_else(|| "-".into(), decibels)
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

/// Shows progress on a terminal and the requested graphs.
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

impl Observer for Progress<'_> {
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

    fn wants(&self, pass: PassId) -> bool {
        self.print_after.iter().any(|asked| pass.is(asked))
    }

    fn pass(&mut self, pass: PassId, graph: &Graph) {
        say(&format!("// after {pass}\n{}", crate::ir::text::print_brief(graph)));
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
    fn sizes_are_decimal() {
        for (n, want) in [(999, "999 B"), (1_500, "1.5 kB"), (9_941_964, "9.94 MB")] {
            assert_eq!(bytes(n), want);
        }
    }
}
