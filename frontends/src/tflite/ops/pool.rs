//! Pooling.

use qcc_formats::tflite::{BuiltinOperator as B, Pool2D};
use qcc_ir::ops::{Extents, PoolFn};
use smallvec::smallvec;

use super::super::node::NodeCx;
use super::window::padded;
use super::{Row, positive};
use crate::build::Values;
use crate::build::window::Window;
use crate::refusal::Refusal;

pub(super) const ROWS: &[Row] =
    &[(B::AVERAGE_POOL_2D, |n| pool(n, PoolFn::Average)), (B::MAX_POOL_2D, |n| pool(n, PoolFn::Max))];

fn pool(n: &mut NodeCx<'_, '_>, f: PoolFn) -> Result<Values, Refusal> {
    let o: Pool2D = n.options()?;
    let x = n.image(0)?;
    let kernel: Extents = smallvec![positive(o.filter_height, "a window")?, positive(o.filter_width, "a window")?];
    let stride: Extents = smallvec![positive(o.stride_h, "a stride")?, positive(o.stride_w, "a stride")?];
    let (dilation, none) = (smallvec![1, 1], || smallvec![0, 0]);
    let mut window = Window { kernel, stride, dilation, before: none(), after: none() };
    // Padding is not part of an average.
    let fill = (f == PoolFn::Max).then_some(f32::NEG_INFINITY);
    let x = padded(n, o.padding, x, &mut window, fill)?;
    let y = n.give_active(window.op(f), &[x], o.activation)?;
    n.give_image(y)
}
