//! Origins of nodes in the source model.

use std::fmt;
use std::sync::Arc;

use smallvec::SmallVec;

/// One node of the source model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The name of the node in the source model.
    pub path: Arc<str>,
    /// Its operator there (`Conv`, `aten.conv2d`).
    pub kind: Arc<str>,
    /// File and line of the user's program, where the source model records them.
    pub line: Option<Arc<str>>,
}

/// The maximum number of source nodes of one node. Actual models have at most a tenth of that. Without a limit, fusing
/// a long chain into one node would take quadratic time.
const MOST_SOURCES: usize = 256;

/// The nodes of the source model that a node implements; the first is the main one.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Origin(SmallVec<[Source; 1]>);

impl Origin {
    /// No source node: the node is made by qcc itself.
    pub fn none() -> Self {
        Origin::default()
    }

    /// One source node.
    pub fn new(path: impl Into<Arc<str>>, kind: impl Into<Arc<str>>) -> Self {
        Origin(SmallVec::from_elem(Source { path: path.into(), kind: kind.into(), line: None }, 1))
    }

    /// One source node with the line of the user's program that made it.
    pub fn at_line(path: impl Into<Arc<str>>, kind: impl Into<Arc<str>>, line: impl Into<Arc<str>>) -> Self {
        let source = Source { path: path.into(), kind: kind.into(), line: Some(line.into()) };
        Origin(SmallVec::from_elem(source, 1))
    }

    /// The source nodes.
    pub fn sources(&self) -> &[Source] {
        &self.0
    }

    /// The name of the first source node, or the empty string.
    pub fn path(&self) -> &str {
        self.0.first().map_or("", |s| &s.path)
    }

    /// This origin followed by the source nodes of `other`, up to the maximum number.
    pub fn and(&self, other: &Origin) -> Self {
        let mut all = self.clone();
        for s in &other.0 {
            if all.0.len() < MOST_SOURCES && !all.0.contains(s) {
                all.0.push(s.clone());
            }
        }
        all
    }
}

impl FromIterator<Source> for Origin {
    fn from_iter<I: IntoIterator<Item = Source>>(sources: I) -> Self {
        Origin(sources.into_iter().collect())
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, s) in self.0.iter().enumerate() {
            write!(f, "{}{}", if i == 0 { "" } else { " + " }, s.path)?;
        }
        Ok(())
    }
}
