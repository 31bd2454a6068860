//! Numbers that the program computes from extents: known ones, and expressions of open extents. What such expressions
//! cannot say, nodes compute.

use std::cmp::Ordering;

use qcc_ir::ops::{BinaryFn, UnaryFn};
use qcc_ir::{Elem, Expr, Shape};

use super::super::node::NodeCx;
use super::super::quantity::Quantity;
use super::super::schema::Number;
use super::super::symbols::{ceil_div, power, quotient, remainder};
use crate::build::Build;
use crate::build::computed::one_defined;
use crate::refusal::Refusal;

type Row = (&'static str, fn(&mut NodeCx<'_, '_>) -> Result<Quantity, Refusal>);

pub(super) const ROWS: &[Row] = &[
    ("_local_scalar_dense", item),
    ("_operator.add", |n| arithmetic(n, &ADD)),
    ("_operator.and_", |n| truth(n, |a, b| a && b)),
    ("_operator.eq", |n| compared(n, |o| o == Ordering::Equal)),
    ("_operator.floordiv", |n| arithmetic(n, &FLOOR_DIV)),
    ("_operator.ge", |n| compared(n, Ordering::is_ge)),
    ("_operator.gt", |n| compared(n, Ordering::is_gt)),
    ("_operator.le", |n| compared(n, Ordering::is_le)),
    ("_operator.lt", |n| compared(n, Ordering::is_lt)),
    ("_operator.mod", |n| arithmetic(n, &MOD)),
    ("_operator.mul", |n| arithmetic(n, &MUL)),
    ("_operator.ne", |n| compared(n, |o| o != Ordering::Equal)),
    ("_operator.neg", negated),
    ("_operator.not_", not),
    ("_operator.or_", |n| truth(n, |a, b| a || b)),
    ("_operator.pow", |n| arithmetic(n, &POW)),
    ("_operator.sub", |n| arithmetic(n, &SUB)),
    ("_operator.truediv", |n| arithmetic(n, &DIV)),
    ("item", item),
    ("math.ceil", |n| whole(n, f64::ceil, |a, by| ceil_div(&a, by))),
    ("math.floor", |n| whole(n, f64::floor, |a, by| a.floor_div(by))),
    ("math.trunc", |n| whole(n, f64::trunc, truncated)),
    ("sym_numel", |n| {
        let x = n.input()?;
        let count = Shape::count(n.shape(x).dims());
        Ok(Quantity::whole(count.ok_or_else(|| Refusal::Open(n.shape(x).clone()))?.expr()))
    }),
    ("sym_size", |n| {
        let x = n.input()?;
        let axis = n.required_int("dim")?;
        let axis = n.axis(axis, x)?;
        Ok(Quantity::whole(n.shape(x).dims()[axis].expr()))
    }),
    ("torch._sym_sqrt", |n| match n.quantity_at(0)? {
        Quantity::Known(x) => Ok(Quantity::Known(Number::Float(libm::sqrt(x.float())))),
        open => {
            let x = n.float_value(&open)?;
            Ok(Quantity::Value(n.unary(UnaryFn::Sqrt, x)?))
        }
    }),
    ("torch.sym_float", |n| {
        Ok(match n.quantity_at(0)? {
            Quantity::Known(x) => Quantity::Known(Number::Float(x.float())),
            Quantity::Whole(x) => Quantity::Ratio(x, 1),
            float => float,
        })
    }),
    ("torch.sym_int", |n| whole(n, f64::trunc, truncated)),
    ("torch.sym_max", |n| arithmetic(n, &MAX)),
    ("torch.sym_min", |n| arithmetic(n, &MIN)),
    ("torch.sym_not", not),
];

/// A function of two numbers.
struct Function {
    /// On known integers; `None` if the result is a float.
    ints: fn(i64, i64) -> Option<i64>,
    /// On known floats.
    floats: fn(f64, f64) -> f64,
    /// On integers that follow from open extents: the result, divided by a positive number.
    open: fn(&Expr, &Expr) -> Option<(Expr, i64)>,
    /// On numerators with the divisor `by`: the numerator and the divisor of the result.
    ratios: fn(&Expr, &Expr, i64) -> Option<(Expr, i64)>,
    /// On floats that nodes compute.
    nodes: BinaryFn,
    /// The result is a float, even of integers.
    is_float: bool,
}

const ADD: Function = Function {
    ints: i64::checked_add,
    floats: |a, b| a + b,
    open: |a, b| Some((a.plus(b)?, 1)),
    ratios: |a, b, by| Some((a.plus(b)?, by)),
    nodes: BinaryFn::Add,
    is_float: false,
};

const SUB: Function = Function {
    ints: i64::checked_sub,
    floats: |a, b| a - b,
    open: |a, b| Some((a.minus(b)?, 1)),
    ratios: |a, b, by| Some((a.minus(b)?, by)),
    nodes: BinaryFn::Sub,
    is_float: false,
};

const MUL: Function = Function {
    ints: i64::checked_mul,
    floats: |a, b| a * b,
    open: |a, b| Some((a.times(b)?, 1)),
    ratios: |a, b, by| Some((a.times(b)?, by.checked_mul(by)?)),
    nodes: BinaryFn::Mul,
    is_float: false,
};

const DIV: Function = Function {
    ints: |_, _| None,
    floats: |a, b| a / b,
    open: divided,
    ratios: |a, b, _| divided(a, b),
    nodes: BinaryFn::Div,
    is_float: true,
};

const FLOOR_DIV: Function = Function {
    ints: floor_div,
    floats: |a, b| (a / b).floor(),
    open: |a, b| Some((quotient(a, b)?, 1)),
    ratios: |a, b, _| Some((quotient(a, b)?, 1)),
    nodes: BinaryFn::FloorDiv,
    is_float: false,
};

const MOD: Function = Function {
    ints: |a, b| Some(a - b * floor_div(a, b)?),
    floats: |a, b| a - b * (a / b).floor(),
    open: |a, b| Some((remainder(a, b)?, 1)),
    ratios: |a, b, by| Some((remainder(a, b)?, by)),
    nodes: BinaryFn::FloorMod,
    is_float: false,
};

const POW: Function = Function {
    ints: |a, b| a.checked_pow(u32::try_from(b).ok()?),
    floats: libm::pow,
    open: |a, b| Some((power(a, b.constant()?)?, 1)),
    ratios: |_, _, _| None,
    nodes: BinaryFn::Pow,
    is_float: false,
};

const MAX: Function = Function {
    ints: |a, b| Some(a.max(b)),
    floats: f64::max,
    open: |a, b| Some((a.larger(b)?, 1)),
    ratios: |a, b, by| Some((a.larger(b)?, by)),
    nodes: BinaryFn::Max,
    is_float: false,
};

const MIN: Function = Function {
    ints: |a, b| Some(a.min(b)),
    floats: f64::min,
    open: |a, b| Some((a.smaller(b)?, 1)),
    ratios: |a, b, by| Some((a.smaller(b)?, by)),
    nodes: BinaryFn::Min,
    is_float: false,
};

/// The number of a tensor of one element. One that is known at run time only is a symbol, or a value.
fn item(n: &mut NodeCx<'_, '_>) -> Result<Quantity, Refusal> {
    let known = n.quantity("self");
    let Err(Refusal::NotConstant { .. }) = known else { return known?.ok_or_else(|| n.missing("self")) };
    let x = n.tensor("self")?;
    match &n.ty(x).elem {
        Elem::Bool => known?.ok_or_else(|| n.missing("self")),
        elem if elem.is_float() => Ok(Quantity::Value(n.reshape(x, &[])?)),
        _ => {
            let x = n.cast(x, Elem::I64)?;
            Ok(Quantity::whole(one_defined(n, x)?))
        }
    }
}

fn floor_div(a: i64, b: i64) -> Option<i64> {
    let quotient = a.checked_div(b)?;
    Some(if a % b != 0 && (a < 0) != (b < 0) { quotient - 1 } else { quotient })
}

/// The exact quotient, if it is an expression divided by a number.
fn divided(a: &Expr, b: &Expr) -> Option<(Expr, i64)> {
    match b.constant() {
        Some(by) => (by > 0).then(|| (a.clone(), by)),
        None => Some((a.exact_div(b)?, 1)),
    }
}

/// What is left of a quotient without its fraction.
fn truncated(a: Expr, by: i64) -> Option<Expr> {
    match a.bounds() {
        (Some(0..), _) => a.floor_div(by),
        (_, Some(..=0)) => ceil_div(&a, by),
        _ => None,
    }
}

fn arithmetic(n: &mut NodeCx<'_, '_>, f: &Function) -> Result<Quantity, Refusal> {
    let (a, b) = (n.quantity_at(0)?, n.quantity_at(1)?);
    if let (Some(a), Some(b)) = (a.known(), b.known()) {
        return known(f, a, b).map(Quantity::Known);
    }
    if !a.is_float() && !b.is_float() {
        let result = a.int().zip(b.int()).and_then(|(a, b)| (f.open)(&a, &b));
        match result {
            Some((result, by)) if f.is_float => return Ok(Quantity::ratio(result, by)),
            Some((result, _)) => return Ok(Quantity::whole(result)),
            // Extents are not made of what nodes compute.
            None if !f.is_float => {
                let open = if a.known().is_some() { (1, &b) } else { (0, &a) };
                return Err(n.open_number(open.0, open.1));
            }
            None => {}
        }
    } else if let Some((result, by)) = a.alike(&b).and_then(|(a, b, by)| (f.ratios)(&a, &b, by)) {
        return Ok(Quantity::ratio(result, by));
    }
    let (a, b) = (n.float_value(&a)?, n.float_value(&b)?);
    Ok(Quantity::Value(n.binary(f.nodes, a, b)?))
}

/// An integer if both operands are integers and the function has an integer form.
fn known(f: &Function, a: Number, b: Number) -> Result<Number, Refusal> {
    if !matches!((a, b), (Number::Float(_), _) | (_, Number::Float(_)))
        && let (Some(a), Some(b)) = (a.int(), b.int())
        && let Some(result) = (f.ints)(a, b)
    {
        return Ok(Number::Int(result));
    }
    let result = (f.floats)(a.float(), b.float());
    if result.is_finite() {
        Ok(Number::Float(result))
    } else {
        Err(Refusal::Invalid(format!("{} and {} give {result}", a.float(), b.float())))
    }
}

/// Open numbers are compared where their bounds tell.
fn compared(n: &mut NodeCx<'_, '_>, holds: fn(Ordering) -> bool) -> Result<Quantity, Refusal> {
    let (a, b) = (n.quantity_at(0)?, n.quantity_at(1)?);
    let result = match (a.known(), b.known()) {
        // No comparison but inequality holds for what is not a number.
        (Some(a), Some(b)) => match a.float().partial_cmp(&b.float()) {
            Some(order) => Some(holds(order)),
            None => Some(holds(Ordering::Less) && holds(Ordering::Greater)),
        },
        _ => {
            let difference = a.alike(&b).and_then(|(a, b, _)| a.minus(&b));
            let (low, high) = difference.map_or((None, None), |d| d.bounds());
            let may = [
                (Ordering::Less, low.is_none_or(|low| low < 0)),
                (Ordering::Equal, low.is_none_or(|low| low <= 0) && high.is_none_or(|high| high >= 0)),
                (Ordering::Greater, high.is_none_or(|high| high > 0)),
            ];
            let outcomes: Vec<bool> = may.iter().filter(|(_, may)| *may).map(|(order, _)| holds(*order)).collect();
            outcomes.windows(2).all(|w| w[0] == w[1]).then(|| outcomes.first().copied()).flatten()
        }
    };
    let open = if a.known().is_some() { (1, &b) } else { (0, &a) };
    result.map(|r| Quantity::Known(Number::Bool(r))).ok_or_else(|| n.open_number(open.0, open.1))
}

fn truth(n: &mut NodeCx<'_, '_>, f: fn(bool, bool) -> bool) -> Result<Quantity, Refusal> {
    let (a, b) = (n.number_at(0)?, n.number_at(1)?);
    Ok(Quantity::Known(Number::Bool(f(a.float() != 0.0, b.float() != 0.0))))
}

fn not(n: &mut NodeCx<'_, '_>) -> Result<Quantity, Refusal> {
    Ok(Quantity::Known(Number::Bool(n.number_at(0)?.float() == 0.0)))
}

fn negated(n: &mut NodeCx<'_, '_>) -> Result<Quantity, Refusal> {
    let x = n.quantity_at(0)?;
    let minus = |e: &Expr| e.times(&(-1).into());
    let open = |n: &NodeCx<'_, '_>| n.open_number(0, &x);
    Ok(match &x {
        Quantity::Known(Number::Float(f)) => Quantity::Known(Number::Float(-f)),
        Quantity::Known(other) => Quantity::Known(Number::Int(-other.int().unwrap_or(0))),
        Quantity::Whole(e) => Quantity::whole(minus(e).ok_or_else(|| open(n))?),
        Quantity::Ratio(e, by) => Quantity::ratio(minus(e).ok_or_else(|| open(n))?, *by),
        Quantity::Value(v) => Quantity::Value(n.unary(UnaryFn::Neg, *v)?),
    })
}

/// A float as an integer.
fn whole(n: &mut NodeCx<'_, '_>, f: fn(f64) -> f64, open: fn(Expr, i64) -> Option<Expr>) -> Result<Quantity, Refusal> {
    let x = n.quantity_at(0)?;
    if let Some(x) = x.known() {
        let whole = Number::Float(f(x.float())).int();
        return whole
            .map(|n| Quantity::Known(Number::Int(n)))
            .ok_or_else(|| Refusal::Invalid(format!("{} is not an integer", x.float())));
    }
    let result = x.parts().and_then(|(expr, by)| if by == 1 { Some(expr) } else { open(expr, by) });
    result.map(Quantity::whole).ok_or_else(|| n.open_number(0, &x))
}
