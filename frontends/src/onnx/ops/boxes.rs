//! Operators on boxes.

use qcc_ir::ops::{BinaryFn, Concat, NonMaxSuppression, Range, Slice};
use qcc_ir::{Shape, Tensor, ValueId};

use super::super::node::NodeCx;
use super::Row;
use crate::build::{Build, Operands, Values, computed, one};
use crate::refusal::Refusal;

pub(super) const ROWS: &[Row] = &[("NonMaxSuppression", non_max_suppression)];

fn non_max_suppression(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let (mut corners, scores) = (n.input(0)?, n.input(1)?);
    let most = n.optional_integers(2)?.and_then(|most| most.first().copied()).unwrap_or(0);
    let overlap = number(n, 3)?.unwrap_or(0.0);
    if !(0.0..=1.0).contains(&overlap) {
        return Err(Refusal::Invalid(format!("an IoU threshold of {overlap}; expected 0 to 1")));
    }
    let score = number(n, 4)?;
    if most <= 0 {
        return one(n.add_constant(Tensor::from_vec(Shape::known(&[0, 3]), Vec::<i64>::new())));
    }
    if n.flag("center_point_box", false)? {
        corners = of_centre(n, corners)?;
    }
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    let count = computed::fresh(n);
    one(computed::found(n, NonMaxSuppression { most, overlap, score, count }, &[corners, scores])?)
}

/// The number at input `i`, if given.
fn number(n: &mut NodeCx<'_, '_>, i: usize) -> Result<Option<f32>, Refusal> {
    Ok(n.optional_constant(i)?.and_then(|t| t.floats().first().copied()))
}

/// The corners of boxes that are given by centre and size.
fn of_centre(n: &mut NodeCx<'_, '_>, v: ValueId) -> Result<ValueId, Refusal> {
    let mut pair = |start| n.add(Slice { ranges: vec![Range { axis: 2, start, len: 2, step: 1 }] }, &[v]);
    let (centre, size) = (pair(0)?, pair(2)?);
    let two = n.scalar(2.0, size)?;
    let half = n.binary(BinaryFn::Div, size, two)?;
    let (low, high) = (n.binary(BinaryFn::Sub, centre, half)?, n.binary(BinaryFn::Add, centre, half)?);
    n.add(Concat { axis: 2 }, &[low, high])
}
