//! Operators on boxes.

use qcc_ir::ValueId;
use qcc_ir::ops::{NonMaxSuppression, Op};

use super::Build;
use super::computed::fresh;
use crate::refusal::Refusal;

/// Non-maximum suppression of boxes `[images, boxes, 4]` with scores `[images, classes, boxes]`. `op` is given the symbol of
/// the number of boxes.
pub(crate) fn non_max_suppression(
    n: &mut impl Build,
    boxes: ValueId,
    scores: ValueId,
    op: impl FnOnce(String) -> NonMaxSuppression,
) -> Result<ValueId, Refusal> {
    let op = Op::from(op(fresh(n)));
    match (n.constant(boxes), n.constant(scores)) {
        (Some(b), Some(s)) => {
            let found = op.eval(&[b, s])?.swap_remove(0);
            Ok(n.add_constant(found))
        }
        _ => n.add(op, &[boxes, scores]),
    }
}
