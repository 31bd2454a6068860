//! Operators that other subgraphs compute.

use qcc_formats::tflite::{BuiltinOperator as B, FurtherOptions};

use super::super::node::NodeCx;
use super::Row;
use crate::build::Values;
use crate::refusal::Refusal;

pub(super) const ROWS: &[Row] = &[(B::STABLEHLO_COMPOSITE, composite)];

/// What it stands for is computed by its decomposition.
fn composite(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    match n.further_options() {
        FurtherOptions::Composite(o) => {
            let decomposition = o.decomposition;
            n.call(decomposition)
        }
        _ => Err(Refusal::Invalid("it has no decomposition".into())),
    }
}
