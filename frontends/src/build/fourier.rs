//! Fourier transforms as products with constant matrices.

use std::f64::consts::TAU;

use qcc_ir::ops::{Extents, MatMul, Range, Slice};
use qcc_ir::{Dim, Shape, ValueId};

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

/// A transform along one axis of real (last extent 1) or complex numbers (last extent 2: real and imaginary part).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Transform {
    /// The axis, which is not the last.
    pub(crate) axis: usize,
    /// The number of transformed elements; the signal is cropped or padded with zeros to it.
    pub(crate) length: usize,
    pub(crate) inverse: bool,
    /// The spectrum has the frequencies up to half the length only: that of real numbers. The inverse gives real numbers.
    pub(crate) onesided: bool,
    /// The factor of all results.
    pub(crate) scale: f64,
}

impl Transform {
    /// A transform whose inverse divides by the length.
    pub(crate) fn usual(axis: usize, length: usize, inverse: bool, onesided: bool) -> Transform {
        Transform { axis, length, inverse, onesided, scale: if inverse { 1.0 / length as f64 } else { 1.0 } }
    }
}

/// The transform of `x`, with both parts in the last axis, or with the real one alone.
pub(crate) fn transformed(n: &mut impl Build, x: ValueId, transform: Transform) -> Result<ValueId, Refusal> {
    let Transform { axis, length, inverse, onesided, scale } = transform;
    let rank = n.rank(x);
    let (given, parts) = (n.extent(x, axis)?, n.extent(x, rank - 1)?);
    // The inverse of a half spectrum is real.
    let to_float = inverse && onesided;
    let basis = Basis { length, onesided, scale };
    let used = given.min(if to_float { basis.frequencies() } else { length });
    let x = if used < given {
        n.add(Slice { ranges: vec![Range { axis, start: 0, len: used, step: 1 }] }, &[x])?
    } else {
        x
    };
    let (results, out) = if to_float { (length, 1) } else { (basis.frequencies(), 2) };
    // Rows are pairs of element and part, columns pairs of result and part.
    let (rows, columns) = (used * parts, results * out);
    let matrix = Basis::tensor(n, x, &[rows, columns], |i| {
        let (row, column) = (i / columns, i % columns);
        let [t, from, f, to] = [row / parts, row % parts, column / out, column % out];
        let [cos, sin] = basis.wave(f, t);
        let sin = if inverse { sin } else { -sin };
        // The other half of the spectrum is the conjugate of this one.
        let twice = if to_float && t > 0 && 2 * t != length { 2.0 } else { 1.0 };
        twice
            * match (from, to) {
                (0, 0) | (1, 1) => cos,
                (0, _) => sin,
                _ => -sin,
            }
    })?;
    let mut perm: Extents = (0..rank).filter(|&a| a != axis && a + 1 != rank).collect();
    let outer: Vec<Dim> = perm.iter().map(|&a| n.shape(x).dims()[a].clone()).collect();
    let all = Shape::count(&outer).ok_or_else(|| Refusal::Open(n.shape(x).clone()))?;
    perm.extend([axis, rank - 1]);
    let x = n.transpose(x, &perm)?;
    let x = n.reshape_to(x, [all, rows.into()].into_iter().collect())?;
    let y = n.add(MatMul { transpose_b: false }, &[x, matrix])?;
    let apart = outer.into_iter().chain([results.into(), out.into()]).collect();
    let y = n.reshape_to(y, apart)?;
    let back: Extents = (0..rank).filter_map(|a| perm.iter().position(|&p| p == a)).collect();
    n.transpose(y, &back)
}
