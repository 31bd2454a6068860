//! Validity checks of the finished message. Each finding is a bug of qcc.

use qcc_formats::onnx::{GraphProto, ModelProto};
use qcc_ir::diagnostic::Diagnostic;
use rustc_hash::FxHashSet;

/// All errors that runtimes would refuse: names that are used before they are defined, or defined twice.
pub(super) fn check(model: &ModelProto) -> Vec<Diagnostic> {
    let Some(graph) = &model.graph else { return vec![internal("there is no graph")] };
    let mut wrong = Vec::new();
    let mut given: FxHashSet<&str> = FxHashSet::default();
    let sources = graph.input.iter().map(|v| v.name()).chain(graph.initializer.iter().map(|t| t.name()));
    for name in sources {
        give(name, &mut given, &mut wrong);
    }
    for node in &graph.node {
        for name in node.input.iter().filter(|n| !n.is_empty() && !given.contains(n.as_str())) {
            wrong.push(internal(&format!("{} reads {name:?} before it is given", node.op_type())));
        }
        // An empty name stands for an omitted result.
        node.output.iter().filter(|n| !n.is_empty()).for_each(|name| give(name, &mut given, &mut wrong));
    }
    wrong.extend(unknown_outputs(graph, &given));
    wrong
}

fn give<'m>(name: &'m str, given: &mut FxHashSet<&'m str>, wrong: &mut Vec<Diagnostic>) {
    if name.is_empty() || !given.insert(name) {
        wrong.push(internal(&format!("the name {name:?} is given twice or empty")));
    }
}

fn unknown_outputs<'m>(graph: &'m GraphProto, given: &'m FxHashSet<&'m str>) -> impl Iterator<Item = Diagnostic> + 'm {
    let unknown = graph.output.iter().filter(|o| !given.contains(o.name()));
    unknown.map(|o| internal(&format!("nothing gives the output {:?}", o.name())))
}

fn internal(why: &str) -> Diagnostic {
    Diagnostic::error("internal", format!("internal error: onnx: {why}"))
        .with_note("the model is not written, since runtimes would refuse it")
}
