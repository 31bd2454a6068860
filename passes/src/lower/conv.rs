//! Lowering of convolutions: one or three spatial axes become two, padding becomes Pad, and transposed convolutions
//! with groups or dilations become convolutions over an image with inserted zeros.

use qcc_ir::ops::{Conv, ConvTranspose, Extents, Op, Pad, PadMode, Reverse};
use qcc_ir::{Dim, NodeId, Shape, ValueId};

use super::build::{Build, Built};
use super::volume;
use crate::Skip;

/// The two-dimensional attribute with the given value for the height and `width` for the width.
pub(super) fn row(width: &Extents, height: usize) -> Extents {
    [height, width[0]].into_iter().collect()
}

pub(super) fn conv(b: &mut Build<'_>, node: NodeId) -> Built {
    let Op::Conv(op) = b.g.op(node) else { return Err(Skip::NoMatch) };
    let (op, mut operands) = (op.clone(), b.g.operands(node));
    if op.stride.len() == 1 {
        operands[0] = b.unsqueeze(operands[0], 2)?;
        operands[1] = b.unsqueeze(operands[1], 2)?;
        let image = Conv {
            stride: row(&op.stride, 1),
            before: row(&op.before, 0),
            after: row(&op.after, 0),
            dilation: row(&op.dilation, 1),
            groups: op.groups,
        };
        let y = b.op(image, &operands)?;
        return b.squeeze(y, 2);
    }
    if op.before.iter().chain(&op.after).all(|&p| p == 0) {
        return if op.stride.len() == 3 { volume::conv(b, &op, &operands) } else { Err(Skip::NoMatch) };
    }
    operands[0] = b.pad_spatial(operands[0], &op.before, &op.after, 0.0)?;
    let zero = Extents::from_elem(0, op.stride.len());
    b.op(Conv { before: zero.clone(), after: zero, ..op }, &operands)
}

pub(super) fn conv_transpose(b: &mut Build<'_>, node: NodeId) -> Built {
    let Op::ConvTranspose(op) = b.g.op(node) else { return Err(Skip::NoMatch) };
    let (op, mut operands) = (op.clone(), b.g.operands(node));
    match op.stride.len() {
        1 => {
            operands[0] = b.unsqueeze(operands[0], 2)?;
            operands[1] = b.unsqueeze(operands[1], 2)?;
            let image = ConvTranspose {
                stride: row(&op.stride, 1),
                before: row(&op.before, 0),
                after: row(&op.after, 0),
                extra: row(&op.extra, 0),
                dilation: row(&op.dilation, 1),
                groups: op.groups,
            };
            let y = b.op(image, &operands)?;
            b.squeeze(y, 2)
        }
        2 if op.groups > 1 || op.dilation.iter().any(|&d| d > 1) => over_stretched(b, &op, &operands),
        3 => over_stretched(b, &op, &operands),
        2 if op.before.iter().chain(&op.after).chain(&op.extra).any(|&p| p > 0) => cut(b, node, op, &operands),
        _ => Err(Skip::NoMatch),
    }
}

/// A transposed convolution without padding, and a slice that removes the pads. Elements beyond the last tap have the
/// bias only: the window is extended by zeros to cover them.
fn cut(b: &mut Build<'_>, node: NodeId, op: ConvTranspose, operands: &[ValueId]) -> Built {
    let mut operands = operands.to_vec();
    let result = b.ty(node.value(0)).shape.clone();
    let beyond: Extents = op.extra.iter().zip(&op.after).map(|(e, a)| e.saturating_sub(*a)).collect();
    operands[1] = b.pad_spatial(operands[1], &[0, 0], &beyond, 0.0)?;
    let zero = Extents::from_elem(0, 2);
    let plain = ConvTranspose { before: zero.clone(), after: zero.clone(), extra: zero, ..op.clone() };
    let mut y = b.op(plain, &operands)?;
    for i in 0..2 {
        y = b.part(y, 2 + i, &Dim::Known(op.before[i]), &result.dims()[2 + i])?;
    }
    Ok(y)
}

/// A convolution with a flipped window, over the image with `stride - 1` zeros between its elements.
fn over_stretched(b: &mut Build<'_>, op: &ConvTranspose, operands: &[ValueId]) -> Built {
    let (x, w) = (b.ty(operands[0]).shape.clone(), b.extents(operands[1])?);
    let mut image = operands[0];
    // The image is padded by the extent of the window, minus the pads and the zeros that follow the last element.
    let mut pads = [Extents::new(), Extents::new()];
    for (i, &stride) in op.stride.iter().enumerate() {
        image = stretched(b, image, 2 + i, stride)?;
        let reach = op.dilation[i] * (w[2 + i] - 1);
        let (front, back) = (reach, reach + op.extra[i]);
        let (cut_front, cut_back) = (op.before[i], op.after[i] + stride - 1);
        pads[0].push(front.saturating_sub(cut_front));
        pads[1].push(back.saturating_sub(cut_back));
        let (start, end) = (cut_front.saturating_sub(front), cut_back.saturating_sub(back));
        let len = x.dims()[2 + i].map(|x| x.times(&(stride as i64).into())?.minus(&((start + end) as i64).into()));
        let len = len.ok_or(Skip::because("the pads remove the whole image"))?;
        image = b.part(image, 2 + i, &Dim::Known(start), &len)?;
    }
    let [before, after] = pads;
    let stride = Extents::from_elem(1, op.stride.len());
    let conv = Conv { stride, before, after, dilation: op.dilation.clone(), groups: op.groups };
    let weight = turned(b, operands[1], op.groups)?;
    b.op(conv, &[&[image, weight], &operands[2..]].concat())
}

/// Inserts `by - 1` zeros after each element of an axis.
fn stretched(b: &mut Build<'_>, x: ValueId, axis: usize, by: usize) -> Built {
    if by == 1 {
        return Ok(x);
    }
    let shape = b.ty(x).shape.clone();
    let (outer, inner) = shape.dims().split_at(axis + 1);
    let large = || Skip::because("its extents are too large");
    let (outer, inner) = Shape::count(outer).zip(Shape::count(inner)).ok_or_else(large)?;
    let apart = b.reshape(x, [outer, Dim::Known(1), inner].into_iter().collect())?;
    let [before, after] = [[0, 0, 0], [0, by - 1, 0]].map(|pads| pads.into_iter().collect());
    let spread = b.op(Pad { before, after, mode: PadMode::Constant(0.0) }, &[apart])?;
    let extent = shape.dims()[axis].times(&Dim::Known(by)).ok_or_else(large)?;
    b.reshape(spread, shape.with(axis, extent))
}

/// Converts the weight of a transposed convolution `[C, O/g, k..]` to that of a convolution `[O, C/g, k..]`, with
/// flipped windows.
fn turned(b: &mut Build<'_>, w: ValueId, groups: usize) -> Built {
    let extents = b.extents(w)?;
    let (inputs, outputs, window) = (extents[0] / groups, extents[1], &extents[2..]);
    let split = b.reshape(w, Shape::known(&[&[groups, inputs, outputs], window].concat()))?;
    let axes: Vec<usize> = [0, 2, 1].into_iter().chain(3..extents.len() + 1).collect();
    let swapped = b.transpose(split, &axes)?;
    let joined = b.reshape(swapped, Shape::known(&[&[groups * outputs, inputs], window].concat()))?;
    b.op(Reverse { axes: (2..extents.len()).collect() }, &[joined])
}
