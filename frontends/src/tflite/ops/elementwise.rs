//! Element-wise operators.

use qcc_formats::tflite::{Activation, Add, BuiltinOperator as B, Div, Gelu, LeakyRelu, Mul, Sub};
use qcc_ir::ops::{Binary, BinaryFn, Clamp, Select, Unary, UnaryFn};
use qcc_ir::{Dim, Elem, ValueId};

use super::super::node::{NodeCx, limits};
use super::Row;
use crate::build::bits::Shift;
use crate::build::{Build, Values, one};
use crate::refusal::Refusal;

pub(super) const ROWS: &[Row] = &[
    (B::ABS, |n| unary(n, UnaryFn::Abs)),
    (B::ADD, |n| {
        let o: Add = n.options()?;
        binary(n, BinaryFn::Add, o.activation)
    }),
    (B::ADD_N, add_n),
    (B::ATAN2, |n| binary(n, BinaryFn::Atan2, Activation::NONE)),
    (B::BITWISE_XOR, |n| binary(n, BinaryFn::Xor, Activation::NONE)),
    (B::CEIL, |n| unary(n, UnaryFn::Ceil)),
    (B::COS, |n| unary(n, UnaryFn::Cos)),
    (B::DIV, |n| {
        let o: Div = n.options()?;
        binary(n, BinaryFn::Div, o.activation)
    }),
    (B::ELU, |n| unary(n, UnaryFn::Elu { alpha: 1.0 })),
    (B::EQUAL, |n| binary(n, BinaryFn::Equal, Activation::NONE)),
    (B::EXP, |n| unary(n, UnaryFn::Exp)),
    (B::FLOOR, |n| unary(n, UnaryFn::Floor)),
    (B::FLOOR_DIV, floor_div),
    (B::FLOOR_MOD, floor_mod),
    (B::GELU, |n| {
        let o: Gelu = n.options()?;
        unary(n, UnaryFn::Gelu { tanh: o.approximate })
    }),
    (B::GREATER, |n| binary(n, BinaryFn::Greater, Activation::NONE)),
    (B::GREATER_EQUAL, |n| binary(n, BinaryFn::GreaterEqual, Activation::NONE)),
    (B::HARD_SWISH, |n| unary(n, UnaryFn::HardSwish)),
    (B::LEAKY_RELU, |n| {
        let o: LeakyRelu = n.options()?;
        unary(n, UnaryFn::LeakyRelu { alpha: o.alpha })
    }),
    (B::LESS, |n| binary(n, BinaryFn::Less, Activation::NONE)),
    (B::LESS_EQUAL, |n| binary(n, BinaryFn::LessEqual, Activation::NONE)),
    (B::LOG, |n| unary(n, UnaryFn::Log)),
    (B::LOGICAL_AND, |n| binary(n, BinaryFn::And, Activation::NONE)),
    (B::LOGICAL_NOT, |n| unary(n, UnaryFn::Not)),
    (B::LOGICAL_OR, |n| binary(n, BinaryFn::Or, Activation::NONE)),
    (B::LOGISTIC, |n| unary(n, UnaryFn::Sigmoid)),
    (B::MAXIMUM, |n| binary(n, BinaryFn::Max, Activation::NONE)),
    (B::MINIMUM, |n| binary(n, BinaryFn::Min, Activation::NONE)),
    (B::MUL, |n| {
        let o: Mul = n.options()?;
        binary(n, BinaryFn::Mul, o.activation)
    }),
    (B::NEG, neg),
    (B::NOT_EQUAL, |n| binary(n, BinaryFn::NotEqual, Activation::NONE)),
    (B::POW, |n| binary(n, BinaryFn::Pow, Activation::NONE)),
    (B::PRELU, |n| binary(n, BinaryFn::Prelu, Activation::NONE)),
    (B::RELU, |n| relu(n, Activation::RELU)),
    (B::RELU6, |n| relu(n, Activation::RELU6)),
    (B::RELU_0_TO_1, |n| {
        let x = n.input(0)?;
        one(n.give(Clamp { lo: 0.0, hi: 1.0 }, &[x])?)
    }),
    (B::RELU_N1_TO_1, |n| relu(n, Activation::RELU_N1_TO_1)),
    (B::RIGHT_SHIFT, right_shift),
    (B::ROUND, |n| unary(n, UnaryFn::Round)),
    (B::RSQRT, |n| unary(n, UnaryFn::Rsqrt)),
    (B::SELECT, select),
    (B::SELECT_V2, |n| {
        let condition = n.input(0)?;
        selected(n, condition)
    }),
    (B::SIGN, |n| unary(n, UnaryFn::Sign)),
    (B::SIN, |n| unary(n, UnaryFn::Sin)),
    (B::SQRT, |n| unary(n, UnaryFn::Sqrt)),
    (B::SQUARE, |n| {
        let x = n.input(0)?;
        one(n.give(Binary { f: BinaryFn::Mul }, &[x, x])?)
    }),
    (B::SQUARED_DIFFERENCE, |n| binary(n, BinaryFn::SquaredDifference, Activation::NONE)),
    (B::SUB, |n| {
        let o: Sub = n.options()?;
        binary(n, BinaryFn::Sub, o.activation)
    }),
    (B::TANH, |n| unary(n, UnaryFn::Tanh)),
];

fn unary(n: &mut NodeCx<'_, '_>, f: UnaryFn) -> Result<Values, Refusal> {
    let x = n.input(0)?;
    one(n.give(Unary { f }, &[x])?)
}

fn relu(n: &mut NodeCx<'_, '_>, activation: Activation) -> Result<Values, Refusal> {
    let x = n.input(0)?;
    let clamp = limits(activation).ok_or_else(|| Refusal::Unsupported(format!("{activation} is not supported")))?;
    one(n.give(clamp, &[x])?)
}

fn binary(n: &mut NodeCx<'_, '_>, f: BinaryFn, activation: Activation) -> Result<Values, Refusal> {
    let operands = [n.input(0)?, n.input(1)?];
    one(n.give_active(Binary { f }, &operands, activation)?)
}

fn add_n(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let values = n.all_inputs()?;
    let mut sum = values[0];
    for &v in &values[1..] {
        sum = n.give(Binary { f: BinaryFn::Add }, &[sum, v])?;
    }
    one(sum)
}

/// The kernel negates the stored integers, which is correct only for zero point 0.
fn neg(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let x = n.input(0)?;
    if n.ty(x).elem.qparams().is_some_and(|g| g.zero_point() != 0) {
        return Err(Refusal::Unsupported("the kernel negates stored integers, whatever their zero point".into()));
    }
    unary(n, UnaryFn::Neg)
}

/// Kernels divide the stored integers and ignore scales: quantized operands are refused.
fn plain(n: &mut NodeCx<'_, '_>) -> Result<[qcc_ir::ValueId; 2], Refusal> {
    let operands = [n.input(0)?, n.input(1)?];
    if operands.iter().any(|&v| n.ty(v).elem.qparams().is_some()) {
        return Err(Refusal::Unsupported("the kernel divides stored integers, whatever their scales".into()));
    }
    Ok(operands)
}

fn floor_div(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let [a, b] = plain(n)?;
    if n.ty(a).elem != Elem::F32 {
        return one(n.binary(BinaryFn::FloorDiv, a, b)?);
    }
    let quotient = n.binary(BinaryFn::Div, a, b)?;
    one(n.unary(UnaryFn::Floor, quotient)?)
}

/// Amounts beyond the width of the type, and negative ones, shift out all bits.
fn right_shift(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let [x, by] = plain(n)?;
    one(Shift::Right.of(n, x, by)?)
}

fn floor_mod(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let [a, b] = plain(n)?;
    one(n.binary(BinaryFn::FloorMod, a, b)?)
}

/// A condition of rank 1 selects slices along the first axis.
fn select(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let (mut condition, a) = (n.input(0)?, n.input(1)?);
    let rank = n.rank(a);
    if n.rank(condition) == 1 && rank > 1 {
        let rows = n.shape(condition).dims()[0].clone();
        let column = std::iter::once(rows).chain(vec![Dim::Known(1); rank - 1]).collect();
        condition = n.reshape_to(condition, column)?;
    }
    selected(n, condition)
}

/// The values of inputs 1 and 2 by a condition.
fn selected(n: &mut NodeCx<'_, '_>, condition: ValueId) -> Result<Values, Refusal> {
    let (a, b) = (n.input(1)?, n.input(2)?);
    one(n.give(Select {}, &[condition, a, b])?)
}
