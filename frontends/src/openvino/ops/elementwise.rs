//! Element-wise operations.

use qcc_ir::Elem;
use qcc_ir::ops::{BinaryFn, Clamp, Select, UnaryFn};

use super::super::node::NodeCx;
use super::{Row, quantize};
use crate::build::{Build, Values, one};
use crate::refusal::Refusal;

pub(super) const ROWS: &[Row] = &[
    ("Abs", |n| unary(n, UnaryFn::Abs)),
    ("Acos", |n| unary(n, UnaryFn::Acos)),
    ("Acosh", |n| unary(n, UnaryFn::Acosh)),
    ("Add", |n| binary(n, BinaryFn::Add)),
    ("Asin", |n| unary(n, UnaryFn::Asin)),
    ("Asinh", |n| unary(n, UnaryFn::Asinh)),
    ("Atan", |n| unary(n, UnaryFn::Atan)),
    ("Atanh", |n| unary(n, UnaryFn::Atanh)),
    ("BitwiseAnd", |n| binary(n, BinaryFn::And)),
    ("BitwiseOr", |n| binary(n, BinaryFn::Or)),
    ("BitwiseXor", |n| binary(n, BinaryFn::Xor)),
    ("Ceiling", |n| unary(n, UnaryFn::Ceil)),
    ("Clamp", clamp),
    ("Cos", |n| unary(n, UnaryFn::Cos)),
    ("Cosh", |n| unary(n, UnaryFn::Cosh)),
    ("Divide", divide),
    ("Elu", |n| {
        let alpha = n.required("alpha")?;
        unary(n, UnaryFn::Elu { alpha })
    }),
    ("Equal", |n| binary(n, BinaryFn::Equal)),
    ("Erf", |n| unary(n, UnaryFn::Erf)),
    ("Exp", |n| unary(n, UnaryFn::Exp)),
    ("Floor", |n| unary(n, UnaryFn::Floor)),
    ("FloorMod", |n| binary(n, BinaryFn::FloorMod)),
    ("Gelu", gelu),
    ("Greater", |n| binary(n, BinaryFn::Greater)),
    ("GreaterEqual", |n| binary(n, BinaryFn::GreaterEqual)),
    ("HSigmoid", |n| unary(n, UnaryFn::HardSigmoid { alpha: 1.0 / 6.0, beta: 0.5 })),
    ("HSwish", |n| unary(n, UnaryFn::HardSwish)),
    ("HardSigmoid", |n| {
        let f = UnaryFn::HardSigmoid { alpha: n.real(1)?, beta: n.real(2)? };
        unary(n, f)
    }),
    ("Identity", |n| one(n.input(0)?)),
    ("Less", |n| binary(n, BinaryFn::Less)),
    ("LessEqual", |n| binary(n, BinaryFn::LessEqual)),
    ("Log", |n| unary(n, UnaryFn::Log)),
    ("LogicalAnd", |n| binary(n, BinaryFn::And)),
    ("LogicalNot", |n| unary(n, UnaryFn::Not)),
    ("LogicalOr", |n| binary(n, BinaryFn::Or)),
    ("LogicalXor", |n| binary(n, BinaryFn::Xor)),
    ("Maximum", |n| binary(n, BinaryFn::Max)),
    ("Minimum", |n| binary(n, BinaryFn::Min)),
    ("Mish", |n| unary(n, UnaryFn::Mish)),
    ("Mod", |n| binary(n, BinaryFn::Rem)),
    ("Multiply", |n| match quantize::scaled(n)? {
        Some(real) => {
            n.broadcasts()?;
            one(real)
        }
        None => binary(n, BinaryFn::Mul),
    }),
    ("Negative", |n| unary(n, UnaryFn::Neg)),
    ("NotEqual", |n| binary(n, BinaryFn::NotEqual)),
    ("PReLU", prelu),
    ("Power", |n| binary(n, BinaryFn::Pow)),
    ("ReLU", |n| {
        let x = n.input(0)?;
        one(n.add(Clamp::RELU, &[x])?)
    }),
    ("Round", round),
    ("Select", |n| {
        n.broadcasts()?;
        let operands = n.all_inputs()?;
        one(n.add(Select {}, &operands)?)
    }),
    ("Selu", |n| {
        let f = UnaryFn::Selu { alpha: n.real(1)?, gamma: n.real(2)? };
        unary(n, f)
    }),
    ("Sigmoid", |n| unary(n, UnaryFn::Sigmoid)),
    ("Sign", |n| unary(n, UnaryFn::Sign)),
    ("Sin", |n| unary(n, UnaryFn::Sin)),
    ("Sinh", |n| unary(n, UnaryFn::Sinh)),
    ("SoftPlus", |n| unary(n, UnaryFn::Softplus)),
    ("SoftSign", |n| unary(n, UnaryFn::Softsign)),
    ("Sqrt", |n| unary(n, UnaryFn::Sqrt)),
    ("SquaredDifference", |n| binary(n, BinaryFn::SquaredDifference)),
    ("Subtract", |n| binary(n, BinaryFn::Sub)),
    ("Swish", swish),
    ("Tan", |n| unary(n, UnaryFn::Tan)),
    ("Tanh", |n| unary(n, UnaryFn::Tanh)),
];

fn unary(n: &mut NodeCx<'_, '_>, f: UnaryFn) -> Result<Values, Refusal> {
    let x = n.input(0)?;
    one(n.unary(f, x)?)
}

fn binary(n: &mut NodeCx<'_, '_>, f: BinaryFn) -> Result<Values, Refusal> {
    n.broadcasts()?;
    let (a, b) = (n.input(0)?, n.input(1)?);
    one(n.binary(f, a, b)?)
}

/// Integer division rounds down, or towards 0 if an attribute says so.
fn divide(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let (down, x) = (n.flag("m_pythondiv", true)?, n.input(0)?);
    let f = if down && n.ty(x).elem.is_integer() { BinaryFn::FloorDiv } else { BinaryFn::Div };
    binary(n, f)
}

fn clamp(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let limits = Clamp { lo: n.required("min")?, hi: n.required("max")? };
    let x = n.input(0)?;
    one(n.add(limits, &[x])?)
}

fn gelu(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let tanh = match n.text("approximation_mode") {
        None | Some("ERF" | "erf") => false,
        Some("TANH" | "tanh") => true,
        Some(_) => return Err(Refusal::unknown_mode("approximation_mode")),
    };
    unary(n, UnaryFn::Gelu { tanh })
}

fn round(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    match n.text("mode") {
        None | Some("half_to_even") => unary(n, UnaryFn::Round),
        Some(other) => Err(Refusal::Unsupported(format!("rounding in mode {other} is not supported"))),
    }
}

/// A vector slope is per channel.
fn prelu(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let (x, slope) = (n.input(0)?, n.input(1)?);
    let dims = n.dims(slope)?;
    if let (&[1] | &[], Some(alpha)) = (dims.as_slice(), n.constant(slope).map(|t| t.floats()[0])) {
        return one(n.unary(UnaryFn::LeakyRelu { alpha }, x)?);
    }
    let slope = if let &[channels] = dims.as_slice()
        && n.shape(x).dims().get(1) == Some(&channels.into())
    {
        n.along_channels(slope, x)?
    } else {
        slope
    };
    one(n.binary(BinaryFn::Prelu, x, slope)?)
}

/// x * sigmoid(beta * x); the default of beta is 1.
fn swish(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let (x, beta) = (n.input(0)?, n.optional(1)?);
    let is_one = |t: &qcc_ir::Tensor| t.ty().elem != Elem::Bool && t.floats().iter().all(|&b| b == 1.0);
    match beta.filter(|&b| !n.constant(b).is_some_and(is_one)) {
        None => unary(n, UnaryFn::Silu),
        Some(beta) => {
            let scaled = n.binary(BinaryFn::Mul, x, beta)?;
            let gate = n.unary(UnaryFn::Sigmoid, scaled)?;
            one(n.binary(BinaryFn::Mul, x, gate)?)
        }
    }
}
