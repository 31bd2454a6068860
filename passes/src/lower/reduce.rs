//! Lowering of reductions.

use qcc_ir::ops::{Op, Reduce, ReduceFn, UnaryFn};
use qcc_ir::{NodeId, Tensor, ValueId};

use super::build::{Build, Built};
use crate::Skip;

/// An integer mean becomes a sum and a division, which truncates like the mean. Any element is true unless all of their
/// negations are.
pub(super) fn reduce(b: &mut Build<'_>, node: NodeId) -> Built {
    let Op::Reduce(op) = b.g.op(node) else { return Err(Skip::NoMatch) };
    let (op, x) = (op.clone(), b.g.operands(node)[0]);
    match op.f {
        ReduceFn::Mean => mean(b, op, x),
        ReduceFn::Any => {
            let not = b.unary(UnaryFn::Not, x)?;
            let none = b.op(Reduce { f: ReduceFn::All, ..op }, &[not])?;
            b.unary(UnaryFn::Not, none)
        }
        _ => Err(Skip::NoMatch),
    }
}

fn mean(b: &mut Build<'_>, op: Reduce, x: ValueId) -> Built {
    let elem = b.ty(x).elem.clone();
    if !elem.is_integer() {
        return Err(Skip::NoMatch);
    }
    let extent = |&a: &usize| b.ty(x).shape.dims()[a].known().ok_or(Skip::Open);
    let count = op.axes.iter().map(extent).product::<Result<usize, Skip>>()?;
    let sum = b.op(Reduce { f: ReduceFn::Sum, ..op }, &[x])?;
    let count = b.constant(Tensor::scalar(count as i64));
    let count = b.cast(count, elem)?;
    b.div(sum, count)
}
