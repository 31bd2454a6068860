//! Pooling.

use qcc_formats::tflite::{BuiltinOperator as B, Pool2D};
use qcc_ir::ValueId;
use qcc_ir::ops::{BinaryFn, Extents, Pool, PoolFn, UnaryFn};
use smallvec::smallvec;

use super::super::node::NodeCx;
use super::window::padded;
use super::{Row, positive};
use crate::build::window::Window;
use crate::build::{Build, Values};
use crate::refusal::Refusal;

pub(super) const ROWS: &[Row] = &[
    (B::AVERAGE_POOL_2D, |n| pool(n, PoolFn::Average)),
    (B::L2_POOL_2D, l2_pool),
    (B::MAX_POOL_2D, |n| pool(n, PoolFn::Max)),
];

fn pool(n: &mut NodeCx<'_, '_>, f: PoolFn) -> Result<Values, Refusal> {
    let (o, x): (Pool2D, _) = (n.options()?, n.image(0)?);
    let (op, x) = window(n, &o, x, f)?;
    let y = n.give_active(op, &[x], o.activation)?;
    n.give_image(y)
}

/// The root of the average of squares.
fn l2_pool(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let (o, x): (Pool2D, _) = (n.options()?, n.image(0)?);
    let squares = n.binary(BinaryFn::Mul, x, x)?;
    let (op, squares) = window(n, &o, squares, PoolFn::Average)?;
    let mean = n.add(op, &[squares])?;
    let root = n.unary(UnaryFn::Sqrt, mean)?;
    let y = n.activated(root, o.activation)?;
    n.give_image(y)
}

/// The operator of the options, and the image that it takes.
fn window(n: &mut NodeCx<'_, '_>, o: &Pool2D, x: ValueId, f: PoolFn) -> Result<(Pool, ValueId), Refusal> {
    let kernel: Extents = smallvec![positive(o.filter_height, "a window")?, positive(o.filter_width, "a window")?];
    let stride: Extents = smallvec![positive(o.stride_h, "a stride")?, positive(o.stride_w, "a stride")?];
    let (dilation, none) = (smallvec![1, 1], || smallvec![0, 0]);
    let mut window = Window { kernel, stride, dilation, before: none(), after: none() };
    // Padding is not part of an average.
    let fill = (f == PoolFn::Max).then_some(f32::NEG_INFINITY);
    let x = padded(n, o.padding, x, &mut window, fill)?;
    Ok((window.op(f), x))
}
