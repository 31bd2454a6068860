//! Nodes that a format cannot express.

use qcc_ir::diagnostic::Diagnostic;
use qcc_ir::ops::Body;
use qcc_ir::{Checked, Graph, NodeId};

/// Why a format cannot express a node.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Unsupported(pub(crate) String);

impl<T: Into<String>> From<T> for Unsupported {
    fn from(why: T) -> Self {
        Unsupported(why.into())
    }
}

/// The graph of a body.
pub(crate) fn graph_of(body: &Body) -> Result<&Graph, Unsupported> {
    body.graph().map_err(|e| e.to_string().into())
}

impl Unsupported {
    /// The error for the user.
    pub(crate) fn diagnostic(self, graph: Checked<'_>, node: NodeId) -> Diagnostic {
        graph.refusal(node, &self.0)
    }
}
