//! Quantize and Dequantize.

use qcc_formats::tflite::{BuiltinOperator, Options, OptionsType};
use qcc_ir::{Affine, QuantParams, StorageType};

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
    let from = site.operands[0].elem.qparams().ok_or("its operand is not quantized")?;
    let version = match from.storage {
        StorageType::I32 => return Err("32-bit integers are for biases only".into()),
        _ if per_axis(from) => 5,
        StorageType::I4 => return Err("4-bit integers are for weights only".into()),
        StorageType::U8 => 1,
        StorageType::I8 => 2,
        StorageType::I16 => 3,
    };
    let options = Options::Other(OptionsType::DEQUANTIZE);
    e.push_operator(BuiltinOperator::DEQUANTIZE, version, options, &site.inputs, &site.outputs);
    Ok(())
}

fn per_axis(qparams: &QuantParams) -> bool {
    matches!(qparams.map, Affine::PerAxis { .. })
}
