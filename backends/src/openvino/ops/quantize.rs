//! Quantization. OpenVINO IR has no quantized types: a quantized value is a float after a FakeQuantize, and the plugins
//! derive which operators compute with integers.

use qcc_formats::openvino::{Operation, Port};
use qcc_ir::ops::{Cell, Op, Pool, PoolFn, QuantRule, Recurrent, Resize, ResizeMode};
use qcc_ir::{Affine, Elem, Graph, NodeId, QuantParams, StorageType, TensorType, ValueId};

use super::super::emit::{Emitter, NodeContext, Unsupported, along, attribute};

/// True if the results of the float operator on dequantized values need to be quantized again.
pub(in crate::openvino) fn rounds(op: &Op) -> bool {
    match op.quant_rule() {
        QuantRule::OwnRange | QuantRule::Fixed { .. } | QuantRule::Contraction { .. } => true,
        QuantRule::SameAsInput | QuantRule::SharedScale => match op {
            Op::Pool(Pool { f, .. }) => *f == PoolFn::Average,
            Op::Resize(Resize { mode, .. }) => !matches!(mode, ResizeMode::Nearest(_)),
            _ => false,
        },
        QuantRule::Float => false,
    }
}

/// Adds the FakeQuantize for a type, if it is quantized.
pub(in crate::openvino) fn place(e: &mut Emitter<'_>, x: Port, ty: &TensorType) -> Result<Port, Unsupported> {
    let Elem::Quantized(qparams) = &ty.elem else { return Ok(x) };
    let levels = levels(qparams)?;
    let [lo, hi] = ends(e, qparams, ty);
    Ok(fake_quantize(e, levels, [x, lo, hi, lo, hi], ty))
}

/// Quantize. A value with the same quantization parameters is not changed.
pub(super) fn quantize(e: &mut Emitter<'_>, site: &NodeContext) -> Result<Port, Unsupported> {
    let x = e.operand(site, 0);
    if site.operands[0].elem == site.results[0].elem { Ok(x) } else { place(e, x, &site.results[0]) }
}

/// Dequantize. Weights with scales along the reduced axis are stored as floats: with quantized activations the plugin
/// would take the scales as per-output scales. Weights of a GRU in quantized graphs are stored as floats too: a GRU
/// only accepts constant weights, and in graphs with FakeQuantize the plugin does not fold the dequantization.
pub(super) fn dequantize(e: &mut Emitter<'_>, site: &NodeContext) -> Port {
    let v = site.values[0];
    match e.literal(v) {
        Some(literal) if scaled_along_sums(e.graph, v) || (e.quantizes && feeds_gru(e.graph, v)) => {
            let real = literal.stored.to_float();
            e.numbers(real.ty(), &real.floats())
        }
        _ => e.operand(site, 0),
    }
}

/// True if `v` is the weight of a contraction with scales along another axis than that of the outputs.
fn scaled_along_sums(graph: &Graph, v: ValueId) -> bool {
    let Some(&Affine::PerAxis { axis, .. }) = graph.ty(v).elem.qparams().map(|g| &g.map) else { return false };
    let along_outputs = |(n, i): (NodeId, usize)| match graph.op(n).quant_rule() {
        QuantRule::Contraction { channel } => i != 1 || axis == channel,
        _ => true,
    };
    !consumers(graph, v).all(along_outputs)
}

/// True if `v` is a weight of a GRU.
fn feeds_gru(graph: &Graph, v: ValueId) -> bool {
    consumers(graph, v).any(|(n, _)| matches!(graph.op(n), Op::Recurrent(Recurrent { cell: Cell::Gru { .. }, .. })))
}

/// The nodes that consume `v`, and the operand index.
fn consumers(graph: &Graph, v: ValueId) -> impl Iterator<Item = (NodeId, usize)> {
    graph.users(v).into_iter().flat_map(|(n, _)| graph.users(n.value(0)))
}

/// The dequantized values of an integer input.
pub(in crate::openvino) fn enter(e: &mut Emitter<'_>, qparams: &QuantParams, x: Port, ty: &TensorType) -> Port {
    let real = ty.real();
    // The plugin moves a FakeQuantize before the conversion of its input to float, where it has no kernel for 16 bits.
    let x = if qparams.storage == StorageType::I16 { e.convert(x, &ty.with_elem(Elem::I32)) } else { x };
    let mut port = e.convert(x, &real);
    if qparams.zero_point() != 0 {
        let zero = e.scalar(qparams.zero_point() as f32);
        port = e.binary("Subtract", port, zero, &real);
    }
    let scale = e.numbers(&TensorType::f32(&along(qparams, ty, &ty.shape)), qparams.scales());
    e.binary("Multiply", port, scale, &real)
}

/// The integers of a quantized output.
pub(in crate::openvino) fn leave(
    e: &mut Emitter<'_>,
    qparams: &QuantParams,
    x: Port,
    ty: &TensorType,
) -> Result<Port, Unsupported> {
    let levels = levels(qparams)?;
    let [lo, hi] = ends(e, qparams, ty);
    let [first, last] = <[i32; 2]>::from(qparams.storage.range()).map(|q| e.scalar(q as f32));
    let integers = fake_quantize(e, levels, [x, lo, hi, first, last], ty);
    Ok(e.convert(integers, &ty.with_elem(qparams.storage.elem())))
}

/// Number of quantization levels.
fn levels(qparams: &QuantParams) -> Result<i32, Unsupported> {
    match qparams.storage {
        StorageType::I8 | StorageType::U8 => Ok(1 << 8),
        StorageType::I16 => Ok(1 << 16),
        StorageType::I4 => Err("4-bit integers are for weights only".into()),
        StorageType::I32 => Err("32-bit integers are for biases only".into()),
    }
}

/// The minimum and maximum of the quantized range, as constants that broadcast to a value of the type.
fn ends(e: &mut Emitter<'_>, qparams: &QuantParams, ty: &TensorType) -> [Port; 2] {
    let dims = along(qparams, ty, &ty.shape);
    <[i32; 2]>::from(qparams.storage.range()).map(|q| {
        let ends: Vec<f32> = qparams.scales().iter().map(|s| (q - qparams.zero_point()) as f32 * s).collect();
        e.numbers(&TensorType::f32(&dims), &ends)
    })
}

fn fake_quantize(e: &mut Emitter<'_>, levels: i32, inputs: [Port; 5], ty: &TensorType) -> Port {
    let data = [attribute("levels", levels), attribute("auto_broadcast", "numpy")];
    e.op(Operation("FakeQuantize", 1), &data, &inputs, &ty.real())
}
