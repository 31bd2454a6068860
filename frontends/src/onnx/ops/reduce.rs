//! Reductions.

use qcc_ir::ops::{BinaryFn, Extents, ReduceFn, UnaryFn};
use qcc_ir::{Elem, ValueId};

use super::super::node::NodeCx;
use super::Row;
use crate::build::{Build, Values, count_axes, log_sum_exp, one};
use crate::refusal::Refusal;

pub(super) const ROWS: &[Row] = &[
    ("ReduceL1", |n| {
        let r = Reduction::read(n, 18)?;
        let x = n.unary(UnaryFn::Abs, r.x)?;
        one(r.of(n, ReduceFn::Sum, x)?)
    }),
    ("ReduceL2", |n| {
        let r = Reduction::read(n, 18)?;
        let sum = sum_of_squares(n, &r)?;
        one(n.unary(UnaryFn::Sqrt, sum)?)
    }),
    ("ReduceLogSum", |n| {
        let r = Reduction::read(n, 18)?;
        let sum = r.of(n, ReduceFn::Sum, r.x)?;
        one(n.unary(UnaryFn::Log, sum)?)
    }),
    ("ReduceLogSumExp", |n| {
        let r = Reduction::read(n, 18)?;
        one(log_sum_exp(n, r.x, &r.axes, r.keep)?)
    }),
    ("ReduceMax", |n| plain(n, ReduceFn::Max, 18)),
    ("ReduceMean", |n| plain(n, ReduceFn::Mean, 18)),
    ("ReduceMin", |n| plain(n, ReduceFn::Min, 18)),
    ("ReduceProd", |n| plain(n, ReduceFn::Prod, 18)),
    ("ReduceSum", |n| plain(n, ReduceFn::Sum, 13)),
    ("ReduceSumSquare", |n| {
        let r = Reduction::read(n, 18)?;
        one(sum_of_squares(n, &r)?)
    }),
];

/// The common part of all reductions. Since opset `since` the axes are an input.
struct Reduction {
    x: ValueId,
    axes: Extents,
    keep: bool,
}

impl Reduction {
    fn read(n: &mut NodeCx<'_, '_>, since: i64) -> Result<Reduction, Refusal> {
        let x = n.input(0)?;
        let axes = n.attribute_or_input("axes", since, 1)?.unwrap_or_default();
        let none_means_none = n.opset() >= since && n.flag("noop_with_empty_axes", false)?;
        let axes = match axes.as_slice() {
            [] if none_means_none => Extents::new(),
            [] => (0..n.rank(x)).collect(),
            some => count_axes(some, n.rank(x))?,
        };
        Ok(Reduction { x, axes, keep: n.flag("keepdims", true)? })
    }

    fn of(&self, n: &mut NodeCx<'_, '_>, f: ReduceFn, x: ValueId) -> Result<ValueId, Refusal> {
        n.reduce(f, x, &self.axes, self.keep)
    }
}

fn plain(n: &mut NodeCx<'_, '_>, f: ReduceFn, since: i64) -> Result<Values, Refusal> {
    let r = Reduction::read(n, since)?;
    // The maximum of booleans is their disjunction.
    let f = match (f, &n.ty(r.x).elem) {
        (ReduceFn::Max, Elem::Bool) => ReduceFn::Any,
        (ReduceFn::Min, Elem::Bool) => ReduceFn::All,
        (f, _) => f,
    };
    one(r.of(n, f, r.x)?)
}

fn sum_of_squares(n: &mut NodeCx<'_, '_>, r: &Reduction) -> Result<ValueId, Refusal> {
    let squares = n.binary(BinaryFn::Mul, r.x, r.x)?;
    r.of(n, ReduceFn::Sum, squares)
}
