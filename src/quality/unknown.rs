//! Limits of comparisons: custom operators, which cannot be evaluated, and outputs in which there is nothing to compare.

use qcc_ir::diagnostic::Diagnostic;
use qcc_ir::eval::{opaque, unknown};
use qcc_ir::{Graph, NodeId};
use qcc_passes::quantize::matches;

use super::OutputReport;

/// Fails if a convolution or matrix multiplication that would be quantized depends on a custom operator, since it
/// cannot be calibrated. Nodes that match a pattern of `exclude` stay in floating point.
pub(crate) fn check_ranges(g: &Graph, exclude: &[String]) -> Result<(), Box<Diagnostic>> {
    let opaque = opaque(g);
    let excluded = |n: NodeId| {
        let mut sources = g.origin(n).sources().iter();
        sources.any(|s| exclude.iter().any(|pattern| matches(pattern, &s.path)))
    };
    let order = g.order();
    let behind = order.iter().filter_map(|n| Some((*n, *opaque.get(n)?)));
    let mut behind = behind.filter(|(n, _)| g.op(*n).is_contraction() && !excluded(*n));
    let Some((first, custom)) = behind.next() else { return Ok(()) };
    let more = match behind.count() {
        0 => String::new(),
        n => format!(" and {n} more"),
    };
    let message = format!("no ranges can be found for {}{more}: {}", g.place(first), unknown(g, custom).error);
    let error = Diagnostic::error("custom-operator", message).at(&g.place(custom));
    let help = "leave the precision out, or ask for --fp16 or --w8a32, which need no ranges; --exclude keeps the layers \
                behind the custom operator in floating point";
    Err(Box::new(error.with_help(help)))
}

/// Code of the warning of `not_compared`.
pub const NOT_COMPARED: &str = "not-compared";

/// The warning for outputs that cannot be compared, since they depend on a custom operator.
pub(crate) fn not_compared(g: &Graph) -> Option<Diagnostic> {
    let opaque = opaque(g);
    let outputs = g.outputs().iter().filter_map(|o| Some((&*o.name, *opaque.get(&o.value.node)?)));
    let (names, customs): (Vec<&str>, Vec<NodeId>) = outputs.unzip();
    let first = *customs.first()?;
    let outputs = if names.len() == 1 { "output" } else { "outputs" };
    let message = format!("{outputs} {} cannot be compared: {}", names.join(", "), unknown(g, first).error);
    let warning = Diagnostic::warning(NOT_COMPARED, message).at(&g.place(first));
    Some(warning.with_help("compare them in a runtime that has kernels for the operator"))
}

/// The warning for outputs of which no figure is known: a detector that finds nothing in the samples, for one.
pub(crate) fn not_measured(outputs: &[OutputReport], data: &str) -> Option<Diagnostic> {
    let unknown = |o: &OutputReport| o.agreement.is_none() && o.deviation.sqnr.is_none();
    if outputs.is_empty() || !outputs.iter().all(unknown) {
        return None;
    }
    let message = format!(
        "nothing tells how far the outputs agree on {data}: the model finds nothing there, or its outputs are numbers \
         whose order follows from scores"
    );
    let help = "give samples in which the model finds something, or compare artefact and model by their task";
    Some(Diagnostic::warning("not-measured", message).with_help(help))
}

#[cfg(test)]
mod tests {
    use qcc_passes::quality::Agreement;

    use super::super::Deviation;
    use super::*;

    #[test]
    fn one_figure_is_enough() {
        let output = |sqnr: Option<f64>, percent: Option<f64>| {
            let agreement = percent.map(|percent| Agreement { measure: "same finds", percent, of: 2 });
            let deviation = Deviation { name: "y".into(), sqnr, cosine: 1.0, max_error: 0.0 };
            OutputReport { deviation, parts: Vec::new(), agreement, uncounted: true }
        };
        let none = output(None, None);
        assert!(not_measured(&[none.clone(), none.clone()], "pictures").is_some());
        assert!(not_measured(&[none.clone(), output(Some(9.0), None)], "pictures").is_none());
        assert!(not_measured(&[none, output(None, Some(50.0))], "pictures").is_none());
        assert!(not_measured(&[], "pictures").is_none());
    }
}
