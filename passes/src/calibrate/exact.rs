//! Sums that do not depend on the order of their terms.

use serde::{Deserialize, Serialize};

/// Number of 64-bit words of a sum.
const WORDS: usize = 6;
/// The unit of a sum is `2^-UNIT`.
const UNIT: i32 = 191;

/// An exact sum of `f64` numbers below `2^128`: a fixed-point number of 384 bits, of which 191 are fractional. Addition
/// of integers is associative, so that neither the order of the terms nor their grouping affects the sum. Bits of terms
/// below the unit are dropped: no bit of a single-precision number, and none of a double-precision number above
/// `2^-138`. There is room for `2^63` terms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExactSum {
    /// The number in two's complement, lowest word first.
    words: [u64; WORDS],
    /// Whether a term was not a number below `2^128`. The sum is NaN then.
    is_nan: bool,
}

impl ExactSum {
    /// The sum of a single term.
    pub fn of(x: f64) -> Self {
        let bits = x.to_bits();
        let exponent = (bits >> 52 & 0x7ff) as i32;
        if exponent >= 1023 + 128 {
            return ExactSum { words: [0; WORDS], is_nan: true };
        }
        let fraction = bits & ((1 << 52) - 1);
        let mantissa = if exponent == 0 { fraction } else { fraction | 1 << 52 };
        // The value of the mantissa's lowest bit is `2^(exponent - 1075)`; subnormal numbers are below the unit.
        let place = exponent.max(1) - 1075 + UNIT;
        let mut words = [0; WORDS];
        if place < 0 {
            words[0] = mantissa.checked_shr(place.unsigned_abs()).unwrap_or(0);
        } else {
            let (word, shift) = (place as usize / 64, place as u32 % 64);
            let wide = u128::from(mantissa) << shift;
            words[word] = wide as u64;
            if let Some(next) = words.get_mut(word + 1) {
                *next = (wide >> 64) as u64;
            }
        }
        ExactSum { words: if x < 0.0 { negative(words) } else { words }, is_nan: false }
    }

    /// Adds another sum.
    pub fn add(&mut self, other: &ExactSum) {
        self.is_nan |= other.is_nan;
        let mut carry = false;
        for (own, theirs) in self.words.iter_mut().zip(other.words) {
            let (sum, first) = own.overflowing_add(theirs);
            let (sum, second) = sum.overflowing_add(u64::from(carry));
            (*own, carry) = (sum, first | second);
        }
    }

    /// The nearest `f64`.
    pub fn value(&self) -> f64 {
        if self.is_nan {
            return f64::NAN;
        }
        let is_negative = self.words[WORDS - 1] >> 63 == 1;
        let words = if is_negative { negative(self.words) } else { self.words };
        let Some(top) = words.iter().rposition(|&w| w > 0) else { return 0.0 };
        // The highest 64 bits that are not 0, with the lowest one set if any bit below them is: they round as the
        // whole number does.
        let shift = words[top].leading_zeros();
        let below = if top > 0 { words[top - 1] } else { 0 };
        let wide = (u128::from(words[top]) << 64 | u128::from(below)) << shift;
        let inexact = wide as u64 > 0 || words[..top.saturating_sub(1)].iter().any(|&w| w > 0);
        let highest = (wide >> 64) as u64 | u64::from(inexact);
        let exponent = 64 * top as i32 - shift as i32 - UNIT;
        // A power of two from `2^-254` to `2^192`: the product is exact.
        let scale = f64::from_bits(((exponent + 1023) as u64) << 52);
        let value = highest as f64 * scale;
        if is_negative { -value } else { value }
    }
}

/// The negative of a number in two's complement.
fn negative(words: [u64; WORDS]) -> [u64; WORDS] {
    let mut carry = true;
    words.map(|word| {
        let (negated, overflow) = (!word).overflowing_add(u64::from(carry));
        carry = overflow;
        negated
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sum(terms: &[f64]) -> ExactSum {
        let mut all = ExactSum::default();
        terms.iter().for_each(|&x| all.add(&ExactSum::of(x)));
        all
    }

    #[test]
    fn single_terms_are_exact() {
        let small = f64::from(f32::from_bits(1));
        for x in [0.0, 1.0, -1.0, 0.1, -1.0 / 3.0, 1e-30, small, -small, f64::from(f32::MAX), 3.5e-39, 1e38] {
            assert_eq!(ExactSum::of(x).value(), x);
        }
        for x in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 2f64.powi(128)] {
            assert!(sum(&[1.0, x, 1.0]).value().is_nan());
        }
        // Below the unit.
        assert_eq!(ExactSum::of(2f64.powi(-191)).value(), 2f64.powi(-191));
        assert_eq!((ExactSum::of(2f64.powi(-192)).value(), ExactSum::of(f64::from_bits(1)).value()), (0.0, 0.0));
    }

    #[test]
    fn nothing_is_lost_by_cancellation() {
        assert_eq!(sum(&[1e38, 1.0, 1e-30, -1e38, -1.0]).value(), 1e-30);
        assert_eq!(sum(&[f64::from(f32::MAX); 4]).value(), 4.0 * f64::from(f32::MAX));
        assert_eq!(sum(&[-f64::from(f32::MAX); 4]).value(), -4.0 * f64::from(f32::MAX));
        // Half of the last place of 1: the tie goes to the even number, and any bit below decides it.
        let half = 2f64.powi(-53);
        assert_eq!(sum(&[1.0, half]).value(), 1.0);
        assert_eq!(sum(&[1.0, half, 2f64.powi(-180)]).value(), 1.0 + f64::EPSILON);
        assert_eq!(sum(&[-1.0, -half, -2f64.powi(-180)]).value(), -1.0 - f64::EPSILON);
    }

    proptest! {
        /// Neither the order nor the grouping of terms changes the sum, and it is that of integers where these are exact.
        #[test]
        fn order_and_grouping_do_not_matter(
            terms in prop::collection::vec((-(1i64 << 52)..1 << 52, -60i32..60), 1..40),
            cut in 0usize..40,
        ) {
            let numbers: Vec<f64> = terms.iter().map(|&(m, e)| m as f64 * 2f64.powi(e)).collect();
            let all = sum(&numbers);
            let mut backwards = numbers.clone();
            backwards.reverse();
            prop_assert_eq!(all, sum(&backwards));
            let (first, rest) = numbers.split_at(cut.min(numbers.len()));
            let mut grouped = sum(rest);
            grouped.add(&sum(first));
            prop_assert_eq!(all, grouped);
            let whole: i128 = terms.iter().map(|&(m, _)| i128::from(m)).sum();
            let exact = sum(&terms.iter().map(|&(m, _)| m as f64).collect::<Vec<_>>());
            prop_assert_eq!(exact.value(), whole as f64);
        }
    }
}
