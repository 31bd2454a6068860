//! Convolutions.

use qcc_formats::openvino::{Attribute, Operation, Port};
use qcc_ir::ops::{Conv, ConvTranspose};
use qcc_ir::{Dim, Elem, TensorType};

use super::super::emit::{Emitter, NodeContext, attribute, list};

fn window(stride: &[usize], before: &[usize], after: &[usize], dilation: &[usize]) -> Vec<Attribute> {
    vec![
        attribute("strides", list(stride)),
        attribute("dilations", list(dilation)),
        attribute("pads_begin", list(before)),
        attribute("pads_end", list(after)),
        attribute("auto_pad", "explicit"),
    ]
}

/// Convolution or GroupConvolution, whose weight has an additional axis, followed by the bias.
pub(super) fn conv(e: &mut Emitter<'_>, op: &Conv, site: &NodeContext) -> Port {
    let kind = if op.groups == 1 { "Convolution" } else { "GroupConvolution" };
    let x = e.operand(site, 0);
    let (x, op) = if moves_stride(op, &site.operands[1]) { thinned(e, op, x, site) } else { (x, op.clone()) };
    let data = window(&op.stride, &op.before, &op.after, &op.dilation);
    let inputs = [x, weight(e, site, op.groups)];
    let sums = e.op(Operation(kind, 1), &data, &inputs, &site.results[0].real());
    add_bias(e, sums, site)
}

/// True if the plugin would move the stride of a pointwise convolution before its padding and further through
/// element-wise operations (StridesOptimization), which changes the extents of the result.
fn moves_stride(op: &Conv, weight: &TensorType) -> bool {
    let one_tap = weight.shape.dims()[2..].iter().all(|d| *d == Dim::Known(1));
    one_tap && op.stride.iter().any(|&s| s > 1) && op.before.iter().chain(&op.after).any(|&p| p > 0)
}

/// The elements of the padded image that a strided pointwise convolution uses, and the convolution over them.
fn thinned(e: &mut Emitter<'_>, op: &Conv, x: Port, site: &NodeContext) -> (Port, Conv) {
    let spatial = op.stride.len();
    let image = |dims: Vec<Dim>| {
        let outer = site.operands[0].shape.dims()[..2].iter().cloned();
        TensorType::new(Elem::F32, outer.chain(dims).collect())
    };
    let extents = site.operands[0].shape.dims()[2..].iter().map(|d| d.known().unwrap_or(0));
    let padded: Vec<usize> = extents.zip(&op.before).zip(&op.after).map(|((n, b), a)| n + b + a).collect();
    let pads = |pads: &[usize]| [0, 0].iter().chain(pads).copied().collect::<Vec<usize>>();
    let inputs = [x, e.axes(&pads(&op.before)), e.axes(&pads(&op.after)), e.scalar(0.0)];
    let around = image(padded.iter().map(|&n| Dim::Known(n)).collect());
    let x = e.op(Operation("Pad", 1), &[attribute("pad_mode", "constant")], &inputs, &around);
    let axes: Vec<usize> = (2..2 + spatial).collect();
    let inputs = [x, e.axes(&vec![0; spatial]), e.axes(&padded), e.axes(&op.stride), e.axes(&axes)];
    let read = image(site.results[0].shape.dims()[2..].to_vec());
    let x = e.op(Operation("Slice", 8), &[], &inputs, &read);
    (x, Conv { groups: op.groups, ..Conv::unit(spatial) })
}

/// ConvolutionBackpropData, or GroupConvolutionBackpropData.
pub(super) fn conv_transpose(e: &mut Emitter<'_>, op: &ConvTranspose, site: &NodeContext) -> Port {
    let kind = if op.groups == 1 { "ConvolutionBackpropData" } else { "GroupConvolutionBackpropData" };
    let mut data = window(&op.stride, &op.before, &op.after, &op.dilation);
    data.push(attribute("output_padding", list(&op.extra)));
    let inputs = [e.operand(site, 0), weight(e, site, op.groups)];
    let sums = e.op(Operation(kind, 1), &data, &inputs, &site.results[0].real());
    add_bias(e, sums, site)
}

/// Operand 1; with groups, its first axis is split into groups and the rest.
fn weight(e: &mut Emitter<'_>, site: &NodeContext, groups: usize) -> Port {
    let grouped = match site.operands[1].shape.dims() {
        [first, rest @ ..] if groups > 1 => {
            let first = [groups, first.known().unwrap_or(groups) / groups].map(Dim::Known);
            first.iter().chain(rest).cloned().collect()
        }
        dims => dims.iter().cloned().collect(),
    };
    let alone = site.operands[0].elem.qparams().is_none();
    if alone { e.widened(site.values[1], &grouped) } else { e.shaped(site.values[1], &grouped) }
}

/// Adds operand 2, if present, along the channels.
fn add_bias(e: &mut Emitter<'_>, sums: Port, site: &NodeContext) -> Port {
    let Some(&bias) = site.values.get(2) else { return sums };
    let ty = site.results[0].real();
    let aligned = ty.shape.dims().iter().enumerate().map(|(i, d)| if i == 1 { d.clone() } else { Dim::Known(1) });
    let bias = e.shaped(bias, &aligned.collect());
    e.binary("Add", sums, bias, &ty)
}
