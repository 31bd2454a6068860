//! Element-wise operators. TFLite broadcasts physical axes; the layout rule of these operators ensures that they match.

use qcc_formats::tflite::{
    Activation, Add, BuiltinOperator as B, Cast as CastOptions, Div, Gelu, LeakyRelu, Mul, Options, OptionsType as T,
    Sub, TensorType as Stored,
};
use qcc_ir::ops::{Binary, BinaryFn, Cast, Clamp, Op, Unary, UnaryFn};
use qcc_ir::{Elem, TensorType};
use smallvec::SmallVec;

use super::super::emit::{Emitter, NodeContext, Unsupported, stored, version};
use super::quantize::push_dequantize;
use crate::extents;

/// Unary operators.
pub(super) fn unary(e: &mut Emitter<'_>, op: &Unary, site: &NodeContext<'_>) -> Result<(), Unsupported> {
    use UnaryFn::*;
    let x = &site.operands[0];
    let none = || Options::None;
    let integer = |float, int32| if x.elem == Elem::I32 { int32 } else { float };
    let (code, options, number) = match op.f {
        Abs => (B::ABS, Options::Other(T::ABS), version(x, integer(1, 5), 2, 3)),
        Ceil => (B::CEIL, none(), 1),
        Cos => (B::COS, Options::Other(T::COS), 1),
        Exp => (B::EXP, Options::Other(T::EXP), version(x, 1, 2, 2)),
        Floor => (B::FLOOR, none(), 1),
        Log => (B::LOG, none(), version(x, 1, 2, 2)),
        Neg => (B::NEG, Options::Other(T::NEG), 1),
        Not => (B::LOGICAL_NOT, Options::Other(T::LOGICAL_NOT), 1),
        Round => (B::ROUND, none(), 1),
        Rsqrt => (B::RSQRT, none(), version(x, 1, 2, 3)),
        Sigmoid => (B::LOGISTIC, none(), version(x, 1, 2, 3)),
        Sign => (B::SIGN, Options::Other(T::SIGN), integer(1, 2)),
        Sin => (B::SIN, none(), 1),
        Sqrt => (B::SQRT, none(), version(x, 1, 2, 2)),
        Tanh => (B::TANH, none(), version(x, 1, 2, 3)),
        HardSwish => (B::HARD_SWISH, Options::Other(T::HARD_SWISH), 1),
        LeakyRelu { alpha } => (B::LEAKY_RELU, self::LeakyRelu { alpha }.into(), version(x, 1, 1, 2)),
        Elu { .. } => (B::ELU, none(), 1),
        Gelu { tanh } => (B::GELU, self::Gelu { approximate: tanh }.into(), version(x, 1, 2, 2)),
        Acos | Acosh | Asin | Asinh | Atan | Atanh | Cosh | Sinh => return Err("it has no operator".into()),
        Erf | Reciprocal | Silu | Softplus | Softsign | Tan | Mish => return Err("it has no operator".into()),
        HardSigmoid { .. } | Selu { .. } | Threshold { .. } => return Err("it has no operator".into()),
    };
    e.push_operator(code, number, options, &site.inputs, &site.outputs);
    Ok(())
}

/// Binary operators.
pub(super) fn binary(e: &mut Emitter<'_>, op: &Binary, site: &NodeContext<'_>) -> Result<(), Unsupported> {
    use BinaryFn::*;
    let x = &site.operands[0];
    let activation = site.activation;
    // Broadcasting beyond rank 4 needs later versions.
    let wide = site.operands.iter().any(|t| t.rank() > 4) && site.operands[0].shape != site.operands[1].shape;
    let broadcast = |plain: i32, beyond: i32| if wide { plain.max(beyond) } else { plain };
    let bool = x.elem == Elem::Bool;
    let (code, options, number): (B, Options, i32) = match op.f {
        Add => (B::ADD, self::Add { activation, pot_scale_int16: false }.into(), version(x, 1, 2, 3)),
        Sub => (B::SUB, self::Sub { activation, pot_scale_int16: false }.into(), broadcast(version(x, 1, 2, 5), 3)),
        Mul => (B::MUL, self::Mul { activation }.into(), mul_version(site)),
        Div => (B::DIV, self::Div { activation }.into(), broadcast(1, 2)),
        FloorDiv => (B::FLOOR_DIV, Options::Other(T::FLOOR_DIV), if x.elem == Elem::F32 { 2 } else { 1 }),
        FloorMod => (B::FLOOR_MOD, Options::Other(T::FLOOR_MOD), 1),
        Pow => (B::POW, Options::Other(T::POW), 1),
        Max => (B::MAXIMUM, Options::Other(T::MAXIMUM_MINIMUM), broadcast(version(x, 1, 2, 4), 3)),
        Min => (B::MINIMUM, Options::Other(T::MAXIMUM_MINIMUM), broadcast(version(x, 1, 2, 4), 3)),
        SquaredDifference => (B::SQUARED_DIFFERENCE, Options::Other(T::SQUARED_DIFFERENCE), version(x, 1, 2, 2)),
        Prelu => (B::PRELU, Options::None, 1),
        Atan2 => (B::ATAN2, Options::Other(T::ATAN2), 1),
        Equal => (B::EQUAL, Options::Other(T::EQUAL), 1),
        NotEqual => (B::NOT_EQUAL, Options::Other(T::NOT_EQUAL), 1),
        Less => (B::LESS, Options::Other(T::LESS), 1),
        LessEqual => (B::LESS_EQUAL, Options::Other(T::LESS_EQUAL), 1),
        Greater => (B::GREATER, Options::Other(T::GREATER), 1),
        GreaterEqual => (B::GREATER_EQUAL, Options::Other(T::GREATER_EQUAL), 1),
        And => (B::LOGICAL_AND, Options::Other(T::LOGICAL_AND), 1),
        Or => (B::LOGICAL_OR, Options::Other(T::LOGICAL_OR), 1),
        Xor if bool => (B::NOT_EQUAL, Options::Other(T::NOT_EQUAL), 1),
        Xor => (B::BITWISE_XOR, Options::Other(T::BITWISE_XOR), 1),
        Rem => return Err("it has no operator".into()),
    };
    // These do not broadcast, or not beyond rank 4.
    let inputs = if matches!(code, B::ATAN2 | B::BITWISE_XOR) { repeated(e, site)? } else { site.inputs.clone() };
    e.push_operator(code, number, options, &inputs, &site.outputs);
    Ok(())
}

/// The operands broadcast to the extents of the result.
fn repeated(e: &mut Emitter<'_>, site: &NodeContext<'_>) -> Result<SmallVec<[i32; 4]>, Unsupported> {
    let y = &site.results[0];
    let mut inputs = site.inputs.clone();
    if site.operands.iter().all(|x| x.shape == y.shape) {
        return Ok(inputs);
    }
    let extents = extents::shape(e, &y.layout.physical(&y.shape))?;
    for (x, input) in site.operands.iter().zip(&mut inputs) {
        if x.shape != y.shape {
            let to = e.scratch(&y.with_elem(x.elem.clone()), site.node);
            let options = Options::Other(T::BROADCAST_TO);
            e.push_operator(B::BROADCAST_TO, version(y, 2, 3, 3), options, &[*input, extents], &[to]);
            *input = to;
        }
    }
    Ok(inputs)
}

/// Rescaling multipliers of 1 or more need version 3.
fn mul_version(site: &NodeContext<'_>) -> i32 {
    let scale = |t: &TensorType| t.elem.qparams().and_then(|g| g.tensor_map()).map(|(scale, _)| scale);
    let scales = (scale(&site.operands[0]), scale(&site.operands[1]), scale(&site.results[0]));
    match scales {
        (Some(a), Some(b), Some(y)) if a * b / y >= 1.0 => version(&site.operands[0], 1, 3, 4),
        _ => version(&site.operands[0], 1, 2, 4),
    }
}

/// The activation function with the limits of this clamp.
pub(in crate::tflite) fn activation(op: &Clamp) -> Option<Activation> {
    match (op.lo, op.hi) {
        (0.0, f32::INFINITY) => Some(Activation::RELU),
        (0.0, 6.0) => Some(Activation::RELU6),
        (-1.0, 1.0) => Some(Activation::RELU_N1_TO_1),
        _ => None,
    }
}

/// One of the RELU operators, or MAXIMUM and MINIMUM with constants.
pub(super) fn clamp(e: &mut Emitter<'_>, op: &Clamp, site: &NodeContext<'_>) -> Result<(), Unsupported> {
    let (x, y) = (&site.operands[0], &site.results[0]);
    let real = !x.elem.is_integer();
    let relu = match activation(op) {
        Some(Activation::RELU) => Some((B::RELU, version(x, 1, 2, 3))),
        Some(Activation::RELU6) => Some((B::RELU6, version(x, 1, 2, 3))),
        Some(_) => Some((B::RELU_N1_TO_1, 1)).filter(|(code, _)| !x.is_wide() && e.has(*code)),
        None => None,
    };
    if let Some((code, number)) = relu.filter(|_| real) {
        e.push_operator(code, number, Options::None, &site.inputs, &site.outputs);
        return Ok(());
    }
    // MAXIMUM and MINIMUM need equal quantization parameters. They are omitted if quantization implies the limits.
    let within = |lo, hi| x.elem != y.elem && y.elem.qparams().is_some_and(|g| g.keeps_within(lo, hi));
    let mut steps: Vec<(B, Option<f32>)> = Vec::new();
    if x.elem != y.elem {
        steps.push((B::QUANTIZE, None));
    }
    if op.lo > f32::NEG_INFINITY && !within(op.lo, f32::INFINITY) {
        steps.push((B::MAXIMUM, Some(op.lo)));
    }
    if op.hi < f32::INFINITY && !within(f32::NEG_INFINITY, op.hi) {
        steps.push((B::MINIMUM, Some(op.hi)));
    }
    let Some(last) = steps.len().checked_sub(1) else { return Err("it limits nothing".into()) };
    let mut from = site.inputs[0];
    for (i, (code, limit)) in steps.into_iter().enumerate() {
        let to = if i == last { site.outputs[0] } else { e.scratch(y, site.node) };
        match limit {
            Some(limit) => {
                let inputs = [from, e.scalar(y, limit)?];
                let options = Options::Other(T::MAXIMUM_MINIMUM);
                e.push_operator(code, version(y, 1, 2, 4), options, &inputs, &[to]);
            }
            None => e.push_operator(code, version(y, 1, 1, 2), Options::Other(T::QUANTIZE), &[from], &[to]),
        }
        from = to;
    }
    Ok(())
}

/// SELECT_V2, which broadcasts.
pub(super) fn select(e: &mut Emitter<'_>, site: &NodeContext<'_>) -> Result<(), Unsupported> {
    e.push_operator(B::SELECT_V2, 1, Options::Other(T::SELECT_V2), &site.inputs, &site.outputs);
    Ok(())
}

/// CAST. Constants stored as F16 are dequantized by DEQUANTIZE, which runtimes do once.
pub(super) fn cast(e: &mut Emitter<'_>, op: &Cast, site: &NodeContext<'_>) -> Result<(), Unsupported> {
    let x = &site.operands[0];
    if x.elem == Elem::F16 && op.to == Elem::F32 && matches!(site.graph.producer(site.values[0]), Op::Const(_)) {
        return push_dequantize(e, x, site.inputs[0], site.outputs[0]);
    }
    let (from, to) = (stored(&x.elem), stored(&op.to));
    e.push_operator(B::CAST, cast_version(from, to), CastOptions { from, to }, &site.inputs, &site.outputs);
    Ok(())
}

/// The version of CAST for these element types.
pub(in crate::tflite) fn cast_version(from: Stored, to: Stored) -> i32 {
    match (from, to) {
        (Stored::FLOAT16, _) | (_, Stored::FLOAT16) => 5,
        (Stored::INT8, _) | (_, Stored::INT8) => 3,
        _ => 1,
    }
}
