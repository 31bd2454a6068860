//! Operators whose implementation is another subgraph.

use qcc_formats::tflite::{BuiltinOperator as B, FurtherOptions};

use super::super::node::NodeCx;
use super::Row;
use crate::build::Values;
use crate::refusal::Refusal;

pub(super) const ROWS: &[Row] = &[(B::STABLEHLO_COMPOSITE, composite)];

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
