//! Convolutions.

use qcc_formats::openvino::{Attribute, Operation, Port};
use qcc_ir::Dim;
use qcc_ir::ops::{Conv, ConvTranspose};

use super::super::emit::{Emitter, Site, attribute, list};

fn window(stride: &[usize], before: &[usize], after: &[usize], dilation: &[usize]) -> Vec<Attribute> {
    vec![
        attribute("strides", list(stride)),
        attribute("dilations", list(dilation)),
        attribute("pads_begin", list(before)),
        attribute("pads_end", list(after)),
        attribute("auto_pad", "explicit"),
    ]
}

/// Convolution, or GroupConvolution, whose weight has an axis more, with a bias behind it.
pub(super) fn conv(e: &mut Emitter<'_>, op: &Conv, site: &Site) -> Port {
    let kind = if op.groups == 1 { "Convolution" } else { "GroupConvolution" };
    let data = window(&op.stride, &op.before, &op.after, &op.dilation);
    let inputs = [e.operand(site, 0), weight(e, site, op.groups)];
    let sums = e.op(Operation(kind, 1), &data, &inputs, &site.results[0].real());
    add_bias(e, sums, site)
}

/// ConvolutionBackpropData, or GroupConvolutionBackpropData.
pub(super) fn conv_transpose(e: &mut Emitter<'_>, op: &ConvTranspose, site: &Site) -> Port {
    let kind = if op.groups == 1 { "ConvolutionBackpropData" } else { "GroupConvolutionBackpropData" };
    let mut data = window(&op.stride, &op.before, &op.after, &op.dilation);
    data.push(attribute("output_padding", list(&op.extra)));
    let inputs = [e.operand(site, 0), weight(e, site, op.groups)];
    let sums = e.op(Operation(kind, 1), &data, &inputs, &site.results[0].real());
    add_bias(e, sums, site)
}

/// Operand 1; where there are groups, its first axis falls into them and the rest.
fn weight(e: &mut Emitter<'_>, site: &Site, groups: usize) -> Port {
    let shape = &site.operands[1].shape;
    match shape.dims() {
        [first, rest @ ..] if groups > 1 => {
            let first = [groups, first.known().unwrap_or(groups) / groups].map(Dim::Known);
            e.shaped(site.values[1], &first.iter().chain(rest).cloned().collect())
        }
        _ => e.operand(site, 1),
    }
}

/// Adds operand 2, where there is one, along the channels.
fn add_bias(e: &mut Emitter<'_>, sums: Port, site: &Site) -> Port {
    let Some(&bias) = site.values.get(2) else { return sums };
    let ty = site.results[0].real();
    let aligned = ty.shape.dims().iter().enumerate().map(|(i, d)| if i == 1 { d.clone() } else { Dim::Known(1) });
    let bias = e.shaped(bias, &aligned.collect());
    e.binary("Add", sums, bias, &ty)
}
