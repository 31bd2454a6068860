//! Normalisations.

use qcc_formats::tflite::{BuiltinOperator, Options, OptionsType, Softmax as SoftmaxOptions};
use qcc_ir::ops::Softmax;

use super::super::emit::{Emitter, NodeContext, Unsupported, version};

/// SOFTMAX or LOG_SOFTMAX, over the innermost axis.
pub(super) fn softmax(e: &mut Emitter<'_>, op: &Softmax, site: &NodeContext<'_>) -> Result<(), Unsupported> {
    let x = &site.operands[0];
    if x.layout.position(op.axis) + 1 != x.rank() {
        return Err(format!("axis {} of {x} does not lie innermost", op.axis).into());
    }
    let (code, number, options) = if op.log {
        (BuiltinOperator::LOG_SOFTMAX, version(x, 1, 2, 2), Options::Other(OptionsType::LOG_SOFTMAX))
    } else {
        (BuiltinOperator::SOFTMAX, version(x, 1, 2, 3), SoftmaxOptions { beta: 1.0 }.into())
    };
    e.push_operator(code, number, options, &site.inputs, &site.outputs);
    Ok(())
}
