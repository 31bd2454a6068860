//! Resampling of axes whose new extents are known at run time only: nodes compute the positions along each axis.

use qcc_ir::ops::{BinaryFn, Coordinates, Extents, Gather, Nearest, Range, ResizeMode, Select, Slice, UnaryFn};
use qcc_ir::{Dim, Elem, Expr, Tensor, ValueId};

use super::Build;
use super::computed::{counted, defined};
use crate::refusal::Refusal;

/// The new extents of axes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Asked<'a> {
    /// One for each axis.
    Sizes(&'a [Expr]),
    /// A list of floats: the extents times these, rounded down.
    Scales(ValueId),
}

/// An axis and its `F32` scalars.
struct Axis {
    axis: usize,
    size: Expr,
    scale: ValueId,
    old: ValueId,
    new: ValueId,
}

/// `x` resized along these axes, in the modes nearest and linear.
pub(crate) fn resampled(
    n: &mut impl Build,
    x: ValueId,
    axes: &[usize],
    asked: Asked<'_>,
    mode: ResizeMode,
    coordinates: Coordinates,
) -> Result<ValueId, Refusal> {
    let old: Vec<Expr> = axes.iter().map(|&a| n.shape(x).dims()[a].expr()).collect();
    let olds = floats(n, &old)?;
    let (sizes, news, scales) = match asked {
        Asked::Sizes(sizes) => {
            let news = floats(n, sizes)?;
            (sizes.to_vec(), news, n.binary(BinaryFn::Div, news, olds)?)
        }
        Asked::Scales(scales) => {
            if n.dims(scales)?.as_slice() != [axes.len()] {
                return Err(Refusal::Invalid(format!("scales {} for {} axes", n.ty(scales), axes.len())));
            }
            let sizes = n.binary(BinaryFn::Mul, olds, scales)?;
            let sizes = n.unary(UnaryFn::Floor, sizes)?;
            let sizes = n.cast(sizes, Elem::I64)?;
            let sizes = defined(n, sizes)?.unwrap_or_default();
            (sizes.clone(), floats(n, &sizes)?, scales)
        }
    };
    if sizes.len() != axes.len() {
        return Err(Refusal::Invalid(format!("{} sizes for {} axes", sizes.len(), axes.len())));
    }
    let mut y = x;
    for (i, (&axis, size)) in axes.iter().zip(sizes).enumerate() {
        if matches!(asked, Asked::Sizes(_)) && size == old[i] {
            continue;
        }
        let [scale, old, new] = [scales, olds, news].map(|list| number_at(n, list, i));
        y = Axis { axis, size, scale: scale?, old: old?, new: new? }.apply(n, y, mode, coordinates)?;
    }
    Ok(y)
}

impl Axis {
    fn apply(
        &self,
        n: &mut impl Build,
        x: ValueId,
        mode: ResizeMode,
        coordinates: Coordinates,
    ) -> Result<ValueId, Refusal> {
        let at = self.positions(n, coordinates)?;
        let one = number(n, 1.0);
        let last = n.binary(BinaryFn::Sub, self.old, one)?;
        let ResizeMode::Nearest(rounding) = mode else { return self.interpolated(n, x, at, last) };
        let low = n.unary(UnaryFn::Floor, at)?;
        let at = match rounding {
            Nearest::Floor => low,
            Nearest::Ceil => n.unary(UnaryFn::Ceil, at)?,
            Nearest::PreferFloor | Nearest::PreferCeil => {
                let threshold = number(n, rounding.threshold());
                let (above, high) = (n.binary(BinaryFn::Sub, at, low)?, n.binary(BinaryFn::Add, low, one)?);
                let up = n.binary(BinaryFn::Greater, above, threshold)?;
                n.add(Select {}, &[up, high, low])?
            }
        };
        let at = inside(n, at, last)?;
        self.elements(n, x, at)
    }

    /// The positions on the axis, as [`Coordinates::position`].
    fn positions(&self, n: &mut impl Build, coordinates: Coordinates) -> Result<ValueId, Refusal> {
        let at = counted(n, self.size.clone())?;
        let at = n.cast(at, Elem::F32)?;
        let (zero, half, one) = (number(n, 0.0), number(n, 0.5), number(n, 1.0));
        let centre = n.binary(BinaryFn::Add, at, half)?;
        let centre = n.binary(BinaryFn::Div, centre, self.scale)?;
        let single = n.binary(BinaryFn::Equal, self.new, one)?;
        Ok(match coordinates {
            Coordinates::HalfPixel => n.binary(BinaryFn::Sub, centre, half)?,
            Coordinates::PytorchHalfPixel => {
                let at = n.binary(BinaryFn::Sub, centre, half)?;
                n.add(Select {}, &[single, zero, at])?
            }
            Coordinates::Asymmetric => n.binary(BinaryFn::Div, at, self.scale)?,
            Coordinates::AlignCorners => {
                let [from, to] = [self.old, self.new].map(|extent| n.binary(BinaryFn::Sub, extent, one));
                // The one position of a single element is 0.
                let to = n.binary(BinaryFn::Max, to?, one)?;
                let far = n.binary(BinaryFn::Mul, at, from?)?;
                n.binary(BinaryFn::Div, far, to)?
            }
            Coordinates::HalfPixelForNearest => {
                let same = n.binary(BinaryFn::Equal, self.scale, one)?;
                n.add(Select {}, &[same, at, centre])?
            }
        })
    }

    /// Linear interpolation between the elements beside each position.
    fn interpolated(&self, n: &mut impl Build, x: ValueId, at: ValueId, last: ValueId) -> Result<ValueId, Refusal> {
        let at = inside(n, at, last)?;
        let low = n.unary(UnaryFn::Floor, at)?;
        let one = number(n, 1.0);
        let high = n.binary(BinaryFn::Add, low, one)?;
        let high = n.binary(BinaryFn::Min, high, last)?;
        let share = n.binary(BinaryFn::Sub, at, low)?;
        let rest = n.binary(BinaryFn::Sub, one, share)?;
        let mut sum: Option<ValueId> = None;
        for (places, weight) in [(low, rest), (high, share)] {
            let elements = self.elements(n, x, places)?;
            let behind = n.rank(x) - self.axis - 1;
            let dims = n.shape(weight).dims().iter().cloned().chain(std::iter::repeat_n(Dim::Known(1), behind));
            let weight = n.reshape_to(weight, dims.collect())?;
            let weight = n.cast(weight, n.ty(x).elem.clone())?;
            let part = n.binary(BinaryFn::Mul, elements, weight)?;
            sum = Some(sum.map_or(Ok(part), |sum| n.binary(BinaryFn::Add, sum, part))?);
        }
        Ok(sum.unwrap_or(x))
    }

    fn elements(&self, n: &mut impl Build, x: ValueId, places: ValueId) -> Result<ValueId, Refusal> {
        let places = n.cast(places, Elem::I64)?;
        n.add(Gather { axis: self.axis }, &[x, places])
    }
}

/// Positions from 0 to the last one.
fn inside(n: &mut impl Build, at: ValueId, last: ValueId) -> Result<ValueId, Refusal> {
    let zero = number(n, 0.0);
    let at = n.binary(BinaryFn::Max, at, zero)?;
    n.binary(BinaryFn::Min, at, last)
}

fn number(n: &mut impl Build, value: f32) -> ValueId {
    n.add_constant(Tensor::scalar(value))
}

/// Extents as floats.
fn floats(n: &mut impl Build, extents: &[Expr]) -> Result<ValueId, Refusal> {
    let extents = n.add_whole(extents.to_vec(), Extents::from_elem(extents.len(), 1))?;
    n.cast(extents, Elem::F32)
}

/// Number `i` of a list as a scalar.
fn number_at(n: &mut impl Build, list: ValueId, i: usize) -> Result<ValueId, Refusal> {
    let number = n.add(Slice { ranges: vec![Range { axis: 0, start: i, len: 1, step: 1 }] }, &[list])?;
    n.reshape(number, &[])
}
