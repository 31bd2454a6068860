//! Multiplication and addition with one rounding, on processors with and without an instruction for it.

use rten_simd::ops::{BitOps, NumOps};
use rten_simd::{Isa, Simd};

/// Multiplication and addition with one rounding.
pub(super) trait Fused {
    fn mul_add<I: Isa>(isa: I, a: I::F32, b: I::F32, c: I::F32) -> I::F32;
}

/// One instruction.
pub(super) struct Native;

impl Fused for Native {
    #[inline(always)]
    fn mul_add<I: Isa>(isa: I, a: I::F32, b: I::F32, c: I::F32) -> I::F32 {
        isa.f32().mul_add(a, b, c)
    }
}

/// Computed in double precision.
pub(super) struct Emulated;

impl Fused for Emulated {
    #[inline(always)]
    fn mul_add<I: Isa>(isa: I, a: I::F32, b: I::F32, c: I::F32) -> I::F32 {
        let (a, b, mut c) = (a.to_array(), b.to_array(), c.to_array());
        for i in 0..isa.f32().len() {
            c[i] = fused(a[i], b[i], c[i]);
        }
        isa.f32().load(c.as_ref())
    }
}

/// True if the instruction set's multiply-add rounds once.
#[inline(always)]
pub(super) fn fuses<I: Isa>(isa: I) -> bool {
    let ops = isa.f32();
    // The square is 1 + 2e + e^2; e^2 is lost if it is rounded.
    let (x, y) = (ops.splat(1.0 + f32::EPSILON), ops.splat(-1.0 - 2.0 * f32::EPSILON));
    ops.mul_add(x, x, y).to_array()[0] != 0.0
}

/// `a * b + c`, rounded once. The product is exact in double precision. The sum is rounded to odd there, so that
/// rounding it again to single precision is right.
#[inline(always)]
pub(super) fn fused(a: f32, b: f32, c: f32) -> f32 {
    let (product, c) = (f64::from(a) * f64::from(b), f64::from(c));
    let sum = product + c;
    let part = sum - product;
    let error = (product - (sum - part)) + (c - part);
    // Towards the error if the last bit is even. NaN is not less than anything.
    let bits = sum.to_bits();
    let up = (error > 0.0) == (sum > 0.0);
    let odd = if up { bits | 1 } else { bits.wrapping_sub(1) | 1 };
    let inexact = error.abs() > 0.0;
    f64::from_bits(if inexact && bits & 1 == 0 { odd } else { bits }) as f32
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "the standard library's multiply-add is the reference")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Rounding once is what the standard library specifies.
        #[test]
        fn fused_rounds_once(a in any::<u32>(), b in any::<u32>(), c in any::<u32>(), near in any::<bool>()) {
            let (a, b) = (f32::from_bits(a), f32::from_bits(b));
            // A third operand next to the product, or of any magnitude.
            let c = if near { f32::from_bits((-a * b).to_bits() ^ (c & 0x00c0_0fff)) } else { f32::from_bits(c) };
            let (found, exact) = (fused(a, b, c), std::hint::black_box(a).mul_add(b, c));
            prop_assert!(found.to_bits() == exact.to_bits() || (found.is_nan() && exact.is_nan()), "{a} {b} {c}");
        }
    }

    #[test]
    fn fused_rounds_ties_that_are_none() {
        let exact = |a: f32, b: f32, c: f32| std::hint::black_box(a).mul_add(b, c);
        let e = |power| libm::scalbnf(1.0, power);
        // Half a unit in the last place, and a little more or less; results that are not normal as well.
        for (a, b) in [(1.0 + e(-20), 1.0 - e(-20)), (1.0 + e(-23), e(-24)), (1.0 - e(-24), e(-24)), (e(-75), e(-75))] {
            for scale in [0, -100, -126, -60] {
                for c in [1.0, -1.0, 1.0 + e(-23), 3.0, e(-24), -e(-24), 0.0, e(-149)] {
                    let (a, c) = (a * e(scale), c * e(scale));
                    assert_eq!(fused(a, b, c).to_bits(), exact(a, b, c).to_bits(), "{a} {b} {c}");
                }
            }
        }
    }
}
