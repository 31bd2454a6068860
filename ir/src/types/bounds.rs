//! Bounds of expressions of open extents.

use std::cell::Cell;
use std::sync::Arc;

use super::expr::{Expr, Factor};

/// The most products with max(0, x) of which both cases are looked at.
const MOST_PARTED: usize = 4;

/// The most expressions that are looked at for one bound.
const MOST_LOOKED_AT: usize = 200;

impl Expr {
    /// A lower and an upper bound for all values of open extents from 1 on and of computed integers from 0 on, where there
    /// is one.
    pub fn bounds(&self) -> (Option<i64>, Option<i64>) {
        let bound = |sign: i64| self.bound(sign, &Cell::new(MOST_LOOKED_AT));
        (bound(1), bound(-1))
    }

    /// The lower bound (`sign` 1) or the upper one (-1), for which so many expressions may be looked at.
    fn bound(&self, sign: i64, left: &Cell<usize>) -> Option<i64> {
        left.set(left.get().checked_sub(1)?);
        // Factors are not negative where their lower bound is not, and then a product is least where they are.
        let factor = |f: &Factor| match f {
            Factor::Symbol(_) => Some(1),
            Factor::Computed(_) => Some(0),
            Factor::Quotient(of, by) => of.bound(1, left).filter(|low| *low >= 0).map(|low| low.div_euclid(*by)),
            Factor::Positive(of) => Some(of.bound(1, left).unwrap_or(0).max(0)),
        };
        let product = |factors: &[Factor]| factors.iter().try_fold(1i64, |n, f| n.checked_mul(factor(f)?));
        let sum = self.terms.iter().try_fold(0i64, |sum, (factors, &n)| {
            if n.signum() != sign && !factors.is_empty() {
                return None;
            }
            sum.checked_add(n.checked_mul(product(factors)?)?)
        });
        sum.or_else(|| self.relaxed(sign, left)).or_else(|| self.parted(sign, left))
    }

    /// The bound of an expression with a multiple of a quotient, from what is divided.
    fn relaxed(&self, sign: i64, left: &Cell<usize>) -> Option<i64> {
        let multiple = |(factors, n): (&Vec<Factor>, &i64)| match factors.as_slice() {
            [Factor::Quotient(of, by)] => Some((factors.clone(), Arc::clone(of), *by, *n)),
            _ => None,
        };
        let (factors, of, by, n) = self.terms.iter().find_map(multiple)?;
        // by * floor(x / by) is between x - (by - 1) and x.
        let least = if n.signum() == sign { of.minus(&Expr::from(by - 1))? } else { (*of).clone() };
        let mut rest = self.clone();
        rest.terms.remove(&factors);
        if n % by == 0 {
            return rest.plus(&least.times(&Expr::from(n / by))?)?.bound(sign, left);
        }
        let bound = rest.times(&Expr::from(by))?.plus(&least.times(&Expr::from(n))?)?.bound(sign, left)?;
        Some(bound.checked_mul(sign)?.checked_add(by - 1)?.div_euclid(by) * sign)
    }

    /// The bound of an expression with a product `n` max(0, x) that is nothing else, from those without it and with `n` x in
    /// its place: where `n` is positive, the expression is the larger of these, else the smaller one.
    fn parted(&self, sign: i64, left: &Cell<usize>) -> Option<i64> {
        let positive = |(factors, n): (&Vec<Factor>, &i64)| match factors.as_slice() {
            [Factor::Positive(of)] => Some((factors.clone(), Arc::clone(of), *n)),
            _ => None,
        };
        let mut parts = self.terms.iter().filter_map(positive);
        let (factors, of, n) = parts.next()?;
        if parts.count() >= MOST_PARTED {
            return None;
        }
        let mut rest = self.clone();
        rest.terms.remove(&factors);
        let with = rest.plus(&of.times(&Expr::from(n))?)?;
        let (a, b) = (rest.bound(sign, left), with.bound(sign, left));
        if n.signum() == sign {
            return a.into_iter().chain(b).max_by_key(|bound| bound.saturating_mul(sign));
        }
        a.into_iter().zip(b).flat_map(|(a, b)| [a, b]).min_by_key(|bound| bound.saturating_mul(sign))
    }
}
