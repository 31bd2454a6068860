//! The typed graph of qcc: what a model means.
//!
//! A [`Graph`] is made of nodes, each with one [`ops::Op`], and of values with complete [`TensorType`]s: how elements
//! are read (quantization grids included), logical shape, physical layout. Operators are defined once, in [`ops`]:
//! attributes, inference, meaning, layout rule and grid rule. [`eval::Executor`] runs any graph; its results are the
//! definition that passes and backends are held to.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod checked;
pub mod diagnostic;
pub mod error;
pub mod eval;
mod graph;
mod kernels;
mod name;
pub mod ops;
pub mod target;
#[cfg(any(test, feature = "testing"))]
#[doc(hidden)]
pub mod testing;
pub mod text;
mod types;

pub use checked::{Checked, is_pointwise};
pub use graph::{
    COMPUTED_BYTES, Composite, Graph, NodeId, OpenExtent, Operands, Origin, Output, Source, ValueId, VerifyError,
    metadata_entry,
};
pub use types::{Affine, Dim, Elem, Layout, QuantParams, Scalar, Shape, StorageType, Tensor, TensorType, scale_runs};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
