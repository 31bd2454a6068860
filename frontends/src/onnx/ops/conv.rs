//! Convolutions.

use qcc_ir::ops::{Conv, ConvTranspose, Extents};
use qcc_ir::{Dim, Shape, ValueId};

use super::super::node::NodeCx;
use super::Row;
use super::window::{AutoPad, AutoWindow};
use crate::build::window::{Window, image_of_columns};
use crate::build::{Build, Operands, Values, extent, extents, one};
use crate::refusal::Refusal;

pub(super) const ROWS: &[Row] = &[("Col2Im", col2im), ("Conv", conv), ("ConvTranspose", conv_transpose)];

fn col2im(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let x = n.input(0)?;
    let (image, block) = (extents(&n.integers(1)?)?, extents(&n.integers(2)?)?);
    let window = AutoWindow::read(n, block.into())?.resolve(Shape::known(&image).dims())?;
    one(image_of_columns(n, x, &image, &window)?)
}

/// x, weight, and the bias if given.
fn operands(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let mut operands = Values::from_iter([n.input(0)?, n.input(1)?]);
    operands.extend(n.optional(2));
    Ok(operands)
}

/// The spatial extents of x and of the kernel.
fn spatial(n: &mut NodeCx<'_, '_>, x: ValueId, weight: ValueId) -> Result<(Vec<Dim>, Extents), Refusal> {
    let (x, w) = (n.shape(x).dims().to_vec(), n.dims(weight)?);
    if x.len() < 3 || x.len() != w.len() {
        return Err(Refusal::Invalid(format!("an image of rank {} and a weight of rank {}", x.len(), w.len())));
    }
    let (x, w) = (x[2..].to_vec(), Extents::from_slice(&w[2..]));
    if let Some(kernel) = n.ints("kernel_shape")?
        && extents(kernel)?.as_slice() != w.as_slice()
    {
        return Err(Refusal::Invalid(format!("kernel_shape {kernel:?} is not that of the weight, {w:?}")));
    }
    if w.contains(&0) {
        return Err(Refusal::Invalid("a weight without elements".into()));
    }
    Ok((x, w))
}

fn groups(n: &mut NodeCx<'_, '_>) -> Result<usize, Refusal> {
    let group = n.int("group", 1)?;
    extent(group)
}

fn conv(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let mut operands = operands(n)?;
    let (_, kernel) = spatial(n, operands[0], operands[1])?;
    let (x, window) = AutoWindow::read(n, kernel)?.on(n, operands[0], Some(0.0))?;
    let Window { stride, dilation, before, after, .. } = window;
    operands[0] = x;
    let groups = groups(n)?;
    one(n.add(Conv { stride, before, after, dilation, groups }, &operands)?)
}

fn conv_transpose(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let operands = operands(n)?;
    let (image, kernel) = spatial(n, operands[0], operands[1])?;
    let AutoWindow { mut window, auto } = AutoWindow::read(n, kernel)?;
    let groups = groups(n)?;
    let axes = image.len();
    let per_axis = |values: Option<&[i64]>| -> Result<Option<Extents>, Refusal> {
        let Some(values) = values else { return Ok(None) };
        let values = Extents::from_vec(extents(values)?);
        if values.len() == axes {
            Ok(Some(values))
        } else {
            Err(Refusal::Invalid(format!("{values:?} for {axes} axes")))
        }
    };
    let mut extra = per_axis(n.ints("output_padding")?)?.unwrap_or_else(|| Extents::from_elem(0, axes));
    let asked = per_axis(n.ints("output_shape")?)?;
    let same = matches!(auto, AutoPad::SameUpper | AutoPad::SameLower);
    for i in 0..axes {
        if asked.is_none() && !same {
            continue;
        }
        let image = image[i].known().ok_or_else(|| Refusal::Open(image.iter().cloned().collect()))?;
        let size = asked.as_ref().map_or(image * window.stride[i], |asked| asked[i]);
        // Excess over the requested size is cropped; missing elements are added at the end.
        let full = (image.max(1) - 1) * window.stride[i] + window.reach(i) + extra[i];
        if size > full && asked.is_none() {
            // The standard pads the end, ONNX Runtime does not.
            let message = "auto_pad where steps are wider than the window is not supported; give pads";
            return Err(Refusal::Unsupported(message.into()));
        }
        (window.before[i], window.after[i]) = auto.halve(full.saturating_sub(size));
        extra[i] += size.saturating_sub(full);
    }
    let Window { stride, dilation, before, after, .. } = window;
    one(n.add(ConvTranspose { stride, before, after, extra, dilation, groups }, &operands)?)
}
