//! Normalisations.

use qcc_formats::openvino::{Operation, Port};
use qcc_ir::ops::{LayerNorm, Softmax};

use super::super::emit::{Emitter, NodeContext, attribute};

/// SoftMax or LogSoftmax.
pub(super) fn softmax(e: &mut Emitter<'_>, op: &Softmax, site: &NodeContext) -> Port {
    let operation = if op.log { Operation("LogSoftmax", 5) } else { Operation("SoftMax", 8) };
    let x = e.operand(site, 0);
    e.op(operation, &[attribute("axis", op.axis)], &[x], &site.results[0].real())
}

/// MVN, followed by scale and bias.
pub(super) fn layer_norm(e: &mut Emitter<'_>, op: &LayerNorm, site: &NodeContext) -> Port {
    let ty = site.results[0].real();
    let axes: Vec<usize> = (op.axis..ty.rank()).collect();
    let data =
        [attribute("eps", op.epsilon), attribute("normalize_variance", true), attribute("eps_mode", "INSIDE_SQRT")];
    let inputs = [e.operand(site, 0), e.axes(&axes)];
    let mut y = e.op(Operation("MVN", 6), &data, &inputs, &ty);
    for (i, kind) in [(1, "Multiply"), (2, "Add")] {
        if i < site.values.len() {
            let factor = e.operand(site, i);
            y = e.binary(kind, y, factor, &ty);
        }
    }
    y
}
