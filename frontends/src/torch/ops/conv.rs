//! Convolutions.

use qcc_ir::ValueId;
use qcc_ir::ops::{Conv, ConvTranspose, Extents};

use super::super::node::NodeCx;
use super::Row;
use crate::build::window::{Window, columns, image_of_columns};
use crate::build::{Build, Values, extent, extents, one};
use crate::refusal::Refusal;

pub(super) const ROWS: &[Row] = &[
    ("col2im", |n| {
        let (x, image, window) = (n.input()?, n.extents("output_size")?, window(n)?);
        batched(n, x, 1, |n, x| image_of_columns(n, x, &image, &window))
    }),
    ("conv1d", |n| conv(n, 1)),
    ("conv2d", |n| conv(n, 2)),
    ("conv3d", |n| conv(n, 3)),
    ("conv_transpose1d", |n| conv_transpose(n, 1)),
    ("conv_transpose2d", |n| conv_transpose(n, 2)),
    ("conv_transpose3d", |n| conv_transpose(n, 3)),
    ("convolution", convolution),
    ("im2col", |n| {
        let (x, window) = (n.input()?, window(n)?);
        batched(n, x, 2, |n, x| columns(n, x, &window))
    }),
];

/// The window of columns of an image.
fn window(n: &mut NodeCx<'_, '_>) -> Result<Window, Refusal> {
    let padding = per_axis(n, "padding", 2, 0)?;
    Ok(Window {
        kernel: per_axis(n, "kernel_size", 2, 1)?,
        stride: per_axis(n, "stride", 2, 1)?,
        dilation: per_axis(n, "dilation", 2, 1)?,
        before: padding.clone(),
        after: padding,
    })
}

/// One number for each spatial axis, given as a single number or as a list.
pub(super) fn per_axis(n: &mut NodeCx<'_, '_>, name: &str, spatial: usize, default: usize) -> Result<Extents, Refusal> {
    match extents(&n.optional_ints(name)?.unwrap_or_default())?.as_slice() {
        [] => Ok(Extents::from_elem(default, spatial)),
        [one] => Ok(Extents::from_elem(*one, spatial)),
        all if all.len() == spatial => Ok(all.into()),
        _ => Err(Refusal::Argument { name: name.into(), problem: "does not have a number for each axis" }),
    }
}

/// An operator on a batch of images, which also accepts a single image.
pub(super) fn batched<F>(n: &mut NodeCx<'_, '_>, x: ValueId, spatial: usize, f: F) -> Result<Values, Refusal>
where
    F: FnOnce(&mut NodeCx<'_, '_>, ValueId) -> Result<ValueId, Refusal>,
{
    if n.rank(x) != spatial + 1 {
        return one(f(n, x)?);
    }
    let x = n.as_row(x)?;
    let y = f(n, x)?;
    one(n.reshape_to(y, n.shape(y).without(0))?)
}

fn groups(n: &mut NodeCx<'_, '_>) -> Result<usize, Refusal> {
    let groups = n.int("groups", 1)?;
    extent(groups)
}

/// The weight, and the bias if given.
fn parameters(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let mut parameters = Values::from_iter([n.tensor("weight")?]);
    parameters.extend(n.optional("bias")?);
    Ok(parameters)
}

fn conv(n: &mut NodeCx<'_, '_>, spatial: usize) -> Result<Values, Refusal> {
    let (x, parameters) = (n.tensor("input")?, parameters(n)?);
    let (stride, dilation) = (per_axis(n, "stride", spatial, 1)?, per_axis(n, "dilation", spatial, 1)?);
    let groups = groups(n)?;
    let (before, after) = match n.optional_text("padding") {
        None => {
            let padding = per_axis(n, "padding", spatial, 0)?;
            (padding.clone(), padding)
        }
        Some("valid") => (Extents::from_elem(0, spatial), Extents::from_elem(0, spatial)),
        Some("same") => {
            // Odd padding has its extra element at the end.
            let kernel = n.dims(parameters[0])?;
            let total = |i: usize| dilation[i] * kernel.get(2 + i).map_or(0, |k| k.saturating_sub(1));
            ((0..spatial).map(|i| total(i) / 2).collect(), (0..spatial).map(|i| total(i) - total(i) / 2).collect())
        }
        Some(_) => return Err(Refusal::Argument { name: "padding".into(), problem: "is not valid or same" }),
    };
    let op = Conv { stride, before, after, dilation, groups };
    batched(n, x, spatial, |n, x| apply(n, x, &parameters, op))
}

fn apply(
    n: &mut NodeCx<'_, '_>,
    x: ValueId,
    parameters: &[ValueId],
    op: impl Into<qcc_ir::ops::Op>,
) -> Result<ValueId, Refusal> {
    let operands: Values = std::iter::once(x).chain(parameters.iter().copied()).collect();
    if n.dims(parameters[0])?.contains(&0) {
        return Err(Refusal::Invalid("a weight without elements".into()));
    }
    n.add(op, &operands)
}

fn conv_transpose(n: &mut NodeCx<'_, '_>, spatial: usize) -> Result<Values, Refusal> {
    let (x, parameters) = (n.tensor("input")?, parameters(n)?);
    let padding = per_axis(n, "padding", spatial, 0)?;
    let op = ConvTranspose {
        stride: per_axis(n, "stride", spatial, 1)?,
        before: padding.clone(),
        after: padding,
        extra: per_axis(n, "output_padding", spatial, 0)?,
        dilation: per_axis(n, "dilation", spatial, 1)?,
        groups: groups(n)?,
    };
    batched(n, x, spatial, |n, x| apply(n, x, &parameters, op))
}

/// The core operator for all convolutions.
fn convolution(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let weight = n.tensor("weight")?;
    let spatial = n.rank(weight).saturating_sub(2);
    if n.flag("transposed", false)? {
        return conv_transpose(n, spatial);
    }
    per_axis(n, "output_padding", spatial, 0)?;
    conv(n, spatial)
}
