//! Custom operators, written unchanged.

use qcc_ir::ops::{Attribute, Custom};

use super::super::emit::{Emitter, NodeContext, Unsupported};

/// The absent operand of an operator.
const ABSENT: i32 = -1;

/// CUSTOM
pub(super) fn custom(e: &mut Emitter<'_>, op: &Custom, site: &NodeContext<'_>) -> Result<(), Unsupported> {
    let options = match op.attributes.as_slice() {
        [] => Vec::new(),
        [(_, Attribute::Encoded(options))] => options.clone(),
        _ => return Err("its options are no bytes".into()),
    };
    if op.results.iter().any(Option::is_none) {
        return Err("it leaves a result out".into());
    }
    let mut given = site.inputs.iter().copied();
    let tensor = |port: &Option<_>| port.as_ref().and_then(|_| given.next()).unwrap_or(ABSENT);
    let inputs: Vec<i32> = op.operands.iter().map(tensor).collect();
    e.push_custom(&op.name, op.version as i32, options, &inputs, &site.outputs);
    Ok(())
}
