//! Operators on boxes.

use qcc_formats::tflite::{BuiltinOperator as B, DetectionOptions};
use qcc_ir::ops::{
    BinaryFn, Concat, DetectionPostProcess, Extents, Gather, NonMaxSuppression, OpenSlice, Range, Select, Slice,
};
use qcc_ir::{Elem, Shape};

use super::super::node::NodeCx;
use super::{Row, positive};
use crate::build::index::part;
use crate::build::{Build, Operands, Values, computed, extent};
use crate::refusal::Refusal;

pub(super) const ROWS: &[Row] =
    &[(B::NON_MAX_SUPPRESSION_V4, |n| suppression(n, false)), (B::NON_MAX_SUPPRESSION_V5, |n| suppression(n, true))];

/// The indices of the boxes that are kept, with zeros behind them, in version 5 (`scored`) their scores likewise, and their
/// number.
fn suppression(n: &mut NodeCx<'_, '_>, scored: bool) -> Result<Values, Refusal> {
    let (corners, scores) = (n.input(0)?, n.input(1)?);
    let most = extent(n.integer(2)?)?;
    // The kernel leaves out boxes that overlap by the limit or more.
    let (overlap, least) = (overlap_limit(number(n, 3)?)?.next_down(), number(n, 4)?);
    if scored && number(n, 5)? != 0.0 {
        return Err(Refusal::Unsupported("boxes whose scores are lowered, not left out (soft NMS)".into()));
    }
    let [count] = n.shape(scores).dims() else {
        return Err(Refusal::Invalid(format!("scores {}; expected one for each box", n.ty(scores))));
    };
    let rows: Shape = [1.into(), 1.into(), count.clone()].into_iter().collect();
    let boxes: Shape = [1.into(), count.clone(), 4.into()].into_iter().collect();
    let operands = [n.reshape_to(corners, boxes)?, n.reshape_to(scores, rows)?];
    let op = NonMaxSuppression { most, overlap, score: Some(least), count: computed::fresh(n) };
    let kept = computed::found(n, op, &operands)?;
    let found = n.shape(kept).dims()[0].clone();
    let kept = n.add(Slice { ranges: vec![Range { axis: 1, start: 2, len: 1, step: 1 }] }, &[kept])?;
    let kept = n.reshape_to(kept, [found.clone()].into_iter().collect())?;
    let kept = n.cast(kept, Elem::I32)?;
    let zeros = n.table(&[most], |_| 0i32)?;
    let padded = n.add(Concat { axis: 0 }, &[kept, zeros])?;
    let padded = part(n, padded, OpenSlice { axis: 0, start: 0.into(), len: (most as i64).into() })?;
    let number = n.add_whole(vec![found.expr()], Extents::new())?;
    let number = n.cast(number, Elem::I32)?;
    if !scored {
        return Ok(Values::from_slice(&[padded, number]));
    }
    let chosen = n.add(Gather { axis: 0 }, &[scores, padded])?;
    let places = n.table(&[most], |i| i as i32)?;
    let is_kept = n.binary(BinaryFn::Less, places, number)?;
    let zero = n.scalar(0.0, chosen)?;
    let chosen = n.add(Select {}, &[is_kept, chosen, zero])?;
    Ok(Values::from_slice(&[padded, chosen, number]))
}

/// The boxes of a detector, decoded and suppressed.
pub(super) fn detections(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let read = DetectionOptions::read(n.custom_options());
    let options = read.map_err(|error| Refusal::Invalid(format!("its options: {error}")))?;
    let of_class = match options.use_regular_nms {
        true => Some(positive(options.detections_per_class, "a maximum number of boxes of a class")?),
        false => None,
    };
    let op = DetectionPostProcess {
        most: positive(options.max_detections, "a maximum number of boxes")?,
        classes: positive(options.num_classes, "a number of classes")?,
        classes_per_box: positive(options.max_classes_per_detection, "a number of classes of a box")?,
        of_class,
        score: options.nms_score_threshold,
        overlap: overlap_limit(options.nms_iou_threshold)?,
        scale: [options.y_scale, options.x_scale, options.h_scale, options.w_scale],
    };
    let operands = [n.input(0)?, n.input(1)?, n.input(2)?];
    n.add_all(op, &operands)
}

/// A limit of overlap that the kernels take.
fn overlap_limit(limit: f32) -> Result<f32, Refusal> {
    if limit > 0.0 && limit <= 1.0 {
        return Ok(limit);
    }
    Err(Refusal::Invalid(format!("an IoU threshold of {limit}; expected more than 0, at most 1")))
}

/// The constant at input `i`.
fn number(n: &mut NodeCx<'_, '_>, i: usize) -> Result<f32, Refusal> {
    let known = n.known(i)?;
    known.floats().first().copied().ok_or_else(|| Refusal::Invalid(format!("input {i} is empty; expected a number")))
}
