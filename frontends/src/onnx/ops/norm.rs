//! Normalizations.

use qcc_ir::ops::{ArgReduce, BinaryFn, Extents, ReduceFn, Softmax, UnaryFn};
use qcc_ir::{Dim, Shape, ValueId};

use super::super::node::NodeCx;
use super::Row;
use super::elementwise::inference;
use crate::build::norm::LocalNorm;
use crate::build::{Build, Values, count_axes, extent, norm, one};
use crate::refusal::Refusal;

pub(super) const ROWS: &[Row] = &[
    ("BatchNormalization", batch_norm),
    ("GroupNormalization", group_norm),
    ("Hardmax", |n| over_axis(n, hardmax)),
    ("InstanceNormalization", instance_norm),
    ("LayerNormalization", layer_norm),
    ("LRN", lrn),
    ("LogSoftmax", |n| over_axis(n, |n, x, axis| n.add(Softmax { axis, log: true }, &[x]))),
    ("LpNormalization", lp_norm),
    ("MeanVarianceNormalization", mean_variance_norm),
    ("RMSNormalization", rms_norm),
    ("Softmax", |n| over_axis(n, |n, x, axis| n.add(Softmax { axis, log: false }, &[x]))),
];

/// An operator along an axis. Before opset 13, all axes from it on are flattened into one.
fn over_axis<F>(n: &mut NodeCx<'_, '_>, f: F) -> Result<Values, Refusal>
where
    F: FnOnce(&mut NodeCx<'_, '_>, ValueId, usize) -> Result<ValueId, Refusal>,
{
    let x = n.input(0)?;
    let one_axis = n.opset() >= 13;
    let axis = n.int("axis", if one_axis { -1 } else { 1 })?;
    let shape = n.shape(x).clone();
    let axis = n.axis(axis, x)?;
    if one_axis || shape.dims()[axis + 1..].iter().all(|d| *d == Dim::Known(1)) {
        return one(f(n, x, axis)?);
    }
    let (outer, inner) = shape.dims().split_at(axis);
    let flat = [Shape::count(outer), Shape::count(inner)].into_iter().collect::<Option<Shape>>();
    let flat = n.reshape_to(x, flat.ok_or_else(|| Refusal::Open(shape.clone()))?)?;
    let flat = f(n, flat, 1)?;
    one(n.reshape_to(flat, shape)?)
}

/// 1 at the first of the largest elements, 0 elsewhere.
fn hardmax(n: &mut NodeCx<'_, '_>, x: ValueId, axis: usize) -> Result<ValueId, Refusal> {
    let mut along = Extents::from_elem(1, n.rank(x));
    along[axis] = n.dims(x)?[axis];
    let largest = n.add(ArgReduce { axis, largest: true, keep: true }, &[x])?;
    let places = n.table(&along, |i| i as i64)?;
    let hit = n.binary(BinaryFn::Equal, places, largest)?;
    n.cast(hit, n.ty(x).elem.clone())
}

/// x / (bias + alpha * mean of squares)^beta, with the mean over `size` neighbouring channels. The sums are a
/// convolution along the channels.
fn lrn(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let x = n.input(0)?;
    let (alpha, beta, bias) = (n.float("alpha", 1e-4)?, n.float("beta", 0.75)?, n.float("bias", 1.0)?);
    let size = n.optional_int("size")?.ok_or(Refusal::Attribute { name: "size".into(), problem: "is missing" })?;
    let size = extent(size)?;
    let local = LocalNorm { size, before: size.saturating_sub(1) / 2, alpha: alpha / size as f32, beta, bias };
    one(local.of(n, x)?)
}

fn batch_norm(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let x = n.input(0)?;
    let mut parameters = [n.input(1)?, n.input(2)?, n.input(3)?, n.input(4)?];
    let epsilon = n.float("epsilon", 1e-5)?;
    let momentum = f64::from(n.float("momentum", 0.9)?);
    if n.opset() < 9 && !n.flag("spatial", true)? {
        return Err(Refusal::Unsupported("batch normalisation of each pixel (spatial = 0) is not supported".into()));
    }
    inference(n)?;
    // Before opset 14 the number of results determines the mode.
    let training = if n.opset() < 14 { n.outputs() > 1 } else { n.flag("training_mode", false)? };
    if !training {
        return one(norm::batch_norm(n, x, parameters, epsilon.into())?);
    }
    // The statistics are those of the batch. Since opset 14 the other results are the running ones; before, the standard
    // does not define them, and models that use them are refused.
    let running = [parameters[2], parameters[3]];
    (parameters[2], parameters[3]) = norm::moments(n, x)?;
    let mut results = one(norm::batch_norm(n, x, parameters, epsilon.into())?)?;
    if n.opset() < 14 {
        return Ok(results);
    }
    for (i, own) in (1..).zip(running) {
        let (kept, share) = (n.scalar(momentum, own)?, n.scalar(1.0 - momentum, own)?);
        let kept = n.binary(BinaryFn::Mul, own, kept)?;
        let new = n.binary(BinaryFn::Mul, parameters[i + 1], share)?;
        results.push(n.binary(BinaryFn::Add, kept, new)?);
    }
    Ok(results)
}

fn instance_norm(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let (x, affine) = (n.input(0)?, (n.input(1)?, n.input(2)?));
    let epsilon = n.float("epsilon", 1e-5)?;
    one(norm::instance_norm(n, x, Some(affine), epsilon)?)
}

/// Scale and bias are per group before opset 21, per channel since then.
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

/// x divided by its 1- or 2-norm along an axis; 0 where the norm is 0.
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

/// (x - mean) / (standard deviation + 1e-9) over the axes.
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
