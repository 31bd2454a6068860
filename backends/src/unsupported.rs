//! What a format has no words for.

use qcc_ir::diagnostic::Diagnostic;
use qcc_ir::{Checked, NodeId};

/// Why a node has no form in a format.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Unsupported(pub(crate) String);

impl<T: Into<String>> From<T> for Unsupported {
    fn from(why: T) -> Self {
        Unsupported(why.into())
    }
}

impl Unsupported {
    /// What the user is told.
    pub(crate) fn diagnostic(self, graph: Checked<'_>, node: NodeId) -> Diagnostic {
        graph.refusal(node, &self.0)
    }
}
