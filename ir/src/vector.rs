//! Loops that are compiled for the vector width of the processor and whose results do not depend on it.
//!
//! Rust does not reorder or fuse the arithmetic of floating-point numbers, so that a loop over independent elements has
//! the same results at any vector width. Sums have a fixed number of lanes, which are added as a fixed tree.

use rten_simd::{Isa, SimdOp};

/// Number of lanes of sums: two vectors of the widest instruction set.
pub const LANES: usize = 32;

/// Runs code that is compiled for the instruction set of this processor. `f` must be inlined: a closure with
/// `#[inline(always)]`, which calls only functions that are inlined too. Its loops should be `for` loops, because large
/// closures of iterators are not inlined.
#[inline]
pub fn vectorized<R>(f: impl FnOnce() -> R) -> R {
    struct Run<F>(F);

    impl<R, F: FnOnce() -> R> SimdOp for Run<F> {
        type Output = R;

        #[inline(always)]
        fn eval<I: Isa>(self, _isa: I) -> R {
            (self.0)()
        }
    }
    Run(f).dispatch()
}

/// Folds numbers in [`LANES`] lanes, which `join` combines.
#[inline(always)]
pub fn fold(x: &[f32], start: f32, f: impl Fn(f32, f32) -> f32, join: impl Fn(f32, f32) -> f32) -> f32 {
    let mut parts = [start; LANES];
    let (chunks, rest) = x.as_chunks::<LANES>();
    for chunk in chunks {
        for lane in 0..LANES {
            parts[lane] = f(parts[lane], chunk[lane]);
        }
    }
    parts.iter_mut().zip(rest).for_each(|(part, &v)| *part = f(*part, v));
    joined(&mut parts, join)
}

/// Combines lanes: each of the first half with the lane that is half the width away, until one is left. It is not
/// inlined, because the loops before it would not be vectorized then.
#[inline(never)]
pub fn joined<const LANES: usize>(parts: &mut [f32; LANES], join: impl Fn(f32, f32) -> f32) -> f32 {
    let mut width = LANES / 2;
    while width > 0 {
        for i in 0..width {
            parts[i] = join(parts[i], parts[i + width]);
        }
        width /= 2;
    }
    parts[0]
}

/// The sum, the minimum and the maximum of numbers. Minimum and maximum are valid only if no number is NaN; they are
/// infinities if there are no numbers.
pub fn summary(x: &[f32]) -> (f32, f32, f32) {
    let smaller = |a: f32, b: f32| if b < a { b } else { a };
    let larger = |a: f32, b: f32| if b > a { b } else { a };
    let (mut sums, mut mins, mut maxs) = ([0.0; LANES], [f32::INFINITY; LANES], [f32::NEG_INFINITY; LANES]);
    vectorized(
        #[inline(always)]
        || {
            let (blocks, rest) = x.as_chunks::<LANES>();
            let (mut sum, mut min, mut max) = (sums, mins, maxs);
            for block in blocks {
                for lane in 0..LANES {
                    sum[lane] += block[lane];
                    min[lane] = smaller(min[lane], block[lane]);
                    max[lane] = larger(max[lane], block[lane]);
                }
            }
            for (lane, &v) in rest.iter().enumerate() {
                sum[lane] += v;
                min[lane] = smaller(min[lane], v);
                max[lane] = larger(max[lane], v);
            }
            (sums, mins, maxs) = (sum, min, max);
        },
    );
    (joined(&mut sums, |a, b| a + b), joined(&mut mins, smaller), joined(&mut maxs, larger))
}
