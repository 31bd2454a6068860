//! Fourier transforms as products with matrices, which are constant where the length is known.

use std::f64::consts::TAU;

use qcc_ir::ops::{BinaryFn, Concat, Expand, Extents, MatMul, OpenSlice, Range, Slice, UnaryFn};
use qcc_ir::{Dim, Elem, Expr, Shape, Tensor, ValueId};

use super::computed::counted;
use super::control::{slice_at, stacked};
use super::index::part;
use super::product::matmul;
use super::{Build, Values, extent};
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

/// The factor of a transform by its length.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Factor {
    /// 1
    Unit,
    /// 1 / sqrt(length)
    Root,
    /// 1 / length
    Length,
}

impl Factor {
    pub(crate) fn of(self, length: usize) -> f64 {
        match self {
            Factor::Unit => 1.0,
            Factor::Root => 1.0 / (length as f64).sqrt(),
            Factor::Length => 1.0 / length as f64,
        }
    }
}

/// A transform along one axis of real (last extent 1) or complex numbers (last extent 2: real and imaginary part).
#[derive(Clone, Debug)]
pub(crate) struct Transform {
    /// The axis, which is not the last.
    pub(crate) axis: usize,
    /// The number of transformed elements; the signal is cropped or padded with zeros to it.
    pub(crate) length: Expr,
    pub(crate) inverse: bool,
    /// The spectrum has the frequencies up to half the length only: that of real numbers. The inverse gives real numbers.
    pub(crate) onesided: bool,
    /// The factor of all results.
    pub(crate) factor: Factor,
}

impl Transform {
    /// A transform whose inverse divides by the length.
    pub(crate) fn usual(axis: usize, length: Expr, inverse: bool, onesided: bool) -> Transform {
        Transform { axis, length, inverse, onesided, factor: if inverse { Factor::Length } else { Factor::Unit } }
    }

    /// The inverse of a half spectrum is real.
    fn is_real(&self) -> bool {
        self.inverse && self.onesided
    }
}

/// The transform of `x`, with both parts in the last axis, or with the real one alone.
pub(crate) fn transformed(n: &mut impl Build, x: ValueId, transform: &Transform) -> Result<ValueId, Refusal> {
    let known = transform.length.constant().filter(|_| n.shape(x).dims()[transform.axis].known().is_some());
    match known {
        Some(length) => by_constants(n, x, extent(length)?, transform),
        None => by_positions(n, x, transform),
    }
}

fn by_constants(n: &mut impl Build, x: ValueId, length: usize, transform: &Transform) -> Result<ValueId, Refusal> {
    let &Transform { axis, inverse, onesided, factor, .. } = transform;
    let to_float = transform.is_real();
    let rank = n.rank(x);
    let (given, parts) = (n.extent(x, axis)?, n.extent(x, rank - 1)?);
    let basis = Basis { length, onesided, scale: factor.of(length) };
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

/// The transform along an axis of open extent, or of a length that is computed. Angles are reduced as integers.
fn by_positions(n: &mut impl Build, x: ValueId, transform: &Transform) -> Result<ValueId, Refusal> {
    let (axis, length) = (transform.axis, &transform.length);
    let elem = n.ty(x).elem.clone();
    if !elem.is_float() {
        return Err(Refusal::Unsupported(format!("a Fourier transform of {elem}")));
    }
    let open = || Refusal::Unsupported(format!("a Fourier transform of {length} elements"));
    let half = || length.floor_div(2)?.plus(&1.into());
    let frequencies = if transform.onesided { half().ok_or_else(open)? } else { length.clone() };
    let (from, to) = if transform.is_real() { (frequencies, length.clone()) } else { (length.clone(), frequencies) };
    let x = fitted(n, x, axis, &from)?;
    let [cos, sin] = waves(n, transform, from, to)?;
    let (cos, sin) = (n.cast(cos, elem.clone())?, n.cast(sin, elem)?);
    let last = n.rank(x) - 1;
    let re = slice_at(n, x, last, 0)?;
    let mut parts = Values::from_iter([product_along(n, re, axis, cos)?]);
    if !transform.is_real() {
        let crossed = product_along(n, re, axis, sin)?;
        parts.push(if transform.inverse { crossed } else { n.unary(UnaryFn::Neg, crossed)? });
    }
    if n.extent(x, last)? == 2 {
        let im = slice_at(n, x, last, 1)?;
        let crossed = product_along(n, im, axis, sin)?;
        parts[0] = n.binary(if transform.inverse { BinaryFn::Sub } else { BinaryFn::Add }, parts[0], crossed)?;
        if let Some(&part) = parts.get(1) {
            let own = product_along(n, im, axis, cos)?;
            parts[1] = n.binary(BinaryFn::Add, part, own)?;
        }
    }
    stacked(n, &parts, last as i64, false)
}

/// `x`, cropped or padded with zeros at the end of an axis to that length.
fn fitted(n: &mut impl Build, x: ValueId, axis: usize, length: &Expr) -> Result<ValueId, Refusal> {
    if n.shape(x).dims()[axis].expr() == *length {
        return Ok(x);
    }
    let extent = Dim::of(length.clone()).ok_or_else(|| Refusal::Invalid(format!("a length of {length}")))?;
    let zero = n.scalar(0.0, x)?;
    let zeros = n.add(Expand { shape: n.shape(x).with(axis, extent) }, &[zero])?;
    let longer = n.add(Concat { axis }, &[x, zeros])?;
    part(n, longer, OpenSlice { axis, start: 0.into(), len: length.clone() })
}

/// The cosines and sines of the angles between elements `[from, to]`, scaled.
fn waves(n: &mut impl Build, transform: &Transform, from: Expr, to: Expr) -> Result<[ValueId; 2], Refusal> {
    let length = n.add_whole(vec![transform.length.clone()], Extents::new())?;
    let rows = counted(n, from)?;
    let mut column = n.shape(rows).dims().to_vec();
    column.push(Dim::Known(1));
    let rows = n.reshape_to(rows, column.into_iter().collect())?;
    let columns = counted(n, to)?;
    let turns = n.binary(BinaryFn::Mul, rows, columns)?;
    let turns = n.binary(BinaryFn::FloorMod, turns, length)?;
    let (turns, count) = (n.cast(turns, Elem::F32)?, n.cast(length, Elem::F32)?);
    let whole_turn = n.scalar(TAU, count)?;
    let step = n.binary(BinaryFn::Div, whole_turn, count)?;
    let angles = n.binary(BinaryFn::Mul, turns, step)?;
    let mut scale = match transform.factor {
        Factor::Unit => None,
        Factor::Root => Some(n.unary(UnaryFn::Sqrt, count)?),
        Factor::Length => Some(count),
    };
    if let Some(by) = &mut scale {
        let one = n.scalar(1.0, *by)?;
        *by = n.binary(BinaryFn::Div, one, *by)?;
    }
    if transform.is_real() {
        // The other half of the spectrum is the conjugate of this one.
        let (zero, two) = (n.add_constant(Tensor::scalar(0i64)), n.add_constant(Tensor::scalar(2i64)));
        let doubled = n.binary(BinaryFn::Mul, rows, two)?;
        let single = [n.binary(BinaryFn::Equal, rows, zero)?, n.binary(BinaryFn::Equal, doubled, length)?];
        let [first, middle] = [n.cast(single[0], Elem::F32)?, n.cast(single[1], Elem::F32)?];
        let two = n.scalar(2.0, first)?;
        let rest = n.binary(BinaryFn::Sub, two, first)?;
        let times = n.binary(BinaryFn::Sub, rest, middle)?;
        scale = Some(scale.map_or(Ok(times), |scale| n.binary(BinaryFn::Mul, times, scale))?);
    }
    let mut waves = [n.unary(UnaryFn::Cos, angles)?, n.unary(UnaryFn::Sin, angles)?];
    if let Some(scale) = scale {
        for wave in &mut waves {
            *wave = n.binary(BinaryFn::Mul, *wave, scale)?;
        }
    }
    Ok(waves)
}

/// The product of an axis with a matrix.
fn product_along(n: &mut impl Build, x: ValueId, axis: usize, matrix: ValueId) -> Result<ValueId, Refusal> {
    let rank = n.rank(x);
    if rank == 1 {
        return matmul(n, x, matrix);
    }
    let last: Extents = (0..rank).filter(|&a| a != axis).chain([axis]).collect();
    let back: Extents = (0..rank).map(|a| last.iter().position(|&p| p == a).unwrap_or(a)).collect();
    let x = n.transpose(x, &last)?;
    let y = n.add(MatMul { transpose_b: false }, &[x, matrix])?;
    n.transpose(y, &back)
}
