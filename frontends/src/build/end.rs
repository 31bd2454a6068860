//! Nodes that belong to no node of the source.

use qcc_ir::{Graph, Origin};

use super::Build;

/// A place of a graph that is no node of the source.
pub(crate) struct End<'a>(pub(crate) &'a mut Graph, pub(crate) Origin);

impl Build for End<'_> {
    fn graph(&self) -> &Graph {
        self.0
    }

    fn graph_mut(&mut self) -> &mut Graph {
        self.0
    }

    fn origin(&self) -> &Origin {
        &self.1
    }
}
