//! Reductions and cumulative sums.

use qcc_formats::tflite::{ArgMax, ArgMin, BuiltinOperator, CumSum as CumSumOptions, Options, Reducer};
use qcc_ir::ops::{ArgReduce, CumSum, Reduce, ReduceFn};
use qcc_ir::{Dim, TensorType};

use super::super::emit::{Emitter, NodeContext, Unsupported, version};

/// MEAN, SUM and the REDUCE operators.
pub(super) fn reduce(e: &mut Emitter<'_>, op: &Reduce, site: &NodeContext<'_>) -> Result<(), Unsupported> {
    let x = &site.operands[0];
    let (code, int8, int16) = match op.f {
        ReduceFn::Sum => (BuiltinOperator::SUM, 2, 2),
        ReduceFn::Mean => (BuiltinOperator::MEAN, 2, 3),
        ReduceFn::Max => (BuiltinOperator::REDUCE_MAX, 2, 3),
        ReduceFn::Min => (BuiltinOperator::REDUCE_MIN, 2, 3),
        ReduceFn::Prod => (BuiltinOperator::REDUCE_PROD, 2, 2),
        ReduceFn::All => (BuiltinOperator::REDUCE_ALL, 1, 1),
        ReduceFn::Any => (BuiltinOperator::REDUCE_ANY, 1, 1),
    };
    let mut axes: Vec<i32> = op.axes.iter().map(|&a| x.layout.position(a) as i32).collect();
    axes.sort_unstable();
    let inputs = [site.inputs[0], e.indices(&axes)];
    let options = Reducer { keep_dims: op.keep };
    e.push_operator(code, version(x, 1, int8, int16), options, &inputs, &site.outputs);
    Ok(())
}

/// ARG_MAX and ARG_MIN. They drop the axis; a RESHAPE restores it.
pub(super) fn arg_reduce(e: &mut Emitter<'_>, op: &ArgReduce, site: &NodeContext<'_>) -> Result<(), Unsupported> {
    let (x, y) = (&site.operands[0], &site.results[0]);
    let output = e.elem(site.outputs[0]);
    let (code, options) = match op.largest {
        true => (BuiltinOperator::ARG_MAX, Options::from(ArgMax { output })),
        false => (BuiltinOperator::ARG_MIN, Options::from(ArgMin { output })),
    };
    let place = x.layout.position(op.axis);
    let inputs = [site.inputs[0], e.index(place)];
    let number = version(x, 1, 2, 2);
    if !op.keep {
        e.push_operator(code, number, options, &inputs, &site.outputs);
        return Ok(());
    }
    let others = |(i, d): (usize, &Dim)| (i != place).then(|| d.clone());
    let physical = y.layout.physical(&y.shape);
    let dropped = TensorType::new(y.elem.clone(), physical.dims().iter().enumerate().filter_map(others).collect());
    let indices = e.scratch(&dropped, site.node);
    e.store_as(indices, output);
    e.push_operator(code, number, options, &inputs, &[indices]);
    e.reshape_into(indices, site.outputs[0], y)
}

/// CUMSUM.
pub(super) fn cum_sum(e: &mut Emitter<'_>, op: &CumSum, site: &NodeContext<'_>) -> Result<(), Unsupported> {
    let inputs = [site.inputs[0], e.index(site.operands[0].layout.position(op.axis))];
    let options = CumSumOptions { exclusive: op.exclusive, reverse: op.reverse };
    e.push_operator(BuiltinOperator::CUMSUM, 1, options, &inputs, &site.outputs);
    Ok(())
}
