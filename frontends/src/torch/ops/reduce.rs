//! Reductions.

use qcc_ir::ops::{ArgReduce, BinaryFn, Extents, ReduceFn, UnaryFn};
use qcc_ir::{Dim, Elem, Shape, ValueId};

use super::super::node::{NodeCx, Operand};
use super::Row;
use super::movement::flat;
use crate::build::{Build, Values, log_sum_exp, one};
use crate::refusal::Refusal;

pub(super) const ROWS: &[Row] = &[
    ("all", |n| truth(n, ReduceFn::All)),
    ("amax", |n| limits(n, ReduceFn::Max)),
    ("amin", |n| limits(n, ReduceFn::Min)),
    ("aminmax", |n| {
        let x = n.input()?;
        let axes = n.axes("dim", x)?;
        let keep = n.flag("keepdim", false)?;
        let (least, most) = (n.reduce(ReduceFn::Min, x, &axes, keep)?, n.reduce(ReduceFn::Max, x, &axes, keep)?);
        Ok(Values::from_iter([least, most]))
    }),
    ("any", |n| truth(n, ReduceFn::Any)),
    ("argmax", |n| arg(n, true)),
    ("argmin", |n| arg(n, false)),
    ("frobenius_norm", vector_norm),
    ("l1_loss", |n| loss(n, |n, d| n.unary(UnaryFn::Abs, d))),
    ("linalg_vector_norm", vector_norm),
    ("logsumexp", |n| {
        let x = n.input()?;
        let axes = n.axes("dim", x)?;
        let keep = n.flag("keepdim", false)?;
        one(log_sum_exp(n, x, &axes, keep)?)
    }),
    ("max", |n| extreme(n, true)),
    ("mean", |n| plain(n, ReduceFn::Mean)),
    ("min", |n| extreme(n, false)),
    ("mse_loss", |n| loss(n, |n, d| n.binary(BinaryFn::Mul, d, d))),
    ("norm", vector_norm),
    ("prod", |n| plain(n, ReduceFn::Prod)),
    ("std", |n| spread(n, true, false)),
    ("std_mean", |n| spread(n, true, true)),
    ("sum", |n| plain(n, ReduceFn::Sum)),
    ("var", |n| spread(n, false, false)),
    ("var_mean", |n| spread(n, false, true)),
];

/// Sums and products of integers have 64 bits.
fn plain(n: &mut NodeCx<'_, '_>, f: ReduceFn) -> Result<Values, Refusal> {
    let x = n.input()?;
    let elem = match n.dtype("dtype")? {
        Some(elem) => elem,
        None if n.ty(x).elem.is_float() => n.ty(x).elem.clone(),
        None => Elem::I64,
    };
    let x = n.cast(x, elem)?;
    let axes = n.axes("dim", x)?;
    let keep = n.flag("keepdim", false)?;
    one(n.reduce(f, x, &axes, keep)?)
}

/// A loss by the differences of two operands.
fn loss(
    n: &mut NodeCx<'_, '_>,
    of: impl FnOnce(&mut NodeCx<'_, '_>, ValueId) -> Result<ValueId, Refusal>,
) -> Result<Values, Refusal> {
    let (x, target) = (n.input()?, n.operand("target")?);
    let difference = n.promoted_binary(BinaryFn::Sub, Operand::Tensor(x), target)?;
    let losses = of(n, difference)?;
    let all: Extents = (0..n.rank(losses)).collect();
    one(match n.int("reduction", 1)? {
        0 => losses,
        1 => n.reduce(ReduceFn::Mean, losses, &all, false)?,
        2 => n.reduce(ReduceFn::Sum, losses, &all, false)?,
        _ => return Err(Refusal::Argument { name: "reduction".into(), problem: "is none of 0, 1 and 2" }),
    })
}

fn limits(n: &mut NodeCx<'_, '_>, f: ReduceFn) -> Result<Values, Refusal> {
    let x = n.input()?;
    let axes = n.axes("dim", x)?;
    let keep = n.flag("keepdim", false)?;
    one(n.reduce(of_elem(n, f, x), x, &axes, keep)?)
}

/// The maximum of booleans is their disjunction.
fn of_elem(n: &NodeCx<'_, '_>, f: ReduceFn, x: ValueId) -> ReduceFn {
    match (f, &n.ty(x).elem) {
        (ReduceFn::Max, Elem::Bool) => ReduceFn::Any,
        (ReduceFn::Min, Elem::Bool) => ReduceFn::All,
        (f, _) => f,
    }
}

fn truth(n: &mut NodeCx<'_, '_>, f: ReduceFn) -> Result<Values, Refusal> {
    let x = n.input()?;
    let x = n.cast(x, Elem::Bool)?;
    let axes = n.axes("dim", x)?;
    let keep = n.flag("keepdim", false)?;
    one(n.reduce(f, x, &axes, keep)?)
}

/// `max(self)`, `max(self, other)`, or values and their indices along an axis.
fn extreme(n: &mut NodeCx<'_, '_>, largest: bool) -> Result<Values, Refusal> {
    let x = n.input()?;
    let f = of_elem(n, if largest { ReduceFn::Max } else { ReduceFn::Min }, x);
    if n.has("other") {
        let (a, b) = (n.operand("self")?, n.operand("other")?);
        let f = if largest { BinaryFn::Max } else { BinaryFn::Min };
        return one(n.promoted_binary(f, a, b)?);
    }
    if !n.has("dim") {
        let all: Extents = (0..n.rank(x)).collect();
        return one(n.reduce(f, x, &all, false)?);
    }
    let axis = n.required_int("dim")?;
    let (axis, keep) = (n.axis(axis, x)?, n.flag("keepdim", false)?);
    let values = n.reduce(f, x, &[axis], keep)?;
    let indices = n.add(ArgReduce { axis, largest, keep }, &[x])?;
    Ok(Values::from_iter([values, indices]))
}

/// Without an axis: the index among all elements.
fn arg(n: &mut NodeCx<'_, '_>, largest: bool) -> Result<Values, Refusal> {
    let x = n.input()?;
    let keep = n.flag("keepdim", false)?;
    let Some(axis) = n.optional_int("dim")? else {
        let flat = flat(n, x)?;
        let index = n.add(ArgReduce { axis: 0, largest, keep: false }, &[flat])?;
        let dims = Extents::from_elem(1, if keep { n.rank(x) } else { 0 });
        return one(n.reshape(index, &dims)?);
    };
    let axis = n.axis(axis, x)?;
    one(n.add(ArgReduce { axis, largest, keep }, &[x])?)
}

/// The sum of squared deviations from the mean divided by (count - correction); its square root for the standard
/// deviation.
fn spread(n: &mut NodeCx<'_, '_>, root: bool, with_mean: bool) -> Result<Values, Refusal> {
    let x = n.input()?;
    let axes = n.axes("dim", x)?;
    let keep = n.flag("keepdim", false)?;
    let biased = !n.flag("unbiased", true)?;
    let correction = n.float("correction", if biased { 0.0 } else { 1.0 })?;
    let mean = n.reduce(ReduceFn::Mean, x, &axes, true)?;
    let centred = n.binary(BinaryFn::Sub, x, mean)?;
    let square = n.binary(BinaryFn::Mul, centred, centred)?;
    let mut y = n.reduce(ReduceFn::Mean, square, &axes, keep)?;
    let counted: Vec<Dim> = axes.iter().map(|&a| n.shape(x).dims()[a].clone()).collect();
    let count = Shape::count(&counted).ok_or_else(|| Refusal::Open(n.shape(x).clone()))?;
    if correction != 0.0 {
        let factor = corrected(n, &count, correction, y)?;
        y = n.binary(BinaryFn::Mul, y, factor)?;
    } else if count == Dim::Known(0) {
        return Err(Refusal::Unsupported("a variance of 0 elements".into()));
    }
    if root {
        y = n.unary(UnaryFn::Sqrt, y)?;
    }
    let mut values = Values::from_iter([y]);
    if with_mean {
        values.push(n.reshape_to(mean, n.shape(y).clone())?);
    }
    Ok(values)
}

/// The number of elements divided by that less a correction, as a scalar for `y`.
fn corrected(n: &mut NodeCx<'_, '_>, count: &Dim, correction: f64, y: ValueId) -> Result<ValueId, Refusal> {
    let Some(known) = count.known() else {
        let all = n.add_whole(vec![count.expr()], Extents::new())?;
        let all = n.cast(all, n.ty(y).elem.clone())?;
        let correction = n.scalar(correction, y)?;
        let fewer = n.binary(BinaryFn::Sub, all, correction)?;
        return n.binary(BinaryFn::Div, all, fewer);
    };
    let known = known as f64;
    if known <= correction {
        return Err(Refusal::Unsupported(format!("a variance of {count} elements with the correction {correction}")));
    }
    n.scalar(known / (known - correction), y)
}

/// The 1-, 2- or maximum norm.
fn vector_norm(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let x = n.input()?;
    let x = match n.dtype("dtype")? {
        Some(elem) => n.cast(x, elem)?,
        None => x,
    };
    let axes = n.axes("dim", x)?;
    let keep = n.flag("keepdim", false)?;
    let order = n.float(if n.has("p") { "p" } else { "ord" }, 2.0)?;
    if order == 2.0 {
        let square = n.binary(BinaryFn::Mul, x, x)?;
        let sum = n.reduce(ReduceFn::Sum, square, &axes, keep)?;
        return one(n.unary(UnaryFn::Sqrt, sum)?);
    }
    let f = match order {
        1.0 => ReduceFn::Sum,
        f64::INFINITY => ReduceFn::Max,
        f64::NEG_INFINITY => ReduceFn::Min,
        _ => return Err(Refusal::Unsupported(format!("a norm of order {order} is not supported"))),
    };
    let size = n.unary(UnaryFn::Abs, x)?;
    one(n.reduce(f, size, &axes, keep)?)
}
