//! Errors of graphs and of evaluation.
//!
//! ```
//! use qcc_ir::error::TypeError;
//! use qcc_ir::ops::{Unary, UnaryFn};
//! use qcc_ir::{Graph, Origin, TensorType};
//! let mut g = Graph::new("g");
//! let x = g.add_input("x", TensorType::f32(&[2]));
//! let error: TypeError = g.add(Unary { f: UnaryFn::Neg }, &[x, x], Origin::none()).unwrap_err();
//! assert!(error.to_string().contains('2'), "{error}");
//! ```

use std::sync::Arc;

pub use crate::types::QuantError;
use crate::types::{Shape, Symbols, TensorType};

/// Why a node cannot have the requested types.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum TypeError {
    /// Too few or too many operands.
    #[error("{op} takes {min} to {max} operands, found {found}")]
    Arity {
        /// Operator.
        op: &'static str,
        /// Fewest operands.
        min: usize,
        /// Most operands.
        max: usize,
        /// Operands given.
        found: usize,
    },
    /// An operand has a type that the operator does not take.
    #[error("operand {operand} is {found}; expected {expected}")]
    Operand {
        /// Position of the operand.
        operand: usize,
        /// Its type.
        found: Box<TensorType>,
        /// What the operator takes.
        expected: String,
    },
    /// An operand has an element type that the operator does not take.
    #[error("operand {operand} is {found}; expected {expected}")]
    Element {
        /// Position of the operand.
        operand: usize,
        /// Its type.
        found: Box<TensorType>,
        /// The element types that the operator takes.
        expected: &'static str,
    },
    /// Two shapes do not broadcast.
    #[error("shapes {a} and {b} do not broadcast")]
    Broadcast {
        /// One shape.
        a: Box<Shape>,
        /// The other.
        b: Box<Shape>,
    },
    /// An extent that must be known is open.
    #[error("operand {operand} is {ty}; its extents must be numbers here")]
    Symbolic {
        /// Position of the operand.
        operand: usize,
        /// Its type.
        ty: Box<TensorType>,
    },
    /// An extent that is not the one that the operator takes.
    #[error("operand {operand} is {ty}: extent {axis} must be {expected}")]
    Extent {
        /// Position of the operand.
        operand: usize,
        /// Its type.
        ty: Box<TensorType>,
        /// The axis.
        axis: usize,
        /// The extent that it must have.
        expected: usize,
    },
    /// An attribute does not fit the operands.
    #[error("{0}")]
    Attribute(String),
    /// A type has invalid quantization parameters.
    #[error(transparent)]
    QuantParams(#[from] QuantError),
    /// A result type that the operator does not give.
    #[error("result {result} is {found}; expected {expected}")]
    Result {
        /// Position of the result.
        result: usize,
        /// The requested type.
        found: Box<TensorType>,
        /// What the operator gives.
        expected: String,
    },
}

impl TypeError {
    /// The symbol that the error is about, and the value with which an open extent would be the one that is expected.
    pub fn symbol(&self) -> Option<(&Arc<str>, usize)> {
        let TypeError::Extent { ty, axis, expected, .. } = self else { return None };
        let dim = ty.shape.dims().get(*axis)?;
        dim.solved(*expected)
            .filter(|(symbol, n)| dim.bind(&Symbols::from_iter([((*symbol).clone(), *n)])) == Some(*expected))
    }
}

/// Computed constants would take too much memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("computed constants would come to {bytes} bytes; {most} are the most for this model")]
pub struct TooLarge {
    /// Bytes of all computed constants.
    pub bytes: u64,
    /// The limit.
    pub most: u64,
}

/// Why a node cannot be evaluated.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum EvalError {
    /// The operands' types do not fit the operator.
    #[error(transparent)]
    Type(#[from] TypeError),
    /// A value is needed that is only known at run time.
    #[error("{0} has no value before run time")]
    Unknown(&'static str),
    /// A custom operator, which cannot be evaluated.
    #[error("what the custom operator {0} computes is not known, so it cannot be evaluated")]
    Custom(String),
    /// An index is out of range.
    #[error("index {index} lies outside an axis of extent {extent}")]
    Index {
        /// The index.
        index: i64,
        /// Extent of the axis.
        extent: usize,
    },
    /// The operator cannot be evaluated for this element type.
    #[error("{op} cannot be evaluated on {elem}")]
    Elem {
        /// Operator.
        op: &'static str,
        /// Element type.
        elem: String,
    },
    /// An input does not have the type that the graph declares.
    #[error("input {name}: expected {expected}, found {found}")]
    Input {
        /// Name of the input.
        name: String,
        /// Declared type.
        expected: Box<TensorType>,
        /// Type given.
        found: Box<TensorType>,
    },
    /// A kernel refused operands that type inference accepted: a bug in qcc.
    #[error("internal error: {0}")]
    Kernel(String),
    /// Division of integers by zero.
    #[error("integer division by zero")]
    DivisionByZero,
}
