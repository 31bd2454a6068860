//! Numbers that the program computes from extents, which are known at import.

use qcc_ir::ValueId;

use super::super::node::NodeCx;
use super::super::schema::Number;
use crate::build::Build;
use crate::refusal::Refusal;

type Row = (&'static str, fn(&mut NodeCx<'_, '_>) -> Result<Number, Refusal>);

pub(super) const ROWS: &[Row] = &[
    ("_local_scalar_dense", item),
    ("_operator.add", |n| combined(n, |a, b| a.checked_add(b), |a, b| a + b)),
    ("_operator.and_", |n| compared(n, |a, b| a != 0.0 && b != 0.0)),
    ("_operator.eq", |n| compared(n, |a, b| a == b)),
    ("_operator.floordiv", |n| combined(n, floor_div, |a, b| (a / b).floor())),
    ("_operator.ge", |n| compared(n, |a, b| a >= b)),
    ("_operator.gt", |n| compared(n, |a, b| a > b)),
    ("_operator.le", |n| compared(n, |a, b| a <= b)),
    ("_operator.lt", |n| compared(n, |a, b| a < b)),
    ("_operator.mod", |n| combined(n, |a, b| Some(a - b * floor_div(a, b)?), |a, b| a - b * (a / b).floor())),
    ("_operator.mul", |n| combined(n, |a, b| a.checked_mul(b), |a, b| a * b)),
    ("_operator.ne", |n| compared(n, |a, b| a != b)),
    ("_operator.neg", |n| {
        Ok(match n.number_at(0)? {
            Number::Float(f) => Number::Float(-f),
            other => Number::Int(-other.int().unwrap_or(0)),
        })
    }),
    ("_operator.not_", |n| Ok(Number::Bool(n.number_at(0)?.float() == 0.0))),
    ("_operator.or_", |n| compared(n, |a, b| a != 0.0 || b != 0.0)),
    ("_operator.pow", |n| combined(n, |a, b| a.checked_pow(u32::try_from(b).ok()?), libm::pow)),
    ("_operator.sub", |n| combined(n, |a, b| a.checked_sub(b), |a, b| a - b)),
    ("_operator.truediv", |n| combined(n, |_, _| None, |a, b| a / b)),
    ("item", item),
    ("math.ceil", |n| whole(n, f64::ceil)),
    ("math.floor", |n| whole(n, f64::floor)),
    ("math.trunc", |n| whole(n, f64::trunc)),
    ("sym_numel", |n| {
        let x = n.input()?;
        Ok(Number::Int(elements(n, x)?))
    }),
    ("sym_size", |n| {
        let x = n.input()?;
        let axis = n.required_int("dim")?;
        let axis = n.axis(axis, x)?;
        Ok(Number::Int(n.dims(x)?[axis] as i64))
    }),
    ("torch.sym_float", |n| Ok(Number::Float(n.number_at(0)?.float()))),
    ("torch.sym_int", |n| whole(n, f64::trunc)),
    ("torch.sym_max", |n| combined(n, |a, b| Some(a.max(b)), f64::max)),
    ("torch.sym_min", |n| combined(n, |a, b| Some(a.min(b)), f64::min)),
    ("torch.sym_not", |n| Ok(Number::Bool(n.number_at(0)?.float() == 0.0))),
];

fn elements(n: &NodeCx<'_, '_>, x: ValueId) -> Result<i64, Refusal> {
    Ok(n.dims(x)?.iter().product::<usize>() as i64)
}

fn item(n: &mut NodeCx<'_, '_>) -> Result<Number, Refusal> {
    n.number("self")?.ok_or_else(|| n.missing("self"))
}

fn floor_div(a: i64, b: i64) -> Option<i64> {
    let quotient = a.checked_div(b)?;
    Some(if a % b != 0 && (a < 0) != (b < 0) { quotient - 1 } else { quotient })
}

/// An integer if both operands are integers and the function has an integer form.
fn combined(
    n: &mut NodeCx<'_, '_>,
    ints: fn(i64, i64) -> Option<i64>,
    floats: fn(f64, f64) -> f64,
) -> Result<Number, Refusal> {
    let (a, b) = (n.number_at(0)?, n.number_at(1)?);
    if !matches!((a, b), (Number::Float(_), _) | (_, Number::Float(_)))
        && let (Some(a), Some(b)) = (a.int(), b.int())
        && let Some(result) = ints(a, b)
    {
        return Ok(Number::Int(result));
    }
    let result = floats(a.float(), b.float());
    if result.is_finite() {
        Ok(Number::Float(result))
    } else {
        Err(Refusal::Invalid(format!("{} and {} give {result}", a.float(), b.float())))
    }
}

fn compared(n: &mut NodeCx<'_, '_>, f: fn(f64, f64) -> bool) -> Result<Number, Refusal> {
    let (a, b) = (n.number_at(0)?, n.number_at(1)?);
    Ok(Number::Bool(f(a.float(), b.float())))
}

fn whole(n: &mut NodeCx<'_, '_>, f: fn(f64) -> f64) -> Result<Number, Refusal> {
    let x = n.number_at(0)?;
    let whole = Number::Float(f(x.float())).int();
    whole.map(Number::Int).ok_or_else(|| Refusal::Invalid(format!("{} is not an integer", x.float())))
}
