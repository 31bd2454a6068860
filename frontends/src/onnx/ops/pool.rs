//! Pooling.

use qcc_ir::ValueId;
use qcc_ir::ops::{BinaryFn, Extents, PoolFn, ReduceFn, UnaryFn};

use super::super::node::NodeCx;
use super::Row;
use super::unpool::places_of_maxima;
use super::window::{AutoPad, AutoWindow};
use crate::build::window::{Window, average_with_padding, pool, sums};
use crate::build::{Build, Values, extents, one};
use crate::refusal::Refusal;

pub(super) const ROWS: &[Row] = &[
    ("AveragePool", average),
    ("GlobalAveragePool", |n| global(n, ReduceFn::Mean)),
    ("GlobalLpPool", global_lp),
    ("GlobalMaxPool", |n| global(n, ReduceFn::Max)),
    ("LpPool", lp),
    ("MaxPool", max),
];

fn global(n: &mut NodeCx<'_, '_>, f: ReduceFn) -> Result<Values, Refusal> {
    let x = n.input(0)?;
    one(over_image(n, f, x)?)
}

/// The reduction of all spatial axes.
fn over_image(n: &mut NodeCx<'_, '_>, f: ReduceFn, x: ValueId) -> Result<ValueId, Refusal> {
    let spatial: Extents = (2..n.rank(x)).collect();
    if spatial.is_empty() {
        return Err(Refusal::Invalid(format!("pooling over {}", n.ty(x))));
    }
    n.reduce(f, x, &spatial, true)
}

fn global_lp(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let p = exponent(n)?;
    let x = n.input(0)?;
    let powers = powers(n, x, p)?;
    let sums = over_image(n, ReduceFn::Sum, powers)?;
    one(root(n, sums, p)?)
}

fn max(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let column_major = n.flag("storage_order", false)?;
    // Indices are those of the image without padding.
    let fill = if n.names_output(1) { None } else { Some(f32::NEG_INFINITY) };
    let (x, window, ceil) = read(n, fill)?;
    let places = match n.names_output(1) {
        true => Some(places_of_maxima(n, x, &window, ceil, column_major)?),
        false => None,
    };
    let y = pool(n, PoolFn::Max, x, window, ceil)?;
    Ok(std::iter::once(y).chain(places).collect())
}

fn average(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let counted = n.flag("count_include_pad", false)?;
    let (x, window, ceil) = read(n, if counted { Some(0.0) } else { None })?;
    one(if counted { average_with_padding(n, x, window, ceil)? } else { pool(n, PoolFn::Average, x, window, ceil)? })
}

/// (sum of |x|^p)^(1/p)
fn lp(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let p = exponent(n)?;
    let (x, window, ceil) = read(n, Some(0.0))?;
    let powers = powers(n, x, p)?;
    let sums = sums(n, powers, window, ceil)?;
    one(root(n, sums, p)?)
}

/// The attribute `p`, which is positive.
fn exponent(n: &mut NodeCx<'_, '_>) -> Result<i64, Refusal> {
    let p = if n.opset() < 2 { n.float("p", 2.0)? as i64 } else { n.int("p", 2)? };
    if p < 1 { Err(Refusal::Attribute { name: "p".into(), problem: "not positive" }) } else { Ok(p) }
}

/// Magnitudes to the power `p`.
fn powers(n: &mut NodeCx<'_, '_>, x: ValueId, p: i64) -> Result<ValueId, Refusal> {
    if p == 2 {
        return n.binary(BinaryFn::Mul, x, x);
    }
    let size = n.unary(UnaryFn::Abs, x)?;
    if p == 1 {
        return Ok(size);
    }
    let exponent = n.scalar(p as f64, x)?;
    n.binary(BinaryFn::Pow, size, exponent)
}

/// The root of order `p`.
fn root(n: &mut NodeCx<'_, '_>, sums: ValueId, p: i64) -> Result<ValueId, Refusal> {
    match p {
        1 => Ok(sums),
        2 => n.unary(UnaryFn::Sqrt, sums),
        _ => {
            let exponent = n.scalar(1.0 / p as f64, sums)?;
            n.binary(BinaryFn::Pow, sums, exponent)
        }
    }
}

/// The image, which may be padded with `fill`, the window and `ceil_mode`.
fn read(n: &mut NodeCx<'_, '_>, fill: Option<f32>) -> Result<(ValueId, Window, bool), Refusal> {
    let x = n.input(0)?;
    let dims = n.shape(x).dims().to_vec();
    let kernel = n.ints("kernel_shape")?;
    let kernel = kernel.ok_or(Refusal::Attribute { name: "kernel_shape".into(), problem: "is missing" })?;
    let kernel = Extents::from_vec(extents(kernel)?);
    if dims.len() != kernel.len() + 2 {
        return Err(Refusal::Invalid(format!("a window {kernel:?} for {}", n.ty(x))));
    }
    let ceil = n.flag("ceil_mode", false)?;
    let window = AutoWindow::read(n, kernel)?;
    let same = matches!(window.auto, AutoPad::SameUpper | AutoPad::SameLower);
    if same && window.window.dilation.iter().any(|&d| d > 1) {
        // The standard uses the dilated window, ONNX Runtime does not.
        return Err(Refusal::Unsupported("auto_pad with dilations is not supported; give pads".into()));
    }
    let (x, window) = window.on(n, x, fill)?;
    Ok((x, window, ceil))
}
