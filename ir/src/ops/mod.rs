//! The operators: each is defined once, by its struct and its [`Operator`] impl.
//!
//! Axes are logical, counted from the front. Attributes are fully resolved: pads are explicit, strides positive,
//! axes sorted and unique. [`Op::eval`], in the kernels, defines what an operator computes. How formats spell it is not
//! known here.
//!
//! ```
//! use qcc_ir::TensorType;
//! use qcc_ir::ops::{MatMul, Op};
//! let op = Op::from(MatMul { transpose_b: true });
//! let results = op.infer(&[&TensorType::f32(&[1, 8]), &TensorType::f32(&[3, 8])])?;
//! assert_eq!(results[0], TensorType::f32(&[1, 3]));
//! # Ok::<_, qcc_ir::error::TypeError>(())
//! ```

use serde::Serialize;
use serde::de::DeserializeOwned;
use smallvec::SmallVec;
use std::fmt::Debug;

use crate::error::TypeError;
use crate::types::{Dim, Elem, Tensor, TensorType};

mod boxes;
mod conv;
mod custom;
mod elementwise;
mod index;
mod layout;
mod matmul;
mod movement;
mod nested;
mod norm;
mod open;
mod pool;
mod quantize;
mod recurrent;
mod reduce;
mod repeat;
mod resize;
mod source;

pub use boxes::{DetectionPostProcess, NonMaxSuppression, RoiAlign};
pub use conv::{Conv, ConvTranspose, hits, window_steps};
pub use custom::{Attribute, Custom};
pub use elementwise::{Binary, BinaryFn, Cast, Clamp, Select, Unary, UnaryFn, broadcast};
pub(crate) use index::indexed;
pub use index::{ArgReduce, CumSum, Gather, GatherElements, GatherNd, ScatterFn, ScatterNd, TopK};
pub use matmul::MatMul;
pub use movement::{
    Concat, DepthToSpace, Expand, Pad, PadMode, Range, Reshape, Reverse, Slice, SpaceToDepth, Tile, Transpose,
};
pub use nested::Body;
pub(crate) use nested::Nested;
pub use norm::{LayerNorm, Softmax};
pub use open::{Define, NonZero, OpenSlice, Symbolic};
pub use pool::{Pool, PoolFn};
pub use quantize::{Dequantize, DynamicQuantize, Granularity, Quantize, Relayout};
pub use recurrent::{Cell, Recurrent};
pub use reduce::{Reduce, ReduceFn};
pub use repeat::{If, Loop};
pub use resize::{Coordinates, GridSample, Nearest, Outside, Resize, ResizeMode, SampleMode};
pub use source::{Const, Input};

/// A short list of extents or axes.
pub type Extents = SmallVec<[usize; 4]>;
/// The types of a node's results.
pub type Types = SmallVec<[TensorType; 1]>;
/// The values of a node's results.
pub type Tensors = SmallVec<[Tensor; 1]>;

/// How an operator's operands and results may be laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LayoutRule {
    /// All operands and results of full rank have the same layout, which may be any.
    Follow,
    /// As `Follow`, and this axis is innermost.
    Innermost(usize),
    /// All operands and results are row-major.
    RowMajor,
    /// Operand 0 and the result have the image layout of the target; other operands the layout that its kernels take.
    Image,
    /// The result has the layout that [`Op::carried`] gives for operand 0; other operands are row-major.
    Carry,
    /// Operand and result have any layouts, independent of each other (`Transpose`, `Relayout`, `Const`, `Input`).
    Free,
}

/// Which quantization parameters an operator needs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum QuantRule {
    /// Convolution or matrix product: operand 1 is the weight, operand 2 (where present) the bias, `channel` the output
    /// axis of the weight. The parameters of the result come from its own range.
    Contraction {
        /// Logical axis of the weight along output channels.
        channel: usize,
    },
    /// Each float operand has its own parameters; those of the result come from its own range.
    OwnRange,
    /// The result has the parameters of operand 0.
    SameAsInput,
    /// All float operands and results have the same parameters.
    SharedScale,
    /// The range of the result is known in advance: `[lo, hi)`, mapped to the full range of the storage type.
    Fixed {
        /// Lower end.
        lo: f32,
        /// Upper end (exclusive).
        hi: f32,
    },
    /// Floating point only.
    Float,
}

/// Type inference and rules of an operator.
pub trait Operator: Clone + PartialEq + Debug + Serialize + DeserializeOwned {
    /// The operator's name in the text form.
    const NAME: &'static str;

    /// Element type and shape of the results, as row-major types. Quantized operands are passed as `F32`.
    ///
    /// # Errors
    /// Where the operator does not take such operands; says what it takes.
    fn infer(&self, operands: &[&TensorType]) -> Result<Types, TypeError>;

    /// How operands and results may be laid out.
    fn layout(&self) -> LayoutRule {
        LayoutRule::RowMajor
    }

    /// Which quantization parameters the operator needs.
    fn quant_rule(&self) -> QuantRule {
        QuantRule::Float
    }
}

/// The one list of operators.
#[macro_export]
macro_rules! for_each_op {
    ($then:path) => {
        $then! {
            Input Const Symbolic Define NonZero NonMaxSuppression Loop If
            Unary Binary Clamp Select Cast
            Conv ConvTranspose Pool MatMul Recurrent
            LayerNorm Softmax Reduce ArgReduce CumSum
            Reshape Transpose Concat Slice OpenSlice Pad Expand Tile Reverse DepthToSpace SpaceToDepth
            Gather GatherElements GatherNd ScatterNd TopK
            Resize GridSample RoiAlign DetectionPostProcess
            Quantize Dequantize DynamicQuantize Relayout
            Custom
        }
    };
}

macro_rules! define_op {
    ($($op:ident)*) => {
        /// Any operator.
        #[derive(Clone, Debug, PartialEq)]
        #[expect(missing_docs, reason = "each variant is documented on the struct it holds")]
        pub enum Op { $($op($op)),* }

        /// The kind of an operator, without its attributes.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[expect(missing_docs, reason = "each variant is documented on the struct of that name")]
        pub enum OpKind { $($op),* }

        impl OpKind {
            /// All kinds, in the order of the table.
            pub const ALL: &'static [OpKind] = &[$(OpKind::$op),*];

            /// The name in the text form.
            pub fn name(self) -> &'static str {
                match self { $(OpKind::$op => <$op as Operator>::NAME),* }
            }
        }

        impl Op {
            /// The kind.
            pub fn kind(&self) -> OpKind {
                match self { $(Op::$op(_) => OpKind::$op),* }
            }

            /// See [`Operator::infer`].
            ///
            /// # Errors
            /// Those of [`Operator::infer`].
            pub fn infer(&self, operands: &[&TensorType]) -> Result<Types, TypeError> {
                match self { $(Op::$op(op) => op.infer(operands)),* }
            }

            /// See [`Operator::layout`].
            pub fn layout(&self) -> LayoutRule {
                match self { $(Op::$op(op) => op.layout()),* }
            }

            /// See [`Operator::quant_rule`].
            pub fn quant_rule(&self) -> QuantRule {
                match self { $(Op::$op(op) => op.quant_rule()),* }
            }
        }

        $(impl From<$op> for Op {
            fn from(op: $op) -> Self { Op::$op(op) }
        })*
    };
}
for_each_op!(define_op);

/// Checks that the number of operands is in `min..=max`.
pub(crate) fn arity(op: &'static str, operands: &[&TensorType], min: usize, max: usize) -> Result<(), TypeError> {
    if (min..=max).contains(&operands.len()) {
        return Ok(());
    }
    Err(TypeError::Arity { op, min, max, found: operands.len() })
}

/// The extents of operand `i`, all known.
pub(crate) fn extents(operands: &[&TensorType], i: usize) -> Result<SmallVec<[usize; 6]>, TypeError> {
    let ty = operands[i];
    ty.shape.extents().ok_or_else(|| TypeError::Symbolic { operand: i, ty: Box::new(ty.clone()) })
}

/// Refuses operand `i` with what was expected of it.
pub(crate) fn refuse(operands: &[&TensorType], i: usize, expected: impl Into<String>) -> TypeError {
    TypeError::Operand { operand: i, found: Box::new(operands[i].clone()), expected: expected.into() }
}

/// Fails where extent `axis` of operand `i` is open: it must be `expected`.
pub(crate) fn is_known(operands: &[&TensorType], i: usize, axis: usize, expected: usize) -> Result<(), TypeError> {
    match operands[i].shape.dims()[axis] {
        Dim::Known(_) => Ok(()),
        Dim::Open(_) => Err(TypeError::Extent { operand: i, ty: Box::new(operands[i].clone()), axis, expected }),
    }
}

/// Fails where extent `axis` of operand `i` is open and is `expected` at one value of a symbol only, which an input has.
pub(crate) fn has_one_value(operands: &[&TensorType], i: usize, axis: usize, expected: &Dim) -> Result<(), TypeError> {
    let (Dim::Open(open), Some(expected)) = (&operands[i].shape.dims()[axis], expected.known()) else { return Ok(()) };
    let error = TypeError::Extent { operand: i, ty: Box::new(operands[i].clone()), axis, expected };
    if !open.is_computed() && error.symbol().is_some() { Err(error) } else { Ok(()) }
}

/// Refuses the element type of operand `i`.
pub(crate) fn refuse_element(operands: &[&TensorType], i: usize, expected: &'static str) -> TypeError {
    TypeError::Element { operand: i, found: Box::new(operands[i].clone()), expected }
}

/// Fails unless operand `i` is `F32` or `F16`.
pub(crate) fn float(operands: &[&TensorType], i: usize) -> Result<(), TypeError> {
    if operands[i].elem.is_float() { Ok(()) } else { Err(refuse_element(operands, i, "a float")) }
}

/// Fails unless operands `i` and `j` have the same element type.
pub(crate) fn same_elem(operands: &[&TensorType], i: usize, j: usize) -> Result<(), TypeError> {
    if operands[i].elem == operands[j].elem {
        return Ok(());
    }
    Err(refuse(operands, j, format!("element {}", operands[i].elem)))
}

/// Fails unless `axis` is an axis of operand `i`.
pub(crate) fn axis_of(operands: &[&TensorType], i: usize, axis: usize) -> Result<(), TypeError> {
    if axis < operands[i].rank() { Ok(()) } else { Err(refuse(operands, i, format!("rank above {axis}"))) }
}

/// One result.
pub(crate) fn one(elem: Elem, shape: crate::types::Shape) -> Result<Types, TypeError> {
    Ok(SmallVec::from_elem(TensorType::new(elem, shape), 1))
}
