//! Normalizations.

use qcc_ir::ops::{BinaryFn, LayerNorm, ReduceFn, Softmax, UnaryFn};

use super::super::node::NodeCx;
use super::Row;
use crate::build::norm::batch_norm;
use crate::build::{Build, Values, one};
use crate::refusal::Refusal;

pub(super) const ROWS: &[Row] = &[
    ("BatchNormInference", |n| {
        let epsilon = n.required("epsilon")?;
        let x = n.input(0)?;
        let parameters = [n.input(1)?, n.input(2)?, n.input(3)?, n.input(4)?];
        one(batch_norm(n, x, parameters, epsilon)?)
    }),
    ("LogSoftmax", |n| softmax(n, true)),
    ("MVN", mvn),
    ("SoftMax", |n| softmax(n, false)),
    ("Softmax", |n| softmax(n, false)),
];

fn softmax(n: &mut NodeCx<'_, '_>, log: bool) -> Result<Values, Refusal> {
    let x = n.input(0)?;
    let axis = n.axis_of("axis", 1, x)?;
    one(n.add(Softmax { axis, log }, &[x])?)
}

/// (x - mean) / deviation; epsilon is added to the variance or to the standard deviation.
fn mvn(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let (epsilon, inside) = (n.required::<f32>("eps")?, n.text("eps_mode"));
    let inside = match inside {
        Some("INSIDE_SQRT" | "inside_sqrt") => true,
        Some("OUTSIDE_SQRT" | "outside_sqrt") => false,
        _ => return Err(Refusal::unknown_mode("eps_mode")),
    };
    let (scales, x) = (n.flag("normalize_variance", true)?, n.input(0)?);
    let axes = n.axes(1, x)?;
    let last = axes.first().is_some_and(|&first| axes.iter().copied().eq(first..n.rank(x)));
    if inside && scales && last {
        return one(n.add(LayerNorm { axis: axes[0], epsilon }, &[x])?);
    }
    let mean = n.reduce(ReduceFn::Mean, x, &axes, true)?;
    let centred = n.binary(BinaryFn::Sub, x, mean)?;
    if !scales {
        return one(centred);
    }
    let square = n.binary(BinaryFn::Mul, centred, centred)?;
    let mut spread = n.reduce(ReduceFn::Mean, square, &axes, true)?;
    let epsilon = n.scalar(f64::from(epsilon), spread)?;
    if inside {
        spread = n.binary(BinaryFn::Add, spread, epsilon)?;
    }
    spread = n.unary(UnaryFn::Sqrt, spread)?;
    if !inside {
        spread = n.binary(BinaryFn::Add, spread, epsilon)?;
    }
    one(n.binary(BinaryFn::Div, centred, spread)?)
}
