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
    ("GlobalMaxPool", |n| global(n, ReduceFn::Max)),
    ("LpPool", lp),
    ("MaxPool", max),
];

fn global(n: &mut NodeCx<'_, '_>, f: ReduceFn) -> Result<Values, Refusal> {
    let x = n.input(0)?;
    let spatial: Extents = (2..n.rank(x)).collect();
    if spatial.is_empty() {
        return Err(Refusal::Invalid(format!("pooling over {}", n.ty(x))));
    }
    one(n.reduce(f, x, &spatial, true)?)
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
    let p = if n.opset() < 2 { n.float("p", 2.0)? as i64 } else { n.int("p", 2)? };
    let (x, window, ceil) = read(n, Some(0.0))?;
    let size = n.unary(UnaryFn::Abs, x)?;
    if p < 1 {
        return Err(Refusal::Attribute { name: "p".into(), problem: "not positive" });
    }
    if p == 1 {
        return one(sums(n, size, window, ceil)?);
    }
    let exponent = n.scalar(p as f64, x)?;
    let powers = if p == 2 { n.binary(BinaryFn::Mul, x, x)? } else { n.binary(BinaryFn::Pow, size, exponent)? };
    let sums = sums(n, powers, window, ceil)?;
    let root = n.scalar(1.0 / p as f64, x)?;
    one(if p == 2 { n.unary(UnaryFn::Sqrt, sums)? } else { n.binary(BinaryFn::Pow, sums, root)? })
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
