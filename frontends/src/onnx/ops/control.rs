//! Control flow, which is resolved at import.

use super::super::node::NodeCx;
use super::Row;
use crate::build::Values;
use crate::refusal::Refusal;

pub(super) const ROWS: &[Row] = &[("If", if_)];

/// Inlines the branch that a constant condition selects.
fn if_(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let (then, otherwise) = (n.graph("then_branch")?, n.graph("else_branch")?);
    let condition = n.integer(0).map_err(|e| {
        e.advised("export the model with the branch that is taken, or set the inputs of the condition with --set")
    })?;
    n.inline(if condition != 0 { then } else { otherwise })
}
