//! What can be wrong with a graph or an evaluation.
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

pub use crate::types::QuantError;
use crate::types::{Shape, TensorType};

/// Why a node cannot have the types asked for.
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
    /// An operand has a type the operator does not take.
    #[error("operand {operand} is {found}; expected {expected}")]
    Operand {
        /// Position of the operand.
        operand: usize,
        /// Its type.
        found: Box<TensorType>,
        /// What the operator takes.
        expected: String,
    },
    /// An operand has an element the operator does not take.
    #[error("operand {operand} is {found}; expected {expected}")]
    Element {
        /// Position of the operand.
        operand: usize,
        /// Its type.
        found: Box<TensorType>,
        /// The elements that the operator takes.
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
    /// An extent must be a number here.
    #[error("operand {operand} is {ty}; its extents must be numbers here")]
    Symbolic {
        /// Position of the operand.
        operand: usize,
        /// Its type.
        ty: Box<TensorType>,
    },
    /// An attribute does not fit the operands.
    #[error("{0}")]
    Attribute(String),
    /// A type that cannot have its grid.
    #[error(transparent)]
    QuantParams(#[from] QuantError),
    /// A result type that the operator does not give.
    #[error("result {result} is {found}; expected {expected}")]
    Result {
        /// Position of the result.
        result: usize,
        /// The type asked for.
        found: Box<TensorType>,
        /// What the operator gives.
        expected: String,
    },
}

/// Constants that would be computed come to too much.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("computed constants would come to {bytes} bytes; {most} are the most for this model")]
pub struct TooLarge {
    /// Bytes of all computed constants together.
    pub bytes: u64,
    /// What they may come to.
    pub most: u64,
}

/// Why a node cannot be evaluated.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum EvalError {
    /// The operands' types do not fit the operator.
    #[error(transparent)]
    Type(#[from] TypeError),
    /// A value that only exists at run time is asked for.
    #[error("{0} has no value before run time")]
    Unknown(&'static str),
    /// A custom operator, of which only the runtimes of its format know what it computes.
    #[error("what the custom operator {0} computes is not known, so it cannot be evaluated")]
    Custom(String),
    /// An index lies outside its axis.
    #[error("index {index} lies outside an axis of extent {extent}")]
    Index {
        /// The index.
        index: i64,
        /// Extent of the axis.
        extent: usize,
    },
    /// The operator has no evaluation for this element.
    #[error("{op} cannot be evaluated on {elem}")]
    Elem {
        /// Operator.
        op: &'static str,
        /// Element.
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
    /// A kernel refused operands that inference had let through: a fault of qcc's own.
    #[error("internal error: {0}")]
    Kernel(String),
    /// Division of integers by zero.
    #[error("integer division by zero")]
    DivisionByZero,
}
