//! Operators that compute or use indices.

use qcc_formats::openvino::{Operation, Port};
use qcc_ir::ops::{Gather, GatherElements, GatherNd, ScatterFn, ScatterNd, TopK};
use qcc_ir::{Elem, Shape, TensorType};

use super::super::emit::{Emitter, NodeContext, Ports, Unsupported, attribute};
use crate::extents;

/// Gather; version 8 supports negative indices.
pub(super) fn gather(e: &mut Emitter<'_>, op: &Gather, site: &NodeContext) -> Port {
    let inputs = [e.operand(site, 0), e.operand(site, 1), e.index(op.axis)];
    e.op(Operation("Gather", 8), &[attribute("batch_dims", 0)], &inputs, &site.results[0])
}

/// GatherElements.
pub(super) fn gather_elements(e: &mut Emitter<'_>, op: &GatherElements, site: &NodeContext) -> Port {
    let inputs = e.operands(site);
    e.op(Operation("GatherElements", 6), &[attribute("axis", op.axis)], &inputs, &site.results[0])
}

/// GatherND.
pub(super) fn gather_nd(e: &mut Emitter<'_>, op: &GatherNd, site: &NodeContext) -> Port {
    let inputs = e.operands(site);
    e.op(Operation("GatherND", 8), &[attribute("batch_dims", op.batch)], &inputs, &site.results[0])
}

/// ScatterNDUpdate.
pub(super) fn scatter_nd(e: &mut Emitter<'_>, op: &ScatterNd, site: &NodeContext) -> Port {
    let reduction = match op.f {
        ScatterFn::Replace => None,
        ScatterFn::Add => Some("sum"),
        ScatterFn::Mul => Some("prod"),
        ScatterFn::Min => Some("min"),
        ScatterFn::Max => Some("max"),
    };
    let inputs = e.operands(site);
    match reduction {
        None => e.op(Operation("ScatterNDUpdate", 4), &[], &inputs, &site.results[0]),
        Some(reduction) => {
            let data = [attribute("reduction", reduction)];
            e.op(Operation("ScatterNDUpdate", 15), &data, &inputs, &site.results[0])
        }
    }
}

/// NonZero.
pub(super) fn non_zero(e: &mut Emitter<'_>, site: &NodeContext) -> Port {
    let x = e.operand(site, 0);
    e.op(Operation("NonZero", 3), &[attribute("output_type", "i64")], &[x], &site.results[0])
}

/// TopK.
pub(super) fn top_k(e: &mut Emitter<'_>, op: &TopK, site: &NodeContext) -> Result<Ports, Unsupported> {
    let x = e.operand(site, 0);
    let k = match op.k.known() {
        Some(k) => e.index(k),
        None => {
            let k = extents::list(e, &[op.k.expr()])?;
            e.reshape(k, &TensorType::new(Elem::I64, Shape::scalar()))
        }
    };
    Ok(sorted(e, x, k, op.axis, op.largest, &[site.results[0].clone(), site.results[1].clone()]))
}

/// The first `k` elements along an axis in sorted order, and their indices; sorting is stable.
pub(super) fn sorted(
    e: &mut Emitter<'_>,
    x: Port,
    k: Port,
    axis: usize,
    largest: bool,
    types: &[TensorType; 2],
) -> Ports {
    let data = [
        attribute("axis", axis),
        attribute("mode", if largest { "max" } else { "min" }),
        attribute("sort", "value"),
        attribute("index_element_type", "i64"),
        attribute("stable", true),
    ];
    let inputs = [x, k];
    e.op_many(Operation("TopK", 11), &data, &inputs, &types.each_ref())
}
