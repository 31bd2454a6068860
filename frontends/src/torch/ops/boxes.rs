//! Operators on boxes of torchvision.

use qcc_ir::ops::{PoolFn, Range, RoiAlign, Slice};
use qcc_ir::{Dim, Elem};

use super::super::node::NodeCx;
use super::Row;
use crate::build::{Build, Values, boxes, extent, one};
use crate::refusal::Refusal;

pub(super) const ROWS: &[Row] = &[("torchvision.nms", nms), ("torchvision.roi_align", roi_align)];

/// Boxes of one image and class; all that are left are found.
fn nms(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let (corners, scores) = (n.tensor("dets")?, n.tensor("scores")?);
    let overlap = n.required_float("iou_threshold")? as f32;
    let count = n.shape(scores).dims().first().cloned().unwrap_or(Dim::Known(1));
    let corners = n.reshape_to(corners, [1.into(), count.clone(), 4.into()].into_iter().collect())?;
    let scores = n.reshape_to(scores, [1.into(), 1.into(), count].into_iter().collect())?;
    let found = boxes::suppressed(n, [corners, scores], i64::MAX, overlap, None)?;
    let index = n.add(Slice { ranges: vec![Range { axis: 1, start: 2, len: 1, step: 1 }] }, &[found])?;
    let count = n.shape(found).dims()[0].clone();
    one(n.reshape_to(index, [count].into_iter().collect())?)
}

/// Each box comes with the index of its image before its corners.
fn roi_align(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let (x, rows) = (n.tensor("input")?, n.tensor("rois")?);
    let scale = n.required_float("spatial_scale")? as f32;
    let size = [n.required_int("pooled_height")?, n.required_int("pooled_width")?];
    let samples = extent(n.required_int("sampling_ratio")?.max(0))?;
    let half_pixel = n.flag("aligned", false)?;
    let mut columns = |start, len| n.add(Slice { ranges: vec![Range { axis: 1, start, len, step: 1 }] }, &[rows]);
    let (of, corners) = (columns(0, 1)?, columns(1, 4)?);
    let count = n.shape(rows).dims()[0].clone();
    let of = n.reshape_to(of, [count].into_iter().collect())?;
    let of = n.cast(of, Elem::I64)?;
    let size = size.into_iter().map(extent).collect::<Result<_, _>>()?;
    one(n.add(RoiAlign { f: PoolFn::Average, size, samples, scale, half_pixel }, &[x, corners, of])?)
}
