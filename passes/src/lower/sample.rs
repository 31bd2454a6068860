//! Lowering of sampling at computed positions: gathers the neighbours of each position and sums them with weights.

use qcc_ir::ops::{BinaryFn, Expand, Extents, Gather, GridSample, Op, Outside, Reduce, ReduceFn, SampleMode, UnaryFn};
use qcc_ir::{Dim, Elem, NodeId, Shape, Tensor, ValueId};

use super::build::{Build, Built};
use crate::Skip;

/// The neighbours of a position along one axis, or along all axes.
struct Taps {
    /// Their indices `[positions, taps]`, integers in `I32`.
    index: ValueId,
    /// Their weights with the same shape; none for a single tap.
    weight: Option<ValueId>,
}

/// x becomes rows of channels, and each position gathers some of them: `[positions, taps, C]`.
pub(super) fn grid_sample(b: &mut Build<'_>, node: NodeId) -> Built {
    let Op::GridSample(op) = b.g.op(node) else { return Err(Skip::NoMatch) };
    let (mut op, operands) = (op.clone(), b.g.operands(node));
    let (mut x, at) = (operands[0], b.cast(operands[1], Elem::F32)?);
    let result = b.ty(node.value(0)).shape.clone();
    let result = result.dims();
    let axes = result.len() - 2;
    // Zero padding becomes edge padding of an image with a border of zeros.
    let ring = usize::from(op.outside == Outside::Zero);
    if ring == 1 {
        let pads = Extents::from_elem(1, axes);
        x = b.pad_spatial(x, &pads, &pads, 0.0)?;
        op.outside = Outside::Edge;
    }
    let dims = b.ty(x).shape.clone();
    let dims = dims.dims();
    let (batch, channels, spatial) = (&dims[0], &dims[1], &dims[2..]);
    let places = count(&result[2..])?;
    let positions = count(&[batch.clone(), places.clone()])?;

    let at = b.reshape(at, [positions.clone(), axes.into()].into_iter().collect())?;
    let mut taps: Option<Taps> = match batch {
        Dim::Known(1) => None,
        _ => Some(first_rows(b, batch, &places, &count(spatial)?)?),
    };
    for (axis, extent) in spatial.iter().enumerate() {
        let along = b.slice(at, 1, axes - 1 - axis, 1)?;
        let along = taps_along(b, &op, along, extent, ring)?;
        let along = Taps { index: strided(b, along.index, &count(&spatial[axis + 1..])?)?, ..along };
        taps = Some(match taps {
            Some(outer) => crossed(b, &outer, &along)?,
            None => along,
        });
    }
    let taps = taps.ok_or(Skip::NoMatch)?;

    let mut channels_last: Vec<usize> = (0..dims.len()).filter(|&a| a != 1).collect();
    channels_last.push(1);
    let rows = b.transpose(x, &channels_last)?;
    let elements = count(&[batch.clone(), count(spatial)?])?;
    let rows = b.reshape(rows, [elements, channels.clone()].into_iter().collect())?;
    let mut y = b.op(Gather { axis: 0 }, &[rows, taps.index])?;
    if let Some(weight) = taps.weight {
        let weight = b.cast(weight, b.ty(y).elem.clone())?;
        let weight = b.unsqueeze(weight, 2)?;
        y = b.mul(y, weight)?;
        y = b.op(Reduce { f: ReduceFn::Sum, axes: [1].into_iter().collect(), keep: false }, &[y])?;
    }
    let last = result[..1].iter().chain(&result[2..]).chain([channels]).cloned();
    let y = b.reshape(y, last.collect())?;
    let mut channels_second: Vec<usize> = (0..dims.len() - 1).collect();
    channels_second.insert(1, dims.len() - 1);
    b.transpose(y, &channels_second)
}

fn count(dims: &[Dim]) -> Result<Dim, Skip> {
    Shape::count(dims).ok_or(Skip::because("it has too many positions"))
}

/// For each of the places of all images, the index of the first row of its image in the batch.
fn first_rows(b: &mut Build<'_>, batch: &Dim, places: &Dim, image: &Dim) -> Result<Taps, Skip> {
    if let (Some(batch), Some(places), Some(image)) = (batch.known(), places.known(), image.known()) {
        let index = b.table(&[batch * places, 1], |i| (i / places * image) as i32)?;
        return Ok(Taps { index, weight: None });
    }
    let images = b.places(batch)?;
    let first = strided(b, images, image)?;
    let first = b.unsqueeze(first, 1)?;
    let shape = [batch.clone(), places.clone()].into_iter().collect();
    let all = b.op(Expand { shape }, &[first])?;
    let positions = count(&[batch.clone(), places.clone()])?;
    Ok(Taps { index: b.reshape(all, [positions, 1.into()].into_iter().collect())?, weight: None })
}

/// A number that follows from an extent, as an `F32` scalar where that is open.
#[derive(Clone, Copy)]
enum Number {
    Known(f32),
    Open(ValueId),
}

impl Number {
    fn of(b: &mut Build<'_>, extent: &Dim) -> Result<Number, Skip> {
        match extent.known() {
            Some(extent) => Ok(Number::Known(extent as f32)),
            None => Ok(Number::Open(b.count_as_float(extent)?)),
        }
    }

    fn plus(self, b: &mut Build<'_>, by: f32) -> Result<Number, Skip> {
        Ok(match self {
            Number::Known(n) => Number::Known(n + by),
            Number::Open(n) => Number::Open(b.shift(n, by)?),
        })
    }

    fn times(self, b: &mut Build<'_>, by: f32) -> Result<Number, Skip> {
        Ok(match self {
            Number::Known(n) => Number::Known(n * by),
            Number::Open(n) => Number::Open(b.scale(n, by)?),
        })
    }

    /// `x` times this.
    fn scaled(self, b: &mut Build<'_>, x: ValueId) -> Built {
        match self {
            Number::Known(n) => b.scale(x, n),
            Number::Open(n) => b.mul(x, n),
        }
    }

    /// `x` plus this.
    fn shifted(self, b: &mut Build<'_>, x: ValueId) -> Built {
        match self {
            Number::Known(n) => b.shift(x, n),
            Number::Open(n) => b.add(x, n),
        }
    }

    /// `x`, from 0 to this.
    fn clamped(self, b: &mut Build<'_>, x: ValueId) -> Built {
        match self {
            Number::Known(n) => b.clamp(x, 0.0, n),
            Number::Open(n) => {
                let zero = b.scalar(0.0, x)?;
                let x = b.binary(BinaryFn::Min, x, n)?;
                b.binary(BinaryFn::Max, x, zero)
            }
        }
    }
}

/// The taps of positions `[positions, 1]` along an axis of `extent` elements, with `ring` zeros at each end.
fn taps_along(b: &mut Build<'_>, op: &GridSample, at: ValueId, extent: &Dim, ring: usize) -> Result<Taps, Skip> {
    let number = Number::of(b, extent)?;
    let (size, last) = (number.plus(b, -2.0 * ring as f32)?, number.plus(b, -1.0)?);
    let inner = size.plus(b, -1.0)?;
    let scale = if op.align_corners { inner } else { size }.times(b, 0.5)?;
    let at = scale.scaled(b, at)?;
    // Positions are rounded before they are shifted by the zero border.
    let (before, behind) = if op.mode == SampleMode::Nearest { (0.0, ring as f32) } else { (ring as f32, 0.0) };
    let at = inner.times(b, 0.5)?.plus(b, before)?.shifted(b, at)?;
    let cubic = keys(-0.75);
    let (offsets, polynomial): (&[f32], &[&[f32]]) = match op.mode {
        SampleMode::Nearest => {
            let whole = b.unary(UnaryFn::Round, at)?;
            let whole = b.shift(whole, behind)?;
            let index = inside(b, op, whole, last)?;
            return Ok(Taps { index: b.cast(index, Elem::I32)?, weight: None });
        }
        _ if *extent == Dim::Known(1) => {
            let origin = b.scale(at, 0.0)?;
            return Ok(Taps { index: b.cast(origin, Elem::I32)?, weight: None });
        }
        SampleMode::Linear => (&[0.0, 1.0], &[&[-1.0, 1.0], &[1.0, 0.0]]),
        SampleMode::Cubic => (&CUBIC_TAPS, &[cubic[0].as_slice(), &cubic[1], &cubic[2], &cubic[3]]),
    };
    let (first, index);
    let mut t = at;
    if op.mode == SampleMode::Linear {
        // The last element is the second tap, with a weight of 1.
        t = inside(b, op, at, last)?;
        let floor = b.unary(UnaryFn::Floor, t)?;
        first = last.plus(b, -1.0)?.clamped(b, floor)?;
        let both = spread(b, first, offsets)?;
        // An image of one element has no second one.
        index = if let Number::Open(_) = last { last.clamped(b, both)? } else { both };
    } else {
        first = b.unary(UnaryFn::Floor, at)?;
        let whole = spread(b, first, offsets)?;
        index = inside(b, op, whole, last)?;
    }
    let t = b.sub(t, first)?;
    Ok(Taps { index: b.cast(index, Elem::I32)?, weight: Some(evaluated(b, polynomial, t)?) })
}

/// The four cubic taps, from the element before a position.
pub(super) const CUBIC_TAPS: [f32; 4] = [-1.0, 0.0, 1.0, 2.0];

/// The weights of the cubic taps, one for each column: polynomials of the distance from the second tap, with the highest
/// power first.
pub(super) fn keys(a: f32) -> [[f32; 4]; 4] {
    [[a, a + 2.0, -a - 2.0, -a], [-2.0 * a, -a - 3.0, 2.0 * a + 3.0, a], [a, 0.0, -a, 0.0], [0.0, 1.0, 0.0, 0.0]]
}

/// Clamps or reflects positions to the range of the elements.
fn inside(b: &mut Build<'_>, op: &GridSample, at: ValueId, last: Number) -> Built {
    let (lo, span) = if op.align_corners { (0.0, last) } else { (-0.5, last.plus(b, 1.0)?) };
    let mut at = at;
    if op.outside == Outside::Reflect && !matches!(span, Number::Known(0.0)) {
        // Reflection is periodic with twice the span, which a single centre does not have.
        let from_lo = b.shift(at, -lo)?;
        let twice = match span.times(b, 2.0)? {
            Number::Known(twice) => b.scalar(twice, at)?,
            Number::Open(twice) => {
                let one = b.scalar(1.0, at)?;
                b.binary(BinaryFn::Max, twice, one)?
            }
        };
        let turn = b.binary(BinaryFn::FloorMod, from_lo, twice)?;
        let from_top = span.times(b, -1.0)?.shifted(b, turn)?;
        let far = b.unary(UnaryFn::Abs, from_top)?;
        let near = b.unary(UnaryFn::Neg, far)?;
        at = span.plus(b, lo)?.shifted(b, near)?;
    }
    last.clamped(b, at)
}

/// The sum of each element and each offset.
fn spread(b: &mut Build<'_>, x: ValueId, offsets: &[f32]) -> Built {
    let offsets = row(b, offsets);
    b.add(x, offsets)
}

/// Evaluates polynomials of t, one for each column, given their coefficients with the highest power first.
fn evaluated(b: &mut Build<'_>, coefficients: &[&[f32]], t: ValueId) -> Built {
    let mut sum = row(b, coefficients[0]);
    for c in &coefficients[1..] {
        let c = row(b, c);
        let product = b.mul(t, sum)?;
        sum = b.add(product, c)?;
    }
    Ok(sum)
}

fn row(b: &mut Build<'_>, values: &[f32]) -> ValueId {
    b.constant(Tensor::from_vec(Shape::known(&[1, values.len()]), values.to_vec()))
}

fn strided(b: &mut Build<'_>, index: ValueId, stride: &Dim) -> Built {
    if *stride == Dim::Known(1) {
        return Ok(index);
    }
    let stride = b.count(stride)?;
    b.mul(index, stride)
}

/// Combines each outer tap with each inner one.
fn crossed(b: &mut Build<'_>, outer: &Taps, inner: &Taps) -> Result<Taps, Skip> {
    let mut pairs = |f: BinaryFn, x: ValueId, y: ValueId| -> Built {
        let (x, y) = (b.unsqueeze(x, 2)?, b.unsqueeze(y, 1)?);
        let all = b.binary(f, x, y)?;
        let dims = b.ty(all).shape.dims().to_vec();
        let taps = count(&dims[1..])?;
        b.reshape(all, [dims[0].clone(), taps].into_iter().collect())
    };
    Ok(Taps {
        index: pairs(BinaryFn::Add, outer.index, inner.index)?,
        weight: match (outer.weight, inner.weight) {
            (Some(outer), Some(inner)) => Some(pairs(BinaryFn::Mul, outer, inner)?),
            (one, other) => one.or(other),
        },
    })
}
