//! Borders between real numbers and grids.

use qcc_formats::tflite::{BuiltinOperator, Options, OptionsType};
use qcc_ir::{Affine, Grid, Store};

use super::super::emit::{Emitter, Site, Unsupported};

/// QUANTIZE, also from one grid to another.
pub(super) fn quantize(e: &mut Emitter<'_>, site: &Site<'_>) -> Result<(), Unsupported> {
    let to = site.results[0].elem.grid().ok_or("its result lies on no grid")?;
    let from = site.operands[0].elem.grid();
    let version = match (from.map(|g| g.store), to.store) {
        (_, Store::I32) | (Some(Store::I32), _) => return Err("32-bit integers are for biases only".into()),
        (Some(Store::I16), Store::U8) => return Err("16-bit to unsigned 8-bit integers".into()),
        _ if per_axis(to) => 3,
        (Some(Store::I16), _) | (_, Store::I16) => 2,
        _ => 1,
    };
    let options = Options::Other(OptionsType::QUANTIZE);
    e.push_operator(BuiltinOperator::QUANTIZE, version, options, &site.inputs, &site.outputs);
    Ok(())
}

/// DEQUANTIZE.
pub(super) fn dequantize(e: &mut Emitter<'_>, site: &Site<'_>) -> Result<(), Unsupported> {
    let from = site.operands[0].elem.grid().ok_or("its operand lies on no grid")?;
    let version = match from.store {
        Store::I32 => return Err("32-bit integers are for biases only".into()),
        _ if per_axis(from) => 5,
        Store::I4 => return Err("4-bit integers are for weights only".into()),
        Store::U8 => 1,
        Store::I8 => 2,
        Store::I16 => 3,
    };
    let options = Options::Other(OptionsType::DEQUANTIZE);
    e.push_operator(BuiltinOperator::DEQUANTIZE, version, options, &site.inputs, &site.outputs);
    Ok(())
}

fn per_axis(grid: &Grid) -> bool {
    matches!(grid.map, Affine::PerAxis { .. })
}
