//! Fourier transforms as products with constant matrices.

use std::f64::consts::TAU;

use qcc_ir::ValueId;

use super::Build;
use crate::refusal::Refusal;

/// The frequencies of a transform.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Basis {
    /// Number of transformed elements.
    pub(crate) length: usize,
    /// Only the frequencies up to half the length: the others are redundant.
    pub(crate) onesided: bool,
    /// The factor of all results.
    pub(crate) scale: f64,
}

impl Basis {
    pub(crate) fn frequencies(&self) -> usize {
        if self.onesided { self.length / 2 + 1 } else { self.length }
    }

    /// The cosine and the sine of frequency `f` at element `t`, scaled.
    pub(crate) fn wave(&self, f: usize, t: usize) -> [f64; 2] {
        // The angle is reduced as an integer, which is exact.
        let turns = (f as u128 * t as u128 % self.length as u128) as f64;
        let (sin, cos) = libm::sincos(TAU * turns / self.length as f64);
        [self.scale * cos, self.scale * sin]
    }

    /// A constant of these extents with the element type of `like`.
    pub(crate) fn tensor(
        n: &mut impl Build,
        like: ValueId,
        dims: &[usize],
        at: impl Fn(usize) -> f64,
    ) -> Result<ValueId, Refusal> {
        let elem = n.ty(like).elem.clone();
        let table = if elem.is_float() { n.table_of(&elem, dims, at)? } else { None };
        table.ok_or_else(|| Refusal::Unsupported(format!("a Fourier transform of {elem}")))
    }
}
