//! Reductions and cumulative sums.

use qcc_ir::ops::{BinaryFn, CumSum, ReduceFn, UnaryFn};

use super::super::node::NodeCx;
use super::Row;
use crate::build::{Build, Operands, Values, computed, one};
use crate::refusal::Refusal;

pub(super) const ROWS: &[Row] = &[
    ("CumSum", |n| {
        let (exclusive, reverse) = (n.flag("exclusive", false)?, n.flag("reverse", false)?);
        let x = n.input(0)?;
        if let Some(axis) = n.computed(1)? {
            return one(computed::by_axis(n, x, axis, |n, axis| n.add(CumSum { axis, exclusive, reverse }, &[x]))?);
        }
        let axis = n.axis_at(1, x)?;
        one(n.add(CumSum { axis, exclusive, reverse }, &[x])?)
    }),
    ("ReduceL1", |n| {
        let x = n.input(0)?;
        let size = n.unary(UnaryFn::Abs, x)?;
        reduce(n, ReduceFn::Sum, size)
    }),
    ("ReduceL2", |n| {
        let x = n.input(0)?;
        let square = n.binary(BinaryFn::Mul, x, x)?;
        let sum = reduce(n, ReduceFn::Sum, square)?[0];
        one(n.unary(UnaryFn::Sqrt, sum)?)
    }),
    ("ReduceLogicalAnd", |n| of(n, ReduceFn::All)),
    ("ReduceLogicalOr", |n| of(n, ReduceFn::Any)),
    ("ReduceMax", |n| of(n, ReduceFn::Max)),
    ("ReduceMean", |n| of(n, ReduceFn::Mean)),
    ("ReduceMin", |n| of(n, ReduceFn::Min)),
    ("ReduceProd", |n| of(n, ReduceFn::Prod)),
    ("ReduceSum", |n| of(n, ReduceFn::Sum)),
];

fn of(n: &mut NodeCx<'_, '_>, f: ReduceFn) -> Result<Values, Refusal> {
    let x = n.input(0)?;
    reduce(n, f, x)
}

fn reduce(n: &mut NodeCx<'_, '_>, f: ReduceFn, x: qcc_ir::ValueId) -> Result<Values, Refusal> {
    let keep = n.flag("keep_dims", false)?;
    let axes = n.axes(1, x)?;
    one(n.reduce(f, x, &axes, keep)?)
}
