//! Charts as SVG.

use std::fmt::Write as _;

use crate::details::{NodeReport, ValueReport};
use crate::quality::{OutputReport, ParetoPoint, Quality};

use super::text;

/// Size of the error chart and of its margins, in pixels.
const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 260.0;
const LEFT: f64 = 44.0;
const BOTTOM: f64 = 22.0;

/// Upper end of the SQNR axis, in dB. Higher values are drawn there.
const HIGHEST: f64 = 60.0;

/// Chart of the SQNR of layers by their position in the model.
pub(super) fn depth(nodes: &[NodeReport], quality: &Quality) -> String {
    let place = |i: usize, n: usize| LEFT + (WIDTH - LEFT) * (i as f64 + 0.5) / n.max(1) as f64;
    let highest = quality.layers.iter().filter_map(|l| l.sqnr).fold(20.0, f64::max).clamp(20.0, HIGHEST);
    let level = |sqnr: f64| 8.0 + (HEIGHT - BOTTOM - 8.0) * (1.0 - sqnr.clamp(0.0, highest) / highest);
    let mut out = format!("<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"SQNR by depth\">\n");
    for (from, to) in islands(nodes) {
        let (x, end) = (place(from, nodes.len()), place(to, nodes.len()));
        let half = (WIDTH - LEFT) / nodes.len() as f64 / 2.0;
        let _ = writeln!(
            out,
            "<rect class=\"island\" x=\"{:.1}\" y=\"8\" width=\"{:.1}\" height=\"{:.1}\"/>",
            x - half,
            end - x + 2.0 * half,
            HEIGHT - BOTTOM - 8.0
        );
    }
    for tick in (0..=highest as usize).step_by(10) {
        let y = level(tick as f64);
        let _ = writeln!(
            out,
            "<path class=\"axis\" d=\"M{LEFT} {y:.1}H{WIDTH}\"/><text x=\"{:.0}\" y=\"{:.1}\" text-anchor=\"end\">{tick} dB</text>",
            LEFT - 6.0,
            y + 4.0
        );
    }
    let points: Vec<(f64, f64, &NodeReport)> =
        nodes.iter().enumerate().filter_map(|(i, n)| Some((place(i, nodes.len()), level(n.sqnr?), n))).collect();
    let curve: Vec<String> = points.iter().map(|(x, y, _)| format!("{x:.1} {y:.1}")).collect();
    if !curve.is_empty() {
        let _ = writeln!(out, "<path class=\"curve\" d=\"M{}\"/>", curve.join("L"));
    }
    for (x, y, n) in &points {
        let marked = quality.worst.iter().any(|w| w.name == n.name);
        let (class, r) = if marked { ("layer marked", 5.0) } else { ("layer", 3.0) };
        let sqnr = n.sqnr.map_or_else(String::new, |sqnr| format!("{sqnr:.1} dB"));
        let _ = writeln!(
            out,
            "<circle class=\"{class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{r}\"><title>{}: {sqnr}, {}</title></circle>",
            text(&n.name),
            n.form
        );
    }
    if let Some((x, y, n)) = points.iter().find(|(_, _, n)| quality.worst.first().is_some_and(|w| w.name == n.name)) {
        let (anchor, at) = if *x > WIDTH / 2.0 { ("end", x - 8.0) } else { ("start", x + 8.0) };
        let _ = writeln!(
            out,
            "<text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\">{}</text>",
            y + 14.0,
            text(&n.name)
        );
    }
    let _ = writeln!(
        out,
        "<text x=\"{LEFT}\" y=\"{0}\">input</text><text x=\"{WIDTH}\" y=\"{0}\" text-anchor=\"end\">output</text>\n</svg>",
        HEIGHT - 4.0
    );
    out
}

/// Curve of the worst output by latency: its SQNR, or its agreement where ratios have no meaning.
pub(super) fn pareto(points: &[ParetoPoint]) -> String {
    let worst = |p: &ParetoPoint, of: fn(&OutputReport) -> Option<f64>| {
        p.outputs.iter().filter_map(of).filter(|x| x.is_finite()).min_by(f64::total_cmp)
    };
    let (unit, of): (_, fn(&OutputReport) -> Option<f64>) =
        match points.iter().all(|p| p.outputs.iter().any(|o| o.deviation.sqnr.is_some())) {
            true => ("dB", |o| o.deviation.sqnr),
            false => ("%", |o| o.agreement.as_ref().map(|a| a.percent)),
        };
    let seen: Vec<(f64, f64)> = points.iter().filter_map(|p| Some((p.latency_ms, worst(p, of)?))).collect();
    let span = |values: &mut dyn Iterator<Item = f64>| {
        let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), x| (l.min(x), h.max(x)));
        (low, (high - low).max(f64::MIN_POSITIVE))
    };
    let (x0, width) = span(&mut seen.iter().map(|p| p.0));
    let (y0, height) = span(&mut seen.iter().map(|p| p.1));
    let (left, right, top, bottom) = (LEFT + 40.0, WIDTH - 60.0, 16.0, HEIGHT - BOTTOM - 16.0);
    let mut out = format!("<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"quality by latency\">\n");
    let placed =
        |(x, y): &(f64, f64)| (left + (x - x0) / width * (right - left), bottom - (y - y0) / height * (bottom - top));
    let path: Vec<String> = seen.iter().map(placed).map(|(x, y)| format!("{x:.1} {y:.1}")).collect();
    if !path.is_empty() {
        let _ = writeln!(out, "<path class=\"curve\" d=\"M{}\"/>", path.join("L"));
    }
    for point in &seen {
        let (x, y) = placed(point);
        let _ = writeln!(
            out,
            "<circle class=\"layer\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\"/><text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{:.1} {unit}</text>",
            y - 8.0,
            point.1
        );
    }
    let (first, last) = (seen.first().map_or(0.0, |p| p.0), seen.last().map_or(0.0, |p| p.0));
    let _ = writeln!(
        out,
        "<path class=\"axis\" d=\"M{LEFT} {0}H{WIDTH}\"/><text x=\"{left}\" y=\"{1}\">{first:.4} ms</text><text x=\"{right}\" y=\"{1}\" text-anchor=\"end\">{last:.4} ms</text>\n</svg>",
        HEIGHT - BOTTOM,
        HEIGHT - 4.0
    );
    out
}

/// The ranges of consecutive nodes that compute in floating point, as first and last index.
fn islands(nodes: &[NodeReport]) -> Vec<(usize, usize)> {
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for (i, _) in nodes.iter().enumerate().filter(|(_, n)| n.form == "float") {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == i => *last = i,
            _ => runs.push((i, i)),
        }
    }
    runs
}

/// Histogram of a value, with its quantization range and steps.
pub(super) fn histogram(v: &ValueReport) -> String {
    let (width, height) = (240.0, 60.0);
    let (low, high) = v.quantization.as_ref().map_or((v.min, v.max), |g| (g.low, g.high));
    let (from, to) = (f64::from(v.min.min(low)), f64::from(v.max.max(high)));
    let span = (to - from).max(f64::MIN_POSITIVE);
    let place = |x: f64| (x - from) / span * width;
    let bar = (place(f64::from(v.max)) - place(f64::from(v.min))) / v.counts.len().max(1) as f64;
    // Most numbers are close to 0: square roots of the counts keep the other bins visible.
    let most = v.counts.iter().copied().max().unwrap_or(1).max(1) as f64;
    let begin = place(f64::from(v.min));
    let mut path = format!("M{begin:.0} {height}");
    for (i, &n) in v.counts.iter().enumerate() {
        // A bin that is not empty is visible.
        let tall = if n == 0 { 0.0 } else { ((n as f64 / most).sqrt() * height).max(1.0) };
        let _ = write!(path, "V{:.0}H{:.0}", height - tall, begin + (i + 1) as f64 * bar);
    }
    let _ = write!(path, "V{height}z");
    let mut out = format!("<svg viewBox=\"0 0 {width} {}\" role=\"img\" aria-label=\"histogram\">", height + 8.0);
    let _ = write!(out, "<path class=\"bars\" d=\"{path}\"/><path class=\"axis\" d=\"M0 {height}H{width}\"/>");
    if let Some(quantization) = &v.quantization {
        let (x, end) = (place(f64::from(quantization.low)), place(f64::from(quantization.high)));
        let step = (f64::from(quantization.scale) / span * width).max(0.01);
        // One mark for each quantization step, or a band if the steps are too close to distinguish.
        if step >= 2.0 {
            let marks: String =
                (0..=((end - x) / step) as usize).map(|i| format!("M{:.1} {height}v4", x + i as f64 * step)).collect();
            let _ = write!(out, "<path class=\"limit\" d=\"{marks}\"/>");
        } else {
            let _ = write!(
                out,
                "<rect class=\"steps\" x=\"{x:.1}\" y=\"{height}\" width=\"{:.1}\" height=\"5\"/>",
                end - x
            );
        }
        let _ = write!(out, "<path class=\"limit\" d=\"M{x:.1} 0V{0}M{end:.1} 0V{0}\"/>", height + 6.0);
    }
    if from < 0.0 && to > 0.0 {
        let _ = write!(
            out,
            "<text x=\"{:.1}\" y=\"9\">0</text><path class=\"axis\" d=\"M{:.1} 0V{height}\"/>",
            place(0.0) + 2.0,
            place(0.0)
        );
    }
    out.push_str("</svg>");
    out
}

/// A bar that shows a share of a whole.
pub(super) fn share(share: f64) -> String {
    format!(
        "<svg viewBox=\"0 0 100 10\" preserveAspectRatio=\"none\" aria-hidden=\"true\"><rect class=\"track\" width=\"100\" height=\"10\"/><rect class=\"integer\" width=\"{:.1}\" height=\"10\"/></svg>",
        share.clamp(0.0, 1.0) * 100.0
    )
}

/// A stacked bar; each part has a CSS class.
pub(super) fn parts(parts: &[(u64, &str)]) -> String {
    let all = parts.iter().map(|(n, _)| n).sum::<u64>().max(1) as f64;
    let mut out =
        "<svg viewBox=\"0 0 960 18\" preserveAspectRatio=\"none\" role=\"img\" aria-label=\"products by precision\">"
            .to_owned();
    let mut x = 0.0;
    for (n, class) in parts {
        let width = *n as f64 / all * 960.0;
        let _ = write!(out, "<rect class=\"{class}\" x=\"{x:.2}\" width=\"{width:.2}\" height=\"18\"/>");
        x += width;
    }
    out.push_str("</svg>\n");
    out
}
