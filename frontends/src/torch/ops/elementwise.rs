//! Element-wise operators.

use qcc_ir::ops::{BinaryFn, Clamp, Range, Select, Slice, UnaryFn};
use qcc_ir::{Elem, ValueId};

use super::super::node::{NodeCx, Operand};
use super::super::schema::Number;
use super::Row;
use crate::build::{self, Build, Values, bits, one};
use crate::refusal::Refusal;

pub(super) const ROWS: &[Row] = &[
    ("__and__", |n| logical(n, BinaryFn::And)),
    ("__or__", |n| logical(n, BinaryFn::Or)),
    ("__xor__", |n| logical(n, BinaryFn::Xor)),
    ("_prelu_kernel", prelu),
    ("_to_copy", to),
    ("acos", |n| unary(n, UnaryFn::Acos)),
    ("acosh", |n| unary(n, UnaryFn::Acosh)),
    ("add", |n| sum(n, BinaryFn::Add)),
    ("addcdiv", |n| add_combined(n, BinaryFn::Div)),
    ("addcmul", |n| add_combined(n, BinaryFn::Mul)),
    ("arccos", |n| unary(n, UnaryFn::Acos)),
    ("arccosh", |n| unary(n, UnaryFn::Acosh)),
    ("arcsin", |n| unary(n, UnaryFn::Asin)),
    ("arcsinh", |n| unary(n, UnaryFn::Asinh)),
    ("arctan", |n| unary(n, UnaryFn::Atan)),
    ("arctan2", |n| real(n, BinaryFn::Atan2)),
    ("arctanh", |n| unary(n, UnaryFn::Atanh)),
    ("asin", |n| unary(n, UnaryFn::Asin)),
    ("asinh", |n| unary(n, UnaryFn::Asinh)),
    ("atan", |n| unary(n, UnaryFn::Atan)),
    ("atan2", |n| real(n, BinaryFn::Atan2)),
    ("atanh", |n| unary(n, UnaryFn::Atanh)),
    ("bitwise_and", |n| logical(n, BinaryFn::And)),
    ("bitwise_not", not),
    ("bitwise_or", |n| logical(n, BinaryFn::Or)),
    ("bitwise_xor", |n| logical(n, BinaryFn::Xor)),
    ("ceil", |n| rounded(n, UnaryFn::Ceil)),
    ("celu", celu),
    ("clamp", clamp),
    ("clamp_max", clamp),
    ("clamp_min", clamp),
    ("clip", clamp),
    ("copy", copy),
    ("cos", |n| unary(n, UnaryFn::Cos)),
    ("cosh", |n| unary(n, UnaryFn::Cosh)),
    ("div", div),
    ("divide", div),
    ("elu", elu),
    ("eq", |n| binary(n, BinaryFn::Equal)),
    ("erf", |n| unary(n, UnaryFn::Erf)),
    ("erfc", |n| {
        let x = float_input(n)?;
        let erf = n.unary(UnaryFn::Erf, x)?;
        let unit = n.scalar(1.0, erf)?;
        one(n.binary(BinaryFn::Sub, unit, erf)?)
    }),
    ("exp", |n| unary(n, UnaryFn::Exp)),
    ("exp2", |n| {
        let x = n.input()?;
        let elem = float_elem(n, x);
        let base = n.constant_of(Number::Float(2.0), &elem)?;
        let x = n.cast(x, elem)?;
        one(n.binary(BinaryFn::Pow, base, x)?)
    }),
    ("expm1", |n| {
        let x = float_input(n)?;
        let exp = n.unary(UnaryFn::Exp, x)?;
        let unit = n.scalar(1.0, exp)?;
        one(n.binary(BinaryFn::Sub, exp, unit)?)
    }),
    ("fill", fill),
    ("floor", |n| rounded(n, UnaryFn::Floor)),
    ("floor_divide", |n| {
        let (a, b) = (n.operand("self")?, n.operand("other")?);
        one(floor_divided(n, a, b)?)
    }),
    ("fmod", |n| binary(n, BinaryFn::Rem)),
    ("frac", |n| {
        let x = n.input()?;
        let whole = truncated(n, x)?;
        one(n.binary(BinaryFn::Sub, x, whole)?)
    }),
    ("ge", |n| binary(n, BinaryFn::GreaterEqual)),
    ("gelu", |n| {
        let tanh = match n.text("approximate", "none")? {
            "none" => false,
            "tanh" => true,
            _ => return Err(Refusal::Argument { name: "approximate".into(), problem: "is not none or tanh" }),
        };
        unary(n, UnaryFn::Gelu { tanh })
    }),
    ("glu", glu),
    ("greater", |n| binary(n, BinaryFn::Greater)),
    ("greater_equal", |n| binary(n, BinaryFn::GreaterEqual)),
    ("gt", |n| binary(n, BinaryFn::Greater)),
    ("hardshrink", |n| shrink(n, false)),
    ("hardsigmoid", |n| unary(n, UnaryFn::HardSigmoid { alpha: 1.0 / 6.0, beta: 0.5 })),
    ("hardswish", |n| unary(n, UnaryFn::HardSwish)),
    ("hardtanh", |n| {
        let (lo, hi) = (n.float("min_val", -1.0)?, n.float("max_val", 1.0)?);
        let x = n.input()?;
        one(n.add(Clamp { lo: lo as f32, hi: hi as f32 }, &[x])?)
    }),
    ("isfinite", |n| {
        let x = float_input(n)?;
        let size = n.unary(UnaryFn::Abs, x)?;
        let infinity = n.constant_of(Number::Float(f64::INFINITY), &n.ty(x).elem.clone())?;
        one(n.binary(BinaryFn::Less, size, infinity)?)
    }),
    ("isinf", |n| {
        let x = float_input(n)?;
        let size = n.unary(UnaryFn::Abs, x)?;
        let infinity = n.constant_of(Number::Float(f64::INFINITY), &n.ty(x).elem.clone())?;
        one(n.binary(BinaryFn::Equal, size, infinity)?)
    }),
    ("isnan", |n| {
        let x = n.input()?;
        one(n.binary(BinaryFn::NotEqual, x, x)?)
    }),
    ("le", |n| binary(n, BinaryFn::LessEqual)),
    ("leaky_relu", |n| {
        let alpha = n.float("negative_slope", 0.01)? as f32;
        unary(n, UnaryFn::LeakyRelu { alpha })
    }),
    ("lerp", lerp),
    ("less", |n| binary(n, BinaryFn::Less)),
    ("less_equal", |n| binary(n, BinaryFn::LessEqual)),
    ("log", |n| unary(n, UnaryFn::Log)),
    ("log10", |n| log_to(n, std::f64::consts::LN_10)),
    ("log1p", |n| {
        let x = float_input(n)?;
        let unit = n.scalar(1.0, x)?;
        let x = n.binary(BinaryFn::Add, x, unit)?;
        one(n.unary(UnaryFn::Log, x)?)
    }),
    ("log2", |n| log_to(n, std::f64::consts::LN_2)),
    ("log_sigmoid", |n| {
        let x = float_input(n)?;
        let minus = n.unary(UnaryFn::Neg, x)?;
        let softplus = n.unary(UnaryFn::Softplus, minus)?;
        one(n.unary(UnaryFn::Neg, softplus)?)
    }),
    ("logical_and", |n| truth(n, BinaryFn::And)),
    ("logical_not", |n| {
        let x = n.input()?;
        let x = n.cast(x, Elem::Bool)?;
        one(n.unary(UnaryFn::Not, x)?)
    }),
    ("logical_or", |n| truth(n, BinaryFn::Or)),
    ("logical_xor", |n| truth(n, BinaryFn::Xor)),
    ("lt", |n| binary(n, BinaryFn::Less)),
    ("masked_fill", masked_fill),
    ("maximum", |n| binary(n, BinaryFn::Max)),
    ("minimum", |n| binary(n, BinaryFn::Min)),
    ("mish", |n| unary(n, UnaryFn::Mish)),
    ("mul", |n| binary(n, BinaryFn::Mul)),
    ("multiply", |n| binary(n, BinaryFn::Mul)),
    ("nan_to_num", nan_to_num),
    ("ne", |n| binary(n, BinaryFn::NotEqual)),
    ("neg", |n| {
        let x = n.input()?;
        one(n.unary(UnaryFn::Neg, x)?)
    }),
    ("negative", |n| {
        let x = n.input()?;
        one(n.unary(UnaryFn::Neg, x)?)
    }),
    ("not_equal", |n| binary(n, BinaryFn::NotEqual)),
    ("pow", pow),
    ("prelu", prelu),
    ("reciprocal", |n| unary(n, UnaryFn::Reciprocal)),
    ("relu", |n| {
        let x = n.input()?;
        one(n.add(Clamp::RELU, &[x])?)
    }),
    ("relu6", |n| {
        let x = n.input()?;
        one(n.add(Clamp::RELU6, &[x])?)
    }),
    ("remainder", |n| binary(n, BinaryFn::FloorMod)),
    ("round", |n| rounded(n, UnaryFn::Round)),
    ("rsqrt", |n| unary(n, UnaryFn::Rsqrt)),
    ("rsub", |n| {
        let (a, b) = (n.operand("self")?, n.operand("other")?);
        let alpha = n.number("alpha")?;
        one(scaled_sum(n, BinaryFn::Sub, b, a, alpha)?)
    }),
    ("selu", |n| unary(n, UnaryFn::Selu { alpha: 1.673_263_2, gamma: 1.050_701 })),
    ("sgn", |n| {
        let x = n.input()?;
        one(n.unary(UnaryFn::Sign, x)?)
    }),
    ("sigmoid", |n| unary(n, UnaryFn::Sigmoid)),
    ("sign", |n| {
        let x = n.input()?;
        one(n.unary(UnaryFn::Sign, x)?)
    }),
    ("silu", |n| unary(n, UnaryFn::Silu)),
    ("sin", |n| unary(n, UnaryFn::Sin)),
    ("sinh", |n| unary(n, UnaryFn::Sinh)),
    ("softplus", softplus),
    ("softshrink", |n| shrink(n, true)),
    ("softsign", |n| unary(n, UnaryFn::Softsign)),
    ("special_expit", |n| unary(n, UnaryFn::Sigmoid)),
    ("sqrt", |n| unary(n, UnaryFn::Sqrt)),
    ("square", |n| {
        let x = n.input()?;
        one(n.binary(BinaryFn::Mul, x, x)?)
    }),
    ("sub", |n| sum(n, BinaryFn::Sub)),
    ("subtract", |n| sum(n, BinaryFn::Sub)),
    ("tan", |n| unary(n, UnaryFn::Tan)),
    ("tanh", |n| unary(n, UnaryFn::Tanh)),
    ("threshold", threshold),
    ("to", to),
    ("true_divide", div),
    ("trunc", |n| {
        let x = n.input()?;
        one(truncated(n, x)?)
    }),
    ("type_as", |n| {
        let (x, other) = (n.input()?, n.tensor("other")?);
        one(n.cast(x, n.ty(other).elem.clone())?)
    }),
    ("where", select),
    ("xlogy", |n| {
        let (a, b) = (n.operand("self")?, n.operand("other")?);
        let elem = n.promoted(&[a, b]);
        let (a, b) = (n.as_value(a, &elem)?, n.as_value(b, &elem)?);
        let log = n.unary(UnaryFn::Log, b)?;
        one(n.binary(BinaryFn::Mul, a, log)?)
    }),
];

/// The element type of a function with float results: integers become `F32`.
fn float_elem(n: &NodeCx<'_, '_>, x: ValueId) -> Elem {
    let elem = &n.ty(x).elem;
    if elem.is_float() { elem.clone() } else { Elem::F32 }
}

fn float_input(n: &mut NodeCx<'_, '_>) -> Result<ValueId, Refusal> {
    let x = n.input()?;
    let elem = float_elem(n, x);
    n.cast(x, elem)
}

fn unary(n: &mut NodeCx<'_, '_>, f: UnaryFn) -> Result<Values, Refusal> {
    let x = float_input(n)?;
    one(n.unary(f, x)?)
}

/// Rounding of integers is the identity.
fn rounded(n: &mut NodeCx<'_, '_>, f: UnaryFn) -> Result<Values, Refusal> {
    let x = n.input()?;
    let decimals = n.int("decimals", 0)?;
    if decimals != 0 {
        return Err(Refusal::Unsupported("rounding to decimals is not supported".into()));
    }
    if n.ty(x).elem.is_float() { one(n.unary(f, x)?) } else { one(x) }
}

fn log_to(n: &mut NodeCx<'_, '_>, base: f64) -> Result<Values, Refusal> {
    let x = float_input(n)?;
    let log = n.unary(UnaryFn::Log, x)?;
    let factor = n.scalar(1.0 / base, log)?;
    one(n.binary(BinaryFn::Mul, log, factor)?)
}

fn binary(n: &mut NodeCx<'_, '_>, f: BinaryFn) -> Result<Values, Refusal> {
    let (a, b) = (n.operand("self")?, n.operand("other")?);
    one(arithmetic(n, f, a, b)?)
}

/// For booleans, the product is the conjunction, the sum the disjunction.
fn arithmetic(n: &mut NodeCx<'_, '_>, f: BinaryFn, a: Operand, b: Operand) -> Result<ValueId, Refusal> {
    let elem = n.promoted(&[a, b]);
    let f = match (f, &elem) {
        (BinaryFn::Mul | BinaryFn::Min, Elem::Bool) => BinaryFn::And,
        (BinaryFn::Add | BinaryFn::Max, Elem::Bool) => BinaryFn::Or,
        (f, Elem::Bool) if !f.logical() && !matches!(f, BinaryFn::Equal | BinaryFn::NotEqual) => {
            return Err(Refusal::Unsupported("arithmetic on booleans is not supported here".into()));
        }
        (f, _) => f,
    };
    let (a, b) = (n.as_value(a, &elem)?, n.as_value(b, &elem)?);
    n.binary(f, a, b)
}

fn sum(n: &mut NodeCx<'_, '_>, f: BinaryFn) -> Result<Values, Refusal> {
    let (a, b) = (n.operand("self")?, n.operand("other")?);
    let alpha = n.number("alpha")?;
    one(scaled_sum(n, f, a, b, alpha)?)
}

/// a + alpha * b, or a - alpha * b.
fn scaled_sum(
    n: &mut NodeCx<'_, '_>,
    f: BinaryFn,
    a: Operand,
    b: Operand,
    alpha: Option<Number>,
) -> Result<ValueId, Refusal> {
    let b = match alpha.filter(|alpha| alpha.float() != 1.0) {
        None => b,
        Some(alpha) => {
            let elem = n.promoted(&[a, b]);
            let (b, alpha) = (n.as_value(b, &elem)?, n.constant_of(alpha, &elem)?);
            Operand::Tensor(n.binary(BinaryFn::Mul, b, alpha)?)
        }
    };
    arithmetic(n, f, a, b)
}

/// A function with a float result.
fn real(n: &mut NodeCx<'_, '_>, f: BinaryFn) -> Result<Values, Refusal> {
    let (a, b) = (n.operand("self")?, n.operand("other")?);
    one(on_floats(n, f, a, b)?)
}

fn on_floats(n: &mut NodeCx<'_, '_>, f: BinaryFn, a: Operand, b: Operand) -> Result<ValueId, Refusal> {
    let elem = n.promoted(&[a, b]);
    let elem = if elem.is_float() { elem } else { Elem::F32 };
    let (a, b) = (n.as_value(a, &elem)?, n.as_value(b, &elem)?);
    n.binary(f, a, b)
}

fn div(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let (a, b) = (n.operand("self")?, n.operand("other")?);
    match n.text("rounding_mode", "")? {
        "" => one(on_floats(n, BinaryFn::Div, a, b)?),
        "floor" => one(floor_divided(n, a, b)?),
        "trunc" => {
            let quotient = n.promoted_binary(BinaryFn::Div, a, b)?;
            one(truncated(n, quotient)?)
        }
        _ => Err(Refusal::Argument { name: "rounding_mode".into(), problem: "is not floor or trunc" }),
    }
}

fn floor_divided(n: &mut NodeCx<'_, '_>, a: Operand, b: Operand) -> Result<ValueId, Refusal> {
    if n.promoted(&[a, b]).is_integer() {
        return n.promoted_binary(BinaryFn::FloorDiv, a, b);
    }
    let quotient = n.promoted_binary(BinaryFn::Div, a, b)?;
    n.unary(UnaryFn::Floor, quotient)
}

/// sign(x) * floor(|x|)
fn truncated(n: &mut NodeCx<'_, '_>, x: ValueId) -> Result<ValueId, Refusal> {
    if !n.ty(x).elem.is_float() {
        return Ok(x);
    }
    let (size, sign) = (n.unary(UnaryFn::Abs, x)?, n.unary(UnaryFn::Sign, x)?);
    let floor = n.unary(UnaryFn::Floor, size)?;
    n.binary(BinaryFn::Mul, floor, sign)
}

/// Logical for booleans, bitwise for integers.
fn logical(n: &mut NodeCx<'_, '_>, f: BinaryFn) -> Result<Values, Refusal> {
    let (a, b) = (n.operand("self")?, n.operand("other")?);
    one(arithmetic(n, f, a, b)?)
}

fn truth(n: &mut NodeCx<'_, '_>, f: BinaryFn) -> Result<Values, Refusal> {
    let (a, b) = (n.input()?, n.tensor("other")?);
    let (a, b) = (n.cast(a, Elem::Bool)?, n.cast(b, Elem::Bool)?);
    one(n.binary(f, a, b)?)
}

fn not(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let x = n.input()?;
    one(if n.ty(x).elem == Elem::Bool { n.unary(UnaryFn::Not, x)? } else { bits::not(n, x)? })
}

fn elu(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let alpha = n.float("alpha", 1.0)? as f32;
    if n.float("scale", 1.0)? != 1.0 || n.float("input_scale", 1.0)? != 1.0 {
        return Err(Refusal::Unsupported("elu with scales is not supported".into()));
    }
    unary(n, UnaryFn::Elu { alpha })
}

fn celu(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let x = float_input(n)?;
    let alpha = n.float("alpha", 1.0)?;
    one(build::celu(n, x, alpha)?)
}

/// ln(1 + exp(beta * x)) / beta. Above the threshold PyTorch returns x, which differs by less than a rounding error.
fn softplus(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let x = float_input(n)?;
    let (beta, threshold) = (n.float("beta", 1.0)?, n.float("threshold", 20.0)?);
    if threshold < 15.0 {
        return Err(Refusal::Unsupported(format!("softplus with the threshold {threshold} is not supported")));
    }
    if beta == 1.0 {
        return one(n.unary(UnaryFn::Softplus, x)?);
    }
    let beta = n.scalar(beta, x)?;
    let scaled = n.binary(BinaryFn::Mul, x, beta)?;
    let y = n.unary(UnaryFn::Softplus, scaled)?;
    one(n.binary(BinaryFn::Div, y, beta)?)
}

/// x where x > threshold, the value elsewhere.
fn threshold(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let x = n.input()?;
    let (alpha, value) = (n.float("threshold", 0.0)?, n.float("value", 0.0)?);
    if value == 0.0 {
        return one(n.unary(UnaryFn::Threshold { alpha: alpha as f32 }, x)?);
    }
    let (alpha, value) = (n.scalar(alpha, x)?, n.scalar(value, x)?);
    let above = n.binary(BinaryFn::Greater, x, alpha)?;
    one(n.add(Select {}, &[above, x, value])?)
}

/// 0 where |x| <= lambda, x elsewhere; with `soft`, x is moved towards 0 by lambda.
fn shrink(n: &mut NodeCx<'_, '_>, soft: bool) -> Result<Values, Refusal> {
    let x = n.input()?;
    let lambda = n.float("lambd", 0.5)?;
    let inside = n.add(Clamp { lo: -lambda as f32, hi: lambda as f32 }, &[x])?;
    let beyond = n.binary(BinaryFn::Sub, x, inside)?;
    if soft {
        return one(beyond);
    }
    let zero = n.scalar(0.0, x)?;
    let hit = n.binary(BinaryFn::NotEqual, beyond, zero)?;
    one(n.add(Select {}, &[hit, x, zero])?)
}

/// The first half of an axis times the sigmoid of the second.
fn glu(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let x = n.input()?;
    let axis = n.int("dim", -1)?;
    let axis = n.axis(axis, x)?;
    let extent = n.known_extent(x, axis)?;
    let len = extent / 2;
    if extent != 2 * len {
        return Err(Refusal::Invalid(format!("axis {axis} of {} has no halves", n.ty(x))));
    }
    let half = |start| Slice { ranges: vec![Range { axis, start, len, step: 1 }] };
    let (a, b) = (n.add(half(0), &[x])?, n.add(half(len), &[x])?);
    let gate = n.unary(UnaryFn::Sigmoid, b)?;
    one(n.binary(BinaryFn::Mul, a, gate)?)
}

/// The slope is a single one, or one per channel.
fn prelu(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let (x, slope) = (n.input()?, n.tensor("weight")?);
    let slope = if n.rank(slope) == 1 && n.rank(x) > 1 { n.along_channels(slope, x)? } else { slope };
    one(n.binary(BinaryFn::Prelu, x, slope)?)
}

/// The limits are numbers or tensors; either may be absent. If the limits are reversed, the result is the upper one.
fn clamp(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let x = n.input()?;
    let (lo, hi) = (n.optional_operand("min")?, n.optional_operand("max")?);
    let all: Vec<Operand> = [Some(Operand::Tensor(x)), lo, hi].into_iter().flatten().collect();
    let elem = n.promoted(&all);
    let x = n.cast(x, elem.clone())?;
    let limit = |v: Option<Operand>, absent: f32| match v {
        None => Some(absent),
        // Exact in F32.
        Some(Operand::Number(v)) if elem.is_float() || v.float().abs() <= 16_777_216.0 => Some(v.float() as f32),
        Some(_) => None,
    };
    if let (Some(lo), Some(hi)) = (limit(lo, f32::NEG_INFINITY), limit(hi, f32::INFINITY))
        && lo <= hi
    {
        return one(n.add(Clamp { lo, hi }, &[x])?);
    }
    let mut y = x;
    for (limit, f) in [(lo, BinaryFn::Max), (hi, BinaryFn::Min)] {
        if let Some(limit) = limit {
            let limit = n.as_value(limit, &elem)?;
            y = n.binary(f, y, limit)?;
        }
    }
    one(y)
}

/// Small integer exponents become products.
fn pow(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let (base, exponent) = (n.operand("self")?, n.operand("exponent")?);
    let elem = n.promoted(&[base, exponent]);
    let x = n.as_value(base, &elem)?;
    if let Operand::Number(p) = exponent {
        let known = match p.float() {
            1.0 => Some(x),
            2.0 => Some(n.binary(BinaryFn::Mul, x, x)?),
            3.0 => {
                let square = n.binary(BinaryFn::Mul, x, x)?;
                Some(n.binary(BinaryFn::Mul, square, x)?)
            }
            0.5 if elem.is_float() => Some(n.unary(UnaryFn::Sqrt, x)?),
            -0.5 if elem.is_float() => Some(n.unary(UnaryFn::Rsqrt, x)?),
            -1.0 if elem.is_float() => Some(n.unary(UnaryFn::Reciprocal, x)?),
            _ => None,
        };
        if let Some(y) = known {
            return one(y);
        }
    }
    let exponent = n.as_value(exponent, &elem)?;
    one(n.binary(BinaryFn::Pow, x, exponent)?)
}

/// self + value * (tensor1 f tensor2)
fn add_combined(n: &mut NodeCx<'_, '_>, f: BinaryFn) -> Result<Values, Refusal> {
    let (x, a, b) = (n.input()?, n.tensor("tensor1")?, n.tensor("tensor2")?);
    let value = n.number("value")?;
    let combined = n.promoted_binary(f, Operand::Tensor(a), Operand::Tensor(b))?;
    one(scaled_sum(n, BinaryFn::Add, Operand::Tensor(x), Operand::Tensor(combined), value)?)
}

/// self + weight * (end - self)
fn lerp(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let (x, end, weight) = (n.input()?, n.tensor("end")?, n.operand("weight")?);
    let weight = n.as_value(weight, &n.ty(x).elem.clone())?;
    let way = n.binary(BinaryFn::Sub, end, x)?;
    let way = n.binary(BinaryFn::Mul, way, weight)?;
    one(n.binary(BinaryFn::Add, x, way)?)
}

fn to(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let x = n.input()?;
    let elem = match (n.dtype("dtype")?, n.optional("other")?) {
        (Some(elem), _) => elem,
        (None, Some(other)) => n.ty(other).elem.clone(),
        (None, None) => return one(x),
    };
    one(n.cast(x, elem)?)
}

/// The source converted and broadcast to self.
fn copy(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let (x, src) = (n.input()?, n.tensor("src")?);
    one(n.like(src, x)?)
}

fn fill(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let (x, value) = (n.input()?, n.operand("value")?);
    let value = n.as_value(value, &n.ty(x).elem.clone())?;
    one(n.like(value, x)?)
}

fn masked_fill(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let (x, mask, value) = (n.input()?, n.tensor("mask")?, n.operand("value")?);
    let value = n.as_value(value, &n.ty(x).elem.clone())?;
    one(n.add(Select {}, &[mask, value, x])?)
}

fn select(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let (condition, a, b) = (n.tensor("condition")?, n.operand("self")?, n.operand("other")?);
    let elem = n.promoted(&[a, b]);
    let condition = n.cast(condition, Elem::Bool)?;
    let (a, b) = (n.as_value(a, &elem)?, n.as_value(b, &elem)?);
    one(n.add(Select {}, &[condition, a, b])?)
}

fn nan_to_num(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let x = n.input()?;
    let elem = n.ty(x).elem.clone();
    let nan = n.float("nan", 0.0)?;
    let most = if elem == Elem::F16 { half::f16::MAX.into() } else { f64::from(f32::MAX) };
    let (hi, lo) = (n.float("posinf", most)?, n.float("neginf", -most)?);
    let (infinite, nan) = (n.constant_of(Number::Float(f64::INFINITY), &elem)?, n.scalar(nan, x)?);
    let (minus, hi, lo) = (n.constant_of(Number::Float(f64::NEG_INFINITY), &elem)?, n.scalar(hi, x)?, n.scalar(lo, x)?);
    let mut y = x;
    for (found, value) in [(infinite, hi), (minus, lo)] {
        let hit = n.binary(BinaryFn::Equal, x, found)?;
        y = n.add(Select {}, &[hit, value, y])?;
    }
    let hit = n.binary(BinaryFn::NotEqual, x, x)?;
    one(n.add(Select {}, &[hit, nan, y])?)
}
