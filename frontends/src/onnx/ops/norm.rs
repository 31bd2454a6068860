//! Normalisations.

use qcc_ir::ops::{BinaryFn, Extents, LayerNorm, ReduceFn, Softmax, UnaryFn};
use qcc_ir::{Shape, ValueId};

use super::super::node::NodeCx;
use super::Row;
use crate::build::{Build, Values, count_axes, extent, numbers, one};
use crate::refusal::Refusal;

pub(super) const ROWS: &[Row] = &[
    ("BatchNormalization", batch_norm),
    ("GroupNormalization", group_norm),
    ("InstanceNormalization", instance_norm),
    ("LayerNormalization", layer_norm),
    ("LogSoftmax", |n| softmax(n, true)),
    ("LpNormalization", lp_norm),
    ("MeanVarianceNormalization", mean_variance_norm),
    ("RMSNormalization", rms_norm),
    ("Softmax", |n| softmax(n, false)),
];

/// Before opset 13, all axes from `axis` on are one.
fn softmax(n: &mut NodeCx<'_, '_>, log: bool) -> Result<Values, Refusal> {
    let x = n.input(0)?;
    let one_axis = n.opset() >= 13;
    let axis = n.int("axis", if one_axis { -1 } else { 1 })?;
    let dims = n.dims(x);
    let axis = n.axis(axis, x)?;
    if one_axis || dims[axis + 1..].iter().all(|&d| d == 1) {
        return one(n.add(Softmax { axis, log }, &[x])?);
    }
    let flat = n.reshape(x, &[dims[..axis].iter().product(), dims[axis..].iter().product()])?;
    let flat = n.add(Softmax { axis: 1, log }, &[flat])?;
    one(n.reshape(flat, &dims)?)
}

/// x * a + b with `a = scale / sqrt(variance + epsilon)`, `b = bias - mean * a`; constants where the parameters are.
fn batch_norm(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let x = n.input(0)?;
    let [scale, bias, mean, variance] = [n.input(1)?, n.input(2)?, n.input(3)?, n.input(4)?];
    let epsilon = n.float("epsilon", 1e-5)?;
    // Concerns training alone.
    n.float("momentum", 0.9)?;
    if n.opset() < 9 && !n.flag("spatial", true)? {
        return Err(Refusal::Unsupported("batch normalisation of each pixel (spatial = 0) is not supported".into()));
    }
    if n.opset() >= 14 && n.flag("training_mode", false)? {
        return Err(Refusal::Unsupported("batch normalisation in training mode: export for inference".into()));
    }
    let channels = n.dims(x).get(1).copied();
    for p in [scale, bias, mean, variance] {
        if channels != n.dims(p).iter().copied().reduce(|a, b| a * b) || n.rank(p) != 1 {
            return Err(Refusal::Invalid(format!("parameters {} for {}", n.ty(p), n.ty(x))));
        }
    }
    let (factor, offset) = match affine(n, [scale, bias, mean, variance], epsilon) {
        Some(known) => known,
        None => {
            let epsilon = n.scalar(epsilon.into(), variance)?;
            let variance = n.binary(BinaryFn::Add, variance, epsilon)?;
            let inverse = n.unary(UnaryFn::Rsqrt, variance)?;
            let factor = n.binary(BinaryFn::Mul, scale, inverse)?;
            let shift = n.binary(BinaryFn::Mul, mean, factor)?;
            (factor, n.binary(BinaryFn::Sub, bias, shift)?)
        }
    };
    one(affine_along_channels(n, x, factor, offset)?)
}

/// Factor and offset of a batch normalisation whose parameters are constants.
fn affine(n: &mut NodeCx<'_, '_>, parameters: [ValueId; 4], epsilon: f32) -> Option<(ValueId, ValueId)> {
    let elem = n.ty(parameters[0]).elem.clone();
    let real = |v| n.constant(v).map(|t| t.reals().iter().map(|&r| f64::from(r)).collect::<Vec<f64>>());
    let [scale, bias, mean, variance] = parameters.map(real);
    let factor: Vec<f64> = scale?.iter().zip(&variance?).map(|(s, v)| s / (v + f64::from(epsilon)).sqrt()).collect();
    let offset: Vec<f64> = bias?.iter().zip(&mean?).zip(&factor).map(|((b, m), f)| b - m * f).collect();
    let shape = Shape::known(&[factor.len()]);
    let (factor, offset) = (numbers(&elem, shape.clone(), &factor)?, numbers(&elem, shape, &offset)?);
    Some((n.add_constant(factor), n.add_constant(offset)))
}

fn affine_along_channels(
    n: &mut NodeCx<'_, '_>,
    x: ValueId,
    factor: ValueId,
    offset: ValueId,
) -> Result<ValueId, Refusal> {
    let (factor, offset) = (n.along_channels(factor, x)?, n.along_channels(offset, x)?);
    let scaled = n.binary(BinaryFn::Mul, x, factor)?;
    n.binary(BinaryFn::Add, scaled, offset)
}

fn instance_norm(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let (x, scale, bias) = (n.input(0)?, n.input(1)?, n.input(2)?);
    let epsilon = n.float("epsilon", 1e-5)?;
    check_channels(n, x, scale, bias)?;
    let normal = n.add(LayerNorm { axis: 2, epsilon }, &[x])?;
    one(affine_along_channels(n, normal, scale, bias)?)
}

fn check_channels(n: &NodeCx<'_, '_>, x: ValueId, scale: ValueId, bias: ValueId) -> Result<(), Refusal> {
    let channels = n.dims(x).get(1).copied().into_iter().collect::<Extents>();
    if n.rank(x) >= 3 && n.dims(scale) == channels && n.dims(bias) == channels {
        return Ok(());
    }
    Err(Refusal::Invalid(format!("scale {} and bias {} for {}", n.ty(scale), n.ty(bias), n.ty(x))))
}

/// Channels in groups, each normalised. Scale and bias have one element for each group before opset 21, for each
/// channel from then on.
fn group_norm(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let (x, scale, bias) = (n.input(0)?, n.input(1)?, n.input(2)?);
    let epsilon = n.float("epsilon", 1e-5)?;
    let groups = n.int("num_groups", 0)?;
    let groups = extent(groups)?;
    n.int("stash_type", 1)?;
    let dims = n.dims(x);
    if dims.len() < 3 || groups == 0 || !dims[1].is_multiple_of(groups) {
        return Err(Refusal::Invalid(format!("{groups} groups for {}", n.ty(x))));
    }
    let grouped = n.reshape(x, &[dims[0], groups, dims[1..].iter().product::<usize>() / groups])?;
    let normal = n.add(LayerNorm { axis: 2, epsilon }, &[grouped])?;
    if n.opset() < 21 {
        check_channels(n, normal, scale, bias)?;
        let y = affine_along_channels(n, normal, scale, bias)?;
        return one(n.reshape(y, &dims)?);
    }
    check_channels(n, x, scale, bias)?;
    let normal = n.reshape(normal, &dims)?;
    one(affine_along_channels(n, normal, scale, bias)?)
}

fn layer_norm(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let (x, scale, bias) = (n.input(0)?, n.input(1)?, n.optional(2));
    let axis = n.int("axis", -1)?;
    let axis = n.axis(axis, x)?;
    let epsilon = n.float("epsilon", 1e-5)?;
    n.int("stash_type", 1)?;
    let op = LayerNorm { axis, epsilon };
    let normalised: Extents = n.dims(x)[axis..].into();
    let mut operands = Values::from_iter([x, scale]);
    operands.extend(bias);
    if operands[1..].iter().all(|&p| n.dims(p) == normalised) {
        return one(n.add(op, &operands)?);
    }
    let normal = n.add(op, &[x])?;
    let mut y = n.binary(BinaryFn::Mul, normal, scale)?;
    if let Some(bias) = bias {
        y = n.binary(BinaryFn::Add, y, bias)?;
    }
    one(y)
}

/// x / sqrt(mean(x^2) + epsilon) * scale
fn rms_norm(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let (x, scale) = (n.input(0)?, n.input(1)?);
    let axis = n.int("axis", -1)?;
    let axis = n.axis(axis, x)?;
    let epsilon = n.float("epsilon", 1e-5)?;
    n.int("stash_type", 1)?;
    let axes: Extents = (axis..n.rank(x)).collect();
    let square = n.binary(BinaryFn::Mul, x, x)?;
    let mean = n.reduce(ReduceFn::Mean, square, &axes, true)?;
    let epsilon = n.scalar(epsilon.into(), x)?;
    let mean = n.binary(BinaryFn::Add, mean, epsilon)?;
    let inverse = n.unary(UnaryFn::Rsqrt, mean)?;
    let normal = n.binary(BinaryFn::Mul, x, inverse)?;
    one(n.binary(BinaryFn::Mul, normal, scale)?)
}

/// x over its 1- or 2-norm along an axis; 0 where the norm is 0.
fn lp_norm(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let x = n.input(0)?;
    let axis = n.int("axis", -1)?;
    let axis = n.axis(axis, x)?;
    let norm = match n.int("p", 2)? {
        1 => {
            let size = n.unary(UnaryFn::Abs, x)?;
            n.reduce(ReduceFn::Sum, size, &[axis], true)?
        }
        2 => {
            let square = n.binary(BinaryFn::Mul, x, x)?;
            let sum = n.reduce(ReduceFn::Sum, square, &[axis], true)?;
            n.unary(UnaryFn::Sqrt, sum)?
        }
        _ => return Err(Refusal::Attribute { name: "p".into(), problem: "not 1 or 2" }),
    };
    let least =
        if n.ty(x).elem == qcc_ir::Elem::F16 { half::f16::MIN_POSITIVE.into() } else { f32::MIN_POSITIVE.into() };
    let least = n.scalar(least, x)?;
    let norm = n.binary(BinaryFn::Max, norm, least)?;
    one(n.binary(BinaryFn::Div, x, norm)?)
}

/// (x - mean) / (deviation + 1e-9) over the axes.
fn mean_variance_norm(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let x = n.input(0)?;
    let axes = count_axes(n.ints("axes")?.unwrap_or(&[0, 2, 3]), n.rank(x))?;
    let mean = n.reduce(ReduceFn::Mean, x, &axes, true)?;
    let centred = n.binary(BinaryFn::Sub, x, mean)?;
    let square = n.binary(BinaryFn::Mul, centred, centred)?;
    let variance = n.reduce(ReduceFn::Mean, square, &axes, true)?;
    let deviation = n.unary(UnaryFn::Sqrt, variance)?;
    let epsilon = n.scalar(1e-9, x)?;
    let deviation = n.binary(BinaryFn::Add, deviation, epsilon)?;
    one(n.binary(BinaryFn::Div, centred, deviation)?)
}
