//! Deformable convolutions: samples at computed positions, and a product with the weight.

use qcc_ir::ops::{BinaryFn, Concat, Conv, GridSample, Outside, SampleMode};

use super::super::node::NodeCx;
use super::Row;
use super::window::AutoWindow;
use crate::build::control::slice_at;
use crate::build::{Build, Values, extent, one};
use crate::refusal::Refusal;

pub(super) const ROWS: &[Row] = &[("DeformConv", deform_conv)];

/// Each tap of the window is moved by an offset of its own at each position of the window, and multiplied by a mask.
fn deform_conv(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let (x, weight, offset) = (n.input(0)?, n.input(1)?, n.input(2)?);
    let (bias, mask) = (n.optional(3), n.optional(4));
    let (groups, shared) = (n.int("group", 1)?, n.int("offset_group", 1)?);
    let (groups, shared) = (extent(groups)?, extent(shared)?);
    let (image, kernel, places) = (n.dims(x)?, n.dims(weight)?, n.dims(offset)?);
    let (&[batch, channels, height, width], &[outputs, _, rows, columns]) = (image.as_slice(), kernel.as_slice())
    else {
        return Err(Refusal::Unsupported(format!("a deformable convolution of {}", n.ty(x))));
    };
    n.ints("kernel_shape")?;
    let window = AutoWindow::read(n, [rows, columns].into_iter().collect())?
        .resolve(n.shape(x).clone().dims().get(2..).unwrap_or_default())?;
    let taps = rows * columns;
    let fits = shared > 0 && channels.is_multiple_of(shared) && groups > 0 && taps > 0;
    let &[_, _, out_rows, out_columns] = places.as_slice() else {
        return Err(Refusal::Invalid(format!("offsets {}", n.ty(offset))));
    };
    if !fits || places[..2] != [batch, shared * taps * 2] {
        return Err(Refusal::Invalid(format!("offsets {} for {} and {}", n.ty(offset), n.ty(x), n.ty(weight))));
    }
    let elem = n.ty(x).elem.clone();
    let images = batch * shared;
    // Offsets along an axis: [images, taps, rows, columns].
    let offset = n.reshape(offset, &[images, taps, 2, out_rows, out_columns])?;
    let mut positions = Values::new();
    for (axis, extent) in [(1, width), (0, height)] {
        let moved = slice_at(n, offset, 2, axis)?;
        let at = |i: usize| {
            let (tap, row, column) = (i / out_columns / out_rows, i / out_columns % out_rows, i % out_columns);
            let (tap, step) = if axis == 0 { (tap / columns, row) } else { (tap % columns, column) };
            (step * window.stride[axis] + tap * window.dilation[axis]) as f64 - window.before[axis] as f64
        };
        let still = n.table_of(&elem, &[1, taps, out_rows, out_columns], at)?;
        let still = still.ok_or_else(|| Refusal::Unsupported(format!("positions of {elem}")))?;
        let at = n.binary(BinaryFn::Add, moved, still)?;
        // -1 and 1 are the outer edges of the image.
        let factor = n.scalar(2.0 / extent as f64, at)?;
        let first = n.scalar(1.0 / extent as f64 - 1.0, at)?;
        let at = n.binary(BinaryFn::Mul, at, factor)?;
        let at = n.binary(BinaryFn::Add, at, first)?;
        positions.push(n.reshape(at, &[images, taps * out_rows, out_columns, 1])?);
    }
    let positions = n.add(Concat { axis: 3 }, &positions)?;
    let x = n.reshape(x, &[images, channels / shared, height, width])?;
    let op = GridSample { mode: SampleMode::Linear, outside: Outside::Zero, align_corners: false };
    let mut samples = n.add(op, &[x, positions])?;
    if let Some(mask) = mask {
        let mask = n.reshape(mask, &[images, 1, taps * out_rows, out_columns])?;
        samples = n.binary(BinaryFn::Mul, samples, mask)?;
    }
    let samples = n.reshape(samples, &[batch, channels * taps, out_rows, out_columns])?;
    let inner: usize = kernel[1..].iter().product();
    let weight = n.reshape(weight, &[outputs, inner, 1, 1])?;
    let operands: Values = [samples, weight].into_iter().chain(bias).collect();
    one(n.add(Conv { groups, ..Conv::unit(2) }, &operands)?)
}
