//! Values that a model keeps from run to run: an input, and an output with the next value.

use qcc_ir::diagnostic::Diagnostic;
use qcc_ir::{Graph, ValueId};

/// What the first run takes where the file does not say it, or says that it is 0 everywhere.
pub(crate) const ZEROS: &str = "zeros";

/// Adds the output with the next value of a state, which is named after its input. Returns the warning for it.
pub(crate) fn add_next(graph: &mut Graph, input: &str, next: ValueId, first: &str) -> Diagnostic {
    let mut output = format!("{input}_next");
    while graph.outputs().iter().any(|o| *o.name == *output) {
        output.push('_');
    }
    graph.add_output(output.as_str(), next);
    let message =
        format!("{input} keeps its value from run to run: it is an input, and the next value the output {output}");
    Diagnostic::warning("state", message)
        .with_note(format!("the first run takes {first}, each other one the output of the one before"))
        .with_help(format!("--state {input}={output} keeps it, --set {input}=0 has each run begin anew"))
}
