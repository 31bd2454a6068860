//! Operators that compute or use indices.

use qcc_ir::Elem;
use qcc_ir::ops::{Gather, GatherElements, GatherNd, ScatterFn, ScatterNd, TopK};

use super::super::call::Call;
use super::super::emit::{Emitter, Name, NodeContext, Unsupported, element};
use crate::extents;

/// Gather.
pub(super) fn gather(e: &mut Emitter<'_>, op: &Gather, site: &NodeContext<'_>) -> Result<(), Unsupported> {
    e.push_at(Call::new("Gather").size("axis", op.axis), site);
    Ok(())
}

/// GatherElements.
pub(super) fn gather_elements(
    e: &mut Emitter<'_>,
    op: &GatherElements,
    site: &NodeContext<'_>,
) -> Result<(), Unsupported> {
    e.push_at(Call::new("GatherElements").size("axis", op.axis), site);
    Ok(())
}

/// GatherND.
pub(super) fn gather_nd(e: &mut Emitter<'_>, op: &GatherNd, site: &NodeContext<'_>) -> Result<(), Unsupported> {
    let inputs = [e.input(site, 0), wide(e, site)];
    e.push(Call::new("GatherND").size("batch_dims", op.batch), &inputs, &site.outputs);
    Ok(())
}

/// ScatterND.
pub(super) fn scatter_nd(e: &mut Emitter<'_>, op: &ScatterNd, site: &NodeContext<'_>) -> Result<(), Unsupported> {
    let inputs = [e.input(site, 0), wide(e, site), e.input(site, 2)];
    let call = Call::new("ScatterND");
    let call = match op.f {
        ScatterFn::Replace => call,
        ScatterFn::Add => call.string("reduction", "add"),
        ScatterFn::Mul => call.string("reduction", "mul"),
        ScatterFn::Min => call.since(18).string("reduction", "min"),
        ScatterFn::Max => call.since(18).string("reduction", "max"),
    };
    e.push(call, &inputs, &site.outputs);
    Ok(())
}

/// Operand 1, the indices, as 64-bit integers.
fn wide(e: &mut Emitter<'_>, site: &NodeContext<'_>) -> Name {
    let indices = e.input(site, 1);
    let ty = &site.operands[1];
    if ty.elem == Elem::I64 {
        return indices;
    }
    let wide = e.scratch(site, &ty.with_elem(Elem::I64));
    e.push(Call::new("Cast").int("to", i32::from(element(&Elem::I64))), &[indices], std::slice::from_ref(&wide));
    wide
}

/// NonZero.
pub(super) fn non_zero(e: &mut Emitter<'_>, site: &NodeContext<'_>) -> Result<(), Unsupported> {
    e.push_at(Call::new("NonZero"), site);
    Ok(())
}

/// TopK.
pub(super) fn top_k(e: &mut Emitter<'_>, op: &TopK, site: &NodeContext<'_>) -> Result<(), Unsupported> {
    let inputs = [e.input(site, 0), extents::list(e, &[op.k.expr()])?];
    let call = Call::new("TopK").size("axis", op.axis).int("largest", op.largest).int("sorted", 1);
    e.push(call, &inputs, &site.outputs);
    Ok(())
}
