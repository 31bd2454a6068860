//! Convolutions.

use qcc_formats::tflite::{BuiltinOperator, Conv2D, DepthwiseConv2D, Padding, TransposeConv};
use qcc_ir::ops::{Conv, ConvTranspose, Op, Types};
use qcc_ir::{Affine, Elem, QuantParams, Shape, StorageType, TensorType};

use super::super::emit::{Emitter, NodeContext, Unsupported};
use super::window::{Axis, padding};
use crate::extents;

/// True if TFLite can express the padding of a convolution.
pub(in crate::tflite) fn native(op: &Op, operands: &[&TensorType]) -> bool {
    let Ok(results) = op.infer(operands) else { return false };
    match op {
        Op::Conv(c) => operands[0].rank() == 4 && conv_padding(c, operands[0], operands[1], &results[0]).is_some(),
        Op::ConvTranspose(c) => operands[0].rank() == 4 && transpose_padding(c, operands, &results).is_some(),
        _ => false,
    }
}

/// The extent of a logical axis, if it is known.
pub(super) fn extent(ty: &TensorType, axis: usize) -> Option<usize> {
    ty.shape.dims()[axis].known()
}

fn conv_padding(c: &Conv, x: &TensorType, w: &TensorType, y: &TensorType) -> Option<Padding> {
    let axis = |i: usize| {
        Some(Axis {
            image: extent(x, 2 + i),
            result: extent(y, 2 + i),
            reach: (extent(w, 2 + i)? - 1) * c.dilation[i] + 1,
            stride: c.stride[i],
            pads: [c.before[i], c.after[i]],
        })
    };
    padding(&[axis(0)?, axis(1)?])
}

/// The transposed convolution is the gradient of a convolution whose image is its result: roles are exchanged.
fn transpose_padding(c: &ConvTranspose, operands: &[&TensorType], results: &Types) -> Option<Padding> {
    if c.groups != 1 || c.dilation.iter().any(|&d| d != 1) {
        return None;
    }
    let axis = |i: usize| {
        let reach = extent(operands[1], 2 + i)?;
        // For open extents: elements after the last window must be fewer than a step, so that none is added.
        let beyond = c.extra[i] / c.stride[i];
        Some(Axis {
            image: extent(&results[0], 2 + i),
            result: extent(operands[0], 2 + i),
            reach,
            stride: c.stride[i],
            pads: [c.before[i], c.after[i] + beyond],
        })
    };
    padding(&[axis(0)?, axis(1)?])
}

/// CONV_2D, or DEPTHWISE_CONV_2D if each group has one channel.
pub(super) fn conv(e: &mut Emitter<'_>, op: &Conv, site: &NodeContext<'_>) -> Result<(), Unsupported> {
    let [x, w] = [&site.operands[0], &site.operands[1]];
    let padding = conv_padding(op, x, w, &site.results[0]).ok_or("its padding is neither SAME nor VALID")?;
    let bias = match site.inputs.get(2) {
        Some(&bias) => bias,
        None => zero_bias(e, x, w, 0),
    };
    let inputs = [site.inputs[0], site.inputs[1], bias];
    let [stride_h, stride_w, dilation_h, dilation_w] =
        [op.stride[0], op.stride[1], op.dilation[0], op.dilation[1]].map(|n| n as i32);
    let activation = site.activation;
    let hybrid = x.elem == Elem::F32 && w.elem.qparams().is_some();
    let storage = x.elem.qparams().map(|qparams| qparams.storage);
    let per_axis = w.elem.qparams().is_some_and(|g| matches!(g.map, Affine::PerAxis { .. }));
    if op.is_depthwise(&w.shape) {
        let channels = extent(x, 1).ok_or("its channels are not known")?;
        let outputs = extent(w, 0).ok_or("its channels are not known")?;
        let version = match (storage, hybrid, per_axis) {
            (Some(StorageType::I16), ..) => 5,
            (Some(_), ..) => 3,
            (_, true, true) => 6,
            (_, true, false) => 4,
            _ if dilation_h != 1 || dilation_w != 1 => 2,
            _ => 1,
        };
        let depth_multiplier = (outputs / channels) as i32;
        let options =
            DepthwiseConv2D { padding, stride_w, stride_h, depth_multiplier, activation, dilation_w, dilation_h };
        e.push_operator(BuiltinOperator::DEPTHWISE_CONV_2D, version, options, &inputs, &site.outputs);
    } else {
        let version = match (storage, hybrid, per_axis) {
            _ if op.groups > 1 => 6,
            (Some(StorageType::I16), ..) => 4,
            (Some(_), ..) => 3,
            (_, true, true) => 5,
            (_, true, false) => 2,
            _ => 1,
        };
        let options = Conv2D { padding, stride_w, stride_h, activation, dilation_w, dilation_h, ..Conv2D::default() };
        e.push_operator(BuiltinOperator::CONV_2D, version, options, &inputs, &site.outputs);
    }
    Ok(())
}

/// TRANSPOSE_CONV: the extents of the result determine the padding.
pub(super) fn conv_transpose(
    e: &mut Emitter<'_>,
    op: &ConvTranspose,
    site: &NodeContext<'_>,
) -> Result<(), Unsupported> {
    let operands: Vec<&TensorType> = site.operands.iter().collect();
    let padding = transpose_padding(op, &operands, &site.results).ok_or("its padding is neither SAME nor VALID")?;
    let y = &site.results[0];
    let shape = extents::shape(e, &y.layout.physical(&y.shape))?;
    let mut inputs = vec![shape, site.inputs[1], site.inputs[0]];
    inputs.extend(site.inputs.get(2));
    let version = match (inputs.len() > 3, site.operands[0].elem.qparams()) {
        (true, _) => 3,
        (false, Some(_)) => 2,
        (false, None) => 1,
    };
    let [stride_h, stride_w] = [op.stride[0] as i32, op.stride[1] as i32];
    let options = TransposeConv { padding, stride_w, stride_h, ..TransposeConv::default() };
    e.push_operator(BuiltinOperator::TRANSPOSE_CONV, version, options, &inputs, &site.outputs);
    Ok(())
}

/// A bias of zeros, which CONV_2D and DEPTHWISE_CONV_2D require. Quantized, its scales are the products of those of
/// image and weight.
fn zero_bias(e: &mut Emitter<'_>, x: &TensorType, w: &TensorType, channel: usize) -> i32 {
    let channels = extent(w, channel).unwrap_or(0);
    let shape = Shape::known(&[channels]);
    let scale = x.elem.qparams().and_then(QuantParams::tensor_map).map(|(scale, _)| scale);
    let (Some(x_scale), Some(w_qparams)) = (scale, w.elem.qparams()) else {
        return e.constant(&TensorType::new(Elem::F32, shape), &vec![0f32; channels]);
    };
    let qparams = match w_qparams.tensor_map() {
        Some((scale, _)) => QuantParams::per_tensor(StorageType::I32, x_scale * scale, 0),
        None => QuantParams::per_axis(
            StorageType::I32,
            0,
            w_qparams.scales().iter().map(|s| x_scale * s).collect::<Vec<f32>>(),
        ),
    };
    let bias = qcc_ir::Tensor::of(TensorType::new(Elem::Quantized(qparams), shape), vec![0i32; channels]);
    e.bias("const", &bias, x)
}
