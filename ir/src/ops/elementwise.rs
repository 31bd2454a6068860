//! Element-wise operators. Binary operands broadcast as in NumPy: shapes are aligned at the last axis and an extent
//! of 1 is repeated.

use serde::{Deserialize, Serialize};

use super::{LayoutRule, Operator, QuantRule, Types, arity, float, one, refuse_element, same_elem};
use crate::error::TypeError;
use crate::types::{Dim, Elem, Shape, TensorType};

/// A function of one float, or `Not` of a `Bool`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names are the functions' own; formulas are given where they are no common names")]
pub enum UnaryFn {
    Abs,
    Acos,
    Acosh,
    Asin,
    Asinh,
    Atan,
    Atanh,
    Ceil,
    Cos,
    Cosh,
    Erf,
    Exp,
    Floor,
    Log,
    Neg,
    Not,
    /// 1 / x
    Reciprocal,
    /// Half to even.
    Round,
    /// 1 / sqrt(x)
    Rsqrt,
    /// 1 / (1 + exp(-x))
    Sigmoid,
    Sign,
    /// x * sigmoid(x)
    Silu,
    Sin,
    Sinh,
    /// ln(1 + exp(x))
    Softplus,
    /// x / (1 + |x|)
    Softsign,
    Sqrt,
    Tan,
    Tanh,
    /// x * clamp(x/6 + 1/2, 0, 1)
    HardSwish,
    /// x * tanh(softplus(x))
    Mish,
    /// clamp(alpha * x + beta, 0, 1)
    HardSigmoid {
        alpha: f32,
        beta: f32,
    },
    /// x where x >= 0, alpha * x below
    LeakyRelu {
        alpha: f32,
    },
    /// x where x >= 0, alpha * (exp(x) - 1) below
    Elu {
        alpha: f32,
    },
    /// gamma * Elu(alpha)
    Selu {
        alpha: f32,
        gamma: f32,
    },
    /// x * Phi(x); with `tanh`, the approximation by tanh.
    Gelu {
        tanh: bool,
    },
    /// x where x > alpha, else 0
    Threshold {
        alpha: f32,
    },
}

/// Applies a function to each element. Operand and result: `F32` (`Not`: `Bool`; `Neg`, `Abs`, `Sign`: integers too).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unary {
    /// The function.
    pub f: UnaryFn,
}

impl Operator for Unary {
    const NAME: &'static str = "unary";

    fn infer(&self, operands: &[&TensorType]) -> Result<Types, TypeError> {
        arity(Self::NAME, operands, 1, 1)?;
        let x = operands[0];
        let (fits, expected) = match self.f {
            UnaryFn::Not => (x.elem == Elem::Bool, "bool"),
            UnaryFn::Neg | UnaryFn::Abs | UnaryFn::Sign => (x.elem.is_float() || x.elem.is_integer(), "a number"),
            _ => (x.elem.is_float(), "a float"),
        };
        if !fits {
            return Err(refuse_element(operands, 0, expected));
        }
        one(x.elem.clone(), x.shape.clone())
    }

    fn layout(&self) -> LayoutRule {
        LayoutRule::Follow
    }

    fn quant_rule(&self) -> QuantRule {
        match self.f {
            UnaryFn::Sigmoid => QuantRule::Fixed { lo: 0.0, hi: 1.0 },
            UnaryFn::Tanh => QuantRule::Fixed { lo: -1.0, hi: 1.0 },
            UnaryFn::Not => QuantRule::Float,
            _ => QuantRule::OwnRange,
        }
    }
}

/// A function of two elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names are the functions' own; formulas are given where they are no common names")]
pub enum BinaryFn {
    Add,
    Sub,
    Mul,
    /// Integers: truncated towards zero.
    Div,
    /// Integers only; rounded towards minus infinity.
    FloorDiv,
    /// Remainder with the sign of the divisor.
    FloorMod,
    /// Remainder with the sign of the dividend (C's `fmod`).
    Rem,
    Pow,
    Max,
    Min,
    /// (a - b)^2
    SquaredDifference,
    /// a where a >= 0, a * b below: b is the slope.
    Prelu,
    Atan2,
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    /// Of integers, bit by bit, as the two below.
    And,
    Or,
    Xor,
}

impl BinaryFn {
    /// True where the result is a `Bool` though the operands are numbers.
    pub fn compares(self) -> bool {
        use BinaryFn::*;
        matches!(self, Equal | NotEqual | Less | LessEqual | Greater | GreaterEqual)
    }

    /// True where the operands are `Bool` or integers.
    pub fn logical(self) -> bool {
        matches!(self, BinaryFn::And | BinaryFn::Or | BinaryFn::Xor)
    }

    /// True where the function is commutative.
    pub fn commutes(self) -> bool {
        use BinaryFn::*;
        matches!(self, Add | Mul | Max | Min | SquaredDifference | Equal | NotEqual | And | Or | Xor)
    }

    /// True if `Prelu` with these slopes is the maximum of its operand and the operand's product with them. With a slope of 0
    /// it is not: an infinite operand times 0 is not a number.
    pub fn is_maximum_with(slopes: &[f32]) -> bool {
        slopes.iter().all(|&slope| slope <= 1.0 && slope != 0.0)
    }
}

/// Applies a function to pairs of elements. Operands have the same element type; the result has it too, or is `Bool`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Binary {
    /// The function.
    pub f: BinaryFn,
}

impl Operator for Binary {
    const NAME: &'static str = "binary";

    fn infer(&self, operands: &[&TensorType]) -> Result<Types, TypeError> {
        arity(Self::NAME, operands, 2, 2)?;
        same_elem(operands, 0, 1)?;
        let elem = &operands[0].elem;
        let fits = match self.f {
            BinaryFn::Equal | BinaryFn::NotEqual => true,
            f if f.logical() => *elem == Elem::Bool || elem.is_integer(),
            _ => *elem != Elem::Bool,
        };
        if !fits {
            return Err(refuse_element(operands, 0, if self.f.logical() { "an integer or bool" } else { "a number" }));
        }
        let elem = if self.f.compares() { Elem::Bool } else { elem.clone() };
        one(elem, broadcast(&operands[0].shape, &operands[1].shape)?)
    }

    fn layout(&self) -> LayoutRule {
        LayoutRule::Follow
    }

    fn quant_rule(&self) -> QuantRule {
        match self.f {
            BinaryFn::Max | BinaryFn::Min => QuantRule::SharedScale,
            f if f.compares() || f.logical() => QuantRule::Float,
            BinaryFn::Pow | BinaryFn::Atan2 | BinaryFn::FloorDiv | BinaryFn::FloorMod | BinaryFn::Rem => {
                QuantRule::Float
            }
            _ => QuantRule::OwnRange,
        }
    }
}

/// Clamps each element to `lo..=hi`; either may be infinite. `F32` or integers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Clamp {
    /// Lower bound.
    pub lo: f32,
    /// Upper bound.
    pub hi: f32,
}

impl Clamp {
    /// max(x, 0)
    pub const RELU: Clamp = Clamp { lo: 0.0, hi: f32::INFINITY };
    /// min(max(x, 0), 6)
    pub const RELU6: Clamp = Clamp { lo: 0.0, hi: 6.0 };
}

impl Operator for Clamp {
    const NAME: &'static str = "clamp";

    fn infer(&self, operands: &[&TensorType]) -> Result<Types, TypeError> {
        arity(Self::NAME, operands, 1, 1)?;
        if !(operands[0].elem.is_float() || operands[0].elem.is_integer()) {
            return Err(refuse_element(operands, 0, "a number"));
        }
        one(operands[0].elem.clone(), operands[0].shape.clone())
    }

    fn layout(&self) -> LayoutRule {
        LayoutRule::Follow
    }

    fn quant_rule(&self) -> QuantRule {
        QuantRule::OwnRange
    }
}

/// Operand 1 where operand 0 (`Bool`) is true, operand 2 elsewhere. All three broadcast.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Select {}

impl Operator for Select {
    const NAME: &'static str = "select";

    fn infer(&self, operands: &[&TensorType]) -> Result<Types, TypeError> {
        arity(Self::NAME, operands, 3, 3)?;
        if operands[0].elem != Elem::Bool {
            return Err(refuse_element(operands, 0, "bool"));
        }
        same_elem(operands, 1, 2)?;
        let values = broadcast(&operands[1].shape, &operands[2].shape)?;
        one(operands[1].elem.clone(), broadcast(&operands[0].shape, &values)?)
    }

    fn layout(&self) -> LayoutRule {
        LayoutRule::Follow
    }

    fn quant_rule(&self) -> QuantRule {
        QuantRule::SharedScale
    }
}

/// Converts each element to another plain element type. Floats to integers truncate towards zero; to `Bool`: x != 0.
#[derive(Clone, Debug, PartialEq)]
pub struct Cast {
    /// The element type of the result; not a quantized one.
    pub to: Elem,
}

impl Operator for Cast {
    const NAME: &'static str = "cast";

    fn infer(&self, operands: &[&TensorType]) -> Result<Types, TypeError> {
        arity(Self::NAME, operands, 1, 1)?;
        if self.to.qparams().is_some() {
            return Err(TypeError::Attribute("cast has no quantized result; use quantize".into()));
        }
        one(self.to.clone(), operands[0].shape.clone())
    }

    fn layout(&self) -> LayoutRule {
        LayoutRule::Follow
    }
}

impl Serialize for Cast {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(&self.to)
    }
}

impl<'de> Deserialize<'de> for Cast {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let name = String::deserialize(d)?;
        let to = Elem::plain(&name).ok_or_else(|| serde::de::Error::custom(format!("no plain element {name}")))?;
        Ok(Cast { to })
    }
}

/// The shape of an element-wise result.
///
/// # Errors
/// Where two extents differ and neither is 1. Open extents are taken to be equal, unless they are known to differ:
/// runtimes refuse others.
pub fn broadcast(a: &Shape, b: &Shape) -> Result<Shape, TypeError> {
    let rank = a.rank().max(b.rank());
    let at = |s: &Shape, i: usize| (i + s.rank()).checked_sub(rank).map_or(Dim::Known(1), |j| s.dims()[j].clone());
    (0..rank)
        .map(|i| match (at(a, i), at(b, i)) {
            (x, y) if x == y => Ok(x),
            (Dim::Known(1), y) => Ok(y),
            (x, Dim::Known(1)) => Ok(x),
            (x, y) => {
                x.agreed(&y).ok_or_else(|| TypeError::Broadcast { a: Box::new(a.clone()), b: Box::new(b.clone()) })
            }
        })
        .collect()
}

/// One float operand, and a result of the same type: the inference of normalisations.
pub(crate) fn float_same(op: &'static str, operands: &[&TensorType], max: usize) -> Result<Types, TypeError> {
    arity(op, operands, 1, max)?;
    float(operands, 0)?;
    one(operands[0].elem.clone(), operands[0].shape.clone())
}
