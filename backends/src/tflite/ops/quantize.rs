//! Quantize and Dequantize.

use qcc_formats::tflite::{BuiltinOperator, Options, OptionsType};
use qcc_ir::{Affine, Elem, QuantParams, StorageType, TensorType};

use super::super::emit::{Emitter, NodeContext, Unsupported};

/// QUANTIZE, also for requantization.
pub(super) fn quantize(e: &mut Emitter<'_>, site: &NodeContext<'_>) -> Result<(), Unsupported> {
    let to = site.results[0].elem.qparams().ok_or("its result is not quantized")?;
    let from = site.operands[0].elem.qparams();
    let version = match (from.map(|g| g.storage), to.storage) {
        (_, StorageType::I32) | (Some(StorageType::I32), _) => return Err("32-bit integers are for biases only".into()),
        (Some(StorageType::I16), StorageType::U8) => return Err("16-bit to unsigned 8-bit integers".into()),
        _ if per_axis(to) => 3,
        (Some(StorageType::I16), _) | (_, StorageType::I16) => 2,
        _ => 1,
    };
    let options = Options::Other(OptionsType::QUANTIZE);
    e.push_operator(BuiltinOperator::QUANTIZE, version, options, &site.inputs, &site.outputs);
    Ok(())
}

/// DEQUANTIZE.
pub(super) fn dequantize(e: &mut Emitter<'_>, site: &NodeContext<'_>) -> Result<(), Unsupported> {
    push_dequantize(e, &site.operands[0], site.inputs[0], site.outputs[0])
}

/// DEQUANTIZE of a tensor of type `from`, quantized or of 16-bit floats.
pub(super) fn push_dequantize(e: &mut Emitter<'_>, from: &TensorType, x: i32, y: i32) -> Result<(), Unsupported> {
    let version = match (&from.elem, from.elem.qparams()) {
        (Elem::F16, _) => 3,
        (_, None) => return Err("its operand is not quantized".into()),
        (_, Some(qparams)) => match qparams.storage {
            StorageType::I32 => return Err("32-bit integers are for biases only".into()),
            _ if per_axis(qparams) => 5,
            StorageType::I4 => return Err("4-bit integers are for weights only".into()),
            StorageType::U8 => 1,
            StorageType::I8 => 2,
            StorageType::I16 => 3,
        },
    };
    let options = Options::Other(OptionsType::DEQUANTIZE);
    e.push_operator(BuiltinOperator::DEQUANTIZE, version, options, &[x], &[y]);
    Ok(())
}

fn per_axis(qparams: &QuantParams) -> bool {
    matches!(qparams.map, Affine::PerAxis { .. })
}
