//! Reductions, and running sums.

use qcc_formats::openvino::{Operation, Port};
use qcc_ir::TensorType;
use qcc_ir::ops::{ArgReduce, CumSum, Reduce, ReduceFn};

use super::super::emit::{Emitter, Site, attribute};
use super::index::sorted;

/// The Reduce operations.
pub(super) fn reduce(e: &mut Emitter<'_>, op: &Reduce, site: &Site) -> Port {
    let kind = match op.f {
        ReduceFn::Sum => "ReduceSum",
        ReduceFn::Mean => "ReduceMean",
        ReduceFn::Max => "ReduceMax",
        ReduceFn::Min => "ReduceMin",
        ReduceFn::Prod => "ReduceProd",
        ReduceFn::All => "ReduceLogicalAnd",
        ReduceFn::Any => "ReduceLogicalOr",
    };
    let inputs = [e.operand(site, 0), e.axes(&op.axes)];
    e.op(Operation(kind, 1), &[attribute("keep_dims", op.keep)], &inputs, &site.results[0].real())
}

/// The place of the first in order.
pub(super) fn arg_reduce(e: &mut Emitter<'_>, op: &ArgReduce, site: &Site) -> Port {
    let (x, y) = (&site.operands[0], &site.results[0]);
    let kept = |elem| TensorType::new(elem, x.shape.with(op.axis, 1));
    let types = [kept(x.elem.real()), kept(y.elem.clone())];
    let places = sorted(e, site, 1, op.axis, op.largest, &types)[1];
    if op.keep {
        return places;
    }
    let axes = e.axes(&[op.axis]);
    e.op(Operation("Squeeze", 1), &[], &[places, axes], y)
}

/// CumSum.
pub(super) fn cum_sum(e: &mut Emitter<'_>, op: &CumSum, site: &Site) -> Port {
    let data = [attribute("exclusive", op.exclusive), attribute("reverse", op.reverse)];
    let inputs = [e.operand(site, 0), e.index(op.axis)];
    e.op(Operation("CumSum", 3), &data, &inputs, &site.results[0])
}
