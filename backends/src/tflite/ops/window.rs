//! Windows: TFLite knows two paddings, and works out the numbers by itself.

use qcc_formats::tflite::Padding;

/// One spatial axis of a windowed operator.
pub(super) struct Axis {
    /// Extent of the image.
    pub(super) image: usize,
    /// Extent of the result.
    pub(super) result: usize,
    /// Extent of the window with its gaps.
    pub(super) reach: usize,
    /// Step of the window.
    pub(super) stride: usize,
    /// Padding before the image. What is after it follows from the other numbers.
    pub(super) before: usize,
}

/// The padding that gives these numbers on every axis.
///
/// VALID has none. SAME gives `ceil(image / stride)` results and halves what that needs, the smaller half before.
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
