//! The typed graph of qcc: what a model means.
//!
//! A [`Graph`] consists of nodes, each with one [`ops::Op`], and of values with complete [`TensorType`]s: element type
//! (including quantization parameters), logical shape, memory layout. Operators are defined once, in [`ops`]:
//! attributes, type inference, evaluation, layout rule and quantization rule. [`eval::Executor`] runs any graph; its
//! results are the reference for passes and backends.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod body;
mod checked;
pub mod diagnostic;
pub mod error;
pub mod eval;
mod graph;
mod kernels;
pub mod mapped;
pub mod matrix;
mod name;
pub mod ops;
pub mod target;
#[cfg(any(test, feature = "testing"))]
#[doc(hidden)]
pub mod testing;
pub mod text;
mod types;
pub mod vector;

pub use checked::{Checked, is_pointwise};
pub use graph::{
    COMPUTED_BYTES, Composite, Graph, NodeId, OpenExtent, Operands, Origin, Output, Source, ValueId, VerifyError,
    metadata_entry,
};
pub use types::{
    Affine, Dim, Elem, Expr, Layout, NoExpr, Part, QuantParams, Runs, Scalar, Shape, StorageType, Symbols, Tensor,
    TensorType,
};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
