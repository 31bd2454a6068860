//! Normalizations.

use qcc_ir::ops::{BinaryFn, Extents, ReduceFn, Softmax, UnaryFn};
use qcc_ir::{Elem, Shape, ValueId};

use super::super::node::NodeCx;
use super::super::schema::Number;
use super::Row;
use crate::build::{Build, Values, extent, norm, one};
use crate::refusal::Refusal;

pub(super) const ROWS: &[Row] = &[
    ("_log_softmax", |n| softmax(n, true)),
    ("_native_batch_norm_legit", batch_norm),
    ("_native_batch_norm_legit_no_training", batch_norm),
    ("_softmax", |n| softmax(n, false)),
    ("_weight_norm", weight_norm),
    ("_weight_norm_interface", weight_norm),
    ("batch_norm", batch_norm),
    ("cosine_similarity", cosine_similarity),
    ("group_norm", |n| {
        let groups = n.required_int("num_groups")?;
        group_norm(n, groups)
    }),
    ("instance_norm", instance_norm),
    ("layer_norm", layer_norm),
    ("log_softmax", |n| softmax(n, true)),
    ("native_batch_norm", batch_norm),
    ("native_group_norm", |n| {
        // The extents, which follow from the operand.
        for name in ["N", "C", "HxW"] {
            n.whole(name)?;
        }
        let groups = n.required_int("group")?;
        group_norm(n, groups)
    }),
    ("native_layer_norm", layer_norm),
    ("rms_norm", rms_norm),
    ("softmax", |n| softmax(n, false)),
];

fn softmax(n: &mut NodeCx<'_, '_>, log: bool) -> Result<Values, Refusal> {
    let x = n.input()?;
    let axis = n.required_int("dim")?;
    let x = match n.dtype("dtype")? {
        Some(elem) => n.cast(x, elem)?,
        None if n.flag("half_to_float", false)? => n.cast(x, Elem::F32)?,
        None => x,
    };
    let axis = n.axis(axis, x)?;
    one(n.add(Softmax { axis, log }, &[x])?)
}

/// A constant vector of `count` equal numbers, with the element type of `x`.
fn vector(n: &mut NodeCx<'_, '_>, x: ValueId, count: usize, value: f64) -> Result<ValueId, Refusal> {
    let value = n.scalar(value, x)?;
    n.expand(value, &[count])
}

/// The optional parameters; the defaults are scale 1, bias 0.
fn scale_and_bias(n: &mut NodeCx<'_, '_>, x: ValueId) -> Result<Option<(ValueId, ValueId)>, Refusal> {
    let channels = n.known_extent(x, 1)?;
    Ok(match (n.optional("weight")?, n.optional("bias")?) {
        (None, None) => None,
        (Some(scale), Some(bias)) => Some((scale, bias)),
        (Some(scale), None) => Some((scale, vector(n, x, channels, 0.0)?)),
        (None, Some(bias)) => Some((vector(n, x, channels, 1.0)?, bias)),
    })
}

fn batch_norm(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let x = n.input()?;
    let affine = scale_and_bias(n, x)?;
    let (mean, variance) = (n.optional("running_mean")?, n.optional("running_var")?);
    let epsilon = n.float("eps", 1e-5)?;
    let (mean, variance) = match (mean, variance, n.flag("training", false)?) {
        (Some(mean), Some(variance), false) => (mean, variance),
        (None, None, _) => norm::moments(n, x)?,
        _ => {
            return Err(Refusal::Unsupported(
                "batch normalisation with statistics of the batch: call model.eval() before the export".into(),
            ));
        }
    };
    let channels = n.dims(mean)?.iter().product();
    let (scale, bias) = match affine {
        Some(affine) => affine,
        None => (vector(n, mean, channels, 1.0)?, vector(n, mean, channels, 0.0)?),
    };
    one(norm::batch_norm(n, x, [scale, bias, mean, variance], epsilon)?)
}

/// v * g / |v|, with the norm over all axes but one, or over all.
fn weight_norm(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let (v, g) = (n.tensor("v")?, n.tensor("g")?);
    let axes: Extents = match n.int("dim", 0)? {
        -1 => (0..n.rank(v)).collect(),
        kept => {
            let kept = n.axis(kept, v)?;
            (0..n.rank(v)).filter(|&axis| axis != kept).collect()
        }
    };
    let square = n.binary(BinaryFn::Mul, v, v)?;
    let sum = n.reduce(ReduceFn::Sum, square, &axes, true)?;
    let norm = n.unary(UnaryFn::Sqrt, sum)?;
    let factor = n.binary(BinaryFn::Div, g, norm)?;
    let weight = n.binary(BinaryFn::Mul, v, factor)?;
    let all = Values::from_iter([weight, norm]);
    Ok(if n.op() == "_weight_norm" { Values::from_iter([weight]) } else { all })
}

fn group_norm(n: &mut NodeCx<'_, '_>, groups: i64) -> Result<Values, Refusal> {
    let x = n.input()?;
    let affine = scale_and_bias(n, x)?;
    let epsilon = n.float("eps", 1e-5)? as f32;
    one(norm::group_norm(n, x, extent(groups)?, affine, false, epsilon)?)
}

fn instance_norm(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    if !n.flag("use_input_stats", true)? {
        return batch_norm(n);
    }
    let x = n.input()?;
    let affine = scale_and_bias(n, x)?;
    // Used only in training.
    n.optional("running_mean")?;
    n.optional("running_var")?;
    let epsilon = n.float("eps", 1e-5)? as f32;
    one(norm::instance_norm(n, x, affine, epsilon)?)
}

/// The first normalized axis: `normalized_shape` is the end of the operand's shape.
fn first_axis(n: &mut NodeCx<'_, '_>, x: ValueId) -> Result<usize, Refusal> {
    let shape = n.extents("normalized_shape")?;
    let axis = n.rank(x).checked_sub(shape.len()).filter(|_| !shape.is_empty());
    let axis = axis.filter(|&axis| n.shape(x).dims()[axis..] == *Shape::known(&shape).dims());
    axis.ok_or_else(|| Refusal::Invalid(format!("normalized_shape {shape:?} for {}", n.ty(x))))
}

fn layer_norm(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let x = n.input()?;
    let axis = first_axis(n, x)?;
    let epsilon = n.float("eps", 1e-5)? as f32;
    let affine: Values = match (n.optional("weight")?, n.optional("bias")?) {
        (None, Some(bias)) => {
            let normal = norm::layer_norm(n, x, axis, &[], epsilon)?;
            return one(n.binary(BinaryFn::Add, normal, bias)?);
        }
        (scale, bias) => scale.into_iter().chain(bias).collect(),
    };
    one(norm::layer_norm(n, x, axis, &affine, epsilon)?)
}

fn rms_norm(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let x = n.input()?;
    let axis = first_axis(n, x)?;
    let scale = n.optional("weight")?;
    // The default is the machine epsilon of the element type.
    let least = if n.ty(x).elem == Elem::F16 { half::f16::EPSILON.into() } else { f64::from(f32::EPSILON) };
    let epsilon = n.float("eps", least)?;
    one(norm::rms_norm(n, x, axis, scale, epsilon)?)
}

/// The product of the operands divided by that of their norms, which are at least eps.
fn cosine_similarity(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let (a, b) = (n.tensor("x1")?, n.tensor("x2")?);
    let axis = n.int("dim", 1)?;
    let epsilon = n.float("eps", 1e-8)?;
    let product = n.binary(BinaryFn::Mul, a, b)?;
    let axis = n.axis(axis, product)?;
    let mut y = n.reduce(ReduceFn::Sum, product, &[axis], false)?;
    for v in [a, b] {
        let v = n.expand_to(v, n.shape(product).clone())?;
        let square = n.binary(BinaryFn::Mul, v, v)?;
        let sum = n.reduce(ReduceFn::Sum, square, &[axis], false)?;
        let norm = n.unary(UnaryFn::Sqrt, sum)?;
        let least = n.constant_of(Number::Float(epsilon), &n.ty(norm).elem.clone())?;
        let norm = n.binary(BinaryFn::Max, norm, least)?;
        y = n.binary(BinaryFn::Div, y, norm)?;
    }
    one(y)
}
