//! Pooling.

use qcc_formats::tflite::{BuiltinOperator as B, Pool2D};
use qcc_ir::ops::{Extents, Pool, PoolFn};
use smallvec::smallvec;

use super::super::node::NodeCx;
use super::window::padding;
use super::{Row, positive};
use crate::build::{Build, Values};
use crate::refusal::Refusal;

pub(super) const ROWS: &[Row] =
    &[(B::AVERAGE_POOL_2D, |n| pool(n, PoolFn::Average)), (B::MAX_POOL_2D, |n| pool(n, PoolFn::Max))];

fn pool(n: &mut NodeCx<'_, '_>, f: PoolFn) -> Result<Values, Refusal> {
    let o: Pool2D = n.options()?;
    let x = n.image(0)?;
    let window: Extents = smallvec![positive(o.filter_height, "a window")?, positive(o.filter_width, "a window")?];
    let stride: Extents = smallvec![positive(o.stride_h, "a stride")?, positive(o.stride_w, "a stride")?];
    let (before, after) = padding(o.padding, &n.shape(x).dims()[2..], &window, &stride)?;
    let y = n.give_active(Pool { f, window, stride, before, after, dilation: smallvec![1, 1] }, &[x], o.activation)?;
    n.give_image(y)
}
