//! Operators on boxes.

use qcc_ir::ops::{NonMaxSuppression, PoolFn, RoiAlign};

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

/// RoiAlign.
pub(super) fn roi_align(e: &mut Emitter<'_>, op: &RoiAlign, site: &NodeContext<'_>) -> Result<(), Unsupported> {
    let call = Call::new("RoiAlign")
        .since(16)
        .string("mode", if op.f == PoolFn::Max { "max" } else { "avg" })
        .string("coordinate_transformation_mode", if op.half_pixel { "half_pixel" } else { "output_half_pixel" })
        .int("output_height", op.size[0] as i64)
        .int("output_width", op.size[1] as i64)
        .int("sampling_ratio", op.samples as i64)
        .float("spatial_scale", op.scale);
    e.push_at(call, site);
    Ok(())
}
