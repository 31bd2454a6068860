//! Matrix products as the evaluator computes them, and convolutions as such products. Results do not depend on the
//! processor or the number of threads.

pub use crate::kernels::conv::Windows;
pub use crate::kernels::matrix::View;

use crate::kernels::gemm::gemm;
use crate::kernels::matrix::Bias;

/// `out = a * b`, row-major.
///
/// # Panics
/// Where the sizes do not fit.
pub fn multiply(out: &mut [f32], a: View<'_>, b: View<'_>) {
    assert!(gemm(out, a, b, Bias::None).is_ok(), "sizes of a product that do not fit");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn views_are_multiplied() {
        let (a, b) = ([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [1.0, -1.0, 0.5, 2.0]);
        let (a, b) = (View::new(&a, 2, 3), View::new(&b, 2, 2));
        let mut out = [0.0; 4];
        multiply(&mut out, a.block(0..2, 1..3), b);
        assert_eq!(out, [3.5, 4.0, 8.0, 7.0]);
        multiply(&mut out, a.block(0..2, 1..3), b.transposed());
        assert_eq!(out, [-1.0, 7.0, -1.0, 14.5]);
    }
}
