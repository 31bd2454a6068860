//! Bitwise functions of integers, composed of arithmetic.

use qcc_ir::ops::BinaryFn;
use qcc_ir::{Elem, Shape, Tensor, ValueId};

use super::{Build, numbers};
use crate::refusal::Refusal;

/// Bitwise complement.
pub(crate) fn not(n: &mut impl Build, x: ValueId) -> Result<ValueId, Refusal> {
    width(n, x)?;
    let all = if n.ty(x).elem == Elem::U8 { 255.0 } else { -1.0 };
    let all = n.scalar(all, x)?;
    n.binary(BinaryFn::Sub, all, x)
}

/// Bits of an integer without its sign bit.
fn width(n: &impl Build, x: ValueId) -> Result<i64, Refusal> {
    match n.ty(x).elem {
        Elem::I8 => Ok(7),
        Elem::U8 => Ok(8),
        Elem::I16 => Ok(15),
        Elem::I32 => Ok(31),
        Elem::I64 => Ok(63),
        ref other => Err(Refusal::Invalid(format!("the bits of {other}"))),
    }
}

/// Shift amounts. A negative amount shifts out all bits.
fn amounts(by: &Tensor) -> Result<Vec<i64>, Refusal> {
    let amounts = by.integers().ok_or_else(|| Refusal::Invalid(format!("a shift by {}", by.ty())))?;
    Ok(amounts.into_iter().map(|k| if k < 0 { i64::MAX } else { k }).collect())
}

/// Left shift: the product with a power of two, without the bits that overflow.
pub(crate) fn shifted_left(n: &mut impl Build, x: ValueId, by: &Tensor) -> Result<ValueId, Refusal> {
    let width = width(n, x)?;
    let mut x = x;
    // The highest power is not a signed integer, so it is reached in two steps.
    for step in 0..2 {
        let power = |k: &i64| match (*k, step) {
            (k, 0) if k > width => 0.0,
            (k, 0) => 2f64.powi(k.min(width - 1) as i32),
            (k, _) => {
                if k == width {
                    2.0
                } else {
                    1.0
                }
            }
        };
        let powers: Vec<f64> = amounts(by)?.iter().map(power).collect();
        x = scaled(n, BinaryFn::Mul, x, by, &powers)?;
    }
    Ok(x)
}

/// Right shift: the quotient by a power of two, rounded down.
pub(crate) fn shifted_right(n: &mut impl Build, x: ValueId, by: &Tensor) -> Result<ValueId, Refusal> {
    let width = width(n, x)?;
    let mut x = x;
    for step in 0..2 {
        let power = |k: &i64| match step {
            0 => 2f64.powi((*k).min(width - 1) as i32),
            _ => {
                if *k >= width {
                    2.0
                } else {
                    1.0
                }
            }
        };
        let powers: Vec<f64> = amounts(by)?.iter().map(power).collect();
        x = scaled(n, BinaryFn::FloorDiv, x, by, &powers)?;
    }
    Ok(x)
}

fn scaled(n: &mut impl Build, f: BinaryFn, x: ValueId, by: &Tensor, powers: &[f64]) -> Result<ValueId, Refusal> {
    if powers.iter().all(|&p| p == 1.0) {
        return Ok(x);
    }
    let elem = n.ty(x).elem.clone();
    let powers = numbers(&elem, Shape::known(&by.dims()), powers);
    let powers = powers.ok_or_else(|| Refusal::Unsupported(format!("a shift of {elem}")))?;
    let powers = n.add_constant(powers);
    n.binary(f, x, powers)
}
