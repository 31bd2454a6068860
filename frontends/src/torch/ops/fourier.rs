//! Fourier transforms of real signals as products with constant matrices, and functions of their complex results, which
//! are represented by two values: real and imaginary parts.

use qcc_ir::ops::{BinaryFn, Concat, Conv, Extents, MatMul, Range, Slice, UnaryFn};
use qcc_ir::{Dim, Shape, ValueId};

use super::super::importer::Complex;
use super::super::node::NodeCx;
use super::Row;
use crate::build::fourier::Basis;
use crate::build::{Build, Values, extent, one};
use crate::refusal::Refusal;

/// An operator with complex results, and its import function.
type ComplexRow = (&'static str, fn(&mut NodeCx<'_, '_>) -> Result<Complex, Refusal>);

/// Operators with complex results.
pub(super) const COMPLEX_ROWS: &[ComplexRow] = &[
    ("_fft_r2c", |n| {
        let x = n.input()?;
        let [dim] = n.ints("dim")?[..] else {
            return Err(Refusal::Unsupported("a Fourier transform along several axes is not supported".into()));
        };
        let axis = n.axis(dim, x)?;
        let length = n.known_extent(x, axis)?;
        let norm = match n.int("normalization", 0)? {
            0 => None,
            1 => Some("ortho"),
            _ => Some("forward"),
        };
        let basis = Basis { length, onesided: n.flag("onesided", true)?, scale: scale(norm, length)? };
        transform(n, x, axis, &basis)
    }),
    ("fft_fft", |n| along_axis(n, false)),
    ("fft_rfft", |n| along_axis(n, true)),
    ("stft", stft),
];

/// Operators with complex operands.
pub(super) const ROWS: &[Row] = &[
    ("abs", size),
    ("absolute", size),
    ("angle", |n| {
        let [re, im] = n.complex("self")?.ok_or_else(|| Refusal::Unsupported("the angle of real numbers".into()))?;
        one(n.binary(BinaryFn::Atan2, im, re)?)
    }),
    ("imag", |n| {
        let parts = n.complex("self")?;
        one(parts.ok_or_else(|| Refusal::Invalid("the imaginary part of real numbers".into()))?[1])
    }),
    ("real", |n| match n.complex("self")? {
        Some([re, _]) => one(re),
        None => one(n.input()?),
    }),
    ("view_as_real", |n| {
        let parts = n.complex("self")?.ok_or_else(|| Refusal::Invalid("real numbers as complex ones".into()))?;
        one(side_by_side(n, parts)?)
    }),
];

/// Operators that apply to real and imaginary parts separately.
pub(super) const PARTWISE: &[&str] = &[
    "alias",
    "chunk",
    "clone",
    "contiguous",
    "detach",
    "expand",
    "flatten",
    "movedim",
    "mT",
    "narrow",
    "neg",
    "permute",
    "reshape",
    "select",
    "slice",
    "split",
    "split_with_sizes",
    "squeeze",
    "swapaxes",
    "swapdims",
    "t",
    "transpose",
    "unbind",
    "unflatten",
    "unsqueeze",
    "view",
];

/// The factor of element `t` in frequency `f`: cosines first, then negative sines.
fn factor(basis: &Basis, f: usize, t: usize) -> f64 {
    let count = basis.frequencies();
    let [cos, sin] = basis.wave(f % count, t);
    if f < count { cos } else { -sin }
}

fn scale(norm: Option<&str>, length: usize) -> Result<f64, Refusal> {
    match norm.unwrap_or("backward") {
        "backward" => Ok(1.0),
        "ortho" => Ok(1.0 / (length as f64).sqrt()),
        "forward" => Ok(1.0 / length as f64),
        _ => Err(Refusal::Argument { name: "norm".into(), problem: "is no known normalisation" }),
    }
}

/// A transform along one axis, which is cropped or zero-padded to the requested length.
fn along_axis(n: &mut NodeCx<'_, '_>, onesided: bool) -> Result<Complex, Refusal> {
    let x = n.input()?;
    let axis = n.int("dim", -1)?;
    let axis = n.axis(axis, x)?;
    let given = n.known_extent(x, axis)?;
    let length = match n.optional_int("n")? {
        Some(asked) => extent(asked)?,
        None => given,
    };
    let x = if length < given {
        n.add(Slice { ranges: vec![Range { axis, start: 0, len: length, step: 1 }] }, &[x])?
    } else {
        x
    };
    let norm = n.optional_text("norm");
    transform(n, x, axis, &Basis { length, onesided, scale: scale(norm, length)? })
}

/// The product with the basis along an axis, which may have fewer elements than the basis.
fn transform(n: &mut NodeCx<'_, '_>, x: ValueId, axis: usize, basis: &Basis) -> Result<Complex, Refusal> {
    let given = n.known_extent(x, axis)?;
    let columns = 2 * basis.frequencies();
    let matrix = Basis::tensor(n, x, &[given, columns], |i| factor(basis, i % columns, i / columns))?;
    let mut last: Extents = (0..n.rank(x)).filter(|&a| a != axis).collect();
    last.push(axis);
    let x = n.transpose(x, &last)?;
    let flat = n.rank(x) == 1;
    let x = if flat { n.reshape(x, &[1, given])? } else { x };
    let y = n.add(MatMul { transpose_b: false }, &[x, matrix])?;
    let place = n.rank(y) - 1;
    let mut back: Extents = (0..place).collect();
    back.insert(axis.min(place), place);
    let mut part = |i: usize| -> Result<ValueId, Refusal> {
        let half = half(n, y, place, i)?;
        if flat { n.reshape(half, &[columns / 2]) } else { n.transpose(half, &back) }
    };
    Ok([part(0)?, part(1)?])
}

/// Half of an axis.
fn half(n: &mut NodeCx<'_, '_>, y: ValueId, axis: usize, i: usize) -> Result<ValueId, Refusal> {
    let len = n.known_extent(y, axis)? / 2;
    n.add(Slice { ranges: vec![Range { axis, start: i * len, len, step: 1 }] }, &[y])
}

/// Transforms of sliding windows of a signal: a convolution.
fn stft(n: &mut NodeCx<'_, '_>) -> Result<Complex, Refusal> {
    let x = n.input()?;
    let length = n.required_int("n_fft")?;
    let length = extent(length)?;
    let hop = n.int("hop_length", length as i64 / 4)?;
    let hop = extent(hop)?;
    let width = n.int("win_length", length as i64)?;
    let width = extent(width)?;
    let window = match n.optional("window")? {
        Some(v) => n
            .constant(v)
            .map(|t| t.floats().into_owned())
            .ok_or_else(|| Refusal::NotConstant { index: 4, name: "window".into() })?,
        None => vec![1.0; width],
    };
    n.flag("return_complex", true)?;
    let norm = n.flag("normalized", false)?.then_some("ortho");
    let onesided = n.flag("onesided", true)?;
    if n.flag("center", false)? || n.flag("align_to_window", false)? {
        return Err(Refusal::Unsupported("stft that pads or aligns by itself is not supported".into()));
    }
    let shape = n.shape(x).clone();
    let fits = window.len() == width && (1..=length).contains(&width) && hop > 0;
    let (1 | 2, Some((samples, outer))) = (shape.rank(), shape.dims().split_last()) else {
        return Err(Refusal::Invalid(format!("stft of {}", n.ty(x))));
    };
    if !fits || samples.known().is_some_and(|samples| samples < length) {
        return Err(Refusal::Invalid(format!("windows of {length} on {}", n.ty(x))));
    }
    let basis = Basis { length, onesided, scale: scale(norm, length)? };
    let (count, start) = (basis.frequencies(), (length - width) / 2);
    let weighted = |i: usize| {
        let (f, t) = (i / length, i % length);
        let weight = t.checked_sub(start).and_then(|t| window.get(t)).copied().unwrap_or(0.0);
        f64::from(weight) * factor(&basis, f, t)
    };
    let filters = Basis::tensor(n, x, &[2 * count, 1, length], weighted)?;
    let signals = outer.first().cloned().unwrap_or(Dim::Known(1));
    let x = n.reshape_to(x, [signals, Dim::Known(1), samples.clone()].into_iter().collect())?;
    let y = n.add(Conv { stride: Extents::from_elem(hop, 1), ..Conv::unit(1) }, &[x, filters])?;
    let result: Shape = outer.iter().cloned().chain([count.into(), n.shape(y).dims()[2].clone()]).collect();
    let mut part = |i: usize| -> Result<ValueId, Refusal> {
        let half = half(n, y, 1, i)?;
        n.reshape_to(half, result.clone())
    };
    Ok([part(0)?, part(1)?])
}

/// Real and imaginary parts along a new last axis.
pub(in super::super) fn side_by_side(n: &mut NodeCx<'_, '_>, parts: Complex) -> Result<ValueId, Refusal> {
    let axis = n.rank(parts[0]);
    let shape: Shape = n.shape(parts[0]).dims().iter().cloned().chain([Dim::Known(1)]).collect();
    let parts = [n.reshape_to(parts[0], shape.clone())?, n.reshape_to(parts[1], shape)?];
    n.add(Concat { axis }, &parts)
}

/// The absolute value; for complex values the magnitude.
fn size(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let Some([re, im]) = n.complex("self")? else {
        let x = n.input()?;
        return one(n.unary(UnaryFn::Abs, x)?);
    };
    let squares = [n.binary(BinaryFn::Mul, re, re)?, n.binary(BinaryFn::Mul, im, im)?];
    let sum = n.binary(BinaryFn::Add, squares[0], squares[1])?;
    one(n.unary(UnaryFn::Sqrt, sum)?)
}
