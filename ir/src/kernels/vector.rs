//! Vectorised unary functions that rten-vecmath does not have.

use std::f32::consts::FRAC_1_SQRT_2;

use rten_simd::ops::{BitOps, FloatOps, NumOps};
use rten_simd::{Isa, SimdUnaryOp};
use rten_vecmath::Exp;

/// The error function: 2/sqrt(pi) times the integral of exp(-t^2) from 0 to x, with a relative error below 2e-7, also
/// near 0, where activations are.
#[derive(Default)]
pub(super) struct Erf {}

/// erf(x)/x - 1 as a polynomial in x^2, for |x| <= 1: minimax fit, relative error 1.2e-9.
const NEAR: [f32; 7] =
    [0.128_379_17, -0.376_126_26, 0.112_835_854, -0.026_853_815, 0.005_188_334, -0.000_801_024_2, 7.854_008e-5];
/// -ln(1 - erf(x))/x as a polynomial in x, for 1 <= x <= 4: minimax fit, error of erf 2.4e-9.
const FAR: [f32; 6] = [1.128_475_5, 0.635_846_4, 0.105_096_705, -0.022_786_11, 0.003_183_125_5, -0.000_210_183_18];

impl SimdUnaryOp<f32> for Erf {
    #[inline(always)]
    fn eval<I: Isa>(&self, isa: I, x: I::F32) -> I::F32 {
        let ops = isa.f32();
        let square = ops.mul(x, x);
        let mut near = ops.splat(NEAR[6]);
        for c in NEAR[..6].iter().rev() {
            near = ops.mul_add(near, square, ops.splat(*c));
        }
        let near = ops.mul_add(near, x, x);

        // Beyond 4 the result rounds to 1.
        let abs = ops.abs(x);
        let t = ops.select(ops.splat(4.0), abs, ops.gt(abs, ops.splat(4.0)));
        let mut far = ops.splat(FAR[5]);
        for c in FAR[..5].iter().rev() {
            far = ops.mul_add(far, t, ops.splat(*c));
        }
        let far = ops.sub(ops.one(), Exp::apply(isa, ops.neg(ops.mul(far, t))));
        let far = ops.select(ops.neg(far), far, ops.lt(x, ops.zero()));
        ops.select(far, near, ops.gt(abs, ops.one()))
    }
}

/// x times the cumulative distribution function of the standard normal distribution.
pub(super) struct Gelu {}

impl SimdUnaryOp<f32> for Gelu {
    #[inline(always)]
    fn eval<I: Isa>(&self, isa: I, x: I::F32) -> I::F32 {
        let ops = isa.f32();
        let erf = Erf::apply(isa, ops.mul(x, ops.splat(FRAC_1_SQRT_2)));
        ops.mul(ops.mul(x, ops.splat(0.5)), ops.add(ops.one(), erf))
    }
}

/// x * tanh(ln(1 + e)) with e = exp(x), which is x * n / (n + 2) with n = e * (e + 2).
pub(super) struct Mish {}

impl SimdUnaryOp<f32> for Mish {
    #[inline(always)]
    fn eval<I: Isa>(&self, isa: I, x: I::F32) -> I::F32 {
        let ops = isa.f32();
        // Beyond 20 the quotient rounds to 1, before n overflows.
        let e = Exp::apply(isa, ops.select(ops.splat(20.0), x, ops.gt(x, ops.splat(20.0))));
        let two = ops.splat(2.0);
        let n = ops.mul(e, ops.add(e, two));
        ops.mul(x, ops.div(n, ops.add(n, two)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn erf_agrees_with_published_values() {
        // Abramowitz and Stegun, table 7.1.
        let table = [
            (0.02, 0.022_564_574_69),
            (0.5, 0.520_499_877_81),
            (1.0, 0.842_700_792_95),
            (1.5, 0.966_105_146_48),
            (2.0, 0.995_322_265_02),
            (3.0, 0.999_977_909_50),
            (6.0, 1.0),
        ];
        for (x, y) in table.into_iter().flat_map(|(x, y)| [(x, y), (-x, -y)]) {
            let error = f64::from(Erf {}.scalar_eval(x)) / y - 1.0;
            assert!(error.abs() < 2e-7, "erf({x}) is off by {error:e}");
        }
        assert_eq!([0.0, f32::INFINITY].map(|x| Erf {}.scalar_eval(x)), [0.0, 1.0]);
        assert!(Erf {}.scalar_eval(f32::NAN).is_nan());
    }
}
