//! Windows: the file names one of two paddings, from which the numbers of elements follow.

use qcc_formats::tflite::Padding;
use qcc_ir::ValueId;

use super::super::node::NodeCx;
use crate::build::padding::{Odd, same};
use crate::build::window::Window;
use crate::refusal::Refusal;

/// Gives the window its padding for the image `x`, which may get a part of it, with the value `fill`.
pub(super) fn padded(
    n: &mut NodeCx<'_, '_>,
    padding: Padding,
    x: ValueId,
    window: &mut Window,
    fill: Option<f32>,
) -> Result<ValueId, Refusal> {
    match padding {
        Padding::VALID => Ok(x),
        // The odd element goes to the end.
        Padding::SAME => same(n, x, window, Odd::After, fill),
        other => Err(Refusal::Unsupported(format!("padding {other} is not supported"))),
    }
}
