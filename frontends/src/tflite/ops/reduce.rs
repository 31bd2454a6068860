//! Reductions and cumulative sums.

use qcc_formats::tflite::{BuiltinOperator as B, CumSum as CumSumOptions, Reducer};
use qcc_ir::ops::{ArgReduce, CumSum, Reduce, ReduceFn};

use super::super::node::NodeCx;
use super::Row;
use crate::build::{Build, Operands, Values, computed, count_axes, one};
use crate::refusal::Refusal;

pub(super) const ROWS: &[Row] = &[
    (B::ARG_MAX, |n| arg_reduce(n, true)),
    (B::ARG_MIN, |n| arg_reduce(n, false)),
    (B::CUMSUM, cum_sum),
    (B::MEAN, |n| reduce(n, ReduceFn::Mean)),
    (B::REDUCE_ALL, |n| reduce(n, ReduceFn::All)),
    (B::REDUCE_ANY, |n| reduce(n, ReduceFn::Any)),
    (B::REDUCE_MAX, |n| reduce(n, ReduceFn::Max)),
    (B::REDUCE_MIN, |n| reduce(n, ReduceFn::Min)),
    (B::REDUCE_PROD, |n| reduce(n, ReduceFn::Prod)),
    (B::SUM, |n| reduce(n, ReduceFn::Sum)),
];

fn reduce(n: &mut NodeCx<'_, '_>, f: ReduceFn) -> Result<Values, Refusal> {
    let o: Reducer = n.options()?;
    let (x, axes) = (n.input(0)?, n.integers(1)?);
    let axes = count_axes(&axes, n.rank(x))?;
    if f == ReduceFn::Mean && n.ty(x).elem.is_integer() {
        return Err(Refusal::Unsupported("the mean of integers is not supported".into()));
    }
    if axes.is_empty() {
        let to = n.declared(0)?;
        return one(n.moved(x, &to)?);
    }
    one(n.give(Reduce { f, axes, keep: o.keep_dims }, &[x])?)
}

/// The axis is dropped.
fn arg_reduce(n: &mut NodeCx<'_, '_>, largest: bool) -> Result<Values, Refusal> {
    let (x, axis) = (n.input(0)?, n.integer(1)?);
    let axis = n.axis(axis, x)?;
    let index = n.give(ArgReduce { axis, largest, keep: false }, &[x])?;
    let to = n.declared(0)?;
    one(n.cast(index, to)?)
}

fn cum_sum(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let o: CumSumOptions = n.options()?;
    let x = n.input(0)?;
    let sums = |axis| CumSum { axis, exclusive: o.exclusive, reverse: o.reverse };
    if let Some(axis) = n.computed(1)? {
        return one(computed::by_axis(n, x, axis, |n, axis| n.give(sums(axis), &[x]))?);
    }
    let axis = n.integer(1)?;
    let axis = n.axis(axis, x)?;
    one(n.give(sums(axis), &[x])?)
}
