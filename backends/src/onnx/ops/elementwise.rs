//! Element-wise operators.

use qcc_ir::ops::{Binary, BinaryFn, Cast, Clamp, Unary, UnaryFn};
use qcc_ir::{Affine, QuantParams, StorageType, Tensor, ValueId};

use super::super::call::Call;
use super::super::emit::{Emitter, Name, NodeContext, Numbers, Unsupported, element};
use super::quantize;

/// The operator of a unary function.
pub(in crate::onnx) fn function(f: UnaryFn) -> Option<Call> {
    use UnaryFn::*;
    Some(match f {
        Abs => Call::new("Abs"),
        Acos => Call::new("Acos"),
        Acosh => Call::new("Acosh"),
        Asin => Call::new("Asin"),
        Asinh => Call::new("Asinh"),
        Atan => Call::new("Atan"),
        Atanh => Call::new("Atanh"),
        Ceil => Call::new("Ceil"),
        Cos => Call::new("Cos"),
        Cosh => Call::new("Cosh"),
        Erf => Call::new("Erf"),
        Exp => Call::new("Exp"),
        Floor => Call::new("Floor"),
        Log => Call::new("Log"),
        Neg => Call::new("Neg"),
        Not => Call::new("Not"),
        Reciprocal => Call::new("Reciprocal"),
        Round => Call::new("Round"),
        Sigmoid => Call::new("Sigmoid"),
        Sign => Call::new("Sign"),
        Sin => Call::new("Sin"),
        Sinh => Call::new("Sinh"),
        Softplus => Call::new("Softplus"),
        Softsign => Call::new("Softsign"),
        Sqrt => Call::new("Sqrt"),
        Tan => Call::new("Tan"),
        Tanh => Call::new("Tanh"),
        Mish => Call::new("Mish").since(18),
        HardSigmoid { alpha, beta } => Call::new("HardSigmoid").float("alpha", alpha).float("beta", beta),
        LeakyRelu { alpha } => Call::new("LeakyRelu").float("alpha", alpha),
        Elu { alpha } => Call::new("Elu").float("alpha", alpha),
        Selu { alpha, gamma } => Call::new("Selu").float("alpha", alpha).float("gamma", gamma),
        Gelu { tanh } => {
            let call = Call::new("Gelu").since(20);
            if tanh { call.string("approximate", "tanh") } else { call }
        }
        Threshold { alpha } => Call::new("ThresholdedRelu").float("alpha", alpha),
        // Runtimes decompose the last two themselves; decomposed they are integer products.
        Rsqrt | Silu | HardSwish => return None,
    })
}

/// Unary operators.
pub(super) fn unary(e: &mut Emitter<'_>, op: &Unary, site: &NodeContext<'_>) -> Result<(), Unsupported> {
    match (op.f, site.operands[0].elem.qparams()) {
        (UnaryFn::Sigmoid, Some(_)) => quantize::qlinear(e, Call::contrib("QLinearSigmoid"), site),
        (UnaryFn::LeakyRelu { alpha }, Some(_)) => {
            quantize::qlinear(e, Call::contrib("QLinearLeakyRelu").float("alpha", alpha), site)
        }
        (UnaryFn::HardSigmoid { alpha, beta }, None) if sums_up(alpha, beta, site) => {
            hard_sigmoid(e, alpha, beta, site)
        }
        (f, _) => {
            let call = function(f).ok_or("it has no operator")?;
            e.push_at(call, site);
            Ok(())
        }
    }
}

/// True for a quantized HardSigmoid whose result's range limits it to 0 and 1.
fn sums_up(alpha: f32, beta: f32, site: &NodeContext<'_>) -> bool {
    let qparams = |v: ValueId| site.graph.ty(v).elem.qparams().and_then(QuantParams::tensor_map);
    let y = site.graph.ty(site.node.value(0)).elem.qparams();
    let limited = y.is_some_and(|y| limits_nothing(&Clamp { lo: 0.0, hi: 1.0 }, y));
    limited && qparams(site.values[0]).is_some() && alpha > 0.0 && beta > 0.0
}

/// A quantized HardSigmoid is one Add: its operand's integers with the scale multiplied by alpha represent alpha * x.
fn hard_sigmoid(e: &mut Emitter<'_>, alpha: f32, beta: f32, site: &NodeContext<'_>) -> Result<(), Unsupported> {
    let x = site.graph.ty(site.values[0]);
    let Some(QuantParams { storage, map: Affine::PerTensor { scale, zero_point } }) = x.elem.qparams() else {
        return Err("its operand is not quantized".into());
    };
    let stored = e.stored(site.values[0]);
    let scaled = e.scratch(site, &x.real());
    e.dequantize(&stored, &scaled, &QuantParams::per_tensor(*storage, scale * alpha, *zero_point));
    let (_, most) = StorageType::U8.range();
    let beta = Tensor::scalar(beta).quantized(&QuantParams::per_tensor(StorageType::U8, beta / most as f32, 0));
    let beta = e.place("beta", &beta, Numbers::Float);
    e.push(Call::new("Add"), &[scaled, beta], &site.outputs);
    Ok(())
}

/// Binary operators.
pub(super) fn binary(e: &mut Emitter<'_>, op: &Binary, site: &NodeContext<'_>) -> Result<(), Unsupported> {
    use BinaryFn::*;
    let is_quantized = site.operands[0].elem.qparams().is_some();
    let bits = site.operands[0].elem.is_integer();
    let call = match op.f {
        Add if is_quantized => return quantize::qlinear(e, Call::contrib("QLinearAdd"), site),
        Mul if is_quantized => return quantize::qlinear(e, Call::contrib("QLinearMul"), site),
        Add => Call::new("Add"),
        Sub => Call::new("Sub"),
        Mul => Call::new("Mul"),
        Div => Call::new("Div"),
        FloorMod => Call::new("Mod"),
        Rem => Call::new("Mod").int("fmod", 1),
        Pow => Call::new("Pow"),
        Max => Call::new("Max"),
        Min => Call::new("Min"),
        Prelu if is_maximum(e, site) => return prelu(e, site),
        Prelu => Call::new("PRelu"),
        Less => Call::new("Less"),
        LessEqual => Call::new("LessOrEqual"),
        Greater => Call::new("Greater"),
        GreaterEqual => Call::new("GreaterOrEqual"),
        Equal => Call::new("Equal"),
        NotEqual => return not_equal(e, site),
        And if bits => Call::new("BitwiseAnd").since(18),
        Or if bits => Call::new("BitwiseOr").since(18),
        Xor if bits => Call::new("BitwiseXor").since(18),
        And => Call::new("And"),
        Or => Call::new("Or"),
        Xor => Call::new("Xor"),
        Atan2 | FloorDiv | SquaredDifference => return Err("it has no operator".into()),
    };
    e.push_at(call, site);
    Ok(())
}

/// True if PRelu is written as a maximum. Accelerators take the operator itself.
fn is_maximum(e: &Emitter<'_>, site: &NodeContext<'_>) -> bool {
    !e.options.has_standard_qdq() && site.constant(1).is_some_and(|slopes| BinaryFn::is_maximum_with(&slopes.floats()))
}

/// Max of the operand and a product. The kernel of PRelu of ONNX Runtime is not vectorized: on 67,000 elements of random
/// sign it takes ten times as long as both operators.
fn prelu(e: &mut Emitter<'_>, site: &NodeContext<'_>) -> Result<(), Unsupported> {
    let inputs = e.inputs(site);
    let product = e.scratch(site, &site.results[0]);
    e.push(Call::new("Mul"), &inputs, std::slice::from_ref(&product));
    e.push(Call::new("Max"), &[inputs[0].clone(), product], &site.outputs);
    Ok(())
}

/// Not of Equal.
fn not_equal(e: &mut Emitter<'_>, site: &NodeContext<'_>) -> Result<(), Unsupported> {
    let inputs = e.inputs(site);
    let equal = e.scratch(site, &site.results[0]);
    e.push(Call::new("Equal"), &inputs, std::slice::from_ref(&equal));
    e.push(Call::new("Not"), &[equal], &site.outputs);
    Ok(())
}

/// True if the quantized range is within the limits, up to half a step.
pub(super) fn limits_nothing(op: &Clamp, qparams: &QuantParams) -> bool {
    let (lo, hi) = qparams.storage.range();
    let ends = |limit: f32| Tensor::scalar(limit).quantized(qparams).integers().and_then(|q| q.first().copied());
    ends(op.lo) == Some(lo.into()) && ends(op.hi) == Some(hi.into())
}

/// Relu or Clip. With equal quantization parameters the limits are integers.
pub(super) fn clamp(e: &mut Emitter<'_>, op: &Clamp, site: &NodeContext<'_>) -> Result<(), Unsupported> {
    let x = e.input(site, 0);
    let elem = &site.results[0].elem;
    if elem.is_float() && (op.lo, op.hi) == (0.0, f32::INFINITY) {
        e.push(Call::new("Relu"), &[x], &site.outputs);
        return Ok(());
    }
    let lo = if op.lo == f32::NEG_INFINITY { Name::default() } else { e.number(elem, op.lo)? };
    let hi = if op.hi == f32::INFINITY { Name::default() } else { e.number(elem, op.hi)? };
    e.push(Call::new("Clip"), &[x, lo, hi], &site.outputs);
    Ok(())
}

/// Where.
pub(super) fn select(e: &mut Emitter<'_>, site: &NodeContext<'_>) -> Result<(), Unsupported> {
    e.push_at(Call::new("Where"), site);
    Ok(())
}

/// Cast.
pub(super) fn cast(e: &mut Emitter<'_>, op: &Cast, site: &NodeContext<'_>) -> Result<(), Unsupported> {
    e.push_at(Call::new("Cast").int("to", i32::from(element(&op.to))), site);
    Ok(())
}
