//! Lowering of resampling over open extents: positions along each axis are computed, and their elements gathered.

use qcc_ir::ops::{BinaryFn, Coordinates, Gather, Nearest, Resize, ResizeMode, UnaryFn};
use qcc_ir::{Dim, Elem, ValueId};

use super::build::{Build, Built};
use super::sample::{CUBIC_TAPS, keys};
use crate::Skip;

/// An axis: its extents before and after, and the `scale` of the mapping, as `F32` scalars.
struct Axis {
    axis: usize,
    old: ValueId,
    new: ValueId,
    scale: ValueId,
    size: Dim,
}

pub(super) fn resize(b: &mut Build<'_>, op: &Resize, x: ValueId) -> Built {
    let mut y = x;
    for (i, size) in op.size.dims().iter().enumerate() {
        let extent = b.ty(x).shape.dims()[2 + i].clone();
        if *size == extent && [0.0, 1.0].contains(&op.scale[i]) {
            continue;
        }
        let (old, new) = (b.count_as_float(&extent)?, b.count_as_float(size)?);
        let scale = if op.scale[i] == 0.0 { b.div(new, old)? } else { b.scalar(op.scale[i], old)? };
        let axis = Axis { axis: 2 + i, old, new, scale, size: size.clone() };
        y = match (op.mode, op.coordinates) {
            (ResizeMode::Nearest(rounding), Coordinates::AlignCorners) => {
                let at = axis.aligned(b, rounding)?;
                axis.elements(b, y, at)?
            }
            _ => {
                let at = axis.positions(b, op.coordinates)?;
                axis.sampled(b, y, at, op.mode)?
            }
        };
    }
    Ok(y)
}

impl Axis {
    /// The positions on the axis, as [`Coordinates::position`].
    fn positions(&self, b: &mut Build<'_>, coordinates: Coordinates) -> Built {
        let places = b.places(&self.size)?;
        let at = b.cast(places, Elem::F32)?;
        let one = b.scalar(1.0, at)?;
        let centre = |b: &mut Build<'_>| {
            let centre = b.shift(at, 0.5)?;
            b.div(centre, self.scale)
        };
        match coordinates {
            Coordinates::HalfPixel | Coordinates::PytorchHalfPixel => {
                let centre = centre(b)?;
                let at = b.shift(centre, -0.5)?;
                if coordinates == Coordinates::HalfPixel {
                    return Ok(at);
                }
                let (single, zero) = (b.binary(BinaryFn::Equal, self.new, one)?, b.scale(at, 0.0)?);
                b.select(single, zero, at)
            }
            Coordinates::Asymmetric => b.div(at, self.scale),
            Coordinates::AlignCorners => {
                // The one position of a single element is 0.
                let (from, to) = (b.sub(self.old, one)?, b.sub(self.new, one)?);
                let to = b.binary(BinaryFn::Max, to, one)?;
                let far = b.mul(at, from)?;
                b.div(far, to)
            }
            Coordinates::HalfPixelForNearest => {
                let (centre, same) = (centre(b)?, b.binary(BinaryFn::Equal, self.scale, one)?);
                b.select(same, at, centre)
            }
        }
    }

    /// The positions on the axis with aligned corners, rounded. They are quotients of integers, whose division is exact
    /// in every runtime.
    fn aligned(&self, b: &mut Build<'_>, rounding: Nearest) -> Built {
        let places = b.places(&self.size)?;
        let last = |b: &mut Build<'_>, extent| {
            let last = b.shift(extent, -1.0)?;
            b.cast(last, Elem::I32)
        };
        let (from, to) = (last(b, self.old)?, last(b, self.new)?);
        // The one position of a single element is 0.
        let one = b.scalar(1.0, to)?;
        let to = b.binary(BinaryFn::Max, to, one)?;
        let far = b.mul(places, from)?;
        // (far / to) is rounded down after the addition of what rounds it otherwise.
        let (far, to, more) = match rounding {
            Nearest::Floor => (far, to, None),
            Nearest::Ceil => (far, to, Some(b.shift(to, -1.0)?)),
            Nearest::PreferFloor => (b.scale(far, 2.0)?, b.scale(to, 2.0)?, Some(b.shift(to, -1.0)?)),
            Nearest::PreferCeil => (b.scale(far, 2.0)?, b.scale(to, 2.0)?, Some(to)),
        };
        let far = more.map_or(Ok(far), |more| b.add(far, more))?;
        let at = b.div(far, to)?;
        b.cast(at, Elem::F32)
    }

    /// The values at positions of the axis.
    fn sampled(&self, b: &mut Build<'_>, x: ValueId, at: ValueId, mode: ResizeMode) -> Built {
        match mode {
            ResizeMode::Nearest(rounding) => {
                let low = b.unary(UnaryFn::Floor, at)?;
                let at = match rounding {
                    Nearest::Floor => low,
                    Nearest::Ceil => b.unary(UnaryFn::Ceil, at)?,
                    Nearest::PreferFloor | Nearest::PreferCeil => {
                        let (above, high) = (b.sub(at, low)?, b.shift(low, 1.0)?);
                        let threshold = b.scalar(rounding.threshold(), above)?;
                        let up = b.binary(BinaryFn::Greater, above, threshold)?;
                        b.select(up, high, low)?
                    }
                };
                self.elements(b, x, at)
            }
            ResizeMode::Linear => {
                let at = self.inside(b, at)?;
                let low = b.unary(UnaryFn::Floor, at)?;
                let (high, share) = (b.shift(low, 1.0)?, b.sub(at, low)?);
                let one = b.scalar(1.0, share)?;
                let rest = b.sub(one, share)?;
                self.weighted(b, x, &[(low, rest), (high, share)])
            }
            ResizeMode::Cubic { a } => {
                let first = b.unary(UnaryFn::Floor, at)?;
                let t = b.sub(at, first)?;
                let coefficients = keys(a);
                let mut taps = Vec::with_capacity(CUBIC_TAPS.len());
                for (tap, offset) in CUBIC_TAPS.into_iter().enumerate() {
                    let mut weight = b.scalar(coefficients[0][tap], t)?;
                    for power in &coefficients[1..] {
                        let product = b.mul(t, weight)?;
                        weight = b.shift(product, power[tap])?;
                    }
                    taps.push((b.shift(first, offset)?, weight));
                }
                self.weighted(b, x, &taps)
            }
        }
    }

    /// The sum of elements along the axis, each at its places and times its weights.
    fn weighted(&self, b: &mut Build<'_>, x: ValueId, taps: &[(ValueId, ValueId)]) -> Built {
        let behind = b.ty(x).rank() - self.axis - 1;
        let mut sum: Option<ValueId> = None;
        for &(places, weight) in taps {
            let elements = self.elements(b, x, places)?;
            let dims = std::iter::once(self.size.clone()).chain(std::iter::repeat_n(Dim::Known(1), behind));
            let weight = b.reshape(weight, dims.collect())?;
            let weight = b.cast(weight, b.ty(x).elem.real())?;
            let part = b.mul(elements, weight)?;
            sum = Some(sum.map_or(Ok(part), |sum| b.add(sum, part))?);
        }
        sum.ok_or(Skip::NoMatch)
    }

    /// The elements at these places of the axis, at its ends where they are outside.
    fn elements(&self, b: &mut Build<'_>, x: ValueId, at: ValueId) -> Built {
        let at = self.inside(b, at)?;
        let places = b.cast(at, Elem::I32)?;
        b.op(Gather { axis: self.axis }, &[x, places])
    }

    fn inside(&self, b: &mut Build<'_>, at: ValueId) -> Built {
        let (zero, last) = (b.scalar(0.0, at)?, b.shift(self.old, -1.0)?);
        let at = b.binary(BinaryFn::Max, at, zero)?;
        b.binary(BinaryFn::Min, at, last)
    }
}
