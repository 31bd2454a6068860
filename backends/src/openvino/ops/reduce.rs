//! Reductions and cumulative sums.

use qcc_formats::openvino::{Operation, Port};
use qcc_ir::ops::{ArgReduce, CumSum, Reduce, ReduceFn};
use qcc_ir::{Dim, Elem, TensorType};

use super::super::emit::{Emitter, NodeContext, Unsupported, attribute};
use super::index::sorted;
use super::pool::max_pool;

/// The Reduce operations.
pub(super) fn reduce(e: &mut Emitter<'_>, op: &Reduce, site: &NodeContext) -> Result<Port, Unsupported> {
    let kind = match op.f {
        ReduceFn::Sum => "ReduceSum",
        ReduceFn::Mean => "ReduceMean",
        ReduceFn::Max => "ReduceMax",
        ReduceFn::Min => "ReduceMin",
        ReduceFn::Prod => "ReduceProd",
        ReduceFn::All => "ReduceLogicalAnd",
        ReduceFn::Any => "ReduceLogicalOr",
    };
    let result = site.results[0].real();
    if matches!(op.f, ReduceFn::Max | ReduceFn::Min) && result.elem == Elem::F32 && e.quantizes {
        return extreme(e, op, site);
    }
    let (from, inputs) = (&site.operands[0].shape, [e.operand(site, 0), e.axes(&op.axes)]);
    // The plugin computes integers in floating point and merges what follows into the reduction: a division by it is then
    // rounded to the nearest integer. Between conversions it stays a reduction.
    if result.elem.is_integer() {
        let real = result.with_elem(Elem::F32);
        let x = e.convert(inputs[0], &site.operands[0].with_elem(Elem::F32));
        let y = e.op(Operation(kind, 1), &[attribute("keep_dims", op.keep)], &[x, inputs[1]], &real);
        return Ok(e.convert(y, &result));
    }
    // The plugin applies constants that follow a reduction of the last of three axes to the wrong axis of its result, unless
    // the axis is kept.
    if !op.keep && from.rank() == 3 && op.axes[..] == [2] {
        let kept = TensorType::new(result.elem.clone(), from.with(2, 1));
        let y = e.op(Operation(kind, 1), &[attribute("keep_dims", true)], &inputs, &kept);
        return Ok(squeezed(e, y, &op.axes, &result));
    }
    Ok(e.op(Operation(kind, 1), &[attribute("keep_dims", op.keep)], &inputs, &result))
}

/// Maximum or minimum as a pooling: the plugin fuses ReduceMax and ReduceMin with a following FakeQuantize and then
/// compares values with quantized ones.
fn extreme(e: &mut Emitter<'_>, op: &Reduce, site: &NodeContext) -> Result<Port, Unsupported> {
    let smallest = op.f == ReduceFn::Min;
    let mut ty = site.operands[0].real();
    let mut x = e.operand(site, 0);
    if smallest {
        x = negative(e, x, &ty);
    }
    // Groups of adjacent axes, last ones first, each between the merged axes before and after it.
    let mut end = ty.rank();
    while let Some(last) = (0..end).rev().find(|axis| op.axes.contains(axis)) {
        let first = (0..last).rev().find(|axis| !op.axes.contains(axis)).map_or(0, |axis| axis + 1);
        let dims = ty.shape.dims();
        let split = first.min(1);
        let groups = [&dims[..split], &dims[split..first], &dims[first..=last], &dims[last + 1..]];
        let groups: Option<Vec<Dim>> = groups.into_iter().map(product).collect();
        // If extents are open, the first of the sorted elements of each axis.
        let Some((groups, window)) = groups.and_then(|g| Some((g.clone(), g[2].known()?))) else {
            for axis in first..=last {
                ty.shape = ty.shape.with(axis, 1);
                let one = e.index(1);
                x = sorted(e, x, one, axis, true, &[ty.clone(), ty.with_elem(Elem::I64)])[0];
            }
            end = first;
            continue;
        };
        let joined = TensorType::new(ty.elem.clone(), groups.into_iter().collect());
        x = e.reshape(x, &joined);
        x = max_pool(e, x, &[window, 1], &TensorType::new(ty.elem.clone(), joined.shape.with(2, 1)));
        ty.shape = (first..=last).fold(ty.shape, |shape, axis| shape.with(axis, 1));
        x = e.reshape(x, &ty);
        end = first;
    }
    if smallest {
        x = negative(e, x, &ty);
    }
    Ok(if op.keep { x } else { e.reshape(x, &site.results[0].real()) })
}

fn negative(e: &mut Emitter<'_>, x: Port, ty: &TensorType) -> Port {
    let minus = e.scalar(-1.0);
    e.binary("Multiply", x, minus, ty)
}

/// The product of extents, if all of them are known; a single extent may be open.
fn product(dims: &[Dim]) -> Option<Dim> {
    match dims {
        [dim] => Some(dim.clone()),
        _ => dims.iter().map(Dim::known).product::<Option<usize>>().map(Dim::Known),
    }
}

fn squeezed(e: &mut Emitter<'_>, x: Port, axes: &[usize], ty: &TensorType) -> Port {
    let axes = e.axes(axes);
    e.op(Operation("Squeeze", 1), &[], &[x, axes], ty)
}

/// The index of the first element in sorted order.
pub(super) fn arg_reduce(e: &mut Emitter<'_>, op: &ArgReduce, site: &NodeContext) -> Port {
    let (x, y) = (&site.operands[0], &site.results[0]);
    let kept = |elem| TensorType::new(elem, x.shape.with(op.axis, 1));
    let types = [kept(x.elem.real()), kept(y.elem.clone())];
    let data = e.operand(site, 0);
    let one = e.index(1);
    let places = sorted(e, data, one, op.axis, op.largest, &types)[1];
    if op.keep { places } else { squeezed(e, places, &[op.axis], y) }
}

/// CumSum.
pub(super) fn cum_sum(e: &mut Emitter<'_>, op: &CumSum, site: &NodeContext) -> Port {
    let data = [attribute("exclusive", op.exclusive), attribute("reverse", op.reverse)];
    let inputs = [e.operand(site, 0), e.index(op.axis)];
    e.op(Operation("CumSum", 3), &data, &inputs, &site.results[0])
}
