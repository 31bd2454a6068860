//! Fourier transforms: products with constant matrices.

use qcc_ir::ops::{Conv, Extents};
use qcc_ir::{Dim, Elem};

use super::super::node::NodeCx;
use super::Row;
use crate::build::fourier::{Basis, Transform, transformed};
use crate::build::{Build, Operands, Values, count_axis, extent, one};
use crate::refusal::Refusal;

pub(super) const ROWS: &[Row] = &[("DFT", dft), ("STFT", stft)];

/// A transform along one axis of real (last extent 1) or complex numbers (last extent 2): real and imaginary parts lie in
/// the last axis. The signal is cropped or padded with zeros to the length.
fn dft(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let x = n.input(0)?;
    let (inverse, half) = (n.flag("inverse", false)?, n.flag("onesided", false)?);
    let rank = n.rank(x);
    let axis = match n.opset() {
        ..20 => n.int("axis", 1)?,
        _ => n.optional_integers(2)?.and_then(|axis| axis.first().copied()).unwrap_or(-2),
    };
    let axis = count_axis(axis, rank)?;
    let (given, parts) = (n.shape(x).dims()[axis].expr(), n.extent(x, rank - 1)?);
    if axis + 1 == rank || !(1..=2).contains(&parts) || given.constant() == Some(0) {
        return Err(Refusal::Invalid(format!("a transform along axis {axis} of {}", n.ty(x))));
    }
    // The inverse of a half spectrum is real.
    let to_float = inverse && half;
    let length = match n.optional_extents(1)?.as_deref() {
        Some([length]) => Some(length.clone()),
        Some(other) => return Err(Refusal::Invalid(format!("{} lengths of a transform", other.len()))),
        None if to_float => given.minus(&1.into()).and_then(|steps| steps.times(&2.into())),
        None => Some(given),
    };
    let length = length.filter(|length| length.constant().is_none_or(|length| length > 0));
    let length = length.filter(|_| (!half || inverse || parts == 1) && (!to_float || parts == 2));
    let length = length.ok_or_else(|| Refusal::Invalid(format!("its length, as a transform of {}", n.ty(x))))?;
    one(transformed(n, x, &Transform::usual(axis, length, inverse, half))?)
}

/// Transforms of sliding windows of a signal, `[N, L]` or `[N, L, parts]`: a convolution. The result is `[N, windows,
/// frequencies, 2]`.
fn stft(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let x = n.input(0)?;
    let step = n.integer(1)?;
    let step = extent(step)?;
    let window = n.optional_constant(2)?.map(|w| w.floats().into_owned());
    let length = match n.optional_integers(3)?.as_deref() {
        Some(&[length]) => extent(length)?,
        _ => window.as_ref().map(Vec::len).ok_or(Refusal::MissingInput(3))?,
    };
    let half = n.flag("onesided", true)?;
    let (signals, samples, parts) = match n.shape(x).dims() {
        [signals, samples] => (signals.clone(), samples.clone(), 1),
        [signals, samples, Dim::Known(parts @ 1..=2)] => (signals.clone(), samples.clone(), *parts),
        _ => return Err(Refusal::Invalid(format!("windows of {}", n.ty(x)))),
    };
    let fits = window.as_ref().is_none_or(|w| w.len() == length) && samples.known().is_none_or(|n| n >= length);
    if !fits || step == 0 || length == 0 || half && parts == 2 {
        return Err(Refusal::Invalid(format!("windows of {length} with steps of {step} on {}", n.ty(x))));
    }
    if n.ty(x).elem != Elem::F32 && n.ty(x).elem != Elem::F16 {
        return Err(Refusal::Unsupported(format!("a Fourier transform of {}", n.ty(x).elem)));
    }
    let basis = Basis { length, onesided: half, scale: 1.0 };
    let count = basis.frequencies();
    let filters = Basis::tensor(n, x, &[2 * count, parts, length], |i| {
        let (filter, from, t) = (i / length / parts, i / length % parts, i % length);
        let [cos, sin] = basis.wave(filter / 2, t);
        let weight = window.as_ref().map_or(1.0, |w| w[t].into());
        weight
            * match (from, filter % 2) {
                (0, 0) | (1, 1) => cos,
                (0, _) => -sin,
                _ => sin,
            }
    })?;
    let x = n.reshape_to(x, [signals.clone(), samples, parts.into()].into_iter().collect())?;
    let x = n.transpose(x, &[0, 2, 1])?;
    let y = n.add(Conv { stride: Extents::from_elem(step, 1), ..Conv::unit(1) }, &[x, filters])?;
    let windows = n.shape(y).dims()[2].clone();
    let y = n.transpose(y, &[0, 2, 1])?;
    one(n.reshape_to(y, [signals, windows, count.into(), 2.into()].into_iter().collect())?)
}
