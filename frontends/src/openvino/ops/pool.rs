//! Pooling.

use qcc_ir::ops::{Extents, PoolFn};

use super::super::node::NodeCx;
use super::Row;
use super::conv::window;
use crate::build::window::{average_with_padding, pool};
use crate::build::{Values, one};
use crate::refusal::Refusal;

pub(super) const ROWS: &[Row] = &[("AvgPool", |n| pooled(n, PoolFn::Average)), ("MaxPool", |n| pooled(n, PoolFn::Max))];

fn pooled(n: &mut NodeCx<'_, '_>, f: PoolFn) -> Result<Values, Refusal> {
    let x = n.input(0)?;
    let kernel: Extents = n.sizes("kernel")?;
    let apart = f == PoolFn::Max || n.flag("exclude-pad", true)?;
    let fill = match f {
        PoolFn::Max => Some(f32::NEG_INFINITY),
        PoolFn::Average if apart => None,
        PoolFn::Average => Some(0.0),
    };
    let (x, window) = window(n, x, kernel, fill)?;
    let ceil = match n.text("rounding_type") {
        None | Some("floor") => false,
        Some("ceil") => true,
        Some(other) => return Err(Refusal::Unsupported(format!("rounding_type {other} is not supported"))),
    };
    // These only affect the indices, which are not supported.
    n.ignore(&["index_element_type", "axis"]);
    one(if apart { pool(n, f, x, window, ceil)? } else { average_with_padding(n, x, window, ceil)? })
}
