//! Convolutions.

use qcc_ir::ops::{Conv, ConvTranspose};

use super::super::call::Call;
use super::super::emit::{Emitter, Name, NodeContext, Unsupported};
use super::quantize;

/// Conv, or QLinearConv.
pub(super) fn conv(e: &mut Emitter<'_>, op: &Conv, site: &NodeContext<'_>) -> Result<(), Unsupported> {
    let is_quantized = site.results[0].elem.qparams().is_some();
    let window = site.operands[1].shape.extents().ok_or("the extents of its weight are open")?;
    let call = Call::new(if is_quantized { "QLinearConv" } else { "Conv" })
        .sizes("kernel_shape", window[2..].iter().copied())
        .sizes("strides", op.stride.iter().copied())
        .sizes("pads", op.before.iter().chain(&op.after).copied())
        .sizes("dilations", op.dilation.iter().copied())
        .size("group", op.groups);
    if !is_quantized {
        return real(e, call, site);
    }
    let mut inputs: Vec<Name> = Vec::new();
    inputs.extend(quantize::operand(e, site, 0)?);
    inputs.extend(quantize::operand(e, site, 1)?);
    inputs.extend(quantize::result(e, site)?);
    if site.values.len() > 2 {
        inputs.push(e.input(site, 2));
    }
    e.push(call, &inputs, &site.outputs);
    Ok(())
}

/// ConvTranspose.
pub(super) fn conv_transpose(
    e: &mut Emitter<'_>,
    op: &ConvTranspose,
    site: &NodeContext<'_>,
) -> Result<(), Unsupported> {
    let window = site.operands[1].shape.extents().ok_or("the extents of its weight are open")?;
    let call = Call::new("ConvTranspose")
        .sizes("kernel_shape", window[2..].iter().copied())
        .sizes("strides", op.stride.iter().copied())
        .sizes("pads", op.before.iter().chain(&op.after).copied())
        .sizes("output_padding", op.extra.iter().copied())
        .sizes("dilations", op.dilation.iter().copied())
        .size("group", op.groups);
    real(e, call, site)
}

/// A float convolution.
fn real(e: &mut Emitter<'_>, call: Call, site: &NodeContext<'_>) -> Result<(), Unsupported> {
    let mut inputs = vec![e.input(site, 0), weight(e, site)?];
    if site.values.len() > 2 {
        inputs.push(e.input(site, 2));
    }
    e.push(call, &inputs, &site.outputs);
    Ok(())
}

/// The weight. If only the weight is quantized, the convolution computes in floating point with the dequantized weight.
fn weight(e: &mut Emitter<'_>, site: &NodeContext<'_>) -> Result<Name, Unsupported> {
    let v = site.values[1];
    let alone = site.graph.ty(site.values[0]).elem.qparams().is_none();
    let qparams = site.graph.ty(v).elem.qparams().filter(|qparams| alone && qparams.zero_point() == 0);
    let (Some(_), Some(constant)) = (qparams, site.constant(1)) else { return Ok(e.input(site, 1)) };
    Ok(e.dequantized(&e.wanted(v), constant))
}
