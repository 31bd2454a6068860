//! What nodes do together that were made in place of one.

use std::sync::Arc;

use crate::ops::Op;

/// An operator whose work several nodes do, since the target does not have it. They know it as long as they are there.
#[derive(Clone, Debug)]
pub struct Composite(Arc<Op>);

impl Composite {
    /// One that nodes are to be made in place of.
    pub fn new(op: Op) -> Self {
        Composite(Arc::new(op))
    }

    /// The operator.
    pub fn op(&self) -> &Op {
        &self.0
    }

    /// What tells it from all others of the graph.
    pub(crate) fn id(&self) -> usize {
        Arc::as_ptr(&self.0) as usize
    }

    /// True where both are the same node of the graph as it was, not only the same operator.
    pub fn is(&self, other: &Composite) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}
