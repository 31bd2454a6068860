//! Lowering of sampling at computed positions: gathers the neighbours of each position and sums them with weights.

use qcc_ir::ops::{BinaryFn, Extents, Gather, GridSample, Op, Outside, Reduce, ReduceFn, SampleMode, UnaryFn};
use qcc_ir::{Elem, NodeId, Shape, Tensor, ValueId};

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
    let result = b.extents(node.value(0))?;
    let axes = result.len() - 2;
    // Zero padding becomes edge padding of an image with a border of zeros.
    let ring = usize::from(op.outside == Outside::Zero);
    if ring == 1 {
        let pads = Extents::from_elem(1, axes);
        x = b.pad_spatial(x, &pads, &pads, 0.0)?;
        op.outside = Outside::Edge;
    }
    let dims = b.extents(x)?;
    let (batch, channels, spatial) = (dims[0], dims[1], &dims[2..]);
    let positions = batch * result[2..].iter().product::<usize>();

    let at = b.reshape(at, Shape::known(&[positions, axes]))?;
    let rows = |b: &mut Build<'_>| first_rows(b, batch, positions, spatial.iter().product());
    let mut taps: Option<Taps> = if batch > 1 { Some(rows(b)?) } else { None };
    for (axis, &extent) in spatial.iter().enumerate() {
        let along = b.slice(at, 1, axes - 1 - axis, 1)?;
        let along = taps_along(b, &op, along, extent, ring)?;
        let along = Taps { index: strided(b, along.index, spatial[axis + 1..].iter().product())?, ..along };
        taps = Some(match taps {
            Some(outer) => crossed(b, &outer, &along)?,
            None => along,
        });
    }
    let taps = taps.ok_or(Skip::NoMatch)?;

    let mut channels_last: Vec<usize> = (0..dims.len()).filter(|&a| a != 1).collect();
    channels_last.push(1);
    let rows = b.transpose(x, &channels_last)?;
    let rows = b.reshape(rows, Shape::known(&[dims.iter().product::<usize>() / channels.max(1), channels]))?;
    let mut y = b.op(Gather { axis: 0 }, &[rows, taps.index])?;
    if let Some(weight) = taps.weight {
        let weight = b.cast(weight, b.ty(y).elem.clone())?;
        let weight = b.unsqueeze(weight, 2)?;
        y = b.mul(y, weight)?;
        y = b.op(Reduce { f: ReduceFn::Sum, axes: [1].into_iter().collect(), keep: false }, &[y])?;
    }
    let last: Vec<usize> = result[..1].iter().chain(&result[2..]).copied().chain([channels]).collect();
    let y = b.reshape(y, Shape::known(&last))?;
    let mut channels_second: Vec<usize> = (0..dims.len() - 1).collect();
    channels_second.insert(1, dims.len() - 1);
    b.transpose(y, &channels_second)
}

/// For each position, the index of the first row of its image in the batch.
fn first_rows(b: &mut Build<'_>, batch: usize, positions: usize, image: usize) -> Result<Taps, Skip> {
    let index = b.table(&[positions, 1], |i| (i / (positions / batch) * image) as i32)?;
    Ok(Taps { index, weight: None })
}

/// The taps of positions `[positions, 1]` along an axis of `extent` elements, with `ring` zeros at each end.
fn taps_along(b: &mut Build<'_>, op: &GridSample, at: ValueId, extent: usize, ring: usize) -> Result<Taps, Skip> {
    let (size, last) = ((extent - 2 * ring) as f32, extent as f32 - 1.0);
    let scale = if op.align_corners { size - 1.0 } else { size } * 0.5;
    let at = b.scale(at, scale)?;
    // Positions are rounded before they are shifted by the zero border.
    let (before, behind) = if op.mode == SampleMode::Nearest { (0.0, ring as f32) } else { (ring as f32, 0.0) };
    let at = b.shift(at, (size - 1.0) * 0.5 + before)?;
    let (offsets, polynomial): (&[f32], &[&[f32]]) = match op.mode {
        SampleMode::Nearest => {
            let whole = b.unary(UnaryFn::Round, at)?;
            let whole = b.shift(whole, behind)?;
            let index = inside(b, op, whole, extent)?;
            return Ok(Taps { index: b.cast(index, Elem::I32)?, weight: None });
        }
        _ if extent == 1 => {
            let origin = b.scale(at, 0.0)?;
            return Ok(Taps { index: b.cast(origin, Elem::I32)?, weight: None });
        }
        SampleMode::Linear => (&[0.0, 1.0], &[&[-1.0, 1.0], &[1.0, 0.0]]),
        SampleMode::Cubic => (&[-1.0, 0.0, 1.0, 2.0], &KEYS),
    };
    let (first, index);
    let mut t = at;
    if op.mode == SampleMode::Linear {
        // The last element is the second tap, with a weight of 1.
        t = inside(b, op, at, extent)?;
        let floor = b.unary(UnaryFn::Floor, t)?;
        first = b.clamp(floor, 0.0, last - 1.0)?;
        index = spread(b, first, offsets)?;
    } else {
        first = b.unary(UnaryFn::Floor, at)?;
        let whole = spread(b, first, offsets)?;
        index = inside(b, op, whole, extent)?;
    }
    let t = b.sub(t, first)?;
    Ok(Taps { index: b.cast(index, Elem::I32)?, weight: Some(evaluated(b, polynomial, t)?) })
}

/// The weights of the four cubic taps, from left to right: polynomials of the distance from the second tap, with the
/// highest power first.
const KEYS: [&[f32]; 4] =
    [&[-0.75, 1.25, -1.25, 0.75], &[1.5, -2.25, 1.5, -0.75], &[-0.75, 0.0, 0.75, 0.0], &[0.0, 1.0, 0.0, 0.0]];

/// Clamps or reflects positions to the range of the elements.
fn inside(b: &mut Build<'_>, op: &GridSample, at: ValueId, extent: usize) -> Built {
    let last = extent as f32 - 1.0;
    let (lo, span) = if op.align_corners { (0.0, last) } else { (-0.5, last + 1.0) };
    let mut at = at;
    if op.outside == Outside::Reflect && span > 0.0 {
        // Reflection is periodic with twice the span.
        let from_lo = b.shift(at, -lo)?;
        let twice = b.scalar(2.0 * span, at)?;
        let turn = b.binary(BinaryFn::FloorMod, from_lo, twice)?;
        let from_top = b.shift(turn, -span)?;
        let far = b.unary(UnaryFn::Abs, from_top)?;
        let near = b.unary(UnaryFn::Neg, far)?;
        at = b.shift(near, lo + span)?;
    }
    b.clamp(at, 0.0, last)
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

fn strided(b: &mut Build<'_>, index: ValueId, stride: usize) -> Built {
    if stride == 1 {
        return Ok(index);
    }
    let stride = b.constant(Tensor::scalar(stride as i32));
    b.mul(index, stride)
}

/// Combines each outer tap with each inner one.
fn crossed(b: &mut Build<'_>, outer: &Taps, inner: &Taps) -> Result<Taps, Skip> {
    let mut pairs = |f: BinaryFn, x: ValueId, y: ValueId| -> Built {
        let (x, y) = (b.unsqueeze(x, 2)?, b.unsqueeze(y, 1)?);
        let all = b.binary(f, x, y)?;
        let dims = b.extents(all)?;
        b.reshape(all, Shape::known(&[dims[0], dims[1] * dims[2]]))
    };
    Ok(Taps {
        index: pairs(BinaryFn::Add, outer.index, inner.index)?,
        weight: match (outer.weight, inner.weight) {
            (Some(outer), Some(inner)) => Some(pairs(BinaryFn::Mul, outer, inner)?),
            (one, other) => one.or(other),
        },
    })
}
