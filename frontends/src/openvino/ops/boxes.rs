//! Operations on boxes.

use qcc_ir::Elem;
use qcc_ir::ops::{BinaryFn, Concat, Extents, GatherNd, PoolFn, Range, RoiAlign, Slice};

use super::super::node::NodeCx;
use super::Row;
use crate::build::{Build, Operands, Values, boxes, extent, one};
use crate::refusal::Refusal;

pub(super) const ROWS: &[Row] = &[("NonMaxSuppression", non_max_suppression), ("ROIAlign", roi_align)];

/// The indices of image, class and box, the same with the score in place of the box, and the number of rows.
fn non_max_suppression(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let (mut corners, scores) = (n.input(0)?, n.input(1)?);
    let most = n.optional_integers(2)?.and_then(|most| most.first().copied()).unwrap_or(0);
    let (overlap, score) = (n.optional_number(3)?.unwrap_or(0.0), n.optional_number(4)?);
    if n.optional_number(5)?.is_some_and(|sigma| sigma != 0.0) {
        return Err(Refusal::Unsupported("scores that are lowered instead of suppressed (soft_nms_sigma)".into()));
    }
    match n.text("box_encoding") {
        None | Some("corner") => {}
        Some("center") => corners = boxes::of_centre(n, corners)?,
        Some(_) => return Err(Refusal::unknown_mode("box_encoding")),
    }
    // The order of rows of several images and classes.
    let one_list = n.shape(scores).dims().iter().take(2).all(|d| d.known() == Some(1));
    if n.flag("sort_result_descending", true)? && !one_list {
        return Err(Refusal::Unsupported("boxes of several images or classes sorted by score".into()));
    }
    let to = n.element("output_type")?.unwrap_or(Elem::I64);
    let found = boxes::suppressed(n, [corners, scores], most, overlap, Some(score.unwrap_or(0.0)))?;
    let count = n.shape(found).dims()[0].clone();
    let count = n.add_whole(vec![count.expr()], Extents::from_elem(1, 1))?;
    let of = n.add(Slice { ranges: vec![Range { axis: 1, start: 0, len: 2, step: 1 }] }, &[found])?;
    let of = n.cast(of, n.ty(scores).elem.clone())?;
    let taken = n.add(GatherNd { batch: 0 }, &[scores, found])?;
    let rows = n.shape(found).with(1, 1);
    let taken = n.reshape_to(taken, rows)?;
    let rows = n.add(Concat { axis: 1 }, &[of, taken])?;
    let (found, count) = (n.cast(found, to.clone())?, n.cast(count, to)?);
    Ok([found, rows, count].into_iter().collect())
}

fn roi_align(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let (x, mut corners, of) = (n.input(0)?, n.input(1)?, n.input(2)?);
    let most = match n.text("mode") {
        Some("avg") => false,
        Some("max") => true,
        _ => return Err(Refusal::unknown_mode("mode")),
    };
    let half_pixel = match n.text("aligned_mode") {
        None | Some("asymmetric") => false,
        Some("half_pixel_for_nn") => true,
        Some("half_pixel") => {
            let half = n.scalar(0.5, corners)?;
            corners = n.binary(BinaryFn::Add, corners, half)?;
            true
        }
        Some(_) => return Err(Refusal::unknown_mode("aligned_mode")),
    };
    let [rows, columns, samples] =
        ["pooled_h", "pooled_w", "sampling_ratio"].map(|name| extent(n.number(name)?.unwrap_or(0)));
    let (size, samples) = ([rows?, columns?].into_iter().collect(), samples?);
    if most && samples != 1 {
        return Err(Refusal::Unsupported("the largest of several samples of a bin (mode max)".into()));
    }
    let scale = n.number("spatial_scale")?.unwrap_or(1.0);
    one(n.add(RoiAlign { f: PoolFn::Average, size, samples, scale, half_pixel }, &[x, corners, of])?)
}
