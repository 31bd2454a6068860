//! Quantize and Dequantize, and operators whose operands and results are all quantized.

use super::super::call::Call;
use super::super::emit::{Emitter, Name, NodeContext, Unsupported};

/// QuantizeLinear; requantization is preceded by a DequantizeLinear.
pub(super) fn quantize(e: &mut Emitter<'_>, site: &NodeContext<'_>) -> Result<(), Unsupported> {
    let qparams = site.graph.ty(site.node.value(0)).elem.qparams().ok_or("its result is not quantized")?;
    let real = e.real(site.values[0]);
    e.quantize(&real, &site.outputs[0], qparams);
    Ok(())
}

/// An operator of ONNX Runtime with scale and zero point for each operand and for the result.
pub(super) fn qlinear(e: &mut Emitter<'_>, call: Call, site: &NodeContext<'_>) -> Result<(), Unsupported> {
    let mut inputs: Vec<Name> = Vec::new();
    for i in 0..site.values.len() {
        inputs.extend(operand(e, site, i)?);
    }
    inputs.extend(result(e, site)?);
    e.push(call, &inputs, &site.outputs);
    Ok(())
}

/// Operand `i` with its scale and zero point.
pub(super) fn operand(e: &mut Emitter<'_>, site: &NodeContext<'_>, i: usize) -> Result<[Name; 3], Unsupported> {
    let qparams = site.operands[i].elem.qparams().ok_or("an operand is not quantized")?;
    let tensor = e.input(site, i);
    let [scale, zero] = e.qparams(&e.wanted(site.values[i]), qparams);
    Ok([tensor, scale, zero])
}

/// Scale and zero point of the result.
pub(super) fn result(e: &mut Emitter<'_>, site: &NodeContext<'_>) -> Result<[Name; 2], Unsupported> {
    let qparams = site.results[0].elem.qparams().ok_or("its result is not quantized")?;
    Ok(e.qparams(&e.wanted(site.node.value(0)), qparams))
}
