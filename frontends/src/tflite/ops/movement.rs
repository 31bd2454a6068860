//! Operators that move elements without changing them.

use qcc_formats::tflite::{
    BuiltinOperator as B, Concatenation, DepthToSpace as DepthToSpaceOptions, MirrorPad, MirrorPadMode, Pack,
    Reshape as ReshapeOptions, SpaceToDepth as SpaceToDepthOptions, Split, Squeeze, StridedSlice, Unpack,
};
use qcc_ir::ops::{
    Concat, DepthToSpace, Expand, Extents, Pad, PadMode, Range, Reverse, Slice, SpaceToDepth, Tile, Transpose,
};
use qcc_ir::{Shape, ValueId};

use super::super::node::NodeCx;
use super::{Row, positive};
use crate::build::index::range;
use crate::build::pad::{Beyond, continued};
use crate::build::{Build, Values, count_axes, count_axis, extent, extents, one};
use crate::refusal::Refusal;

pub(super) const ROWS: &[Row] = &[
    (B::BATCH_TO_SPACE_ND, batch_to_space),
    (B::BROADCAST_TO, broadcast_to),
    (B::CONCATENATION, concatenation),
    (B::DEPTH_TO_SPACE, depth_to_space),
    (B::EXPAND_DIMS, expand_dims),
    (B::MIRROR_PAD, mirror_pad),
    (B::PACK, pack),
    (B::PAD, |n| pad(n, PadMode::Constant(0.0))),
    (B::PADV2, pad_v2),
    (B::RESHAPE, reshape),
    (B::REVERSE_V2, reverse),
    (B::SLICE, slice),
    (B::SPACE_TO_BATCH_ND, space_to_batch),
    (B::SPACE_TO_DEPTH, space_to_depth),
    (B::SPLIT, split),
    (B::SPLIT_V, split_v),
    (B::SQUEEZE, squeeze),
    (B::STRIDED_SLICE, strided_slice),
    (B::TILE, tile),
    (B::TRANSPOSE, transpose),
    (B::UNPACK, unpack),
];

/// `x` reshaped to `dims`, as result 0.
fn reshaped(n: &mut NodeCx<'_, '_>, x: ValueId, dims: &[usize]) -> Result<Values, Refusal> {
    let to = n.declared(0)?;
    if n.ty(x).elem != to {
        return Err(Refusal::Invalid(format!("its operand is {} and its result {to}", n.ty(x).elem)));
    }
    one(n.reshape(x, dims)?)
}

/// The shape is an input or, in old files, an option; -1 stands for the remaining extent.
fn reshape(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let x = n.input(0)?;
    let o: ReshapeOptions = n.options()?;
    let asked = match n.optional(1)? {
        Some(_) => n.integers(1)?,
        None => o.new_shape.iter().map(|&d| d.into()).collect(),
    };
    let mut dims = asked.iter().map(|&d| if d == -1 { Ok(1) } else { extent(d) }).collect::<Result<Extents, _>>()?;
    if let Some(open) = asked.iter().position(|&d| d == -1) {
        let count = |dims: &[usize]| dims.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
        dims[open] = match (count(&n.dims(x)?), count(&dims)) {
            (Some(total), Some(known)) if known > 0 && total % known == 0 => total / known,
            _ => return Err(Refusal::Invalid(format!("{} does not fill the shape {asked:?}", n.ty(x)))),
        };
    }
    reshaped(n, x, &dims)
}

fn squeeze(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let o: Squeeze = n.options()?;
    let x = n.input(0)?;
    let mut dims = n.dims(x)?;
    let asked: Vec<i64> = o.squeeze_dims.iter().map(|&a| a.into()).collect();
    let axes: Extents = match asked.as_slice() {
        [] => (0..dims.len()).filter(|&a| dims[a] == 1).collect(),
        asked => count_axes(asked, dims.len())?,
    };
    for &a in axes.iter().rev() {
        if dims.remove(a) != 1 {
            return Err(Refusal::Invalid(format!("axis {a} of {} has not extent 1", n.ty(x))));
        }
    }
    reshaped(n, x, &dims)
}

fn expand_dims(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let (x, axis) = (n.input(0)?, n.integer(1)?);
    let mut dims = n.dims(x)?;
    dims.insert(count_axis(axis, dims.len() + 1)?, 1);
    reshaped(n, x, &dims)
}

fn transpose(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let (x, perm) = (n.input(0)?, n.integers(1)?);
    let rank = n.rank(x);
    let perm = perm.iter().map(|&a| count_axis(a, rank)).collect::<Result<Extents, _>>()?;
    one(n.give(Transpose { perm }, &[x])?)
}

fn concatenation(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let o: Concatenation = n.options()?;
    let parts = n.all_inputs()?;
    let axis = n.axis(o.axis.into(), parts[0])?;
    one(n.give_active(Concat { axis }, &parts, o.activation)?)
}

/// Stacks values along a new axis.
fn pack(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let o: Pack = n.options()?;
    let mut parts = n.all_inputs()?;
    let axis = count_axis(o.axis.into(), n.rank(parts[0]) + 1)?;
    for part in &mut parts {
        let mut dims = n.dims(*part)?;
        dims.insert(axis.min(dims.len()), 1);
        *part = n.reshape(*part, &dims)?;
    }
    one(n.give(Concat { axis }, &parts)?)
}

fn unpack(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let o: Unpack = n.options()?;
    let x = n.input(0)?;
    let axis = n.axis(o.axis.into(), x)?;
    let mut dims = n.dims(x)?;
    let count = dims.remove(axis);
    if count != n.outputs() {
        return Err(Refusal::Invalid(format!("{count} parts for {} results", n.outputs())));
    }
    let parts = parts(n, x, axis, &vec![1; count])?;
    parts.into_iter().map(|part| n.reshape(part, &dims)).collect()
}

/// Splits `x` into parts of these lengths, one for each result.
fn parts(n: &mut NodeCx<'_, '_>, x: ValueId, axis: usize, lengths: &[usize]) -> Result<Values, Refusal> {
    if lengths.len() != n.outputs() || lengths.iter().sum::<usize>() != n.dims(x)?[axis] {
        let found = n.outputs();
        return Err(Refusal::Invalid(format!("{} cannot be split into {found} parts along axis {axis}", n.ty(x))));
    }
    let mut start = 0;
    let mut values = Values::new();
    for (i, &len) in lengths.iter().enumerate() {
        let to = n.declared(i)?;
        values.push(n.add_as(Slice { ranges: vec![Range { axis, start, len, step: 1 }] }, &[x], &to)?);
        start += len;
    }
    Ok(values)
}

fn split(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let o: Split = n.options()?;
    let (axis, x) = (n.integer(0)?, n.input(1)?);
    let axis = n.axis(axis, x)?;
    let count = positive(o.num_splits, "the number of parts")?;
    let extent = n.dims(x)?[axis];
    if count != n.outputs() || !extent.is_multiple_of(count) {
        return Err(Refusal::Invalid(format!("{extent} cannot be split into {count} equal parts")));
    }
    parts(n, x, axis, &vec![extent / count; count])
}

/// One length may be -1: the rest of the axis.
fn split_v(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let (x, lengths, axis) = (n.input(0)?, n.integers(1)?, n.integer(2)?);
    let axis = n.axis(axis, x)?;
    let known: i64 = lengths.iter().filter(|&&l| l >= 0).fold(0, |sum, &l| sum.saturating_add(l));
    let rest = (n.dims(x)?[axis] as i64).saturating_sub(known);
    let lengths = lengths.iter().map(|&l| extent(if l == -1 { rest } else { l })).collect::<Result<Vec<_>, _>>()?;
    parts(n, x, axis, &lengths)
}

/// Slices `x`, as result 0; returns `x` where the ranges cover all of it.
fn chosen(n: &mut NodeCx<'_, '_>, x: ValueId, mut ranges: Vec<Range>) -> Result<ValueId, Refusal> {
    let dims = n.dims(x)?;
    ranges.retain(|r| r.start != 0 || r.step != 1 || r.len != dims[r.axis]);
    if ranges.is_empty() { Ok(x) } else { n.give(Slice { ranges }, &[x]) }
}

/// A length of -1 is the rest of the axis.
fn slice(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let (x, begin, lengths) = (n.input(0)?, n.integers(1)?, n.integers(2)?);
    let dims = n.dims(x)?;
    if [begin.len(), lengths.len()] != [dims.len(); 2] {
        return Err(Refusal::Invalid(format!(
            "{} beginnings and {} lengths for {}",
            begin.len(),
            lengths.len(),
            n.ty(x)
        )));
    }
    let mut ranges = Vec::new();
    for axis in 0..dims.len() {
        let start = extent(begin[axis])?;
        let len = if lengths[axis] == -1 { dims[axis].saturating_sub(start) } else { extent(lengths[axis])? };
        ranges.push(Range { axis, start, len, step: 1 });
    }
    one(chosen(n, x, ranges)?)
}

fn strided_slice(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let o: StridedSlice = n.options()?;
    let x = n.input(0)?;
    let (begin, end, steps) = (n.integers(1)?, n.integers(2)?, n.integers(3)?);
    let dims = n.dims(x)?;
    let count = begin.len();
    if [end.len(), steps.len()] != [count; 2] || count > 31 {
        return Err(Refusal::Invalid("beginnings, ends and steps are not of one length".into()));
    }
    let has = |mask: i32, i: usize| mask >> i & 1 == 1;
    // Number of axes with an entry of their own; the ellipsis stands for all others.
    let own = (0..count).filter(|&i| !has(o.ellipsis_mask, i) && !has(o.new_axis_mask, i)).count();
    if own > dims.len() {
        return Err(Refusal::Invalid(format!("{own} ranges for {}", n.ty(x))));
    }
    let (mut axis, mut ranges, mut kept) = (0, Vec::new(), Extents::new());
    for i in 0..count {
        if has(o.ellipsis_mask, i) {
            let skipped = dims.len() - own;
            kept.extend_from_slice(&dims[axis..axis + skipped]);
            axis += skipped;
        } else if has(o.new_axis_mask, i) {
            kept.push(1);
        } else if has(o.shrink_axis_mask, i) {
            let start = count_axis(begin[i], dims[axis])?;
            ranges.push(Range { axis, start, len: 1, step: 1 });
            axis += 1;
        } else {
            let (from_end, to_end) = if steps[i] < 0 { (i64::MAX, i64::MIN) } else { (0, i64::MAX) };
            let start = if has(o.begin_mask, i) { from_end } else { begin[i] };
            let end = if o.offset { begin[i].saturating_add(end[i]) } else { end[i] };
            let end = if has(o.end_mask, i) { to_end } else { end };
            let chosen = range(axis, dims[axis], start, end, steps[i])?;
            kept.push(chosen.len);
            ranges.push(chosen);
            axis += 1;
        }
    }
    kept.extend_from_slice(&dims[axis..]);
    let part = chosen(n, x, ranges)?;
    reshaped(n, part, &kept)
}

/// Input 1: the number of elements that are added before and after each axis.
fn pads(n: &mut NodeCx<'_, '_>, x: ValueId) -> Result<[Extents; 2], Refusal> {
    let pads = n.integers(1)?;
    if pads.len() != 2 * n.rank(x) {
        return Err(Refusal::Invalid(format!("{} pads for {}", pads.len(), n.ty(x))));
    }
    let side = |first: usize| pads.iter().skip(first).step_by(2).map(|&p| extent(p)).collect::<Result<Extents, _>>();
    Ok([side(0)?, side(1)?])
}

fn pad(n: &mut NodeCx<'_, '_>, mode: PadMode) -> Result<Values, Refusal> {
    let x = n.input(0)?;
    let [before, after] = pads(n, x)?;
    if before.iter().chain(&after).all(|&p| p == 0) {
        return one(x);
    }
    one(n.give(Pad { before, after, mode }, &[x])?)
}

fn pad_v2(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let value = n.known(2)?;
    let &[number] = &*value.floats() else {
        return Err(Refusal::Invalid(format!("the value to pad with is {}", value.ty())));
    };
    let exact = value.ty().elem.is_float() || value.ty().elem.qparams().is_some() || number.abs() <= (1 << 24) as f32;
    if !exact {
        return Err(Refusal::Unsupported(format!("padding with {number}")));
    }
    pad(n, PadMode::Constant(number))
}

/// The symmetric mirror image begins with the edge itself: one element of it is the edge.
fn mirror_pad(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let o: MirrorPad = n.options()?;
    match o.mode {
        MirrorPadMode::REFLECT => pad(n, PadMode::Reflect),
        MirrorPadMode::SYMMETRIC if n.integers(1)?.iter().all(|&p| p <= 1) => pad(n, PadMode::Edge),
        MirrorPadMode::SYMMETRIC => {
            let mut x = n.input(0)?;
            let [before, after] = pads(n, x)?;
            for axis in 0..n.rank(x) {
                x = continued(n, x, axis, [before[axis], after[axis]], Beyond::Mirrored)?;
            }
            one(x)
        }
        other => Err(Refusal::Unsupported(format!("padding in mode {other} is not supported"))),
    }
}

fn tile(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let (x, repeats) = (n.input(0)?, n.integers(1)?);
    one(n.give(Tile { repeats: Extents::from_vec(extents(&repeats)?) }, &[x])?)
}

fn broadcast_to(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let (x, dims) = (n.input(0)?, n.integers(1)?);
    let shape = Shape::known(&extents(&dims)?);
    if n.ty(x).shape == shape { one(x) } else { one(n.give(Expand { shape }, &[x])?) }
}

fn reverse(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let (x, axes) = (n.input(0)?, n.integers(1)?);
    let axes = count_axes(&axes, n.rank(x))?;
    if axes.is_empty() { one(x) } else { one(n.give(Reverse { axes }, &[x])?) }
}

/// Block sizes from here on are refused.
const LARGEST_BLOCK: usize = 1 << 15;

fn block(size: i32) -> Result<usize, Refusal> {
    let block = positive(size, "the block")?;
    if block < LARGEST_BLOCK { Ok(block) } else { Err(Refusal::Invalid(format!("a block of {block}"))) }
}

fn depth_to_space(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let o: DepthToSpaceOptions = n.options()?;
    let x = n.image(0)?;
    let y = n.give(DepthToSpace { block: block(o.block_size)?, channel_first: false }, &[x])?;
    n.give_image(y)
}

fn space_to_depth(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let o: SpaceToDepthOptions = n.options()?;
    let x = n.image(0)?;
    let y = n.give(SpaceToDepth { block: block(o.block_size)? }, &[x])?;
    n.give_image(y)
}

/// Block sizes, and the padding or crop before and after, for each axis after the batch.
type Blocks = (Extents, Vec<(usize, usize)>);

fn blocks(n: &mut NodeCx<'_, '_>, x: ValueId) -> Result<Blocks, Refusal> {
    let (sizes, sides) = (n.integers(1)?, n.integers(2)?);
    let narrow = |&s: &i64| block(i32::try_from(s).unwrap_or(-1));
    let sizes = sizes.iter().map(narrow).collect::<Result<Extents, _>>()?;
    if sides.len() != 2 * sizes.len() || sizes.len() >= n.rank(x) {
        return Err(Refusal::Invalid(format!("{} blocks and {} sides for {}", sizes.len(), sides.len(), n.ty(x))));
    }
    let sides =
        sides.chunks_exact(2).map(|s| Ok((extent(s[0])?, extent(s[1])?))).collect::<Result<Vec<_>, Refusal>>()?;
    Ok((sizes, sides))
}

/// Moves spatial blocks into the batch: `[N, S.., C]` to `[b.. N, S/b.., C]`.
fn space_to_batch(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let mut x = n.input(0)?;
    let (sizes, sides) = blocks(n, x)?;
    let (rank, count) = (n.rank(x), sizes.len());
    if sides.iter().any(|&(before, after)| before + after > 0) {
        let mut before = Extents::from_elem(0, rank);
        let mut after = before.clone();
        for (i, &side) in sides.iter().enumerate() {
            (before[1 + i], after[1 + i]) = side;
        }
        x = n.give(Pad { before, after, mode: PadMode::Constant(0.0) }, &[x])?;
    }
    let dims = n.dims(x)?;
    let mut split = Extents::from_slice(&dims[..1]);
    for (i, &b) in sizes.iter().enumerate() {
        if !dims[1 + i].is_multiple_of(b) {
            return Err(Refusal::Invalid(format!("an axis of {} cannot be split into blocks of {b}", dims[1 + i])));
        }
        split.extend([dims[1 + i] / b, b]);
    }
    split.extend_from_slice(&dims[1 + count..]);
    // Axes in the order: positions in the blocks, batch, spatial axes, the rest.
    let places = (0..count).map(|i| 2 + 2 * i);
    let space = (0..count).map(|i| 1 + 2 * i);
    let perm: Extents = places.chain([0]).chain(space).chain(1 + 2 * count..split.len()).collect();
    let batch = sizes.iter().try_fold(dims[0], |p, &b| p.checked_mul(b));
    let batch = batch.ok_or_else(|| Refusal::Invalid(format!("blocks of {sizes:?} are too many")))?;
    let mut last = Extents::from_slice(&[batch]);
    last.extend((0..count).map(|i| dims[1 + i] / sizes[i]));
    last.extend_from_slice(&dims[1 + count..]);
    let x = n.reshape(x, &split)?;
    let x = n.give(Transpose { perm }, &[x])?;
    reshaped(n, x, &last)
}

/// The inverse of [`space_to_batch`], followed by the crop.
fn batch_to_space(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let x = n.input(0)?;
    let (sizes, sides) = blocks(n, x)?;
    let (dims, count) = (n.dims(x)?, sizes.len());
    let product = sizes.iter().try_fold(1usize, |p, &b| p.checked_mul(b)).filter(|p| dims[0].is_multiple_of(*p));
    let Some(product) = product else {
        return Err(Refusal::Invalid(format!("{} batches are no blocks of {sizes:?}", dims[0])));
    };
    let mut split = sizes.clone();
    split.push(dims[0] / product);
    split.extend_from_slice(&dims[1..]);
    let pairs = (0..count).flat_map(|i| [count + 1 + i, i]);
    let perm: Extents = std::iter::once(count).chain(pairs).chain(2 * count + 1..split.len()).collect();
    let mut whole = Extents::from_slice(&[dims[0] / product]);
    whole.extend((0..count).map(|i| dims[1 + i] * sizes[i]));
    whole.extend_from_slice(&dims[1 + count..]);
    let x = n.reshape(x, &split)?;
    let x = n.give(Transpose { perm }, &[x])?;
    let x = n.reshape(x, &whole)?;
    let cut = |(i, &(before, after)): (usize, &(usize, usize))| {
        let len = whole[1 + i].checked_sub(before + after);
        let len = len.ok_or_else(|| {
            Refusal::Invalid(format!("{} elements are cut off at {before} and {after}", whole[1 + i]))
        })?;
        Ok(Range { axis: 1 + i, start: before, len, step: 1 })
    };
    let ranges = sides.iter().enumerate().map(cut).collect::<Result<Vec<_>, Refusal>>()?;
    one(chosen(n, x, ranges)?)
}
