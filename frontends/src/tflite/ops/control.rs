//! Operators whose implementation is another subgraph, and variables.

use qcc_formats::tflite::{BuiltinOperator as B, FurtherOptions};

use super::super::node::NodeCx;
use super::Row;
use crate::build::{Values, one};
use crate::refusal::Refusal;

pub(super) const ROWS: &[Row] = &[
    (B::ASSIGN_VARIABLE, assign),
    // Initial values are told with the states.
    (B::CALL_ONCE, |_| Ok(Values::new())),
    (B::READ_VARIABLE, read),
    (B::STABLEHLO_COMPOSITE, composite),
    (B::VAR_HANDLE, |_| Ok(Values::new())),
];

fn read(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let variable = n.variable(0)?;
    let value = n.read(variable)?;
    one(value.ok_or_else(|| Refusal::Invalid("a variable without a value".into()))?)
}

/// An assignment that nothing reads has no effect.
fn assign(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let (variable, next) = (n.variable(0)?, n.input(1)?);
    if let Some(state) = n.read(variable)? {
        n.keep_as(variable, state, next)?;
    }
    Ok(Values::new())
}

/// Inlines the decomposition subgraph of the composite.
fn composite(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    match n.further_options() {
        FurtherOptions::Composite(o) => {
            let decomposition = o.decomposition;
            n.call(decomposition)
        }
        _ => Err(Refusal::Invalid("it has no decomposition".into())),
    }
}
