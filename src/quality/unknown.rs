//! Limits of models with custom operators, which cannot be evaluated.

use qcc_ir::diagnostic::Diagnostic;
use qcc_ir::eval::{opaque, unknown};
use qcc_ir::{Graph, NodeId};
use qcc_passes::quantize::matches;

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
