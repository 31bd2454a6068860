//! Normalisations.

use qcc_ir::ops::{BinaryFn, ReduceFn, Softmax, UnaryFn};

use super::super::node::NodeCx;
use super::Row;
use crate::build::{Build, Values, count_axes, extent, norm, one};
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

fn batch_norm(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let x = n.input(0)?;
    let parameters = [n.input(1)?, n.input(2)?, n.input(3)?, n.input(4)?];
    let epsilon = n.float("epsilon", 1e-5)?;
    // Concerns training alone.
    n.float("momentum", 0.9)?;
    if n.opset() < 9 && !n.flag("spatial", true)? {
        return Err(Refusal::Unsupported("batch normalisation of each pixel (spatial = 0) is not supported".into()));
    }
    if n.opset() >= 14 && n.flag("training_mode", false)? {
        return Err(Refusal::Unsupported("batch normalisation in training mode: export for inference".into()));
    }
    one(norm::batch_norm(n, x, parameters, epsilon.into())?)
}

fn instance_norm(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let (x, affine) = (n.input(0)?, (n.input(1)?, n.input(2)?));
    let epsilon = n.float("epsilon", 1e-5)?;
    one(norm::instance_norm(n, x, Some(affine), epsilon)?)
}

/// Scale and bias have one element for each group before opset 21, for each channel from then on.
fn group_norm(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let (x, affine) = (n.input(0)?, (n.input(1)?, n.input(2)?));
    let epsilon = n.float("epsilon", 1e-5)?;
    let groups = n.int("num_groups", 0)?;
    n.int("stash_type", 1)?;
    let by_group = n.opset() < 21;
    one(norm::group_norm(n, x, extent(groups)?, Some(affine), by_group, epsilon)?)
}

fn layer_norm(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let (x, scale, bias) = (n.input(0)?, n.input(1)?, n.optional(2));
    let axis = n.int("axis", -1)?;
    let axis = n.axis(axis, x)?;
    let epsilon = n.float("epsilon", 1e-5)?;
    n.int("stash_type", 1)?;
    let affine: Values = std::iter::once(scale).chain(bias).collect();
    one(norm::layer_norm(n, x, axis, &affine, epsilon)?)
}

fn rms_norm(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let (x, scale) = (n.input(0)?, n.input(1)?);
    let axis = n.int("axis", -1)?;
    let axis = n.axis(axis, x)?;
    let epsilon = n.float("epsilon", 1e-5)?;
    n.int("stash_type", 1)?;
    one(norm::rms_norm(n, x, axis, Some(scale), epsilon.into())?)
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
