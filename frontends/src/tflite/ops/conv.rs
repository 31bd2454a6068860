//! Convolutions.

use qcc_formats::tflite::{Activation, BuiltinOperator as B, Conv2D, Conv3D, DepthwiseConv2D, Padding, TransposeConv};
use qcc_ir::ops::{Conv, ConvTranspose, Extents, OpenSlice};
use qcc_ir::{Dim, Shape, ValueId};

use super::super::node::NodeCx;
use super::window::padded;
use super::{Row, positive};
use crate::build::index::part;
use crate::build::padding::{Odd, same_padding};
use crate::build::window::Window;
use crate::build::{Build, Operands, Values, extent, one};
use crate::refusal::Refusal;

pub(super) const ROWS: &[Row] = &[
    (B::CONV_2D, conv),
    (B::CONV_3D, conv_3d),
    (B::CONV_3D_TRANSPOSE, conv_3d_transpose),
    (B::DEPTHWISE_CONV_2D, depthwise),
    (B::TRANSPOSE_CONV, conv_transpose),
];

/// Window and activation of a convolution.
struct Settings<'o> {
    padding: Padding,
    stride: &'o [i32],
    dilation: &'o [i32],
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
        stride: &[o.stride_h, o.stride_w],
        dilation: &[o.dilation_h, o.dilation_w],
        activation: o.activation,
    };
    let y = add(n, &settings, x, w, groups)?;
    n.give_image(y)
}

/// Filters are 1,H,W,O.
fn depthwise(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let o: DepthwiseConv2D = n.options()?;
    let (x, w) = (n.image(0)?, n.weight(1, &[1, 2, 3, 0])?);
    let groups = n.extent(x, 1)?;
    let settings = Settings {
        padding: o.padding,
        stride: &[o.stride_h, o.stride_w],
        dilation: &[o.dilation_h, o.dilation_w],
        activation: o.activation,
    };
    let y = add(n, &settings, x, w, groups)?;
    n.give_image(y)
}

/// Volumes are N,D,H,W,C and filters D,H,W,I,O.
fn conv_3d(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let o: Conv3D = n.options()?;
    let (x, w) = (volume(n, 0)?, n.weight(1, &[2, 3, 4, 1, 0])?);
    let (channels, inputs) = (n.extent(x, 1)?, n.dims(w)?[1]);
    let settings = Settings {
        padding: o.padding,
        stride: &[o.stride_d, o.stride_h, o.stride_w],
        dilation: &[o.dilation_d, o.dilation_h, o.dilation_w],
        activation: o.activation,
    };
    let y = add(n, &settings, x, w, channels.checked_div(inputs).unwrap_or(0))?;
    one(n.transpose(y, &FROM_VOLUME)?)
}

/// Permutations from the file's volumes to the graph's and back.
const TO_VOLUME: [usize; 5] = [0, 4, 1, 2, 3];
const FROM_VOLUME: [usize; 5] = [0, 2, 3, 4, 1];

/// The volume at input `i` as N,C,D,H,W.
fn volume(n: &mut NodeCx<'_, '_>, i: usize) -> Result<ValueId, Refusal> {
    let x = n.input(i)?;
    if n.rank(x) != 5 {
        return Err(Refusal::Invalid(format!("input {i} is {}; expected a volume of rank 5", n.ty(x))));
    }
    n.transpose(x, &TO_VOLUME)
}

/// Extents or strides of a window, which must be positive.
fn each(numbers: &[i32], what: &str) -> Result<Extents, Refusal> {
    numbers.iter().map(|&number| positive(number, what)).collect()
}

/// The convolution, with the axes of the graph.
fn add(n: &mut NodeCx<'_, '_>, s: &Settings<'_>, x: ValueId, w: ValueId, groups: usize) -> Result<ValueId, Refusal> {
    let (stride, dilation) = (each(s.stride, "a stride")?, each(s.dilation, "a dilation")?);
    let kernel = Extents::from_slice(&n.dims(w)?[2..]);
    let none = Extents::from_elem(0, kernel.len());
    let mut window = Window { kernel, stride, dilation, before: none.clone(), after: none };
    let x = padded(n, s.padding, x, &mut window, Some(0.0))?;
    let Window { stride, dilation, before, after, .. } = window;
    let mut operands = Values::from_slice(&[x, w]);
    operands.extend(n.bias(2, x, w)?);
    n.give_active(Conv { stride, before, after, dilation, groups }, &operands, s.activation)
}

/// Filters are O,H,W,I. The shape of the result is an input.
fn conv_transpose(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let o: TransposeConv = n.options()?;
    let size = n.shape_at(0)?;
    let (x, w) = (n.image(2)?, n.weight(1, &[1, 2, 3, 0])?);
    let settings =
        Settings { padding: o.padding, stride: &[o.stride_h, o.stride_w], dilation: &[1, 1], activation: o.activation };
    let y = transposed(n, &settings, x, w, &size)?;
    n.give_image(y)
}

/// Filters are D,H,W,O,I. The shape of the result is an input.
fn conv_3d_transpose(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let o: Conv3D = n.options()?;
    let size = n.shape_at(0)?;
    let (x, w) = (volume(n, 2)?, n.weight(1, &[2, 3, 4, 1, 0])?);
    let settings = Settings {
        padding: o.padding,
        stride: &[o.stride_d, o.stride_h, o.stride_w],
        dilation: &[o.dilation_d, o.dilation_h, o.dilation_w],
        activation: o.activation,
    };
    let y = transposed(n, &settings, x, w, &size)?;
    one(n.transpose(y, &FROM_VOLUME)?)
}

/// The transposed convolution, with the axes of the graph. The padding follows from the shape of the result. Of a result whose
/// extents are known at run time only, the largest one that the kernel takes is computed, and then cut: a stride less than
/// another step of the window.
fn transposed(
    n: &mut NodeCx<'_, '_>,
    s: &Settings<'_>,
    x: ValueId,
    w: ValueId,
    size: &Shape,
) -> Result<ValueId, Refusal> {
    let (stride, dilation) = (each(s.stride, "a stride")?, each(s.dilation, "a dilation")?);
    let axes = stride.len();
    if size.rank() != axes + 2 {
        return Err(Refusal::Invalid(format!("the result has the extents {size}; expected {} of them", axes + 2)));
    }
    let (is_computed, size) = (size.is_computed(), size.dims()[1..=axes].to_vec());
    let (image, window) = (n.shape(x).dims()[2..].to_vec(), n.dims(w)?);
    let reach: Extents = (0..axes).map(|i| dilation[i] * window[2 + i].saturating_sub(1) + 1).collect();
    let padding = |i: usize| match s.padding {
        Padding::VALID => Ok([0, 0]),
        Padding::SAME => same_padding(&size[i], reach[i], stride[i], Odd::After)
            .ok_or_else(|| Refusal::Open(size.iter().cloned().collect())),
        other => Err(Refusal::Unsupported(format!("padding {other} is not supported"))),
    };
    let before = (0..axes).map(|i| Ok(padding(i)?[0])).collect::<Result<Extents, Refusal>>()?;
    let (mut after, mut extra, mut cuts) = (Extents::new(), Extents::new(), Vec::new());
    for i in 0..axes {
        let beyond = match beyond(&image[i], &size[i], [stride[i], reach[i], before[i]]) {
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
    let op = ConvTranspose { stride, before, after, extra, dilation, groups: 1 };
    let y = n.give_active(op, &operands, s.activation)?;
    cuts.into_iter().try_fold(y, |y, cut| part(n, y, cut))
}

/// What the windows over all of an image cover beyond the result and the padding before it. `None` if that depends on open
/// extents.
fn beyond(image: &Dim, size: &Dim, [stride, window, before]: [usize; 3]) -> Option<i64> {
    let steps = if *image == Dim::Known(0) { 0.into() } else { image.expr().plus(&(-1).into())? };
    let full = steps.times(&(stride as i64).into())?.plus(&(window as i64).into())?;
    full.minus(&size.expr().plus(&(before as i64).into())?)?.constant()
}
