//! Convolutions.

use qcc_formats::tflite::{Activation, BuiltinOperator as B, Conv2D, DepthwiseConv2D, Padding, TransposeConv};
use qcc_ir::ops::{Conv, ConvTranspose, Extents, OpenSlice};
use qcc_ir::{Dim, ValueId};
use smallvec::smallvec;

use super::super::node::NodeCx;
use super::window::padded;
use super::{Row, positive};
use crate::build::index::part;
use crate::build::padding::{Odd, same_padding};
use crate::build::window::Window;
use crate::build::{Build, Operands, Values, extent};
use crate::refusal::Refusal;

pub(super) const ROWS: &[Row] =
    &[(B::CONV_2D, conv), (B::DEPTHWISE_CONV_2D, depthwise), (B::TRANSPOSE_CONV, conv_transpose)];

/// Window and activation of a convolution.
struct Settings {
    padding: Padding,
    stride: [i32; 2],
    dilation: [i32; 2],
    activation: Activation,
}

/// Filters are O,H,W,I.
fn conv(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let o: Conv2D = n.options()?;
    let (x, w) = (n.image(0)?, n.weight(1, &[0, 2, 3, 1])?);
    let (channels, inputs) = (n.extent(x, 1)?, n.dims(w)?[1]);
    let groups = channels.checked_div(inputs).unwrap_or(0);
    let settings = Settings {
        padding: o.padding,
        stride: [o.stride_h, o.stride_w],
        dilation: [o.dilation_h, o.dilation_w],
        activation: o.activation,
    };
    add(n, &settings, x, w, groups)
}

/// Filters are 1,H,W,O.
fn depthwise(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let o: DepthwiseConv2D = n.options()?;
    let (x, w) = (n.image(0)?, n.weight(1, &[1, 2, 3, 0])?);
    let groups = n.extent(x, 1)?;
    let settings = Settings {
        padding: o.padding,
        stride: [o.stride_h, o.stride_w],
        dilation: [o.dilation_h, o.dilation_w],
        activation: o.activation,
    };
    add(n, &settings, x, w, groups)
}

/// Two extents or strides of a window, which must be positive.
fn both(numbers: [i32; 2], what: &str) -> Result<Extents, Refusal> {
    Ok(smallvec![positive(numbers[0], what)?, positive(numbers[1], what)?])
}

fn add(n: &mut NodeCx<'_, '_>, s: &Settings, x: ValueId, w: ValueId, groups: usize) -> Result<Values, Refusal> {
    let (stride, dilation) = (both(s.stride, "a stride")?, both(s.dilation, "a dilation")?);
    let kernel = Extents::from_slice(&n.dims(w)?[2..]);
    let mut window = Window { kernel, stride, dilation, before: smallvec![0, 0], after: smallvec![0, 0] };
    let x = padded(n, s.padding, x, &mut window, Some(0.0))?;
    let Window { stride, dilation, before, after, .. } = window;
    let mut operands = Values::from_slice(&[x, w]);
    operands.extend(n.bias(2, x, w)?);
    let y = n.give_active(Conv { stride, before, after, dilation, groups }, &operands, s.activation)?;
    n.give_image(y)
}

/// Filters are O,H,W,I. The shape of the result is an input; the padding follows from it. Of a result whose extents are known at
/// run time only, the largest one that the kernel takes is computed, and then cut: a stride less than another step of the window.
fn conv_transpose(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let o: TransposeConv = n.options()?;
    let size = n.shape_at(0)?;
    let (x, w) = (n.image(2)?, n.weight(1, &[1, 2, 3, 0])?);
    let stride = both([o.stride_h, o.stride_w], "a stride")?;
    let [_, height, width, _] = size.dims() else {
        return Err(Refusal::Invalid(format!("the result has the extents {size}; expected those of an image")));
    };
    let (is_computed, size) = (size.is_computed(), [height.clone(), width.clone()]);
    let (image, window) = (n.shape(x).dims()[2..].to_vec(), n.dims(w)?);
    let padding = |i: usize| match o.padding {
        Padding::VALID => Ok([0, 0]),
        Padding::SAME => same_padding(&size[i], window[2 + i], stride[i], Odd::After)
            .ok_or_else(|| Refusal::Open(size.iter().cloned().collect())),
        other => Err(Refusal::Unsupported(format!("padding {other} is not supported"))),
    };
    let before = (0..2).map(|i| Ok(padding(i)?[0])).collect::<Result<Extents, Refusal>>()?;
    let (mut after, mut extra, mut cuts) = (Extents::new(), Extents::new(), Vec::new());
    for i in 0..2 {
        let beyond = match beyond(&image[i], &size[i], [stride[i], window[2 + i], before[i]]) {
            Some(beyond) => beyond,
            None if is_computed => {
                cuts.push(OpenSlice { axis: 2 + i, start: 0.into(), len: size[i].expr() });
                1 - stride[i] as i64
            }
            None => return Err(Refusal::Open(n.shape(x).clone())),
        };
        after.push(extent(beyond.max(0))?);
        extra.push(extent(beyond.min(0).saturating_neg())?);
    }
    let mut operands = Values::from_slice(&[x, w]);
    operands.extend(n.bias(3, x, w)?);
    let op = ConvTranspose { stride, before, after, extra, dilation: smallvec![1, 1], groups: 1 };
    let y = n.give_active(op, &operands, o.activation)?;
    let y = cuts.into_iter().try_fold(y, |y, cut| part(n, y, cut))?;
    n.give_image(y)
}

/// What the windows over all of an image cover beyond the result and the padding before it. `None` if that depends on open
/// extents.
fn beyond(image: &Dim, size: &Dim, [stride, window, before]: [usize; 3]) -> Option<i64> {
    let steps = if *image == Dim::Known(0) { 0.into() } else { image.expr().plus(&(-1).into())? };
    let full = steps.times(&(stride as i64).into())?.plus(&(window as i64).into())?;
    full.minus(&size.expr().plus(&(before as i64).into())?)?.constant()
}
