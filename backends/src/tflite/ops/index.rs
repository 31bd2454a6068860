//! Operators that compute or use indices.

use qcc_formats::tflite::{
    Activation, Add, BuiltinOperator, Cast, Gather as GatherOptions, Options, OptionsType, TensorType as Stored,
};
use qcc_ir::ops::{Gather, TopK};
use qcc_ir::{Elem, Shape, Tensor, TensorType};

use super::super::emit::{Emitter, NodeContext, Unsupported, stored};
use crate::extents;

/// GATHER.
pub(super) fn gather(e: &mut Emitter<'_>, op: &Gather, site: &NodeContext<'_>) -> Result<(), Unsupported> {
    let x = &site.operands[0];
    let version = match stored(&x.elem) {
        Stored::INT16 => 4,
        Stored::BOOL => 3,
        Stored::INT8 => 2,
        _ => 1,
    };
    let options = GatherOptions { axis: x.layout.position(op.axis) as i32, batch_dims: 0 };
    e.push_operator(BuiltinOperator::GATHER, version, options, &site.inputs, &site.outputs);
    Ok(())
}

/// GATHER_ND.
pub(super) fn gather_nd(e: &mut Emitter<'_>, site: &NodeContext<'_>) -> Result<(), Unsupported> {
    let negative =
        site.graph.constant(site.values[1]).and_then(|t| t.integers()).is_some_and(|v| v.iter().any(|&i| i < 0));
    if negative {
        return Err("negative indices".into());
    }
    let version = match stored(&site.operands[0].elem) {
        Stored::BOOL => 5,
        Stored::INT16 => 3,
        _ => 1,
    };
    let options = Options::Other(OptionsType::GATHER_ND);
    e.push_operator(BuiltinOperator::GATHER_ND, version, options, &site.inputs, &site.outputs);
    Ok(())
}

/// WHERE, which has one row for each element, and TRANSPOSE.
pub(super) fn non_zero(e: &mut Emitter<'_>, site: &NodeContext<'_>) -> Result<(), Unsupported> {
    let y = &site.results[0];
    let by_element: Shape = y.shape.dims().iter().rev().cloned().collect();
    let places = e.scratch(&TensorType::new(y.elem.clone(), by_element), site.node);
    e.push_operator(BuiltinOperator::WHERE, 1, Options::Other(OptionsType::WHERE), &site.inputs, &[places]);
    let inputs = [places, e.indices(&[1, 0])];
    let options = Options::Other(OptionsType::TRANSPOSE);
    e.push_operator(BuiltinOperator::TRANSPOSE, 1, options, &inputs, &site.outputs);
    Ok(())
}

/// SCATTER_ND, which accumulates updates of the same index, and ADD if there is data to add to.
pub(super) fn scatter_nd(e: &mut Emitter<'_>, site: &NodeContext<'_>) -> Result<(), Unsupported> {
    let y = &site.results[0];
    let shape = extents::shape(e, &y.shape)?;
    let inputs = [site.inputs[1], site.inputs[2], shape];
    let options = Options::Other(OptionsType::SCATTER_ND);
    let zeros = |t: &Tensor| t.floats().iter().all(|&v| v == 0.0);
    if site.graph.constant(site.values[0]).is_some_and(zeros) {
        e.push_operator(BuiltinOperator::SCATTER_ND, 1, options, &inputs, &site.outputs);
        return Ok(());
    }
    let sums = e.scratch(y, site.node);
    e.push_operator(BuiltinOperator::SCATTER_ND, 1, options, &inputs, &[sums]);
    let add = Add { activation: Activation::NONE, pot_scale_int16: false };
    e.push_operator(BuiltinOperator::ADD, 1, add, &[site.inputs[0], sums], &site.outputs);
    Ok(())
}

/// TOPK_V2 along the innermost axis. Its indices are 32-bit; a CAST converts them for 64-bit consumers.
pub(super) fn top_k(e: &mut Emitter<'_>, op: &TopK, site: &NodeContext<'_>) -> Result<(), Unsupported> {
    let x = &site.operands[0];
    if x.layout.position(op.axis) + 1 != x.rank() {
        return Err(format!("axis {} of {x} does not lie innermost", op.axis).into());
    }
    let version = super::super::emit::version(x, 1, 2, 3);
    let k = match op.k.known() {
        Some(k) => e.index(k),
        None => extents::list(e, &[op.k.expr()])?,
    };
    let inputs = [site.inputs[0], k];
    let options = Options::Other(OptionsType::TOPK_V2);
    let [values, indices] = [site.outputs[0], site.outputs[1]];
    if e.elem(indices) == Stored::INT32 {
        e.push_operator(BuiltinOperator::TOPK_V2, version, options, &inputs, &[values, indices]);
        return Ok(());
    }
    let narrow = e.scratch(&site.results[1].with_elem(Elem::I32), site.node);
    e.push_operator(BuiltinOperator::TOPK_V2, version, options, &inputs, &[values, narrow]);
    let widen = Cast { from: Stored::INT32, to: Stored::INT64 };
    e.push_operator(BuiltinOperator::CAST, 1, widen, &[narrow], &[indices]);
    Ok(())
}
