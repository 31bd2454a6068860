//! Fourier transforms as products with constant matrices.

use qcc_ir::ops::{BinaryFn, Concat, Conv, ConvTranspose, Expand, Extents, OpenSlice, Range, Slice};
use qcc_ir::{Dim, Expr, Shape, ValueId};
use smallvec::smallvec;

use super::super::importer::Complex;
use super::super::node::NodeCx;
use super::Row;
use super::complex::{ComplexRow, apart, side_by_side};
use crate::build::fourier::{Basis, Factor, Transform, transformed};
use crate::build::index::part;
use crate::build::{Build, Values, count_axis, extent, one};
use crate::refusal::Refusal;

/// Transforms with complex results.
pub(super) const COMPLEX_ROWS: &[ComplexRow] = &[
    ("_fft_c2c", |n| {
        let inverse = !n.flag("forward", true)?;
        normalized(n, inverse, false)
    }),
    ("_fft_r2c", |n| {
        let onesided = n.flag("onesided", true)?;
        normalized(n, false, onesided)
    }),
    ("fft_fft", |n| along_axis(n, false, false)),
    ("fft_fft2", |n| along_axes(n, Some(2), false, false)),
    ("fft_fftn", |n| along_axes(n, None, false, false)),
    ("fft_ifft", |n| along_axis(n, true, false)),
    ("fft_ifft2", |n| along_axes(n, Some(2), true, false)),
    ("fft_ifftn", |n| along_axes(n, None, true, false)),
    ("fft_rfft", |n| along_axis(n, false, true)),
    ("fft_rfft2", |n| along_axes(n, Some(2), false, true)),
    ("fft_rfftn", |n| along_axes(n, None, false, true)),
    ("stft", stft),
];

/// Transforms to real numbers.
pub(super) const ROWS: &[Row] = &[
    ("_fft_c2r", |n| {
        let last = n.whole("last_dim_size")?;
        let x = signal(n)?;
        let (axes, norm) = (n.ints("dim")?, norm_of(n)?);
        let lengths = (1..axes.len()).map(|_| None).chain([Some(last)]).collect::<Vec<_>>();
        one(all(n, x, &axes, &lengths, norm, Kind { inverse: true, onesided: true })?[0])
    }),
    ("fft_irfft", |n| one(along_axis(n, true, true)?[0])),
    ("fft_irfft2", |n| one(along_axes(n, Some(2), true, true)?[0])),
    ("fft_irfftn", |n| one(along_axes(n, None, true, true)?[0])),
    ("istft", istft),
];

/// The factor of element `t` in frequency `f`: cosines first, then negative sines.
fn factor(basis: &Basis, f: usize, t: usize) -> f64 {
    let count = basis.frequencies();
    let [cos, sin] = basis.wave(f % count, t);
    if f < count { cos } else { -sin }
}

/// The direction of a transform, and whether its spectrum is that of real numbers.
#[derive(Clone, Copy)]
struct Kind {
    inverse: bool,
    onesided: bool,
}

/// The normalisation of the operators that the public ones are made of, as the factor says it in either direction.
fn norm_of(n: &mut NodeCx<'_, '_>) -> Result<Factor, Refusal> {
    Ok(match n.int("normalization", 0)? {
        0 => Factor::Unit,
        1 => Factor::Root,
        _ => Factor::Length,
    })
}

/// The factor of a normalisation that has a name.
fn named(norm: Option<&str>, inverse: bool) -> Result<Factor, Refusal> {
    match (norm.unwrap_or("backward"), inverse) {
        ("ortho", _) => Ok(Factor::Root),
        ("backward", false) | ("forward", true) => Ok(Factor::Unit),
        ("backward", true) | ("forward", false) => Ok(Factor::Length),
        _ => Err(Refusal::Argument { name: "norm".into(), problem: "is no known normalisation" }),
    }
}

/// The first operand, with both parts or the real one along a new last axis.
fn signal(n: &mut NodeCx<'_, '_>) -> Result<ValueId, Refusal> {
    match n.complex("self")? {
        Some(parts) => side_by_side(n, parts),
        None => {
            let x = n.input()?;
            n.column(x)
        }
    }
}

/// A transform along the axes `dim`, normalised by a number.
fn normalized(n: &mut NodeCx<'_, '_>, inverse: bool, onesided: bool) -> Result<Complex, Refusal> {
    let x = signal(n)?;
    let (axes, factor) = (n.ints("dim")?, norm_of(n)?);
    let lengths = vec![None; axes.len()];
    all(n, x, &axes, &lengths, factor, Kind { inverse, onesided })
}

/// A transform along one axis, which is cropped or padded with zeros to the length `n`.
fn along_axis(n: &mut NodeCx<'_, '_>, inverse: bool, onesided: bool) -> Result<Complex, Refusal> {
    let x = signal(n)?;
    let (axis, length) = (n.int("dim", -1)?, n.optional_whole("n")?);
    let factor = named(n.optional_text("norm"), inverse)?;
    all(n, x, &[axis], &[length], factor, Kind { inverse, onesided })
}

/// A transform along the axes `dim` with the lengths `s`, of which -1 is the axis's own. Without `dim`, along the last axes, as
/// many as given here, else as there are lengths, else all.
fn along_axes(n: &mut NodeCx<'_, '_>, last: Option<usize>, inverse: bool, onesided: bool) -> Result<Complex, Refusal> {
    let x = signal(n)?;
    let (axes, lengths) = (n.optional_ints("dim")?, n.optional_wholes("s")?);
    let last = last.unwrap_or_else(|| lengths.as_ref().map_or(n.rank(x) - 1, Vec::len)) as i64;
    let axes = axes.unwrap_or_else(|| (-last..0).collect());
    let lengths: Vec<Option<Expr>> = match lengths {
        Some(lengths) => {
            lengths.into_iter().map(|length| Some(length).filter(|length| *length != (-1).into())).collect()
        }
        None => vec![None; axes.len()],
    };
    let factor = named(n.optional_text("norm"), inverse)?;
    all(n, x, &axes, &lengths, factor, Kind { inverse, onesided })
}

/// Transforms along axes, of which the last has the half spectrum. The parts are the last axis of `x`.
fn all(
    n: &mut NodeCx<'_, '_>,
    mut x: ValueId,
    axes: &[i64],
    lengths: &[Option<Expr>],
    factor: Factor,
    Kind { inverse, onesided }: Kind,
) -> Result<Complex, Refusal> {
    if axes.len() != lengths.len() || axes.is_empty() {
        return Err(Refusal::Invalid(format!("{} lengths for {} axes", lengths.len(), axes.len())));
    }
    let mut order: Vec<(i64, &Option<Expr>)> = axes.iter().copied().zip(lengths).collect();
    // A half spectrum comes first, and real numbers last.
    if onesided && !inverse {
        order.reverse();
    }
    for (i, &(axis, length)) in order.iter().enumerate() {
        let half = onesided && i == if inverse { order.len() - 1 } else { 0 };
        let axis = count_axis(axis, n.rank(x) - 1)?;
        let given = n.shape(x).dims()[axis].expr();
        let length = match length {
            Some(length) => Some(length.clone()),
            None if half && inverse => given.minus(&1.into()).and_then(|steps| steps.times(&2.into())),
            None => Some(given.clone()),
        };
        let length = length.filter(|length| [length, &given].iter().all(|e| e.constant().is_none_or(|e| e > 0)));
        let length = length.ok_or_else(|| Refusal::Invalid(format!("a transform along axis {axis} of {}", n.ty(x))))?;
        if half && inverse && n.extent(x, n.rank(x) - 1)? == 1 {
            // Real numbers as a spectrum have no imaginary part.
            let zero = n.scalar(0.0, x)?;
            let none = n.binary(BinaryFn::Mul, x, zero)?;
            x = n.add(Concat { axis: n.rank(x) - 1 }, &[x, none])?;
        }
        x = transformed(n, x, &Transform { axis, length, inverse, onesided: half, factor })?;
    }
    apart(n, x)
}

/// Half of an axis.
fn half(n: &mut NodeCx<'_, '_>, y: ValueId, axis: usize, i: usize) -> Result<ValueId, Refusal> {
    let len = n.known_extent(y, axis)? / 2;
    n.add(Slice { ranges: vec![Range { axis, start: i * len, len, step: 1 }] }, &[y])
}

/// How a signal is cut into windows.
struct Framing {
    length: usize,
    hop: usize,
    /// The factors of the elements in the middle of a window; others are 0.
    window: Vec<f32>,
}

impl Framing {
    fn read(n: &mut NodeCx<'_, '_>) -> Result<Framing, Refusal> {
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
        if window.len() != width || !(1..=length).contains(&width) || hop == 0 {
            return Err(Refusal::Invalid(format!("windows of {width} of {length} elements with a step of {hop}")));
        }
        Ok(Framing { length, hop, window })
    }

    fn weight(&self, t: usize) -> f64 {
        let start = (self.length - self.window.len()) / 2;
        f64::from(t.checked_sub(start).and_then(|t| self.window.get(t)).copied().unwrap_or(0.0))
    }
}

/// Transforms of sliding windows of a signal: a convolution.
fn stft(n: &mut NodeCx<'_, '_>) -> Result<Complex, Refusal> {
    let x = n.input()?;
    let framing = Framing::read(n)?;
    let Framing { length, hop, .. } = framing;
    n.flag("return_complex", true)?;
    let norm = if n.flag("normalized", false)? { Factor::Root } else { Factor::Unit };
    let onesided = n.flag("onesided", true)?;
    if n.flag("center", false)? || n.flag("align_to_window", false)? {
        return Err(Refusal::Unsupported("stft that pads or aligns by itself is not supported".into()));
    }
    let shape = n.shape(x).clone();
    let (1 | 2, Some((samples, outer))) = (shape.rank(), shape.dims().split_last()) else {
        return Err(Refusal::Invalid(format!("stft of {}", n.ty(x))));
    };
    if samples.known().is_some_and(|samples| samples < length) {
        return Err(Refusal::Invalid(format!("windows of {length} on {}", n.ty(x))));
    }
    let basis = Basis { length, onesided, scale: norm.of(length) };
    let count = basis.frequencies();
    let weighted = |i: usize| framing.weight(i % length) * factor(&basis, i / length, i % length);
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

/// The signal of overlapping windows of half spectra `[B, frequencies, windows]`: windows are added where they overlap, and the
/// sum is divided by that of the squares of the window.
fn istft(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let [re, im] = n.complex("self")?.ok_or_else(|| Refusal::Invalid("the spectrum is no complex one".into()))?;
    let framing = Framing::read(n)?;
    let norm = if n.flag("normalized", false)? { Factor::Root } else { Factor::Length };
    let (centred, onesided) = (n.flag("center", true)?, n.flag("onesided", true)?);
    let asked = n.optional_int("length")?;
    let Framing { length, hop, .. } = framing;
    let basis = Basis { length, onesided, scale: norm.of(length) };
    let count = basis.frequencies();
    let dims = n.shape(re).dims().to_vec();
    let (outer, windows) = match dims.as_slice() {
        [frequencies, windows] if *frequencies == Dim::Known(count) => (Dim::Known(1), windows.clone()),
        [outer, frequencies, windows] if *frequencies == Dim::Known(count) => (outer.clone(), windows.clone()),
        _ => return Err(Refusal::Invalid(format!("istft of {} with {count} frequencies", n.ty(re)))),
    };
    if n.flag("return_complex", false)? || !onesided {
        return Err(Refusal::Unsupported("istft to complex numbers, or of a whole spectrum".into()));
    }
    let spectrum = |part: Dim| [outer.clone(), part, windows.clone()].into_iter().collect::<Shape>();
    let parts = [n.reshape_to(re, spectrum(count.into()))?, n.reshape_to(im, spectrum(count.into()))?];
    let x = n.add(Concat { axis: 1 }, &parts)?;
    // The other half of the spectrum is the conjugate of this one.
    let twice = |f: usize| if f > 0 && 2 * f != length { 2.0 } else { 1.0 };
    let filters = Basis::tensor(n, x, &[2 * count, 1, length], |i| {
        let (row, t) = (i / length, i % length);
        framing.weight(t) * twice(row % count) * factor(&basis, row, t)
    })?;
    let squares = Basis::tensor(n, x, &[1, 1, length], |t| framing.weight(t).powi(2))?;
    let op = ConvTranspose {
        stride: smallvec![hop],
        before: smallvec![0],
        after: smallvec![0],
        extra: smallvec![0],
        dilation: smallvec![1],
        groups: 1,
    };
    let sum = n.add(op.clone(), &[x, filters])?;
    let unit = n.scalar(1.0, x)?;
    let ones = n.add(Expand { shape: [Dim::Known(1), Dim::Known(1), windows].into_iter().collect() }, &[unit])?;
    let weights = n.add(op, &[ones, squares])?;
    let margin = if centred { length / 2 } else { 0 };
    let whole = n.shape(sum).dims()[2].expr();
    let left = whole.minus(&((2 * margin) as i64).into());
    let left = match asked {
        Some(asked) => {
            let end = whole.minus(&(margin as i64).into()).and_then(|end| end.constant());
            if end.is_none_or(|end| end < asked) {
                return Err(Refusal::Unsupported(format!("istft of {asked} samples, more than the windows have")));
            }
            Some(asked.into())
        }
        None => left,
    };
    let len = left.ok_or_else(|| Refusal::Open(n.shape(sum).clone()))?;
    let mut cut = |v| part(n, v, OpenSlice { axis: 2, start: (margin as i64).into(), len: len.clone() });
    let (sum, weights) = (cut(sum)?, cut(weights)?);
    let y = n.binary(BinaryFn::Div, sum, weights)?;
    let samples = n.shape(y).dims()[2].clone();
    let shape = if dims.len() == 2 { [samples].into_iter().collect() } else { [outer, samples].into_iter().collect() };
    one(n.reshape_to(y, shape)?)
}
