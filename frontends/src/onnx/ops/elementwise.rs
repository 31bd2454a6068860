//! Element-wise operators.

use qcc_ir::ops::{BinaryFn, Clamp, Dequantize, Expand, Select, UnaryFn};
use qcc_ir::{Dim, Elem, QuantParams, Shape, StorageType, Tensor, ValueId};

use super::super::node::NodeCx;
use super::Row;
use super::random::dropped;
use crate::build::bits::{self, Shift};
use crate::build::{self, Build, Operands, Values, one};
use crate::elements::Stored;
use crate::refusal::Refusal;

pub(super) const ROWS: &[Row] = &[
    ("Abs", |n| unary(n, UnaryFn::Abs)),
    ("Acos", |n| unary(n, UnaryFn::Acos)),
    ("Acosh", |n| unary(n, UnaryFn::Acosh)),
    ("Add", |n| binary(n, BinaryFn::Add)),
    ("And", |n| binary(n, BinaryFn::And)),
    ("Asin", |n| unary(n, UnaryFn::Asin)),
    ("Asinh", |n| unary(n, UnaryFn::Asinh)),
    ("Atan", |n| unary(n, UnaryFn::Atan)),
    ("Atanh", |n| unary(n, UnaryFn::Atanh)),
    ("BitShift", bit_shift),
    ("BitwiseAnd", |n| binary(n, BinaryFn::And)),
    ("BitwiseNot", bitwise_not),
    ("BitwiseOr", |n| binary(n, BinaryFn::Or)),
    ("BitwiseXor", |n| binary(n, BinaryFn::Xor)),
    ("Cast", cast),
    ("CastLike", cast_like),
    ("Ceil", |n| unary(n, UnaryFn::Ceil)),
    ("Celu", celu),
    ("Clip", clip),
    ("Cos", |n| unary(n, UnaryFn::Cos)),
    ("Cosh", |n| unary(n, UnaryFn::Cosh)),
    ("Div", |n| binary(n, BinaryFn::Div)),
    ("Dropout", dropout),
    ("Elu", |n| {
        let alpha = n.float("alpha", 1.0)?;
        unary(n, UnaryFn::Elu { alpha })
    }),
    ("Equal", |n| binary(n, BinaryFn::Equal)),
    ("Erf", |n| unary(n, UnaryFn::Erf)),
    ("Exp", |n| unary(n, UnaryFn::Exp)),
    ("Floor", |n| unary(n, UnaryFn::Floor)),
    ("Gelu", gelu),
    ("Greater", |n| binary(n, BinaryFn::Greater)),
    ("GreaterOrEqual", |n| binary(n, BinaryFn::GreaterEqual)),
    ("HardSigmoid", |n| {
        let (alpha, beta) = (n.float("alpha", 0.2)?, n.float("beta", 0.5)?);
        unary(n, UnaryFn::HardSigmoid { alpha, beta })
    }),
    ("HardSwish", |n| unary(n, UnaryFn::HardSwish)),
    ("Identity", |n| one(n.input(0)?)),
    ("IsInf", is_inf),
    ("IsNaN", |n| {
        let x = n.input(0)?;
        one(n.binary(BinaryFn::NotEqual, x, x)?)
    }),
    ("LeakyRelu", |n| {
        let alpha = n.float("alpha", 0.01)?;
        unary(n, UnaryFn::LeakyRelu { alpha })
    }),
    ("Less", |n| binary(n, BinaryFn::Less)),
    ("LessOrEqual", |n| binary(n, BinaryFn::LessEqual)),
    ("Log", |n| unary(n, UnaryFn::Log)),
    ("Max", |n| one(chain(n, BinaryFn::Max)?)),
    ("Mean", mean),
    ("Min", |n| one(chain(n, BinaryFn::Min)?)),
    ("Mish", |n| unary(n, UnaryFn::Mish)),
    ("Mod", modulo),
    ("Mul", mul),
    ("Neg", |n| unary(n, UnaryFn::Neg)),
    ("Not", |n| unary(n, UnaryFn::Not)),
    ("Or", |n| binary(n, BinaryFn::Or)),
    ("PRelu", prelu),
    ("Pow", pow),
    ("Reciprocal", |n| unary(n, UnaryFn::Reciprocal)),
    ("Relu", |n| {
        let x = n.input(0)?;
        one(n.add(Clamp::RELU, &[x])?)
    }),
    ("Round", |n| unary(n, UnaryFn::Round)),
    ("Selu", |n| {
        let [alpha, gamma] = if n.opset() < 6 { [1.6732, 1.0507] } else { [1.673_263_2, 1.050_701] };
        let (alpha, gamma) = (n.float("alpha", alpha)?, n.float("gamma", gamma)?);
        unary(n, UnaryFn::Selu { alpha, gamma })
    }),
    ("Shrink", shrink),
    ("Sigmoid", |n| unary(n, UnaryFn::Sigmoid)),
    ("Sign", |n| unary(n, UnaryFn::Sign)),
    ("Sin", |n| unary(n, UnaryFn::Sin)),
    ("Sinh", |n| unary(n, UnaryFn::Sinh)),
    ("Softplus", |n| unary(n, UnaryFn::Softplus)),
    ("Softsign", |n| unary(n, UnaryFn::Softsign)),
    ("Sqrt", |n| unary(n, UnaryFn::Sqrt)),
    ("Sub", |n| binary(n, BinaryFn::Sub)),
    ("Swish", swish),
    ("Sum", |n| one(chain(n, BinaryFn::Add)?)),
    ("Tan", |n| unary(n, UnaryFn::Tan)),
    ("Tanh", |n| unary(n, UnaryFn::Tanh)),
    ("ThresholdedRelu", |n| {
        let alpha = n.float("alpha", 1.0)?;
        unary(n, UnaryFn::Threshold { alpha })
    }),
    ("Where", |n| {
        let operands = [n.input(0)?, n.input(1)?, n.input(2)?];
        one(n.add(Select {}, &operands)?)
    }),
    ("Xor", |n| binary(n, BinaryFn::Xor)),
];

/// x * sigmoid(alpha * x).
fn swish(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let (x, alpha) = (n.input(0)?, n.float("alpha", 1.0)?);
    if alpha == 1.0 {
        return one(n.unary(UnaryFn::Silu, x)?);
    }
    let factor = n.scalar(alpha.into(), x)?;
    let scaled = n.binary(BinaryFn::Mul, x, factor)?;
    let gate = n.unary(UnaryFn::Sigmoid, scaled)?;
    one(n.binary(BinaryFn::Mul, x, gate)?)
}

fn unary(n: &mut NodeCx<'_, '_>, f: UnaryFn) -> Result<Values, Refusal> {
    let x = n.input(0)?;
    one(n.unary(f, x)?)
}

fn binary(n: &mut NodeCx<'_, '_>, f: BinaryFn) -> Result<Values, Refusal> {
    let [a, b] = pair(n)?;
    one(n.binary(f, a, b)?)
}

/// Two operands that broadcast as those of the graph do. Before opset 7 only the second is repeated, where the node says
/// so, and its axes are those of the first from a given one on, else the last ones.
fn pair(n: &mut NodeCx<'_, '_>) -> Result<[ValueId; 2], Refusal> {
    let [a, b] = [n.input(0)?, n.input(1)?];
    if n.opset() >= 7 {
        return Ok([a, b]);
    }
    let (broadcast, axis) = (n.flag("broadcast", false)?, n.optional_int("axis")?);
    match axis.filter(|&axis| axis != -1) {
        _ if !broadcast && n.shape(a).rank() != n.shape(b).rank() => {
            Err(Refusal::Invalid(format!("operands {} and {} without broadcast", n.ty(a), n.ty(b))))
        }
        Some(axis) if broadcast => Ok([a, from_axis(n, a, b, axis)?]),
        _ => Ok([a, b]),
    }
}

/// `b` with axes of extent 1 after its own, so that these are the axes of `a` from `axis` on.
fn from_axis(n: &mut NodeCx<'_, '_>, a: ValueId, b: ValueId, axis: i64) -> Result<ValueId, Refusal> {
    let axis = n.axis(axis, a)?;
    let behind = n.rank(a).checked_sub(axis + n.rank(b));
    let behind = behind.ok_or_else(|| Refusal::Invalid(format!("{} from axis {axis} of {}", n.ty(b), n.ty(a))))?;
    let dims = n.shape(b).dims().iter().cloned().chain(std::iter::repeat_n(Dim::Known(1), behind)).collect();
    n.reshape_to(b, dims)
}

/// Before opset 7 a vector of slopes has one for each channel.
fn prelu(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let [x, mut slope] = [n.input(0)?, n.input(1)?];
    if n.opset() < 7 && n.rank(slope) == 1 && n.shape(slope).elements() != Some(1) {
        slope = from_axis(n, x, slope, 1)?;
    }
    one(n.binary(BinaryFn::Prelu, x, slope)?)
}

fn mul(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let [a, b] = pair(n)?;
    match scaled(n, a, b).or_else(|| scaled(n, b, a)) {
        Some(quantized) => {
            let quantized = n.add_constant(quantized);
            one(n.add(Dequantize {}, &[quantized])?)
        }
        None => one(n.binary(BinaryFn::Mul, a, b)?),
    }
}

/// The quantized weight of constant integers and their scales, per-tensor or per-channel.
fn scaled(n: &mut NodeCx<'_, '_>, floats: ValueId, scale: ValueId) -> Option<Tensor> {
    let integers = n.integers_of_file().constant_behind(floats)?;
    let (integers, scale) = (n.constant(integers)?.clone(), n.constant(scale)?.clone());
    let (dims, own) = (integers.dims(), scale.dims());
    let store = match integers.ty().elem {
        Elem::I8 => StorageType::I8,
        Elem::U8 => StorageType::U8,
        _ => return None,
    };
    if dims.len() < 2 || own.len() > dims.len() || scale.ty().elem != Elem::F32 {
        return None;
    }
    let before = dims.len() - own.len();
    let wide: Vec<usize> = (0..own.len()).filter(|&a| own[a] != 1).collect();
    let qparams = match *wide {
        [] => QuantParams::per_tensor(store, *scale.floats().first()?, 0),
        [axis] if own[axis] == dims[before + axis] => {
            QuantParams::per_axis(store, before + axis, scale.floats().into_owned())
        }
        _ => return None,
    };
    let ty = integers.ty().with_elem(Elem::Quantized(qparams));
    ty.validate().ok()?;
    integers.retype(ty)
}

/// A variadic function, applied from left to right.
fn chain(n: &mut NodeCx<'_, '_>, f: BinaryFn) -> Result<ValueId, Refusal> {
    let values = n.all_inputs()?;
    let mut all = values[0];
    for &v in &values[1..] {
        all = n.binary(f, all, v)?;
    }
    Ok(all)
}

fn mean(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let sum = chain(n, BinaryFn::Add)?;
    let count = n.all_inputs()?.len();
    let count = n.scalar(count as f64, sum)?;
    one(n.binary(BinaryFn::Div, sum, count)?)
}

/// Tests for positive infinity, negative infinity, or both.
fn is_inf(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let x = n.input(0)?;
    let (below, above) = (n.flag("detect_negative", true)?, n.flag("detect_positive", true)?);
    let (x, limit) = match (below, above) {
        (true, true) => (n.unary(UnaryFn::Abs, x)?, f64::INFINITY),
        (false, true) => (x, f64::INFINITY),
        (true, false) => (x, f64::NEG_INFINITY),
        (false, false) => {
            let never = n.add_constant(Tensor::from_bools(Shape::scalar(), [false]));
            return one(n.add(Expand { shape: n.shape(x).clone() }, &[never])?);
        }
    };
    let limit = n.scalar(limit, x)?;
    one(n.binary(BinaryFn::Equal, x, limit)?)
}

/// Fails if the graph stores the bits of `x` in a wider integer.
fn own_width(n: &NodeCx<'_, '_>, x: ValueId) -> Result<(), Refusal> {
    if n.may_be_unsigned(x) {
        return Err(Refusal::Unsupported(
            "the bits of an unsigned integer of more than 8 bits are not supported".into(),
        ));
    }
    Ok(())
}

fn bitwise_not(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let x = n.input(0)?;
    own_width(n, x)?;
    one(bits::not(n, x)?)
}

fn bit_shift(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let (x, by) = (n.input(0)?, n.input(1)?);
    let shift = match n.string("direction", "")? {
        "LEFT" => Shift::Left,
        "RIGHT" => Shift::Right,
        _ => return Err(Refusal::Attribute { name: "direction".into(), problem: "not LEFT or RIGHT" }),
    };
    if shift == Shift::Left {
        own_width(n, x)?;
    }
    one(shift.of(n, x, by)?)
}

/// Elements beyond `lambd` on either side moved by `bias` towards 0; others become 0.
fn shrink(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let x = n.input(0)?;
    let (limit, bias) = (n.float("lambd", 0.5)?, n.float("bias", 0.0)?);
    let elem = n.ty(x).elem.clone();
    let real = if elem.is_float() { x } else { n.cast(x, Elem::F32)? };
    let mut y = n.scalar(0.0, real)?;
    for (sign, f) in [(1.0, BinaryFn::Greater), (-1.0, BinaryFn::Less)] {
        let (limit, bias) = (n.scalar(sign * f64::from(limit), real)?, n.scalar(sign * f64::from(bias), real)?);
        let beyond = n.binary(f, real, limit)?;
        let moved = n.binary(BinaryFn::Sub, real, bias)?;
        y = n.add(Select {}, &[beyond, moved, y])?;
    }
    one(n.cast(y, elem)?)
}

fn celu(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let x = n.input(0)?;
    let alpha = n.float("alpha", 1.0)?;
    one(build::celu(n, x, alpha.into())?)
}

fn gelu(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let tanh = match n.string("approximate", "none")? {
        "none" => false,
        "tanh" => true,
        _ => return Err(Refusal::Attribute { name: "approximate".into(), problem: "not none or tanh" }),
    };
    unary(n, UnaryFn::Gelu { tanh })
}

/// The limits are attributes before opset 11, then inputs. If the limits are reversed, the result is the upper one.
fn clip(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let x = n.input(0)?;
    if n.opset() < 11 {
        let (lo, hi) = (n.optional_float("min")?, n.optional_float("max")?);
        return one(clamp(n, x, lo.unwrap_or(f32::MIN), hi.unwrap_or(f32::MAX))?);
    }
    let (lo, hi) = (n.optional(1), n.optional(2));
    if let (Some(lo), Some(hi)) = (limit(n, lo, f32::MIN), limit(n, hi, f32::MAX))
        && lo <= hi
    {
        return one(clamp(n, x, lo, hi)?);
    }
    let low = lo.map_or(Ok(x), |lo| n.binary(BinaryFn::Max, x, lo))?;
    one(hi.map_or(Ok(low), |hi| n.binary(BinaryFn::Min, low, hi))?)
}

/// A limit as a number, if it is constant and exact in `f32`.
fn limit(n: &NodeCx<'_, '_>, v: Option<ValueId>, absent: f32) -> Option<f32> {
    let Some(v) = v else { return Some(absent) };
    let t = n.constant(v).filter(|t| t.len() == 1)?;
    let real = t.floats()[0];
    let exact = t.integers().is_none_or(|i| i[0].unsigned_abs() <= 1 << 24);
    exact.then_some(real)
}

/// The largest finite numbers are exported in place of an infinite limit.
fn clamp(n: &mut NodeCx<'_, '_>, x: ValueId, lo: f32, hi: f32) -> Result<ValueId, Refusal> {
    let lo = if lo == f32::MIN { f32::NEG_INFINITY } else { lo };
    let hi = if hi == f32::MAX { f32::INFINITY } else { hi };
    n.add(Clamp { lo, hi }, &[x])
}

/// The result has the element type of the base.
fn pow(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let [base, exponent] = pair(n)?;
    let elem = n.ty(base).elem.clone();
    let whole = |t: &Tensor| t.floats().iter().all(|v| v.fract() == 0.0);
    if !elem.is_float() && n.ty(exponent).elem.is_float() && !n.constant(exponent).is_some_and(whole) {
        return Err(Refusal::Unsupported("an integer to the power of a float is not supported".into()));
    }
    let exponent = n.cast(exponent, elem)?;
    one(n.binary(BinaryFn::Pow, base, exponent)?)
}

/// The remainder has the sign of the divisor or, with `fmod`, of the dividend.
fn modulo(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let f = if n.flag("fmod", false)? { BinaryFn::Rem } else { BinaryFn::FloorMod };
    binary(n, f)
}

fn cast(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let x = n.input(0)?;
    let to = if n.opset() < 6 { named_type(n.string("to", "")?) } else { n.optional_int("to")? };
    let to = to.ok_or(Refusal::Attribute { name: "to".into(), problem: "is missing, or no element type" })?;
    cast_options(n)?;
    let to = n.stored_as(to)?;
    one(cast_to(n, x, to)?)
}

/// The type that has this name in the specification.
fn named_type(name: &str) -> Option<i64> {
    let names = ["FLOAT", "UINT8", "INT8", "UINT16", "INT16", "INT32", "INT64", "STRING", "BOOL", "FLOAT16", "DOUBLE"];
    Some(names.iter().position(|known| *known == name.to_ascii_uppercase())? as i64 + 1)
}

fn cast_like(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let (x, like) = (n.input(0)?, n.input(1)?);
    cast_options(n)?;
    let elem = n.ty(like).elem.clone();
    match n.stored(like) {
        Some(to) => one(cast_to(n, x, to)?),
        None => one(n.cast(x, elem)?),
    }
}

fn cast_to(n: &mut NodeCx<'_, '_>, x: ValueId, to: Stored) -> Result<ValueId, Refusal> {
    if to.is_widened() {
        fits(n, x, to)?;
    }
    let from = n.stored(x);
    let mut y = n.cast(x, to.elem())?;
    if let Some(t) = n.constant(y).cloned().filter(|_| y == x && from != Some(to)) {
        y = n.add_constant(t);
    }
    let is_constant = from.is_some_and(|from| from.bits() == 8) && n.constant(x).is_some();
    let integers = n.integers_of_file();
    integers.follow_cast(x, from, y, to);
    if is_constant && to == Stored::F32 {
        integers.widen_constant(y, x);
    }
    if to.is_widened() {
        integers.declare(y, to);
    }
    Ok(y)
}

/// Both attributes only affect casts to 8-bit floats, which are refused.
fn cast_options(n: &mut NodeCx<'_, '_>) -> Result<(), Refusal> {
    n.flag("saturate", true)?;
    n.string("round_mode", "up").map(|_| ())
}

/// A cast to integers that the graph stores in wider ones is supported only if all values are in range of both types.
fn fits(n: &NodeCx<'_, '_>, x: ValueId, to: Stored) -> Result<(), Refusal> {
    let (least, most) = to.integers().unwrap_or((0, i64::MAX));
    let own = match &n.ty(x).elem {
        Elem::Bool => Some((0, 1)),
        _ => n.stored(x).and_then(Stored::integers),
    };
    let inside = |(lo, hi): (i64, i64)| least <= lo && hi <= most;
    let known = |t: &Tensor| t.floats().iter().all(|&v| v >= least as f32 && v <= most as f32);
    if own.is_some_and(inside) || n.constant(x).is_some_and(known) {
        return Ok(());
    }
    let kind = if to.bits() < 8 { "an integer of less than 8 bits" } else { "an unsigned integer of more than 8 bits" };
    Err(Refusal::Unsupported(format!("a cast to {kind} is not supported")))
}

/// Before opset 7 an attribute says whether a node is in inference mode, where exporters have it.
pub(super) fn inference(n: &mut NodeCx<'_, '_>) -> Result<(), Refusal> {
    if n.opset() < 7 && !n.flag("is_test", true)? {
        let message = "it is in training mode (is_test = 0)".into();
        return Err(Refusal::Advised { message, help: "export the model for inference" });
    }
    Ok(())
}

/// In inference dropout is the identity and the mask is unused.
fn dropout(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let x = n.input(0)?;
    n.optional_int("seed")?;
    if n.opset() < 12 {
        n.optional_float("ratio")?;
        inference(n)?;
    } else {
        let ratio = n.optional(1);
        if n.optional_integers(2)?.is_some_and(|t| t != [0]) {
            let ratio = if ratio.is_some() { n.optional_constant(1)? } else { None };
            let ratio = ratio.map_or(0.5, |t| t.floats().first().copied().unwrap_or(0.0));
            return if (0.0..1.0).contains(&ratio) {
                dropped(n, x, ratio)
            } else {
                Err(Refusal::Invalid(format!("a dropout ratio of {ratio}")))
            };
        }
    }
    one(x)
}
