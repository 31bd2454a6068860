//! Fused operators of ONNX Runtime's optimizer.

use qcc_ir::ValueId;
use qcc_ir::ops::{BinaryFn, Clamp, UnaryFn};

use super::super::node::NodeCx;
use super::Row;
use crate::build::product::matmul;
use crate::build::{Build, Values, norm, one};
use crate::refusal::Refusal;

pub(super) const ROWS: &[Row] = &[
    ("SimplifiedLayerNormalization", |n| n.row("RMSNormalization")),
    ("com.microsoft.BiasGelu", |n| gelu(n, false)),
    ("com.microsoft.FastGelu", |n| gelu(n, true)),
    ("com.microsoft.FusedConv", fused_conv),
    ("com.microsoft.FusedGemm", fused_gemm),
    ("com.microsoft.FusedMatMul", fused_matmul),
    ("com.microsoft.Gelu", |n| gelu(n, false)),
    ("com.microsoft.QuickGelu", quick_gelu),
    ("com.microsoft.SkipLayerNormalization", |n| skip_norm(n, false)),
    ("com.microsoft.SkipSimplifiedLayerNormalization", |n| skip_norm(n, true)),
];

/// GELU of input 0 plus the optional input 1.
fn gelu(n: &mut NodeCx<'_, '_>, tanh: bool) -> Result<Values, Refusal> {
    let (x, bias) = (n.input(0)?, n.optional(1));
    let x = bias.map_or(Ok(x), |bias| n.binary(BinaryFn::Add, x, bias))?;
    one(n.unary(UnaryFn::Gelu { tanh }, x)?)
}

/// x * sigmoid(alpha * x)
fn quick_gelu(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let (x, alpha) = (n.input(0)?, n.float("alpha", 1.702)?);
    let scaled = times(n, x, alpha)?;
    let gate = n.unary(UnaryFn::Sigmoid, scaled)?;
    one(n.binary(BinaryFn::Mul, x, gate)?)
}

fn times(n: &mut NodeCx<'_, '_>, x: ValueId, factor: f32) -> Result<ValueId, Refusal> {
    if factor == 1.0 {
        return Ok(x);
    }
    let factor = n.scalar(factor.into(), x)?;
    n.binary(BinaryFn::Mul, x, factor)
}

/// alpha * A * B with transposed operands.
fn fused_matmul(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let (a, b) = (n.input(0)?, n.input(1)?);
    let alpha = n.float("alpha", 1.0)?;
    let mut factor = |v: ValueId, batch: &str, matrix: &str| {
        let (batch, matrix, rank) = (n.flag(batch, false)?, n.flag(matrix, false)?, n.rank(v));
        let mut order: Vec<usize> = (0..rank).collect();
        if batch && rank > 2 {
            order[..rank - 1].rotate_left(1);
        }
        if matrix && rank > 1 {
            order.swap(rank - 2, rank - 1);
        }
        n.transpose(v, &order)
    };
    let (a, b) = (factor(a, "transBatchA", "transA")?, factor(b, "transBatchB", "transB")?);
    let product = matmul(n, a, b)?;
    one(times(n, product, alpha)?)
}

/// A convolution plus the optional input 3, followed by an activation function.
fn fused_conv(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let (x, w, bias, sum) = (n.input(0)?, n.input(1)?, n.optional(2), n.optional(3));
    let parameters = n.floats("activation_params")?.unwrap_or_default().to_vec();
    let activation = n.string("activation", "")?.to_owned();
    let y = n.with_inputs(&[Some(x), Some(w), bias], "Conv")?[0];
    let y = sum.map_or(Ok(y), |sum| n.binary(BinaryFn::Add, y, sum))?;
    activated(n, y, &activation, &parameters)
}

/// A Gemm followed by an activation function.
fn fused_gemm(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let (a, b, c) = (n.input(0)?, n.input(1)?, n.optional(2));
    let mut parameters = Vec::new();
    for name in ["activation_alpha", "activation_beta", "activation_gamma"] {
        parameters.extend(n.optional_float(name)?);
    }
    let activation = n.string("activation", "")?.to_owned();
    let y = n.with_inputs(&[Some(a), Some(b), c], "Gemm")?[0];
    activated(n, y, &activation, &parameters)
}

fn activated(n: &mut NodeCx<'_, '_>, y: ValueId, activation: &str, parameters: &[f32]) -> Result<Values, Refusal> {
    one(match (activation, parameters) {
        ("", []) => y,
        ("Relu", []) => n.add(Clamp { lo: 0.0, hi: f32::INFINITY }, &[y])?,
        ("Sigmoid", []) => n.unary(UnaryFn::Sigmoid, y)?,
        ("Tanh", []) => n.unary(UnaryFn::Tanh, y)?,
        ("LeakyRelu", &[alpha]) => n.unary(UnaryFn::LeakyRelu { alpha }, y)?,
        ("HardSigmoid", &[alpha, beta]) => n.unary(UnaryFn::HardSigmoid { alpha, beta }, y)?,
        ("Clip", &[lo, hi]) if lo <= hi => n.add(Clamp { lo, hi }, &[y])?,
        _ => {
            let count = parameters.len();
            let what = format!("the activation `{activation}` with {count} parameters is not supported");
            return Err(Refusal::Unsupported(what));
        }
    })
}

/// Normalization over the last axis of input 0 plus input 1 plus an optional bias. The last result is that sum.
fn skip_norm(n: &mut NodeCx<'_, '_>, simplified: bool) -> Result<Values, Refusal> {
    let (x, skip, scale) = (n.input(0)?, n.input(1)?, n.input(2)?);
    let (offset, bias) = if simplified { (None, n.optional(3)) } else { (n.optional(3), n.optional(4)) };
    let epsilon = n.float("epsilon", 1e-12)?;
    if (1..3).any(|i| n.names_output(i)) {
        return Err(Refusal::Unsupported(
            "statistics of a normalisation are for training; export for inference".into(),
        ));
    }
    let mut sum = n.binary(BinaryFn::Add, x, skip)?;
    let (own, added) = (n.shape(x).dims(), n.shape(sum).dims());
    if own.len() != added.len() || own.iter().zip(added).any(|(a, b)| a.agreed(b).is_none()) {
        return Err(Refusal::Invalid(format!("{} and {} are added; expected the former's shape", n.ty(x), n.ty(skip))));
    }
    if let Some(bias) = bias {
        sum = n.binary(BinaryFn::Add, sum, bias)?;
    }
    let axis = n.axis(-1, sum)?;
    let y = if simplified {
        norm::rms_norm(n, sum, axis, Some(scale), epsilon.into())?
    } else {
        let affine: Values = std::iter::once(scale).chain(offset).collect();
        norm::layer_norm(n, sum, axis, &affine, epsilon)?
    };
    // The second and third results are unused.
    Ok(Values::from_slice(&[y, sum, sum, sum]))
}
