//! Operators on boxes.

use qcc_ir::ops::{PoolFn, RoiAlign};

use super::super::node::NodeCx;
use super::Row;
use crate::build::{Build, Operands, Values, boxes, extent, one};
use crate::refusal::Refusal;

pub(super) const ROWS: &[Row] = &[("NonMaxSuppression", non_max_suppression), ("RoiAlign", roi_align)];

fn non_max_suppression(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let (mut corners, scores) = (n.input(0)?, n.input(1)?);
    let most = n.optional_integers(2)?.and_then(|most| most.first().copied()).unwrap_or(0);
    let (overlap, score) = (n.optional_number(3)?.unwrap_or(0.0), n.optional_number(4)?);
    if n.flag("center_point_box", false)? {
        corners = boxes::of_centre(n, corners)?;
    }
    one(boxes::suppressed(n, [corners, scores], most, overlap, score)?)
}

fn roi_align(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let operands = [n.input(0)?, n.input(1)?, n.input(2)?];
    let f = match n.string("mode", "avg")? {
        "avg" => PoolFn::Average,
        "max" => PoolFn::Max,
        _ => return Err(Refusal::unknown_mode("mode")),
    };
    let by_default = if n.opset() < 16 { "output_half_pixel" } else { "half_pixel" };
    let name = "coordinate_transformation_mode";
    let half_pixel = match n.string(name, by_default)? {
        "half_pixel" => true,
        "output_half_pixel" => false,
        _ => return Err(Refusal::unknown_mode(name)),
    };
    let size = [n.int("output_height", 1)?, n.int("output_width", 1)?].map(extent);
    let size = size.into_iter().collect::<Result<_, _>>()?;
    let samples = extent(n.int("sampling_ratio", 0)?)?;
    let scale = n.float("spatial_scale", 1.0)?;
    one(n.add(RoiAlign { f, size, samples, scale, half_pixel }, &operands)?)
}
