//! Element-wise operators. `F16` is computed in `F32`; integers and `Bool` in 64 bits, wrapped to the element type.

use half::f16;
use half::slice::HalfFloatSliceExt;
use smallvec::smallvec;

use super::vector::{self, map};
use super::walk::Walk;
use super::{by_width, extents, result, unfit, widened};
use crate::error::EvalError;
use crate::ops::*;
use crate::types::{Elem, Scalar, Tensor, TensorType};

pub(crate) fn unary(f: UnaryFn, x: &Tensor) -> Result<Tensors, EvalError> {
    let ty = result(&Unary { f }, &[x])?;
    match &ty.elem {
        Elem::F32 => Ok(smallvec![Tensor::of(ty, unary_f32(f, &x.view()))]),
        Elem::F16 => widened(x, |x| unary(f, x)),
        elem => {
            let f: fn(i64) -> i64 = match f {
                UnaryFn::Not => |v| 1 - v,
                UnaryFn::Neg => i64::wrapping_neg,
                UnaryFn::Abs => i64::wrapping_abs,
                UnaryFn::Sign => i64::signum,
                _ => return Err(unfit(Unary::NAME, elem)),
            };
            let values = x.integers().unwrap_or_default();
            Ok(smallvec![wrapped(ty, values.into_iter().map(f))])
        }
    }
}

/// The SiLU and the sigmoid of numbers, first that which `first` is.
pub(crate) fn gates(first: &Op, x: &Tensor) -> Tensors {
    let (silu, sigmoid) = vector::gates(&x.view());
    let both = [silu, sigmoid].map(|values| Tensor::of(x.ty().clone(), values));
    let mut both = Tensors::from_iter(both);
    if !matches!(first, Op::Unary(op) if op.f == UnaryFn::Silu) {
        both.swap(0, 1);
    }
    both
}

/// A tensor of integers, `Bool`s or quantized integers from the low bits of `values`.
pub(super) fn wrapped(ty: TensorType, values: impl Iterator<Item = i64>) -> Tensor {
    match ty.elem.size() {
        1 => Tensor::of(ty, values.map(|v| v as u8).collect()),
        2 => Tensor::of(ty, values.map(|v| v as i16).collect()),
        4 => Tensor::of(ty, values.map(|v| v as i32).collect()),
        _ => Tensor::of(ty, values.collect()),
    }
}

pub(super) fn unary_f32(f: UnaryFn, x: &[f32]) -> Vec<f32> {
    match f {
        UnaryFn::Abs => map(x, f32::abs),
        UnaryFn::Acos => map(x, libm::acosf),
        UnaryFn::Acosh => map(x, libm::acoshf),
        UnaryFn::Asin => map(x, libm::asinf),
        UnaryFn::Asinh => map(x, libm::asinhf),
        UnaryFn::Atan => map(x, libm::atanf),
        UnaryFn::Atanh => map(x, libm::atanhf),
        UnaryFn::Ceil => map(x, f32::ceil),
        UnaryFn::Cos => map(x, libm::cosf),
        UnaryFn::Cosh => map(x, libm::coshf),
        UnaryFn::Erf => map(x, vector::erf),
        UnaryFn::Exp => map(x, vector::exp),
        UnaryFn::Floor => map(x, f32::floor),
        UnaryFn::Log => map(x, libm::logf),
        UnaryFn::Neg => map(x, |v| -v),
        UnaryFn::Not => map(x, |v| f32::from(v == 0.0)),
        UnaryFn::Reciprocal => map(x, |v| 1.0 / v),
        UnaryFn::Round => map(x, f32::round_ties_even),
        UnaryFn::Rsqrt => map(x, |v| 1.0 / v.sqrt()),
        UnaryFn::Sigmoid => map(x, vector::sigmoid),
        // Unlike f32::signum, 0 for 0.
        UnaryFn::Sign => map(x, |v| if v == 0.0 { 0.0 } else { v.signum() }),
        UnaryFn::Silu => map(x, vector::silu),
        UnaryFn::Sin => map(x, libm::sinf),
        UnaryFn::Sinh => map(x, libm::sinhf),
        UnaryFn::Softplus => map(x, softplus),
        UnaryFn::Softsign => map(x, |v| v / (1.0 + v.abs())),
        UnaryFn::Sqrt => map(x, f32::sqrt),
        UnaryFn::Tan => map(x, libm::tanf),
        UnaryFn::Tanh => map(x, vector::tanh),
        UnaryFn::HardSwish => map(x, vector::hard_swish),
        UnaryFn::Mish => map(x, vector::mish),
        UnaryFn::HardSigmoid { alpha, beta } => map(x, |v| vector::clamp(alpha * v + beta, 0.0, 1.0)),
        UnaryFn::LeakyRelu { alpha } => map(x, |v| vector::leaky_relu(v, alpha)),
        UnaryFn::Elu { alpha } => map(x, |v| if v >= 0.0 { v } else { alpha * libm::expm1f(v) }),
        UnaryFn::Selu { alpha, gamma } => map(x, |v| gamma * if v >= 0.0 { v } else { alpha * libm::expm1f(v) }),
        UnaryFn::Gelu { tanh: false } => map(x, vector::gelu),
        UnaryFn::Gelu { tanh: true } => map(x, vector::gelu_tanh),
        UnaryFn::Threshold { alpha } => map(x, |v| if v > alpha { v } else { 0.0 }),
    }
}

/// As [`unary`], for lookup tables: functions that are approximated there are computed in double precision, so that the
/// table has the same integers as those of runtimes.
pub(crate) fn unary_exact(f: UnaryFn, x: &Tensor) -> Result<Tensors, EvalError> {
    let sigmoid = |v: f64| 1.0 / (1.0 + libm::exp(-v));
    let exact: Option<&dyn Fn(f64) -> f64> = match f {
        UnaryFn::Exp => Some(&libm::exp),
        UnaryFn::Sigmoid => Some(&sigmoid),
        UnaryFn::Silu => Some(&|v| v * sigmoid(v)),
        UnaryFn::Tanh => Some(&libm::tanh),
        UnaryFn::Gelu { tanh: true } => {
            let inner = |v: f64| (2.0 / std::f64::consts::PI).sqrt() * (v + 0.044715 * (v * v * v));
            return map_exact(x, &|v| 0.5 * v * (1.0 + libm::tanh(inner(v))));
        }
        UnaryFn::Mish => Some(&|v: f64| v * libm::tanh(v.max(0.0) + libm::log1p(libm::exp(-v.abs())))),
        _ => None,
    };
    match exact {
        Some(f) => map_exact(x, f),
        None => unary(f, x),
    }
}

fn map_exact(x: &Tensor, f: &dyn Fn(f64) -> f64) -> Result<Tensors, EvalError> {
    let values = x.view::<f32>().iter().map(|&v| f(f64::from(v)) as f32).collect();
    Ok(smallvec![Tensor::from_vec(x.ty().shape.clone(), values)])
}

/// ln(1 + exp(x)), exact where exp overflows or underflows.
fn softplus(x: f32) -> f32 {
    x.max(0.0) + libm::log1pf(libm::expf(-x.abs()))
}

/// As `f32::clamp`, but `hi` where `lo > hi`. NaN stays.
fn limit<T: PartialOrd>(v: T, lo: T, hi: T) -> T {
    let v = if v < lo { lo } else { v };
    if v > hi { hi } else { v }
}

pub(crate) fn clamp(lo: f32, hi: f32, x: &Tensor) -> Result<Tensors, EvalError> {
    let ty = result(&Clamp { lo, hi }, &[x])?;
    match ty.elem {
        Elem::F32 => Ok(smallvec![Tensor::of(ty, map(&x.view::<f32>(), |v| vector::clamp(v, lo, hi)))]),
        Elem::F16 => widened(x, |x| clamp(lo, hi, x)),
        _ => {
            // The integers within the float bounds; `as` converts infinite bounds to the ends of i64.
            let (lo, hi) = (lo.ceil() as i64, hi.floor() as i64);
            Ok(smallvec![wrapped(ty, x.integers().unwrap_or_default().into_iter().map(|v| limit(v, lo, hi)))])
        }
    }
}

pub(crate) fn binary(f: BinaryFn, a: &Tensor, b: &Tensor) -> Result<Tensors, EvalError> {
    let ty = result(&Binary { f }, &[a, b])?;
    let walk = Walk::broadcast(&extents(&ty)?, [&a.dims(), &b.dims()]);
    let out = match a.ty().elem {
        Elem::F32 => binary_f32(f, ty, &walk, &a.view(), &b.view())?,
        Elem::F16 if f.compares() => binary_f32(f, ty, &walk, &a.floats(), &b.floats())?,
        Elem::F16 => {
            let wide = binary_f32(f, ty.with_elem(Elem::F32), &walk, &a.floats(), &b.floats())?;
            cast(&Elem::F16, &wide)?.swap_remove(0)
        }
        _ => {
            let (a, b) = (a.integers().unwrap_or_default(), b.integers().unwrap_or_default());
            binary_i64(f, ty, &walk, &a, &b)?
        }
    };
    Ok(smallvec![out])
}

/// Applies `f` to the pairs of a walk.
fn zip<T: Scalar, R>(walk: &Walk<2>, a: &[T], b: &[T], len: usize, f: impl Fn(T, T) -> R) -> Vec<R> {
    let mut out = Vec::with_capacity(len);
    walk.runs(|run| {
        let ([i, j], n) = (run.start, run.len);
        match run.step {
            [1, 1] => out.extend(a[i..i + n].iter().zip(&b[j..j + n]).map(|(&a, &b)| f(a, b))),
            [1, 0] => {
                let b = b[j];
                out.extend(a[i..i + n].iter().map(|&a| f(a, b)));
            }
            [0, 1] => {
                let a = a[i];
                out.extend(b[j..j + n].iter().map(|&b| f(a, b)));
            }
            [s, t] => out.extend((0..n).map(|k| f(a[i + k * s as usize], b[j + k * t as usize]))),
        }
    });
    out
}

fn binary_f32(f: BinaryFn, ty: TensorType, walk: &Walk<2>, a: &[f32], b: &[f32]) -> Result<Tensor, EvalError> {
    let len = extents(&ty)?.iter().product();
    let real = |f: fn(f32, f32) -> f32| zip(walk, a, b, len, f);
    // A comparison or an arithmetic function, each a loop of its own.
    macro_rules! tensor {
        ($f:expr) => {
            Tensor::of(ty, zip(walk, a, b, len, $f))
        };
    }
    Ok(match f {
        BinaryFn::Add => tensor!(|a, b| a + b),
        BinaryFn::Sub => tensor!(|a, b| a - b),
        BinaryFn::Mul => tensor!(|a, b| a * b),
        BinaryFn::Div => tensor!(|a, b| a / b),
        // NaN in either operand is the result.
        BinaryFn::Max => tensor!(|a: f32, b: f32| if a > b || a.is_nan() { a } else { b }),
        BinaryFn::Min => tensor!(|a: f32, b: f32| if a < b || a.is_nan() { a } else { b }),
        BinaryFn::SquaredDifference => tensor!(|a: f32, b: f32| (a - b) * (a - b)),
        BinaryFn::Prelu => tensor!(|a: f32, b: f32| if a >= 0.0 { a } else { a * b }),
        BinaryFn::FloorMod => Tensor::of(ty, real(floor_mod)),
        BinaryFn::Rem => Tensor::of(ty, real(|a, b| a % b)),
        BinaryFn::Pow => match b {
            [2.0] => tensor!(|a: f32, _| a * a),
            _ => Tensor::of(ty, real(libm::powf)),
        },
        BinaryFn::Atan2 => Tensor::of(ty, real(libm::atan2f)),
        BinaryFn::Equal => tensor!(|a, b| u8::from(a == b)),
        BinaryFn::NotEqual => tensor!(|a, b| u8::from(a != b)),
        BinaryFn::Less => tensor!(|a, b| u8::from(a < b)),
        BinaryFn::LessEqual => tensor!(|a, b| u8::from(a <= b)),
        BinaryFn::Greater => tensor!(|a, b| u8::from(a > b)),
        BinaryFn::GreaterEqual => tensor!(|a, b| u8::from(a >= b)),
        BinaryFn::FloorDiv | BinaryFn::And | BinaryFn::Or | BinaryFn::Xor => {
            return Err(unfit(Binary::NAME, &Elem::F32));
        }
    })
}

/// The remainder with the sign of the divisor, also for 0. With an infinite divisor of the other sign it is the
/// divisor.
fn floor_mod(a: f32, b: f32) -> f32 {
    match a % b {
        0.0 => 0f32.copysign(b),
        rest if (rest < 0.0) != (b < 0.0) => rest + b,
        rest => rest,
    }
}

fn binary_i64(f: BinaryFn, ty: TensorType, walk: &Walk<2>, a: &[i64], b: &[i64]) -> Result<Tensor, EvalError> {
    use BinaryFn::*;
    let len = extents(&ty)?.iter().product();
    if matches!(f, Div | FloorDiv | FloorMod | Rem) && len > 0 && b.contains(&0) {
        return Err(EvalError::DivisionByZero);
    }
    let f: fn(i64, i64) -> i64 = match f {
        Add => i64::wrapping_add,
        Sub => i64::wrapping_sub,
        Mul => i64::wrapping_mul,
        Div => i64::wrapping_div,
        FloorDiv => |a, b| {
            let (quotient, rest) = (a.wrapping_div(b), a.wrapping_rem(b));
            quotient - i64::from(rest != 0 && (rest < 0) != (b < 0))
        },
        FloorMod => |a, b| {
            let rest = a.wrapping_rem(b);
            if rest != 0 && (rest < 0) != (b < 0) { rest + b } else { rest }
        },
        Rem => i64::wrapping_rem,
        Pow => integer_power,
        Max => i64::max,
        Min => i64::min,
        SquaredDifference => |a, b| a.wrapping_sub(b).wrapping_mul(a.wrapping_sub(b)),
        Prelu => |a, b| if a >= 0 { a } else { a.wrapping_mul(b) },
        Atan2 => return Err(unfit(Binary::NAME, &ty.elem)),
        Equal => |a, b| i64::from(a == b),
        NotEqual => |a, b| i64::from(a != b),
        Less => |a, b| i64::from(a < b),
        LessEqual => |a, b| i64::from(a <= b),
        Greater => |a, b| i64::from(a > b),
        GreaterEqual => |a, b| i64::from(a >= b),
        And => |a, b| a & b,
        Or => |a, b| a | b,
        Xor => |a, b| a ^ b,
    };
    Ok(wrapped(ty, zip(walk, a, b, len, f).into_iter()))
}

/// a to the power of b; with a negative b the truncated reciprocal, 0 unless a is 1 or -1.
fn integer_power(a: i64, b: i64) -> i64 {
    match (a, u32::try_from(b)) {
        (_, Ok(b)) => a.wrapping_pow(b),
        (1, _) => 1,
        (-1, _) => 1 - 2 * (b & 1),
        _ => 0,
    }
}

pub(crate) fn select(c: &Tensor, a: &Tensor, b: &Tensor) -> Result<Tensors, EvalError> {
    let ty = result(&Select {}, &[c, a, b])?;
    let dims = extents(&ty)?;
    let walk = Walk::broadcast(&dims, [&c.dims(), &a.dims(), &b.dims()]);
    Ok(by_width!(ty.elem, T => {
        let (c, a, b) = (c.data(), a.view::<T>(), b.view::<T>());
        let mut out: Vec<T> = Vec::with_capacity(dims.iter().product());
        walk.runs(|run| {
            let at = |k: usize, i: usize| run.start[k] + i * run.step[k] as usize;
            out.extend((0..run.len).map(|i| if c[at(0, i)] != 0 { a[at(1, i)] } else { b[at(2, i)] }));
        });
        smallvec![Tensor::of(ty, out)]
    }))
}

pub(crate) fn cast(to: &Elem, x: &Tensor) -> Result<Tensors, EvalError> {
    let ty = TensorType::new(to.clone(), x.ty().shape.clone());
    if x.ty().elem == *to {
        return Ok(smallvec![x.clone()]);
    }
    if let Some(elem) = [to, &x.ty().elem].into_iter().find(|e| e.qparams().is_some()) {
        return Err(unfit(Cast::NAME, elem));
    }
    let out = if x.ty().elem.is_float() {
        let reals = x.floats();
        match to {
            Elem::Bool => Tensor::of(ty, reals.iter().map(|&v| u8::from(v != 0.0)).collect()),
            Elem::I8 => Tensor::of(ty, reals.iter().map(|&v| v as i8).collect()),
            Elem::U8 => Tensor::of(ty, reals.iter().map(|&v| v as u8).collect()),
            Elem::I16 => Tensor::of(ty, reals.iter().map(|&v| v as i16).collect()),
            Elem::I32 => Tensor::of(ty, reals.iter().map(|&v| v as i32).collect()),
            Elem::I64 => Tensor::of(ty, reals.iter().map(|&v| v as i64).collect()),
            Elem::F16 => Tensor::of(ty, halves(&reals)),
            Elem::F32 | Elem::Quantized(_) => Tensor::of(ty, reals.into_owned()),
        }
    } else {
        let integers = x.integers().unwrap_or_default();
        match to {
            Elem::Bool => wrapped(ty, integers.into_iter().map(|v| i64::from(v != 0))),
            Elem::F32 => Tensor::of(ty, integers.iter().map(|&v| v as f32).collect()),
            Elem::F16 => Tensor::of(ty, integers.iter().map(|&v| f16::from_f64(v as f64)).collect()),
            _ => wrapped(ty, integers.into_iter()),
        }
    };
    Ok(smallvec![out])
}

fn halves(reals: &[f32]) -> Vec<f16> {
    let mut out = vec![f16::ZERO; reals.len()];
    out.convert_from_f32_slice(reals);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Shape;

    fn row(values: &[f32]) -> Tensor {
        Tensor::from_vec(Shape::known(&[values.len()]), values.to_vec())
    }

    #[test]
    fn double_and_single_precision_functions_agree() {
        let x = Tensor::from_vec(Shape::known(&[5]), vec![-20.0f32, -1.5, 0.0, 0.7, 9.0]);
        for f in
            [UnaryFn::Exp, UnaryFn::Sigmoid, UnaryFn::Silu, UnaryFn::Tanh, UnaryFn::Gelu { tanh: true }, UnaryFn::Mish]
        {
            let (exact, fast) = (unary_exact(f, &x).unwrap(), unary(f, &x).unwrap());
            for (a, b) in exact[0].view::<f32>().iter().zip(fast[0].view::<f32>().iter()) {
                assert!((a - b).abs() <= 1e-5 * b.abs().max(1e-3), "{f:?}: {a} {b}");
            }
        }
    }

    #[test]
    fn unary_functions() {
        use UnaryFn::*;
        let table: &[(UnaryFn, &[(f32, f64)])] = &[
            (Abs, &[(-2.5, 2.5)]),
            (Acos, &[(0.5, std::f64::consts::FRAC_PI_3), (-1.0, std::f64::consts::PI)]),
            (Acosh, &[(2.0, 1.316_957_896_9), (1.0, 0.0)]),
            (Asin, &[(0.5, std::f64::consts::FRAC_PI_6), (-1.0, -std::f64::consts::FRAC_PI_2)]),
            (Asinh, &[(1.0, 0.881_373_587_0), (-0.001, -9.999_998_333e-4)]),
            (Atan, &[(1.0, std::f64::consts::FRAC_PI_4), (f32::NEG_INFINITY, -std::f64::consts::FRAC_PI_2)]),
            (Atanh, &[(0.5, 0.549_306_144_3)]),
            (Ceil, &[(-1.5, -1.0), (1.2, 2.0)]),
            (Cosh, &[(1.0, 1.543_080_634_8)]),
            (Erf, &[(0.5, 0.520_499_877_8), (-2.0, -0.995_322_265_0)]),
            (Exp, &[(0.0, 1.0), (1.0, std::f64::consts::E), (-200.0, 0.0)]),
            (Log, &[(1.0, 0.0)]),
            (Round, &[(0.5, 0.0), (1.5, 2.0), (-2.5, -2.0)]),
            (Rsqrt, &[(4.0, 0.5)]),
            (Sigmoid, &[(0.0, 0.5), (2.0, 0.880_797_077_97), (-200.0, 0.0)]),
            (Sign, &[(-3.0, -1.0), (0.0, 0.0), (2.0, 1.0)]),
            (Silu, &[(2.0, 1.761_594_155_9), (-1.0, -0.268_941_421_4)]),
            (Sinh, &[(1.0, 1.175_201_193_6), (-0.001, -0.001_000_000_166_7)]),
            (Softplus, &[(0.0, std::f64::consts::LN_2), (100.0, 100.0), (-100.0, 3.720_075_976e-44)]),
            (Softsign, &[(3.0, 0.75), (-1.0, -0.5)]),
            (Tanh, &[(0.5, 0.462_117_157_3), (-20.0, -1.0), (1e-4, 9.999_999_967e-5)]),
            (HardSwish, &[(-4.0, 0.0), (1.0, 2.0 / 3.0), (4.0, 4.0)]),
            (Mish, &[(1.0, 0.865_098_388_3), (-20.0, -4.122_307_244e-8), (100.0, 100.0)]),
            (HardSigmoid { alpha: 0.2, beta: 0.5 }, &[(1.0, 0.7), (-9.0, 0.0)]),
            (LeakyRelu { alpha: 0.1 }, &[(-2.0, -0.2), (2.0, 2.0)]),
            (Elu { alpha: 2.0 }, &[(-1.0, -1.264_241_117_7), (3.0, 3.0)]),
            (Selu { alpha: 2.0, gamma: 3.0 }, &[(-1.0, -3.792_723_353_0), (1.0, 3.0)]),
            (Gelu { tanh: false }, &[(1.0, 0.841_344_746_1), (-1.0, -0.158_655_253_9)]),
            (Gelu { tanh: true }, &[(1.0, 0.841_191_990_6)]),
            (Threshold { alpha: 1.0 }, &[(1.0, 0.0), (1.5, 1.5)]),
        ];
        for &(f, points) in table {
            for &(x, expected) in points {
                // A long operand too: vector code and scalar remainder agree.
                for len in [1, 19] {
                    let out = unary(f, &row(&vec![x; len])).unwrap();
                    for &found in out[0].floats().iter() {
                        let error = (f64::from(found) - expected).abs();
                        assert!(error <= 1e-6 * expected.abs() + 1e-44, "{f:?}({x}) = {found}, not {expected}");
                    }
                }
            }
        }
    }

    #[test]
    fn integers_and_truth() {
        let x = Tensor::from_vec(Shape::known(&[3]), vec![-128i8, 0, 5]);
        let values = |f| unary(f, &x).unwrap()[0].view::<i8>().to_vec();
        assert_eq!(values(UnaryFn::Neg), [-128, 0, -5]);
        assert_eq!(values(UnaryFn::Sign), [-1, 0, 1]);
        let b = Tensor::from_bools(Shape::known(&[2]), [true, false]);
        assert_eq!(unary(UnaryFn::Not, &b).unwrap()[0].integers(), Some(vec![0, 1]));
    }

    #[test]
    fn operands_broadcast() {
        let x = Tensor::from_vec(Shape::known(&[2, 2, 2]), (0..8).map(|v| v as f32).collect());
        let channels = Tensor::from_vec(Shape::known(&[2, 1]), vec![10f32, 20.0]);
        let add = |a: &Tensor, b: &Tensor| binary(BinaryFn::Add, a, b).unwrap()[0].floats().into_owned();
        assert_eq!(add(&x, &channels), [10., 11., 22., 23., 14., 15., 26., 27.]);
        assert_eq!(add(&channels, &x), add(&x, &channels));
        assert_eq!(add(&x, &Tensor::scalar(1f32)), [1., 2., 3., 4., 5., 6., 7., 8.]);
        assert_eq!(add(&row(&[1., 2.]), &channels), [11., 12., 21., 22.]);
        assert_eq!(add(&x, &row(&[0., 100.])), [0., 101., 2., 103., 4., 105., 6., 107.]);
        assert!(binary(BinaryFn::Add, &row(&[1., 2.]), &row(&[1., 2., 3.])).is_err());
    }

    #[test]
    fn binary_functions() {
        use BinaryFn::*;
        let table: &[(BinaryFn, f32, f32, f32, Option<i64>)] = &[
            (Div, -7.0, 2.0, -3.5, Some(-3)),
            (FloorMod, -7.0, 3.0, 2.0, Some(2)),
            (FloorMod, 7.0, -3.0, -2.0, Some(-2)),
            (Rem, -7.0, 3.0, -1.0, Some(-1)),
            (Pow, 2.0, 3.0, 8.0, Some(8)),
            (Pow, -3.0, 2.0, 9.0, Some(9)),
            (Max, 1.0, 2.0, 2.0, Some(2)),
            (Min, 1.0, 2.0, 1.0, Some(1)),
            (SquaredDifference, 1.0, 4.0, 9.0, Some(9)),
            (Prelu, -2.0, 3.0, -6.0, Some(-6)),
            (LessEqual, 2.0, 2.0, 1.0, Some(1)),
            (NotEqual, 2.0, 2.0, 0.0, Some(0)),
        ];
        for &(f, a, b, real, integer) in table {
            assert_eq!(binary(f, &row(&[a]), &row(&[b])).unwrap()[0].floats().as_ref(), [real], "{f:?}({a}, {b})");
            let out = binary(f, &Tensor::scalar(a as i64), &Tensor::scalar(b as i64)).unwrap();
            assert_eq!(out[0].integers().map(|v| v[0]), integer, "{f:?}({a}, {b})");
        }
        let bits = |f| binary(f, &Tensor::scalar(-7i8), &Tensor::scalar(12i8)).unwrap()[0].integers();
        assert_eq!([And, Or, Xor].map(bits), [Some(vec![8]), Some(vec![-3]), Some(vec![-11])]);
        let (a, b) = (Tensor::scalar(-7i32), Tensor::scalar(2i32));
        assert_eq!(binary(FloorDiv, &a, &b).unwrap()[0].view::<i32>().as_ref(), [-4]);
        assert_eq!(binary(Div, &a, &Tensor::scalar(0i32)), Err(EvalError::DivisionByZero));
        let wrapped = binary(Mul, &Tensor::scalar(100i8), &Tensor::scalar(3i8)).unwrap();
        assert_eq!(wrapped[0].view::<i8>().as_ref(), [44]);
        let smallest = binary(Div, &Tensor::scalar(i32::MIN), &Tensor::scalar(-1i32)).unwrap();
        assert_eq!(smallest[0].view::<i32>().as_ref(), [i32::MIN]);
        let nan = binary(Max, &row(&[f32::NAN, 1.0]), &row(&[1.0, f32::NAN])).unwrap();
        assert!(nan[0].floats().iter().all(|v| v.is_nan()));
    }

    #[test]
    fn halves_are_computed_in_f32() {
        let x = Tensor::from_vec(Shape::known(&[2]), vec![f16::from_f32(0.0), f16::from_f32(2.0)]);
        let out = unary(UnaryFn::Sigmoid, &x).unwrap();
        assert_eq!(out[0].view::<f16>().as_ref(), [f16::from_f32(0.5), f16::from_f32(0.880_797_1)]);
        let sum = binary(BinaryFn::Add, &x, &x).unwrap();
        assert_eq!(sum[0].view::<f16>().as_ref(), [f16::from_f32(0.0), f16::from_f32(4.0)]);
        assert_eq!(binary(BinaryFn::Less, &x, &x).unwrap()[0].integers(), Some(vec![0, 0]));
    }

    #[test]
    fn clamp_bounds() {
        let out = clamp(0.0, 6.0, &row(&[-1., 3., 9., f32::NAN])).unwrap();
        assert_eq!(out[0].floats()[..3], [0., 3., 6.]);
        assert!(out[0].floats()[3].is_nan());
        let x = Tensor::from_vec(Shape::known(&[3]), vec![-5i64, 3, 1 << 40]);
        assert_eq!(clamp(-1.5, f32::INFINITY, &x).unwrap()[0].integers(), Some(vec![-1, 3, 1 << 40]));
    }

    #[test]
    fn selection() {
        let c = Tensor::from_bools(Shape::known(&[2, 1]), [true, false]);
        let a = Tensor::from_vec(Shape::known(&[3]), vec![1i64, 2, 3]);
        let out = select(&c, &a, &Tensor::scalar(0i64)).unwrap();
        assert_eq!((out[0].dims(), out[0].integers()), (vec![2, 3], Some(vec![1, 2, 3, 0, 0, 0])));
    }

    #[test]
    fn conversions() {
        let x = row(&[-1.9, 0.0, 300.7, f32::NAN]);
        let to = |elem: Elem, x: &Tensor| cast(&elem, x).unwrap()[0].integers();
        assert_eq!(to(Elem::I32, &x), Some(vec![-1, 0, 300, 0]));
        assert_eq!(to(Elem::Bool, &x), Some(vec![1, 0, 1, 1]));
        let i = Tensor::from_vec(Shape::known(&[3]), vec![256i32, -1, 7]);
        assert_eq!(to(Elem::U8, &i), Some(vec![0, 255, 7]));
        assert_eq!(to(Elem::Bool, &i), Some(vec![1, 1, 1]));
        assert_eq!(cast(&Elem::F32, &i).unwrap()[0].floats().as_ref(), [256., -1., 7.]);
        assert_eq!(cast(&Elem::F16, &row(&[1.0])).unwrap()[0].view::<f16>().as_ref(), [f16::ONE]);
    }
}
