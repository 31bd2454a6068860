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
    let result = site.results[0].real();
    // The plugin gets a FakeQuantize behind an extreme wrong that drops its axes.
    if matches!(op.f, ReduceFn::Max | ReduceFn::Min) && !op.keep {
        let shape = op.axes.iter().fold(site.operands[0].shape.clone(), |shape, &axis| shape.with(axis, 1));
        let kept = TensorType::new(result.elem.clone(), shape);
        let kept = e.op(Operation(kind, 1), &[attribute("keep_dims", true)], &inputs, &kept);
        return squeezed(e, kept, &op.axes, &result);
    }
    e.op(Operation(kind, 1), &[attribute("keep_dims", op.keep)], &inputs, &result)
}

fn squeezed(e: &mut Emitter<'_>, x: Port, axes: &[usize], ty: &TensorType) -> Port {
    let axes = e.axes(axes);
    e.op(Operation("Squeeze", 1), &[], &[x, axes], ty)
}

/// The place of the first in order.
pub(super) fn arg_reduce(e: &mut Emitter<'_>, op: &ArgReduce, site: &Site) -> Port {
    let (x, y) = (&site.operands[0], &site.results[0]);
    let kept = |elem| TensorType::new(elem, x.shape.with(op.axis, 1));
    let types = [kept(x.elem.real()), kept(y.elem.clone())];
    let places = sorted(e, site, 1, op.axis, op.largest, &types)[1];
    if op.keep { places } else { squeezed(e, places, &[op.axis], y) }
}

/// CumSum.
pub(super) fn cum_sum(e: &mut Emitter<'_>, op: &CumSum, site: &Site) -> Port {
    let data = [attribute("exclusive", op.exclusive), attribute("reverse", op.reverse)];
    let inputs = [e.operand(site, 0), e.index(op.axis)];
    e.op(Operation("CumSum", 3), &data, &inputs, &site.results[0])
}
