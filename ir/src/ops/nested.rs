//! Graphs inside operators.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use serde::{Serialize, Serializer};

use crate::types::{Symbols, TensorType};

/// A graph, as operators know it: they are below graphs.
pub(crate) trait Nested: Any + Send + Sync {
    /// The types of its inputs.
    fn takes(&self) -> Vec<TensorType>;

    /// The types of its outputs.
    fn gives(&self) -> Vec<TensorType>;

    /// The graph at these values of symbols.
    fn bound(&self, symbols: &Symbols) -> Arc<dyn Nested>;

    /// The text form; with the elements of all constants, or with digests of large ones.
    fn text(&self, whole: bool) -> String;
}

/// A graph inside an operator. Copies share it.
#[derive(Clone)]
pub struct Body(pub(crate) Arc<dyn Nested>);

impl Body {
    /// The types of the inputs.
    pub fn takes(&self) -> Vec<TensorType> {
        self.0.takes()
    }

    /// The types of the outputs.
    pub fn gives(&self) -> Vec<TensorType> {
        self.0.gives()
    }

    /// True if an extent of an input or output is open.
    pub fn is_open(&self) -> bool {
        self.takes().iter().chain(&self.gives()).any(|ty| ty.shape.is_open())
    }

    /// The body at these values of symbols.
    #[must_use]
    pub fn bound(&self, symbols: &Symbols) -> Body {
        Body(self.0.bound(symbols))
    }
}

impl PartialEq for Body {
    fn eq(&self, other: &Body) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0.text(false) == other.0.text(false)
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.text(false))
    }
}

impl Serialize for Body {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&self.0.text(true))
    }
}
