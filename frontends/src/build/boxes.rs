//! Boxes of images.

use qcc_ir::ops::{BinaryFn, Concat, NonMaxSuppression, Range, Slice};
use qcc_ir::{Shape, Tensor, ValueId};

use super::{Build, computed};
use crate::refusal::Refusal;

/// Non-maximum suppression of corners `[images, boxes, 4]` by scores `[images, classes, boxes]`: at most `most` boxes of a
/// class, none where that is not positive.
pub(crate) fn suppressed(
    n: &mut impl Build,
    [corners, scores]: [ValueId; 2],
    most: i64,
    overlap: f32,
    score: Option<f32>,
) -> Result<ValueId, Refusal> {
    if !(0.0..=1.0).contains(&overlap) {
        return Err(Refusal::Invalid(format!("an IoU threshold of {overlap}; expected 0 to 1")));
    }
    if most <= 0 {
        return Ok(n.add_constant(Tensor::from_vec(Shape::known(&[0, 3]), Vec::<i64>::new())));
    }
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    let count = computed::fresh(n);
    computed::found(n, NonMaxSuppression { most, overlap, score, count }, &[corners, scores])
}

/// The corners of boxes that are given by centre and size.
pub(crate) fn of_centre(n: &mut impl Build, v: ValueId) -> Result<ValueId, Refusal> {
    let mut pair = |start| n.add(Slice { ranges: vec![Range { axis: 2, start, len: 2, step: 1 }] }, &[v]);
    let (centre, size) = (pair(0)?, pair(2)?);
    let two = n.scalar(2.0, size)?;
    let half = n.binary(BinaryFn::Div, size, two)?;
    let (low, high) = (n.binary(BinaryFn::Sub, centre, half)?, n.binary(BinaryFn::Add, centre, half)?);
    n.add(Concat { axis: 2 }, &[low, high])
}
