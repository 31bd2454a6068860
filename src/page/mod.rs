//! A report as one self-contained HTML file: no script, no font, no network. Charts are SVG, and colours follow the
//! reader's theme. All figures come from the [`Report`], which is also the JSON. Each figure is a `data` element with
//! the exact number.

use std::borrow::Cow;
use std::fmt::Write as _;

use qcc_ir::diagnostic::Severity;
use qcc_passes::quality::Work;

use crate::cost::{Cost, Costs, ENERGY_SOURCE, LATENCY_SOURCE};
use crate::details::{NodeReport, ValueReport};
use crate::outcome::{Artefact, Report};
use crate::quality::{Choice, Deviation, OutputReport, Quality};

mod chart;

/// The page of a report.
pub(crate) fn html(report: &Report) -> String {
    let examined = report.artefacts.first().filter(|_| report.is_examination()).map(|a| &a.output);
    let name = examined.unwrap_or(&report.model).file_name().unwrap_or_default().to_string_lossy();
    let mut out = String::new();
    let style = include_str!("style.css");
    let _ = write!(
        out,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" \
         content=\"width=device-width, initial-scale=1\">\n<title>{0}: {1}</title>\n<link rel=\"icon\" href=\"data:,\">\n\
         <style>\n{style}</style>\n</head>\n<body>\n<header>\n<h1>{0}</h1>\n<p>{3} {1} by qcc {2}.</p>\n",
        text(&name),
        report.precision,
        text(report.qcc),
        if examined.is_some() { "Report on an artefact in" } else { "Compiled to" },
    );
    verdicts(&mut out, report);
    warnings(&mut out, report);
    out.push_str("</header>\n<main>\n");
    for artefact in &report.artefacts {
        section(&mut out, artefact);
    }
    out.push_str("</main>\n<footer>\n");
    reproduction(&mut out, report);
    out.push_str("</footer>\n</body>\n</html>\n");
    out
}

/// Escapes text for HTML.
fn text(text: &str) -> Cow<'_, str> {
    if !text.contains(['&', '<', '>', '"', '\'']) && !text.contains(qcc_ir::diagnostic::is_order) {
        return text.into();
    }
    let escaped = |c: char| match c {
        '&' => "&amp;".to_owned(),
        '<' => "&lt;".to_owned(),
        '>' => "&gt;".to_owned(),
        '"' => "&quot;".to_owned(),
        '\'' => "&#39;".to_owned(),
        c if qcc_ir::diagnostic::is_order(c) => c.escape_unicode().to_string(),
        c => c.to_string(),
    };
    text.chars().map(escaped).collect::<String>().into()
}

/// A `data` element: the number as in the JSON, shown as `shown`.
fn figure(value: impl serde::Serialize, shown: &str) -> String {
    let value = serde_json::to_string(&value).unwrap_or_default();
    format!("<data value=\"{value}\">{shown}</data>")
}

fn decibels(sqnr: Option<f64>) -> String {
    let shown = match sqnr {
        None => "no SQNR".into(),
        Some(f64::INFINITY) => "exact".into(),
        Some(f64::NEG_INFINITY) => "not finite".into(),
        Some(sqnr) => format!("{sqnr:.1} dB"),
    };
    figure(sqnr, &shown)
}

fn in_bytes(n: u64) -> String {
    match n {
        0..1_000 => format!("{n} B"),
        1_000..1_000_000 => format!("{:.1} kB", n as f64 / 1e3),
        _ => format!("{:.2} MB", n as f64 / 1e6),
    }
}

fn bytes(n: u64) -> String {
    figure(n, &in_bytes(n))
}

fn in_millions(n: u64) -> String {
    match n {
        0..10_000 => n.to_string(),
        10_000..1_000_000 => format!("{:.3} M", n as f64 / 1e6),
        _ => format!("{:.1} M", n as f64 / 1e6),
    }
}

fn millions(n: u64) -> String {
    figure(n, &in_millions(n))
}

/// The summary: whether the quality is good, and where it is worst.
fn verdicts(out: &mut String, report: &Report) {
    out.push_str("<ul class=\"verdicts\">\n");
    for artefact in &report.artefacts {
        let synthetic = report.validation.as_ref().is_some_and(|v| v.synthetic);
        let (word, class) = match &artefact.quality {
            Some(q) if q.outputs.iter().any(OutputReport::is_poor) => ("far from the float model", "bad"),
            Some(q) if q.outputs.is_empty() => ("not compared", "plain"),
            Some(_) if synthetic => ("compared on built-in pictures alone", "plain"),
            Some(q) if q.outputs.iter().any(OutputReport::is_unsure) => ("too few boxes to compare", "plain"),
            Some(_) => ("close to the float model", "good"),
            None => ("not compared", "plain"),
        };
        let _ = write!(out, "<li class=\"{class}\"><a href=\"#{0}\">{0}</a>: <b>{word}</b>", artefact.target);
        for output in artefact.quality.iter().flat_map(|q| &q.outputs) {
            let _ = write!(out, "; {}: {}", text(&output.deviation.name), agreement(output));
        }
        if let Some(worst) = artefact.quality.as_ref().and_then(|q| q.worst.first()) {
            let (sqnr, name) = (decibels(worst.sqnr), text(&worst.name));
            let _ = write!(
                out,
                "<p>Worst layer: <a href=\"#{}-depth\"><b>{name}</b></a>, SQNR {sqnr} (higher is better)</p>",
                artefact.target
            );
        }
        out.push_str("</li>\n");
    }
    out.push_str("</ul>\n");
    if let Some(validation) = &report.validation {
        let _ = writeln!(out, "<p>Compared with the float model on {}.</p>", text(&validation.to_string()));
    }
    if let Some(calibration) = &report.calibration {
        let _ = writeln!(out, "<p>Calibrated on {}.</p>", text(calibration));
    }
}

/// The agreement of an output if there is one, else its SQNR.
fn agreement(output: &OutputReport) -> String {
    match &output.agreement {
        Some(a) => format!("{} {} of {}", text(a.measure), figure(a.percent, &format!("{:.2} %", a.percent)), a.of),
        None => decibels(output.deviation.sqnr),
    }
}

fn warnings(out: &mut String, report: &Report) {
    let warnings = report.diagnostics.iter().filter(|d| d.severity == Severity::Warning);
    for d in warnings {
        let _ = write!(out, "<p class=\"warning\"><b>{}</b>: {}", text(d.code), text(&d.message));
        d.notes.iter().chain(&d.help).for_each(|more| _ = write!(out, "<br>{}", text(more)));
        out.push_str("</p>\n");
    }
}

fn section(out: &mut String, artefact: &Artefact) {
    let file = artefact.output.display().to_string();
    let _ = write!(out, "<section id=\"{0}\">\n<h2>{0}</h2>\n<p>{1}, ", artefact.target, text(&file));
    let _ = writeln!(
        out,
        "{}, {} operators.</p>",
        bytes(artefact.output_bytes),
        figure(artefact.operators, &artefact.operators.to_string())
    );
    if let Some(matched) = &artefact.matching {
        let _ = writeln!(out, "<p>Matched with the float model: {matched}.</p>");
        if !matched.unmatched.is_empty() {
            let names: Vec<Cow<'_, str>> = matched.unmatched.iter().map(|name| text(name)).collect();
            let _ = writeln!(out, "<details><summary>Not matched</summary>{}</details>", names.join(", "));
        }
    }
    if let Some(quality) = &artefact.quality {
        outputs(out, quality);
        raised(out, quality);
        pareto(out, quality);
        depth(out, artefact, quality);
    }
    costs(out, artefact);
    if let Some(quality) = artefact.quality.as_ref().filter(|q| !q.values.is_empty()) {
        unstable(out, quality);
        values(out, quality);
    }
    nodes(out, &artefact.nodes);
    out.push_str("</section>\n");
}

fn outputs(out: &mut String, quality: &Quality) {
    if quality.outputs.is_empty() {
        return;
    }
    out.push_str("<h3>Outputs compared with the float model</h3>\n<div class=\"wide\"><table>\n<tr><th>output</th><th>agreement</th><th>SQNR</th><th>cosine</th><th>largest error</th></tr>\n");
    for o in &quality.outputs {
        row(out, &o.deviation, &o.agreement.as_ref().map_or_else(String::new, |_| agreement(o)));
        for part in &o.parts {
            row(out, &Deviation { name: format!("{}: {}", o.deviation.name, part.name), ..part.clone() }, "");
        }
    }
    out.push_str("</table></div>\n");
}

/// What is kept in higher precision for the quality of the outputs.
fn raised(out: &mut String, quality: &Quality) {
    let Some(repair) = &quality.repair else { return };
    out.push_str("<h3>Kept in higher precision</h3>\n<p>The parts that gain most for what they cost");
    if !repair.reached {
        out.push_str("; the outputs are not as good as required, this is the best that was found");
    }
    out.push_str(".</p>\n<div class=\"wide\"><table>\n<tr><th>part</th><th>not quantized</th><th>share of the noise</th><th>cost</th></tr>\n");
    for Choice { name, raised, noise_share, cost_ms } in &repair.choices {
        let share = figure(noise_share, &format!("{:.1} %", noise_share * 100.0));
        let (name, cost) = (text(name), figure(cost_ms, &format!("{cost_ms:.4} ms")));
        let _ = writeln!(out, "<tr><td>{name}</td><td>{raised}</td><td>{share}</td><td>{cost}</td></tr>");
    }
    out.push_str("</table></div>\n");
}

/// Models with more and more parts in higher precision: a curve and a table.
fn pareto(out: &mut String, quality: &Quality) {
    if quality.pareto.is_empty() {
        return;
    }
    out.push_str("<h3>Cost and quality</h3>\n<figure class=\"wide depth\">\n");
    out.push_str(&chart::pareto(&quality.pareto));
    out.push_str("<figcaption>The worst output of models with more and more parts in higher precision, by latency. Outputs without any difference are not drawn.</figcaption>\n</figure>\n");
    out.push_str("<div class=\"wide\"><table>\n<tr><th>latency</th><th>weights</th><th>in higher precision</th><th>outputs</th></tr>\n");
    for p in &quality.pareto {
        let outputs = p.outputs.iter().map(|o| {
            let agreed = o.agreement.as_ref().map_or_else(String::new, |_| format!(", {}", agreement(o)));
            format!("{}: {}{agreed}", text(&o.deviation.name), decibels(o.deviation.sqnr))
        });
        let outputs = outputs.collect::<Vec<_>>().join("<br>");
        let latency = figure(p.latency_ms, &format!("{:.4} ms", p.latency_ms));
        let parts = if p.parts == 0 { "-".into() } else { format!("{} of {} parts", p.raised, p.parts) };
        let bytes = bytes(p.weight_bytes);
        let _ = writeln!(out, "<tr><td>{latency}</td><td>{bytes}</td><td>{parts}</td><td>{outputs}</td></tr>");
    }
    out.push_str("</table></div>\n");
}

fn row(out: &mut String, d: &Deviation, agreement: &str) {
    let (cosine, error) =
        (figure(d.cosine, &format!("{:.6}", d.cosine)), figure(d.max_error, &format!("{:.3e}", d.max_error)));
    let name = text(&d.name);
    let _ = writeln!(
        out,
        "<tr><td>{name}</td><td>{agreement}</td><td>{}</td><td>{cosine}</td><td>{error}</td></tr>",
        decibels(d.sqnr)
    );
}

/// The error of each layer, and the layers with the largest errors.
fn depth(out: &mut String, artefact: &Artefact, quality: &Quality) {
    if quality.layers.is_empty() {
        return;
    }
    let _ = writeln!(out, "<h3 id=\"{}-depth\">SQNR by depth, higher is better</h3>", artefact.target);
    out.push_str("<figure class=\"wide depth\">\n");
    out.push_str(&chart::depth(&artefact.nodes, quality));
    out.push_str("<figcaption>SQNR of each layer, input to output, with the errors of all layers before it. Shaded: operators in floating point. Marked: the worst layers.</figcaption>\n</figure>\n<ol class=\"worst\">\n");
    for layer in &quality.worst {
        let _ = writeln!(out, "<li>{} {}</li>", decibels(layer.sqnr), text(&layer.name));
    }
    out.push_str("</ol>\n");
    if let Some(gain) = &quality.smoothing_gain {
        let _ = writeln!(out, "<p>Channels are scaled (SmoothQuant, cross-layer equalization): {}.</p>", text(gain));
    }
    if let Some(gain) = &quality.compensation_gain {
        let _ = writeln!(out, "<p>Weights compensate each other's rounding errors (GPTQ): {}.</p>", text(gain));
    }
    if let Some(gain) = &quality.bias_gain {
        let _ = writeln!(out, "<p>Biases make up for measured shifts of means: {}.</p>", text(gain));
    }
    if let Some(gain) = &quality.dynamic_gain {
        let _ = writeln!(out, "<p>Activations of the last products are quantized at run time: {}.</p>", text(gain));
    }
}

/// A row of the cost table: label, number and its text.
type Row<'r> = (&'r str, &'r dyn Fn(&Cost) -> f64, &'r dyn Fn(&Cost) -> String);

fn costs(out: &mut String, artefact: &Artefact) {
    let Some(costs) = &artefact.costs else { return };
    let Costs { before, after, .. } = costs;
    let heads = if before.is_some() { "<th>float</th><th>artefact</th><th>share</th>" } else { "<th>artefact</th>" };
    let _ = writeln!(out, "<h3>Cost</h3>\n<div class=\"wide\"><table>\n<tr><th></th>{heads}</tr>");
    let milliseconds = |c: &Cost| c.latency_ms.map_or_else(String::new, |t| figure(t, &format!("{t:.3} ms")));
    let rows: [Row<'_>; 5] = [
        ("weights", &|c| c.weight_bytes as f64, &|c| bytes(c.weight_bytes)),
        ("activations at the peak", &|c| c.peak_bytes as f64, &|c| bytes(c.peak_bytes)),
        ("bytes moved", &|c| c.moved_bytes as f64, &|c| bytes(c.moved_bytes)),
        ("latency, a proxy", &|c| c.latency_ms.unwrap_or(0.0), &milliseconds),
        ("energy, a proxy", &|c| c.energy_uj, &|c| figure(c.energy_uj, &format!("{:.1} uJ", c.energy_uj))),
    ];
    for (name, number, shown) in rows {
        let Some(before) = before else {
            let _ = writeln!(out, "<tr><td>{name}</td><td>{}</td></tr>", shown(after));
            continue;
        };
        let share = if number(before) > 0.0 { number(after) / number(before) } else { 1.0 };
        let (bar, percent) = (chart::share(share), share * 100.0);
        let _ = writeln!(
            out,
            "<tr><td>{name}</td><td>{}</td><td>{}</td><td>{bar} {percent:.0} %</td></tr>",
            shown(before),
            shown(after)
        );
    }
    if let Some(arena) = costs.arena_bytes {
        let float = if before.is_some() { "<td></td>" } else { "" };
        let _ = writeln!(out, "<tr><td>the runtime's arena</td>{float}<td>{}</td></tr>", bytes(arena));
    }
    let extents = costs
        .open_extents()
        .map_or_else(String::new, |e| format!("Extents are open; all figures are for {}. ", text(&e)));
    let _ = writeln!(
        out,
        "</table></div>\n<p class=\"small\">{extents}Activations at the peak: a greedy plan of one arena. The runtime's arena: with its reference kernels. Latency, {LATENCY_SOURCE}. Energy, {ENERGY_SOURCE}.</p>"
    );
    let Work { integer, run_time, weights, float } = after.products;
    let parts = [
        ("integer", integer, "integer"),
        ("activations quantized at run time", run_time, "dynamic"),
        ("integer weights alone", weights, "weights"),
        ("in floating point", float, "float"),
    ];
    out.push_str("<h3>Products by precision</h3>\n");
    out.push_str(&chart::parts(&parts.map(|(_, n, class)| (n, class))));
    out.push_str("<ul class=\"legend\">\n");
    for (name, n, class) in parts.into_iter().filter(|(_, n, _)| *n > 0) {
        let _ = writeln!(out, "<li><i class=\"{class}\"></i>{name}: {}</li>", millions(n));
    }
    out.push_str("</ul>\n");
    let weights = after.weights.iter().map(|w| format!("{} {}", w.elem, bytes(w.bytes)));
    let _ = writeln!(out, "<p class=\"small\">Weights: {}.</p>", weights.collect::<Vec<String>>().join(", "));
}

fn values(out: &mut String, quality: &Quality) {
    let _ = write!(
        out,
        "<details>\n<summary>Values and their quantization parameters ({})</summary>\n<div class=\"grid\">\n",
        quality.values.len()
    );
    quality.values.iter().for_each(|v| value(out, v));
    out.push_str("</div>\n</details>\n");
}

/// The values whose ranges depend on few samples.
fn unstable(out: &mut String, quality: &Quality) {
    if quality.unstable.is_empty() {
        return;
    }
    out.push_str("<h3>Stability of ranges</h3>\n<p class=\"small\">Ranges of either half of the samples. Where they differ, ranges of more samples may be others.</p>\n<div class=\"wide\"><table>\n<tr><th>value</th><th>one half</th><th>other half</th><th>difference</th></tr>\n");
    for v in &quality.unstable {
        let [one, other] = v.halves.map(|[low, high]| {
            format!("{} to {}", figure(low, &format!("{low:.3}")), figure(high, &format!("{high:.3}")))
        });
        let share = figure(v.difference, &format!("{:.0} % of the range", v.difference * 100.0));
        let _ = writeln!(out, "<tr><td>{}</td><td>{one}</td><td>{other}</td><td>{share}</td></tr>", text(&v.name));
    }
    out.push_str("</table></div>\n");
}

fn value(out: &mut String, v: &ValueReport) {
    let short = |x: f32| figure(x, &format!("{x:.3}"));
    let mut facts = Vec::new();
    let seen = !v.counts.is_empty();
    if seen {
        facts.push(format!("{} to {}", short(v.min), short(v.max)));
    }
    match &v.quantization {
        Some(g) => {
            let step = figure(g.scale, &format!("{:.3e}", g.scale));
            facts.push(format!("quantized {} to {}, step {step}", short(g.low), short(g.high)));
        }
        None => facts.push("floating point".into()),
    }
    if seen && v.quantization.is_some() {
        facts.push(format!("clipped {}", figure(v.clipped, &format!("{:.3} %", v.clipped * 100.0))));
    }
    let _ = write!(out, "<figure><figcaption><b>{}</b><br>", text(&v.name));
    if seen {
        facts.push(format!("a sample {:.3} to {:.3}", v.typical[0], v.typical[1]));
        let _ = writeln!(out, "{}</figcaption>{}</figure>", facts.join("; "), chart::histogram(v));
    } else {
        let _ = writeln!(out, "{}</figcaption></figure>", facts.join("; "));
    }
}

fn nodes(out: &mut String, nodes: &[NodeReport]) {
    let _ = write!(
        out,
        "<details>\n<summary>Operators ({})</summary>\n<div class=\"wide\"><table>\n<tr><th>node</th><th>operator</th><th>computes with</th><th>since</th><th>SQNR</th><th>products</th><th>moved</th></tr>\n",
        nodes.len()
    );
    for n in nodes {
        let class = if n.form == "float" { " class=\"float\"" } else { "" };
        let sqnr = n.sqnr.map_or_else(String::new, |sqnr| decibels(Some(sqnr)));
        let products = if n.products > 0 { in_millions(n.products) } else { String::new() };
        let reason = n.reason.as_deref().unwrap_or_default();
        let _ = writeln!(
            out,
            "<tr{class}><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{sqnr}</td><td>{products}</td><td>{}</td></tr>",
            text(&n.name),
            n.operator,
            n.form,
            text(reason),
            in_bytes(n.moved_bytes)
        );
    }
    out.push_str("</table></div>\n</details>\n");
}

fn reproduction(out: &mut String, report: &Report) {
    out.push_str("<h2>Reproduce</h2>\n");
    if let Some(command) = &report.command {
        let _ = writeln!(out, "<pre>{}</pre>", text(command));
    }
    if let Some(digest) = &report.model_digest {
        let _ = writeln!(out, "<p>The model, {}: <code>{}</code></p>", bytes(report.model_bytes), text(digest));
    }
    let data =
        [("calibration data", &report.calibration_digest), ("data of the comparison", &report.validation_digest)];
    for (name, digest) in data {
        if let Some(digest) = digest {
            let _ = writeln!(out, "<p>The {name}: <code>{}</code></p>", text(digest));
        }
    }
    for file in report.artefacts.iter().flat_map(|a| &a.digests) {
        let path = file.file.display().to_string();
        let _ = writeln!(out, "<p>{}: <code>{}</code></p>", text(&path), text(&file.digest));
    }
    let stages: Vec<String> = report.stages.iter().map(|s| format!("{} {:.3} s", s.name, s.seconds)).collect();
    let _ = writeln!(out, "<p>Stages: {}.</p>", stages.join(", "));
}
