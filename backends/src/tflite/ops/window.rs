//! Padding of windows: TFLite has the two modes SAME and VALID, and computes the amounts itself.

use qcc_formats::tflite::Padding;

/// One spatial axis of a windowed operator.
pub(super) struct Axis {
    /// Extent of the image.
    pub(super) image: usize,
    /// Extent of the result.
    pub(super) result: usize,
    /// Extent of the dilated window.
    pub(super) reach: usize,
    /// Stride of the window.
    pub(super) stride: usize,
    /// Padding before the image. The padding after it follows.
    pub(super) before: usize,
}

/// The padding mode with these amounts on every axis.
///
/// VALID has no padding. SAME has `ceil(image / stride)` results and splits the required padding in halves, the smaller
/// one before.
pub(super) fn padding(axes: &[Axis]) -> Option<Padding> {
    let valid = |a: &Axis| a.before == 0 && a.image >= a.reach && a.result == (a.image - a.reach) / a.stride + 1;
    let same = |a: &Axis| {
        let total = ((a.result - 1) * a.stride + a.reach).saturating_sub(a.image);
        a.result == a.image.div_ceil(a.stride) && a.before == total / 2
    };
    if axes.iter().all(valid) {
        Some(Padding::VALID)
    } else if axes.iter().all(same) {
        Some(Padding::SAME)
    } else {
        None
    }
}
