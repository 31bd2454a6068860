//! Composites: the operators that groups of nodes were decomposed from.

use std::sync::Arc;

use crate::ops::Op;

/// An operator that the target does not have and that was decomposed into several nodes. Each of these nodes records
/// it.
#[derive(Clone, Debug)]
pub struct Composite(Arc<Op>);

impl Composite {
    /// A composite for the nodes of one decomposition of `op`.
    pub fn new(op: Op) -> Self {
        Composite(Arc::new(op))
    }

    /// The operator.
    pub fn op(&self) -> &Op {
        &self.0
    }

    /// Identifies the composite within its graph.
    pub(crate) fn id(&self) -> usize {
        Arc::as_ptr(&self.0) as usize
    }

    /// True if both are of the same decomposed node, not only of equal operators.
    pub fn is(&self, other: &Composite) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}
