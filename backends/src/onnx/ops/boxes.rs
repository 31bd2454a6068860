//! Operators on boxes.

use qcc_ir::ops::NonMaxSuppression;

use super::super::call::Call;
use super::super::emit::{Emitter, NodeContext, Unsupported};

/// NonMaxSuppression.
pub(super) fn non_max_suppression(
    e: &mut Emitter<'_>,
    op: &NonMaxSuppression,
    site: &NodeContext<'_>,
) -> Result<(), Unsupported> {
    let mut inputs = e.inputs(site);
    let most = i64::try_from(op.most).unwrap_or(i64::MAX);
    inputs.extend([e.list([most]), e.list([op.overlap])]);
    inputs.extend(op.score.map(|score| e.list([score])));
    e.push(Call::new("NonMaxSuppression"), &inputs, &site.outputs);
    Ok(())
}
