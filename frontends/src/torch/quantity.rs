//! Numbers of a program, which may follow from open extents.

use qcc_ir::{Expr, ValueId};

use super::schema::Number;

/// A number of the program.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Quantity {
    /// Known at import.
    Known(Number),
    /// An integer that follows from open extents.
    Whole(Expr),
    /// A float: an integer that follows from open extents, divided by a positive number.
    Ratio(Expr, i64),
    /// A float that nodes compute from open extents.
    Value(ValueId),
}

/// Maximum divisor of a float that is represented as a quotient.
const MOST_PARTS: i64 = 1 << 20;

impl Quantity {
    /// An integer.
    pub(super) fn whole(expr: Expr) -> Quantity {
        match expr.constant() {
            Some(n) => Quantity::Known(Number::Int(n)),
            None => Quantity::Whole(expr),
        }
    }

    /// A float: the quotient of an integer and a positive number.
    pub(super) fn ratio(expr: Expr, by: i64) -> Quantity {
        match expr.constant() {
            Some(n) => Quantity::Known(Number::Float(n as f64 / by as f64)),
            None => Quantity::Ratio(expr, by),
        }
    }

    /// The number, if it is known.
    pub(super) fn known(&self) -> Option<Number> {
        match self {
            Quantity::Known(number) => Some(*number),
            _ => None,
        }
    }

    /// The integer that it is.
    pub(super) fn int(&self) -> Option<Expr> {
        match self {
            Quantity::Known(number) => number.int().map(Expr::from),
            Quantity::Whole(expr) => Some(expr.clone()),
            Quantity::Ratio(..) | Quantity::Value(_) => None,
        }
    }

    /// True for a float.
    pub(super) fn is_float(&self) -> bool {
        !matches!(self, Quantity::Known(Number::Int(_) | Number::Bool(_)) | Quantity::Whole(_))
    }

    /// The quotient of an integer and a positive number that it is exactly.
    pub(super) fn parts(&self) -> Option<(Expr, i64)> {
        match self {
            Quantity::Ratio(expr, by) => Some((expr.clone(), *by)),
            Quantity::Known(Number::Float(f)) => {
                // Powers of two, so that the product is exact.
                let by = (0..=20).map(|i| 1i64 << i).find(|&by| (f * by as f64).fract() == 0.0)?;
                Some((Number::Float(f * by as f64).int()?.into(), by))
            }
            other => Some((other.int()?, 1)),
        }
    }

    /// Both as quotients with the same divisor.
    pub(super) fn alike(&self, other: &Quantity) -> Option<(Expr, Expr, i64)> {
        let ((a, m), (b, n)) = (self.parts()?, other.parts()?);
        if m == n {
            return Some((a, b, m));
        }
        let by = m.checked_mul(n).filter(|&by| by <= MOST_PARTS)?;
        Some((a.times(&n.into())?, b.times(&m.into())?, by))
    }

    /// The text shown to the user.
    pub(super) fn shown(&self) -> String {
        match self {
            Quantity::Known(number) => number.float().to_string(),
            Quantity::Whole(expr) => expr.label(),
            Quantity::Ratio(expr, by) => format!("({expr})/{by}"),
            Quantity::Value(_) => "computed from open extents".into(),
        }
    }
}
