//! Nodes that a format cannot express.

use qcc_ir::diagnostic::Diagnostic;
use qcc_ir::{Checked, NodeId};

/// Why a format cannot express a node.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Unsupported(pub(crate) String);

impl<T: Into<String>> From<T> for Unsupported {
    fn from(why: T) -> Self {
        Unsupported(why.into())
    }
}

impl Unsupported {
    /// The error for the user.
    pub(crate) fn diagnostic(self, graph: Checked<'_>, node: NodeId) -> Diagnostic {
        graph.refusal(node, &self.0)
    }
}
