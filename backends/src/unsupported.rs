//! What a format has no words for.

use qcc_ir::diagnostic::Diagnostic;
use qcc_ir::{Graph, NodeId};

/// Why a node has no form in a format.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Unsupported(pub(crate) String);

impl<T: Into<String>> From<T> for Unsupported {
    fn from(why: T) -> Self {
        Unsupported(why.into())
    }
}

impl Unsupported {
    /// What the user is told: the target, the node, and why.
    pub(crate) fn diagnostic(self, target: &str, graph: &Graph, node: NodeId) -> Diagnostic {
        let message = format!("{target} cannot express {}: {}", graph.op(node).kind().name(), self.0);
        Diagnostic::error("unsupported-op", message)
            .at(graph.origin(node))
            .with_help("change this part of the model, or compile it for another target")
    }
}
