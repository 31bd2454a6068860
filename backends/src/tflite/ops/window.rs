//! Padding of windows: TFLite has the two modes SAME and VALID, and computes the amounts itself.

use qcc_formats::tflite::Padding;

/// One spatial axis of a windowed operator.
pub(super) struct Axis {
    /// Extent of the image, if it is known.
    pub(super) image: Option<usize>,
    /// Extent of the result, if it is known.
    pub(super) result: Option<usize>,
    /// Extent of the dilated window.
    pub(super) reach: usize,
    /// Stride of the window.
    pub(super) stride: usize,
    /// Padding before and after the image.
    pub(super) pads: [usize; 2],
}

/// The padding mode with these amounts on every axis.
///
/// VALID has no padding. SAME has `ceil(image / stride)` results and splits the required padding in halves, the smaller
/// one before; for an open extent that is known where it is the same for all remainders by the stride.
pub(super) fn padding(axes: &[Axis]) -> Option<Padding> {
    let valid = |a: &Axis| match a.image.zip(a.result) {
        Some((image, result)) => a.pads[0] == 0 && image >= a.reach && result == (image - a.reach) / a.stride + 1,
        None => a.pads == [0, 0],
    };
    let same = |a: &Axis| match a.image.zip(a.result) {
        Some((image, result)) => {
            let total = ((result - 1) * a.stride + a.reach).saturating_sub(image);
            result == image.div_ceil(a.stride) && a.pads[0] == total / 2
        }
        None => {
            let before = |rest: usize| (a.reach + rest).saturating_sub(a.stride) / 2;
            a.pads[0] + a.pads[1] == a.reach - 1 && (0..a.stride).all(|rest| before(rest) == a.pads[0])
        }
    };
    if axes.iter().all(valid) {
        Some(Padding::VALID)
    } else if axes.iter().all(same) {
        Some(Padding::SAME)
    } else {
        None
    }
}
