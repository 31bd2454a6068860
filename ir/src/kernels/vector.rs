//! Functions of one number for vectorised loops: without branches, by multiplication and addition that are rounded
//! separately, so that every processor computes the same bits. Slower functions are in the crate `libm`.

use std::f32::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI, LOG2_E, SQRT_2};
// Not a branch, so that loops are vectorised.
use std::hint::select_unpredictable as select;

use crate::vector::{LANES, vectorized};

/// Applies a function to all numbers. `f` must be inlined. Those that fill no block are computed in one, too.
#[inline]
pub(super) fn map<S: Copy, T: Copy + Default>(x: &[S], f: impl Fn(S) -> T) -> Vec<T> {
    let mut out = Vec::with_capacity(x.len());
    vectorized(
        #[inline(always)]
        || {
            let (blocks, rest) = x.as_chunks::<LANES>();
            for block in blocks {
                let mut to = [T::default(); LANES];
                for lane in 0..LANES {
                    to[lane] = f(block[lane]);
                }
                out.extend_from_slice(&to);
            }
            if let Some(&first) = rest.first() {
                let (mut from, mut to) = ([first; LANES], [T::default(); LANES]);
                from[..rest.len()].copy_from_slice(rest);
                for lane in 0..LANES {
                    to[lane] = f(from[lane]);
                }
                out.extend_from_slice(&to[..rest.len()]);
            }
        },
    );
    out
}

/// Applies a function to all pairs of numbers. `f` must be inlined.
#[inline]
pub(super) fn map_pairs<S: Copy, T: Copy + Default>(x: &[S], y: &[S], f: impl Fn(S, S) -> T) -> Vec<T> {
    let mut out = Vec::with_capacity(x.len());
    vectorized(
        #[inline(always)]
        || {
            let ((xs, rest_x), (ys, rest_y)) = (x.as_chunks::<LANES>(), y.as_chunks::<LANES>());
            for (x, y) in xs.iter().zip(ys) {
                let mut to = [T::default(); LANES];
                for lane in 0..LANES {
                    to[lane] = f(x[lane], y[lane]);
                }
                out.extend_from_slice(&to);
            }
            for (&x, &y) in rest_x.iter().zip(rest_y) {
                out.push(f(x, y));
            }
        },
    );
    out
}

/// Replaces all numbers by a function of them. `f` must be inlined.
#[inline]
pub(super) fn replace(x: &mut [f32], f: impl Fn(f32) -> f32) {
    vectorized(
        #[inline(always)]
        || {
            let (blocks, rest) = x.as_chunks_mut::<LANES>();
            for block in blocks {
                // A copy, which nothing that `f` reads can be part of.
                let mut to = *block;
                for v in &mut to {
                    *v = f(*v);
                }
                *block = to;
            }
            let mut last = [0.0; LANES];
            last[..rest.len()].copy_from_slice(rest);
            for v in &mut last {
                *v = f(*v);
            }
            rest.copy_from_slice(&last[..rest.len()]);
        },
    );
}

/// The polynomial with the given coefficients, the constant one first. The indices are written out, because an inner
/// loop could keep the outer one from being vectorised.
macro_rules! polynomial {
    ($x:expr, $coefficients:ident[$last:literal $($index:literal)*]) => {{
        let x: f32 = $x;
        let sum = $coefficients[$last];
        $(let sum = sum * x + $coefficients[$index];)*
        sum
    }};
}

/// ln(2) as the sum of a number with 15 significant bits, whose products with small integers are exact, and a rest.
const LN_2: [f32; 2] = [0.693_145_75, 1.428_606_8e-6];

/// exp(x) for |x| <= ln(2)/2, as a polynomial (Norbert Juffa): error below one unit in the last place.
const EXP: [f32; 7] = [1.0, 1.0, 0.499_999_85, 0.166_664_72, 0.041_669_536, 0.008_373_124_5, 0.001_378_059_4];

/// exp(x) as the product of a number near 1 and a power of two, whose exponent is in the low bits of the second number.
#[inline(always)]
fn parts_of_exp(x: f32) -> (f32, u32) {
    // Adding 1.5 * 2^23 rounds to an integer.
    const ROUND: f32 = 12_582_912.0;
    let rounded = x * LOG2_E + ROUND;
    let whole = rounded - ROUND;
    let rest = (x - whole * LN_2[0]) - whole * LN_2[1];
    (polynomial!(rest, EXP[6 5 4 3 2 1 0]), rounded.to_bits().wrapping_sub(ROUND.to_bits()))
}

/// The exponential function, with an error of about one unit in the last place.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    let (e, power) = parts_of_exp(x);
    // 2^power as the product of two powers, because it may exceed the exponents of normal numbers.
    let half = ((power as i32) >> 1) as u32;
    let factor = |power: u32| f32::from_bits(power.wrapping_add(127) << 23);
    let e = e * factor(half) * factor(power.wrapping_sub(half));
    let e = select(x > 104.0, f32::INFINITY, e);
    select(x < -104.0, 0.0, e)
}

/// `1.0 + exp(x)`, with the same bits but fewer operations: numbers that are too small to change the sum need not be exact.
#[inline(always)]
fn one_plus_exp(x: f32) -> f32 {
    /// The largest number whose exponential is finite.
    const LARGEST: f32 = 88.722_83;
    let (e, power) = parts_of_exp(x);
    let e = f32::from_bits(e.to_bits().wrapping_add(power << 23));
    let e = select(x < -40.0, 0.0, e);
    // Infinite for larger numbers; NaN stays.
    1.0 + select(x <= LARGEST, e, x * f32::MAX)
}

/// As `f32::clamp`, but `hi` where `lo > hi`. NaN stays.
#[inline(always)]
pub(super) fn clamp(x: f32, lo: f32, hi: f32) -> f32 {
    let x = select(x < lo, lo, x);
    select(x > hi, hi, x)
}

#[inline(always)]
pub(super) fn hard_swish(x: f32) -> f32 {
    x * clamp(x / 6.0 + 0.5, 0.0, 1.0)
}

#[inline(always)]
pub(super) fn leaky_relu(x: f32, alpha: f32) -> f32 {
    select(x < 0.0, alpha * x, x)
}

#[inline(always)]
pub(super) fn sigmoid(x: f32) -> f32 {
    1.0 / one_plus_exp(-x)
}

#[inline(always)]
pub(super) fn silu(x: f32) -> f32 {
    x / one_plus_exp(-x)
}

/// [`silu`] and [`sigmoid`] of all numbers, with one exponential for both.
pub(super) fn gates(x: &[f32]) -> (Vec<f32>, Vec<f32>) {
    let (mut silus, mut sigmoids) = (Vec::with_capacity(x.len()), Vec::with_capacity(x.len()));
    let (blocks, rest) = x.as_chunks::<LANES>();
    vectorized(
        #[inline(always)]
        || {
            for block in blocks {
                let (mut silu, mut sigmoid) = ([0.0; LANES], [0.0; LANES]);
                for lane in 0..LANES {
                    let divisor = one_plus_exp(-block[lane]);
                    silu[lane] = block[lane] / divisor;
                    sigmoid[lane] = 1.0 / divisor;
                }
                silus.extend_from_slice(&silu);
                sigmoids.extend_from_slice(&sigmoid);
            }
        },
    );
    silus.extend(rest.iter().map(|&x| silu(x)));
    sigmoids.extend(rest.iter().map(|&x| sigmoid(x)));
    (silus, sigmoids)
}

/// tanh(x)/x as a polynomial in x^2, for |x| <= 0.6: minimax fit.
const TANH: [f32; 5] = [0.999_999_94, -0.333_323_6, 0.133_106_7, -0.052_119_765, 0.015_497_928];

/// The hyperbolic tangent: (e - 1)/(e + 1) with e = exp(2x), and a polynomial near 0, where the difference cancels.
#[inline(always)]
pub(super) fn tanh(x: f32) -> f32 {
    let abs = x.abs();
    let e = exp(2.0 * abs);
    let far = select(abs > 9.02, 1.0, (e - 1.0) / (e + 1.0));
    let near = abs * polynomial!(x * x, TANH[4 3 2 1 0]);
    let y = select(abs <= 0.55, near, far);
    select(abs <= 0.0004, abs, y).copysign(x)
}

/// erf(x)/x - 1 as a polynomial in x^2, for |x| <= 1: minimax fit, relative error 1.2e-9.
const NEAR: [f32; 7] =
    [0.128_379_17, -0.376_126_26, 0.112_835_854, -0.026_853_815, 0.005_188_334, -0.000_801_024_2, 7.854_008e-5];
/// -ln(1 - erf(x))/x as a polynomial in x, for 1 <= x <= 4: minimax fit, error of erf 2.4e-9.
const FAR: [f32; 6] = [1.128_475_5, 0.635_846_4, 0.105_096_705, -0.022_786_11, 0.003_183_125_5, -0.000_210_183_18];

/// The error function: 2/sqrt(pi) times the integral of exp(-t^2) from 0 to x, with a relative error below 2e-7, also
/// near 0, where activations are.
#[inline(always)]
pub(super) fn erf(x: f32) -> f32 {
    let abs = x.abs();
    let near = polynomial!(x * x, NEAR[6 5 4 3 2 1 0]) * x + x;
    // Beyond 4 the result rounds to 1.
    let t = select(abs > 4.0, 4.0, abs);
    let far = (1.0 - exp(-(polynomial!(t, FAR[5 4 3 2 1 0]) * t))).copysign(x);
    select(abs > 1.0, far, near)
}

/// x times the cumulative distribution function of the standard normal distribution.
#[inline(always)]
pub(super) fn gelu(x: f32) -> f32 {
    x * 0.5 * (1.0 + erf(x * FRAC_1_SQRT_2))
}

/// The approximation of [`gelu`] by the hyperbolic tangent.
#[inline(always)]
pub(super) fn gelu_tanh(x: f32) -> f32 {
    const FACTOR: f32 = FRAC_2_SQRT_PI / SQRT_2;
    x * 0.5 * (1.0 + tanh(FACTOR * (x * x * x * 0.044715 + x)))
}

/// x * tanh(ln(1 + e)) with e = exp(x), which is x * n / (n + 2) with n = e * (e + 2).
#[inline(always)]
pub(super) fn mish(x: f32) -> f32 {
    // Beyond 20 the quotient rounds to 1, before n overflows.
    let e = exp(select(x > 20.0, 20.0, x));
    let n = e * (e + 2.0);
    x * (n / (n + 2.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers of all magnitudes, a few of which are next to 0 and to the limits of the functions.
    fn numbers() -> Vec<f32> {
        let wide = (-2000..2000).map(|i| i as f32 * 0.061_7);
        let small = (0..600).map(|i| f32::from_bits(i * 3_558_419 % 0x4300_0000));
        let ends = [0.0, -0.0, 88.72, 88.73, -87.33, -103.9, 104.5, -104.5, f32::INFINITY, f32::NEG_INFINITY];
        wide.chain(small.clone()).chain(small.map(|v| -v)).chain(ends).collect()
    }

    /// The largest error relative to the exact result, or to the smallest normal number.
    fn error(f: fn(f32) -> f32, exact: impl Fn(f64) -> f64) -> (f64, f32) {
        let of = |x: f32| {
            let (y, exact) = (f64::from(f(x)), exact(f64::from(x)));
            let alike = exact as f32 == f(x) || y.is_nan() && exact.is_nan();
            let error = if alike { 0.0 } else { (y - exact).abs() };
            (error / exact.abs().max(f64::from(f32::MIN_POSITIVE)), x)
        };
        numbers().into_iter().map(of).max_by(|a, b| a.0.total_cmp(&b.0)).unwrap()
    }

    #[test]
    fn functions_are_as_exact_as_single_precision_allows() {
        // Beyond, exp(-x) overflows in single precision.
        let sigmoid_of = |x: f64| if x < -88.7 { 0.0 } else { 1.0 / (1.0 + libm::exp(-x)) };
        let bounds = [
            ("exp", error(exp, libm::exp), 2e-7),
            ("sigmoid", error(sigmoid, sigmoid_of), 4e-7),
            ("silu", error(silu, |x| x * sigmoid_of(x)), 4e-7),
            ("tanh", error(tanh, libm::tanh), 3e-7),
            ("erf", error(erf, libm::erf), 3e-7),
        ];
        for (name, (error, x), most) in bounds {
            assert!(error < most, "{name}({x}) is off by {error:e}");
        }
        assert!([exp, sigmoid, silu, tanh, erf, gelu, gelu_tanh, mish].iter().all(|f| f(f32::NAN).is_nan()));
        assert_eq!([exp(f32::INFINITY), exp(f32::NEG_INFINITY)], [f32::INFINITY, 0.0]);
    }

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
            let error = f64::from(erf(x)) / y - 1.0;
            assert!(error.abs() < 2e-7, "erf({x}) is off by {error:e}");
        }
        assert_eq!([0.0, f32::INFINITY].map(erf), [0.0, 1.0]);
    }

    #[test]
    fn sums_of_exponentials_have_all_bits() {
        // All numbers between those that are near 0 or beyond 2^10, in steps.
        let sizes = (0x3000_0000..0x4480_0000).step_by(4097).map(f32::from_bits);
        let near = (0..1000)
            .flat_map(|i| [40.0f32, 88.722_84, 88.376_26, 104.0].map(|x| f32::from_bits(x.to_bits() + i - 500)));
        for x in sizes.chain(near).chain(numbers()).flat_map(|x| [x, -x]) {
            assert_eq!(one_plus_exp(x).to_bits(), (1.0 + exp(x)).to_bits(), "{x}");
        }
        let nans = (0..1000).map(|i| f32::from_bits(0x7fc0_0000 + i));
        assert!(nans.flat_map(|x| [x, -x]).all(|x| one_plus_exp(x).is_nan()));
    }

    /// Loops for the widest vectors compute what scalar code does.
    #[test]
    fn vectors_have_the_bits_of_scalars() {
        let x = numbers();
        let bits = |x: Vec<f32>| x.into_iter().map(f32::to_bits).collect::<Vec<_>>();
        macro_rules! check {
            ($($f:ident)*) => {$(
                let scalars: Vec<f32> = x.iter().map(|&v| std::hint::black_box($f)(v)).collect();
                assert_eq!(bits(map(&x, $f)), bits(scalars), stringify!($f));
            )*};
        }
        check!(exp sigmoid silu tanh erf gelu gelu_tanh mish);
    }
}
