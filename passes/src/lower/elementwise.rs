//! Decompositions of element-wise functions.

use qcc_ir::ops::{BinaryFn, Op, UnaryFn};
use qcc_ir::{Elem, NodeId, ValueId};

use super::build::{Build, Built};
use crate::Skip;
use crate::pattern::when;

pub(super) fn unary(b: &mut Build<'_>, node: NodeId) -> Built {
    let Op::Unary(op) = b.g.op(node) else { return Err(Skip::NoMatch) };
    let (f, x) = (op.f, b.g.operands(node)[0]);
    match f {
        UnaryFn::Silu => {
            let gate = b.unary(UnaryFn::Sigmoid, x)?;
            b.mul(x, gate)
        }
        UnaryFn::Mish => {
            let soft = b.unary(UnaryFn::Softplus, x)?;
            let gate = b.unary(UnaryFn::Tanh, soft)?;
            b.mul(x, gate)
        }
        UnaryFn::HardSwish => {
            let gate = b.unary(UnaryFn::HardSigmoid { alpha: 1.0 / 6.0, beta: 0.5 }, x)?;
            b.mul(x, gate)
        }
        UnaryFn::HardSigmoid { alpha, beta } => {
            let scaled = b.scale(x, alpha)?;
            let shifted = b.shift(scaled, beta)?;
            b.clamp(shifted, 0.0, 1.0)
        }
        // max(x, 0) + ln(1 + exp(-|x|)): no exponential overflows.
        UnaryFn::Softplus => {
            let far = b.unary(UnaryFn::Abs, x)?;
            let minus = b.unary(UnaryFn::Neg, far)?;
            let small = b.unary(UnaryFn::Exp, minus)?;
            let sum = b.shift(small, 1.0)?;
            let log = b.unary(UnaryFn::Log, sum)?;
            let positive = b.clamp(x, 0.0, f32::INFINITY)?;
            b.add(positive, log)
        }
        UnaryFn::Softsign => {
            let far = b.unary(UnaryFn::Abs, x)?;
            let divisor = b.shift(far, 1.0)?;
            b.div(x, divisor)
        }
        UnaryFn::Reciprocal => {
            let one = b.scalar(1.0, x)?;
            b.div(one, x)
        }
        UnaryFn::Rsqrt => {
            let root = b.unary(UnaryFn::Sqrt, x)?;
            b.unary(UnaryFn::Reciprocal, root)
        }
        UnaryFn::Tan => {
            let (sin, cos) = (b.unary(UnaryFn::Sin, x)?, b.unary(UnaryFn::Cos, x)?);
            b.div(sin, cos)
        }
        UnaryFn::Acos | UnaryFn::Asin => {
            let other = leg(b, x)?;
            let (across, along) = if f == UnaryFn::Asin { (x, other) } else { (other, x) };
            b.binary(BinaryFn::Atan2, across, along)
        }
        UnaryFn::Atan => {
            // One that an angle was decomposed to would become an angle again.
            when(b.g.composite(node).is_none()).map_err(|_| Skip::because("it has no arc tangent"))?;
            let one = b.scalar(1.0, x)?;
            b.binary(BinaryFn::Atan2, x, one)
        }
        UnaryFn::Acosh | UnaryFn::Asinh | UnaryFn::Atanh | UnaryFn::Cosh | UnaryFn::Sinh => hyperbolic(b, f, x),
        UnaryFn::Elu { alpha } => {
            let negative = b.clamp(x, f32::NEG_INFINITY, 0.0)?;
            let below = if alpha == 1.0 {
                let e = b.unary(UnaryFn::Exp, negative)?;
                b.shift(e, -1.0)?
            } else {
                b.unary(UnaryFn::Elu { alpha: 1.0 }, negative)?
            };
            above_and(b, x, below, alpha)
        }
        UnaryFn::Selu { alpha, gamma } => {
            let elu = b.unary(UnaryFn::Elu { alpha }, x)?;
            b.scale(elu, gamma)
        }
        UnaryFn::LeakyRelu { alpha } => {
            let negative = b.clamp(x, f32::NEG_INFINITY, 0.0)?;
            above_and(b, x, negative, alpha)
        }
        UnaryFn::Threshold { alpha } => {
            let (limit, zero) = (b.scalar(alpha, x)?, b.scalar(0.0, x)?);
            let passes = b.binary(BinaryFn::Greater, x, limit)?;
            b.select(passes, x, zero)
        }
        UnaryFn::Gelu { tanh: false } => {
            let scaled = b.scale(x, std::f32::consts::FRAC_1_SQRT_2)?;
            let erf = b.unary(UnaryFn::Erf, scaled)?;
            half_and(b, x, erf)
        }
        // tanh(sqrt(2 / pi) * (x + 0.044715 x^3))
        UnaryFn::Gelu { tanh: true } => {
            let square = b.mul(x, x)?;
            let scaled = b.scale(square, 0.044715)?;
            let factor = b.shift(scaled, 1.0)?;
            let inner = b.mul(x, factor)?;
            let inner = b.scale(inner, std::f32::consts::FRAC_2_SQRT_PI * std::f32::consts::FRAC_1_SQRT_2)?;
            let tanh = b.unary(UnaryFn::Tanh, inner)?;
            half_and(b, x, tanh)
        }
        UnaryFn::Erf => erf(b, x),
        // (x > 0) - (x < 0)
        UnaryFn::Sign => {
            let (zero, elem) = (b.scalar(0.0, x)?, b.ty(x).elem.clone());
            let (above, below) = (b.binary(BinaryFn::Greater, x, zero)?, b.binary(BinaryFn::Less, x, zero)?);
            let (above, below) = (b.cast(above, elem.clone())?, b.cast(below, elem)?);
            b.sub(above, below)
        }
        _ => Err(Skip::NoMatch),
    }
}

/// `max(x, 0) + factor * below`
fn above_and(b: &mut Build<'_>, x: ValueId, below: ValueId, factor: f32) -> Built {
    let above = b.clamp(x, 0.0, f32::INFINITY)?;
    let below = b.scale(below, factor)?;
    b.add(above, below)
}

/// `x * (1 + gate) / 2`
fn half_and(b: &mut Build<'_>, x: ValueId, gate: ValueId) -> Built {
    let sum = b.shift(gate, 1.0)?;
    let half = b.scale(sum, 0.5)?;
    b.mul(x, half)
}

/// `sqrt((1 - x) (1 + x))`
fn leg(b: &mut Build<'_>, x: ValueId) -> Built {
    let one = b.scalar(1.0, x)?;
    let (less, more) = (b.sub(one, x)?, b.add(one, x)?);
    let square = b.mul(less, more)?;
    b.unary(UnaryFn::Sqrt, square)
}

/// Hyperbolic functions from exponentials and logarithms, which do not overflow before the result does. Absolute error
/// below 1e-7 near 0.
fn hyperbolic(b: &mut Build<'_>, f: UnaryFn, x: ValueId) -> Built {
    match f {
        // exp(x - ln 2) and exp(-x - ln 2)
        UnaryFn::Cosh | UnaryFn::Sinh => {
            let minus = b.unary(UnaryFn::Neg, x)?;
            let (up, down) = (b.shift(x, -std::f32::consts::LN_2)?, b.shift(minus, -std::f32::consts::LN_2)?);
            let (up, down) = (b.unary(UnaryFn::Exp, up)?, b.unary(UnaryFn::Exp, down)?);
            if f == UnaryFn::Cosh { b.add(up, down) } else { b.sub(up, down) }
        }
        // ln((1 + x) / (1 - x)) / 2
        UnaryFn::Atanh => {
            let one = b.scalar(1.0, x)?;
            let (more, less) = (b.add(one, x)?, b.sub(one, x)?);
            let ratio = b.div(more, less)?;
            let log = b.unary(UnaryFn::Log, ratio)?;
            b.scale(log, 0.5)
        }
        // ln(x + sqrt(x - 1) sqrt(x + 1))
        UnaryFn::Acosh => {
            let (less, more) = (b.shift(x, -1.0)?, b.shift(x, 1.0)?);
            let (less, more) = (b.unary(UnaryFn::Sqrt, less)?, b.unary(UnaryFn::Sqrt, more)?);
            let root = b.mul(less, more)?;
            let sum = b.add(x, root)?;
            b.unary(UnaryFn::Log, sum)
        }
        // sign(x) ln(|x| + m sqrt((x / m)^2 + (1 / m)^2)), where m is |x| or 1
        UnaryFn::Asinh => {
            let far = b.unary(UnaryFn::Abs, x)?;
            let most = b.clamp(far, 1.0, f32::INFINITY)?;
            let unit = b.unary(UnaryFn::Reciprocal, most)?;
            let part = b.mul(far, unit)?;
            let (part, unit) = (b.mul(part, part)?, b.mul(unit, unit)?);
            let square = b.add(part, unit)?;
            let root = b.unary(UnaryFn::Sqrt, square)?;
            let root = b.mul(most, root)?;
            let sum = b.add(far, root)?;
            let log = b.unary(UnaryFn::Log, sum)?;
            let sign = b.unary(UnaryFn::Sign, x)?;
            b.mul(sign, log)
        }
        _ => Err(Skip::NoMatch),
    }
}

/// `atan2(y, x)`: `atan(y / x)`, plus or minus pi where `x` is negative; 0 at the origin.
fn angle(b: &mut Build<'_>, y: ValueId, x: ValueId) -> Built {
    let zero = b.scalar(0.0, x)?;
    let quotient = b.div(y, x)?;
    let angle = b.unary(UnaryFn::Atan, quotient)?;
    let (flat, upright) = (b.binary(BinaryFn::Equal, y, zero)?, b.binary(BinaryFn::Equal, x, zero)?);
    let origin = b.binary(BinaryFn::And, flat, upright)?;
    let angle = b.select(origin, zero, angle)?;
    let (half, minus) = (b.scalar(std::f32::consts::PI, x)?, b.scalar(-std::f32::consts::PI, x)?);
    let below = b.binary(BinaryFn::Less, y, zero)?;
    let turn = b.select(below, minus, half)?;
    let turned = b.add(angle, turn)?;
    let left = b.binary(BinaryFn::Less, x, zero)?;
    b.select(left, turned, angle)
}

/// The error function by Abramowitz and Stegun 7.1.26: absolute error below 1.5e-7.
fn erf(b: &mut Build<'_>, x: ValueId) -> Built {
    const P: f32 = 0.327_591_1;
    const COEFFICIENTS: [f32; 5] = [1.061_405_4, -1.453_152_1, 1.421_413_8, -0.284_496_72, 0.254_829_6];
    let far = b.unary(UnaryFn::Abs, x)?;
    let t = b.scale(far, P)?;
    let t = b.shift(t, 1.0)?;
    let t = b.unary(UnaryFn::Reciprocal, t)?;
    let mut sum = b.scale(t, COEFFICIENTS[0])?;
    for c in &COEFFICIENTS[1..] {
        let shifted = b.shift(sum, *c)?;
        sum = b.mul(shifted, t)?;
    }
    let square = b.mul(x, x)?;
    let minus = b.unary(UnaryFn::Neg, square)?;
    let e = b.unary(UnaryFn::Exp, minus)?;
    let rest = b.mul(sum, e)?;
    let one = b.scalar(1.0, x)?;
    let magnitude = b.sub(one, rest)?;
    let sign = b.unary(UnaryFn::Sign, x)?;
    b.mul(sign, magnitude)
}

/// Bitwise `x & y` from `x + y = (x ^ y) + 2 (x & y)`. The upper and lower 16 bits are computed separately, so that the
/// sum does not overflow.
fn bits_of_both(b: &mut Build<'_>, x: ValueId, y: ValueId) -> Built {
    let half = b.scalar(65536.0, x)?;
    let two = b.scalar(2.0, x)?;
    let mut both = |f: BinaryFn| {
        let (x, y) = (b.binary(f, x, half)?, b.binary(f, y, half)?);
        let (sum, one) = (b.add(x, y)?, b.binary(BinaryFn::Xor, x, y)?);
        let twice = b.sub(sum, one)?;
        b.binary(BinaryFn::FloorDiv, twice, two)
    };
    let (high, low) = (both(BinaryFn::FloorDiv)?, both(BinaryFn::FloorMod)?);
    let high = b.mul(high, half)?;
    b.add(high, low)
}

pub(super) fn binary(b: &mut Build<'_>, node: NodeId) -> Built {
    let Op::Binary(op) = b.g.op(node) else { return Err(Skip::NoMatch) };
    let (f, operands) = (op.f, b.g.operands(node));
    let (x, y) = (operands[0], operands[1]);
    match f {
        BinaryFn::Xor if b.ty(x).elem == Elem::Bool => b.binary(BinaryFn::NotEqual, x, y),
        BinaryFn::And if b.ty(x).elem.is_integer() => bits_of_both(b, x, y),
        // x | y = (x & y) + (x ^ y)
        BinaryFn::Or if b.ty(x).elem.is_integer() => {
            let (both, one) = (b.binary(BinaryFn::And, x, y)?, b.binary(BinaryFn::Xor, x, y)?);
            b.add(both, one)
        }
        BinaryFn::Atan2 => angle(b, x, y),
        BinaryFn::SquaredDifference => {
            let d = b.sub(x, y)?;
            b.mul(d, d)
        }
        BinaryFn::Prelu => {
            let negative = b.clamp(x, f32::NEG_INFINITY, 0.0)?;
            let below = b.mul(negative, y)?;
            above_and(b, x, below, 1.0)
        }
        // Integer division truncates, so its remainder has the sign of the dividend.
        BinaryFn::Rem if b.ty(x).elem.is_integer() => {
            let quotient = b.div(x, y)?;
            let whole = b.mul(quotient, y)?;
            b.sub(x, whole)
        }
        // For operands that are not negative, truncating and flooring remainder are equal.
        BinaryFn::Rem => {
            let (along, across) = (b.unary(UnaryFn::Abs, x)?, b.unary(UnaryFn::Abs, y)?);
            let rest = b.binary(BinaryFn::FloorMod, along, across)?;
            let sign = b.unary(UnaryFn::Sign, x)?;
            b.mul(rest, sign)
        }
        // (x - floor_mod(x, y)) / y, a division without remainder.
        BinaryFn::FloorDiv => {
            let rest = b.binary(BinaryFn::FloorMod, x, y)?;
            let whole = b.sub(x, rest)?;
            b.div(whole, y)
        }
        // A truncating remainder that is not 0 and has another sign than the divisor is short of one divisor.
        BinaryFn::FloorMod if b.ty(x).elem.is_float() => {
            let rest = b.binary(BinaryFn::Rem, x, y)?;
            let zero = b.scalar(0.0, x)?;
            let (below, negative) = (b.binary(BinaryFn::Less, rest, zero)?, b.binary(BinaryFn::Less, y, zero)?);
            let differs = b.binary(BinaryFn::Xor, below, negative)?;
            let some = b.binary(BinaryFn::NotEqual, rest, zero)?;
            let short = b.binary(BinaryFn::And, differs, some)?;
            let more = b.add(rest, y)?;
            b.select(short, more, rest)
        }
        _ => Err(Skip::NoMatch),
    }
}
