//! Windows: the file names one of two paddings, from which the numbers of elements follow.

use qcc_formats::tflite::Padding;
use qcc_ir::Dim;
use qcc_ir::ops::Extents;

use crate::build::window::same_padding;
use crate::refusal::Refusal;

/// Padding before and after each axis of images with these extents. `reach` is the extent of a dilated window.
pub(super) fn padding(
    padding: Padding,
    image: &[Dim],
    reach: &[usize],
    stride: &[usize],
) -> Result<(Extents, Extents), Refusal> {
    let total = |i: usize| match padding {
        Padding::VALID => Ok(0),
        Padding::SAME => {
            same_padding(&image[i], reach[i], stride[i]).ok_or_else(|| Refusal::Open(image.iter().cloned().collect()))
        }
        other => Err(Refusal::Unsupported(format!("padding {other} is not supported"))),
    };
    let totals = (0..image.len()).map(total).collect::<Result<Extents, _>>()?;
    // The odd element goes to the end.
    Ok((totals.iter().map(|t| t / 2).collect(), totals.iter().map(|t| t - t / 2).collect()))
}
