//! The places of maxima, and pooling undone by them.

use qcc_ir::ops::{BinaryFn, Expand, Extents, ScatterFn, ScatterNd, Select};
use qcc_ir::{Shape, ValueId};

use super::super::node::NodeCx;
use super::Row;
use super::window::AutoWindow;
use crate::build::window::{Window, padded_taps};
use crate::build::{Build, Operands, Values, extents, one};
use crate::refusal::Refusal;

pub(super) const ROWS: &[Row] = &[("MaxUnpool", max_unpool)];

/// The indices of the maxima of windows in all elements of `x`: of equal elements the first. With `column_major` the
/// indices in an image count along the first spatial axis first.
pub(super) fn places_of_maxima(
    n: &mut NodeCx<'_, '_>,
    x: ValueId,
    window: &Window,
    ceil: bool,
    column_major: bool,
) -> Result<ValueId, Refusal> {
    let dims = n.dims(x)?;
    let image = &dims[2..];
    let (taps, steps) = padded_taps(n, x, window, ceil)?;
    let pixels: usize = image.iter().product();
    let shape: Extents = dims[..2].iter().chain(&steps).copied().collect();
    let per_image: usize = steps.iter().product();
    let mut best: Option<[ValueId; 2]> = None;
    for (tap, value) in taps {
        // Taps outside the image are minus infinity: their places are never those of a maximum.
        let place = |i: usize| -> i64 {
            let (mut rest, mut place, mut unit) = (i % per_image, 0i64, 1i64);
            let mut strides = vec![0i64; image.len()];
            let order: Vec<usize> =
                if column_major { (0..image.len()).collect() } else { (0..image.len()).rev().collect() };
            for &axis in &order {
                strides[axis] = unit;
                unit *= image[axis] as i64;
            }
            for axis in (0..image.len()).rev() {
                let step = rest % steps[axis];
                rest /= steps[axis];
                let at = (step * window.stride[axis] + tap[axis] * window.dilation[axis]) as i64;
                place += strides[axis] * (at - window.before[axis] as i64);
            }
            place + (i / per_image * pixels) as i64
        };
        let places = n.table(&shape, place)?;
        best = Some(match best {
            None => [value, places],
            Some([most, known]) => {
                let better = n.binary(BinaryFn::Greater, value, most)?;
                [n.binary(BinaryFn::Max, value, most)?, n.add(Select {}, &[better, places, known])?]
            }
        });
    }
    best.map(|[_, places]| places).ok_or_else(|| Refusal::Invalid("an empty window".into()))
}

/// Puts each element to its place in an image of zeros.
fn max_unpool(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let (x, places) = (n.input(0)?, n.input(1)?);
    let kernel = n.ints("kernel_shape")?;
    let kernel = kernel.ok_or(Refusal::Attribute { name: "kernel_shape".into(), problem: "is missing" })?;
    let window = AutoWindow::read(n, extents(kernel)?.into())?.window;
    let dims = n.dims(x)?;
    if dims.len() != window.kernel.len() + 2 || n.dims(places)? != dims {
        return Err(Refusal::Invalid(format!("places {} for {}", n.ty(places), n.ty(x))));
    }
    let spatial = |i: usize| {
        let covered = (dims[2 + i].max(1) - 1) * window.stride[i] + window.kernel[i];
        covered.checked_sub(window.before[i] + window.after[i])
    };
    let image: Option<Extents> = (0..window.kernel.len()).map(spatial).collect();
    let image = image.ok_or_else(|| Refusal::Invalid("pads are larger than the image".into()))?;
    let image: Extents = dims[..2].iter().copied().chain(image).collect();
    if let Some(asked) = n.optional_integers(2)?
        && extents(&asked)?.as_slice() != image.as_slice()
    {
        let message = format!("an output_shape other than that of the window, {image:?}, is not supported");
        return Err(Refusal::Unsupported(message));
    }
    let (count, total) = (dims.iter().product::<usize>(), image.iter().product::<usize>());
    let zero = n.scalar(0.0, x)?;
    let zeros = n.add(Expand { shape: Shape::known(&[total]) }, &[zero])?;
    let (x, places) = (n.reshape(x, &[count])?, n.reshape(places, &[count, 1])?);
    let y = n.add(ScatterNd { f: ScatterFn::Replace }, &[zeros, places, x])?;
    one(n.reshape(y, &image)?)
}
