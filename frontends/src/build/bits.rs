//! Bitwise functions of integers, composed of arithmetic.

use qcc_ir::ops::{BinaryFn, Gather, Select};
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

/// The direction of a shift.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shift {
    /// The product with a power of two, without the bits that overflow.
    Left,
    /// The quotient by a power of two, rounded down.
    Right,
}

impl Shift {
    /// The power of two of step 0 or 1 for an amount. The highest power is not a signed integer, so it is reached in two
    /// steps.
    fn power(self, amount: i64, width: i64, step: usize) -> f64 {
        match (self, step) {
            (Shift::Left, 0) if amount > width => 0.0,
            (_, 0) => 2f64.powi(amount.min(width - 1) as i32),
            (Shift::Left, _) if amount == width => 2.0,
            (Shift::Right, _) if amount >= width => 2.0,
            _ => 1.0,
        }
    }

    fn function(self) -> BinaryFn {
        match self {
            Shift::Left => BinaryFn::Mul,
            Shift::Right => BinaryFn::FloorDiv,
        }
    }

    /// `x` shifted by these amounts.
    pub(crate) fn of(self, n: &mut impl Build, x: ValueId, by: ValueId) -> Result<ValueId, Refusal> {
        match n.constant(by).cloned() {
            Some(by) => self.by(n, x, &by),
            None => self.by_computed(n, x, by),
        }
    }

    /// `x` shifted by constant amounts.
    fn by(self, n: &mut impl Build, mut x: ValueId, by: &Tensor) -> Result<ValueId, Refusal> {
        let width = width(n, x)?;
        let elem = n.ty(x).elem.clone();
        let amounts = amounts(by)?;
        for step in 0..2 {
            let powers: Vec<f64> = amounts.iter().map(|&k| self.power(k, width, step)).collect();
            if powers.iter().any(|&p| p != 1.0) {
                let powers = numbers(&elem, Shape::known(&by.dims()), &powers);
                let powers = powers.ok_or_else(|| Refusal::Unsupported(format!("a shift of {elem}")))?;
                let powers = n.add_constant(powers);
                x = n.binary(self.function(), x, powers)?;
            }
        }
        Ok(x)
    }

    /// `x` shifted by computed amounts: the powers are in a table.
    fn by_computed(self, n: &mut impl Build, mut x: ValueId, by: ValueId) -> Result<ValueId, Refusal> {
        let width = width(n, x)?;
        let elem = n.ty(x).elem.clone();
        let signed = n.ty(by).elem != Elem::U8;
        let mut by = n.cast(by, Elem::I64)?;
        // The last entry is for all larger amounts, and for negative ones.
        let last = n.scalar((width + 1) as f64, by)?;
        if signed {
            let zero = n.scalar(0.0, by)?;
            let negative = n.binary(BinaryFn::Less, by, zero)?;
            by = n.add(Select {}, &[negative, last, by])?;
        }
        let by = n.binary(BinaryFn::Min, by, last)?;
        for step in 0..2 {
            let table = n.table_of(&elem, &[width as usize + 2], |k| self.power(k as i64, width, step))?;
            let table = table.ok_or_else(|| Refusal::Unsupported(format!("a shift of {elem}")))?;
            let powers = n.add(Gather { axis: 0 }, &[table, by])?;
            x = n.binary(self.function(), x, powers)?;
        }
        Ok(x)
    }
}
