//! Operators that move elements without changing them.

use qcc_formats::tflite::{
    Activation, BuiltinOperator as B, Concatenation, DepthToSpace as DepthToSpaceOptions, MirrorPad, MirrorPadMode,
    Pack, Reshape as ReshapeOptions, SpaceToDepth as SpaceToDepthOptions, Split, Squeeze, Unpack,
};
use qcc_ir::diagnostic::Diagnostic;
use qcc_ir::ops::{
    Binary, BinaryFn, Concat, DepthToSpace, Expand, Extents, Op, Pad, PadMode, Range, Reverse, Slice, SpaceToDepth,
    Tile, Transpose,
};
use qcc_ir::{Dim, Elem, Expr, Shape, ValueId};

use super::super::counted::{Block, element, known, plain as before_reshapes};
use super::super::node::NodeCx;
use super::{Row, complex, positive};
use crate::build::movement::{self, Cut};
use crate::build::pad::{Beyond, continued, filled};
use crate::build::{Build, Operands, Values, computed, count_axes, count_axis, extent, extents, one};
use crate::refusal::{ASSUMED_EXTENT, Refusal};

pub(super) const ROWS: &[Row] = &[
    (B::BATCH_TO_SPACE_ND, batch_to_space),
    (B::BROADCAST_ARGS, broadcast_args),
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
    (B::SPACE_TO_BATCH_ND, space_to_batch),
    (B::SPACE_TO_DEPTH, space_to_depth),
    (B::SPLIT, split),
    (B::SPLIT_V, split_v),
    (B::SQUEEZE, squeeze),
    (B::TILE, tile),
    (B::TRANSPOSE, transpose),
    (B::UNPACK, unpack),
];

/// `x` reshaped, as result 0.
fn reshaped(n: &mut NodeCx<'_, '_>, x: ValueId, shape: Shape) -> Result<Values, Refusal> {
    plain(n, x)?;
    one(n.reshape_to(x, shape)?)
}

/// Fails unless result 0 has the element type of `x`.
pub(super) fn plain(n: &NodeCx<'_, '_>, x: ValueId) -> Result<(), Refusal> {
    let to = n.declared(0)?;
    if n.ty(x).elem == to {
        return Ok(());
    }
    Err(Refusal::Invalid(format!("its operand is {} and its result {to}", n.ty(x).elem)))
}

/// The shape is an input or, in old files, an option; -1 stands for the remaining extent.
fn reshape(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    if n.is_complex(0) {
        return complex::reshaped(n);
    }
    let x = n.input(0)?;
    let o: ReshapeOptions = n.options()?;
    plain(n, x)?;
    if n.optional(1)?.is_some() {
        return one(movement::reshape(n, x, 1, false)?);
    }
    let asked: Vec<Expr> = o.new_shape.iter().map(|&d| i64::from(d).into()).collect();
    one(movement::reshaped(n, x, &asked, false)?)
}

fn squeeze(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    if n.is_complex(0) {
        return complex::squeezed(n);
    }
    let o: Squeeze = n.options()?;
    let x = n.input(0)?;
    let asked: Vec<i64> = o.squeeze_dims.iter().map(|&a| a.into()).collect();
    let mut notes = Vec::new();
    let shape = match asked.is_empty() {
        true => movement::squeezed_all(n, x, |message| notes.push(message)),
        // The runtime refuses other extents as well.
        false => movement::squeezed(n, x, &asked, |_| ())?,
    };
    notes.into_iter().for_each(|message| n.note_here(Diagnostic::warning(ASSUMED_EXTENT, message)));
    reshaped(n, x, shape)
}

fn expand_dims(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let (x, axis) = (n.input(0)?, n.integer(1)?);
    let shape = movement::unsqueezed(n, x, &[axis])?;
    reshaped(n, x, shape)
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
    if o.activation == Activation::NONE
        && let Some(y) = replaced(n, &parts, axis)?
    {
        return one(y);
    }
    one(n.give_active(Concat { axis }, &parts, o.activation)?)
}

/// A value with an element of an axis replaced, at a position that is known at run time only: the file joins what is before
/// the element, the new one and what is after it.
fn replaced(n: &mut NodeCx<'_, '_>, parts: &[ValueId], axis: usize) -> Result<Option<ValueId>, Refusal> {
    let &[first, block, last] = parts else { return Ok(None) };
    let is_open = |v: &ValueId| n.shape(*v).dims()[axis].known().is_none();
    let one_element = n.shape(block).dims()[axis] == Dim::Known(1) && n.ty(block).elem.qparams().is_none();
    if !one_element || ![first, last].iter().all(is_open) {
        return Ok(None);
    }
    let Some([x, begin, size]) = n.slice_of(0)? else { return Ok(None) };
    let Some([same, after, rest]) = n.slice_of(2)? else { return Ok(None) };
    let graph = n.graph();
    let constant = |list, a| known(graph, list, a);
    // What is before the element begins at 0, and what is after it goes to the end; both have all of the other axes.
    let whole = |a: usize| {
        let all = graph.ty(x).shape.dims()[a].known().map(|extent| extent as i64);
        let is_all = |size: Option<i64>| size.is_some() && (size == Some(-1) || size == all);
        let begins = constant(begin, a) == Some(0) && (a == axis || constant(after, a) == Some(0));
        begins && (a == axis && constant(rest, a) == Some(-1) || is_all(constant(size, a)) && is_all(constant(rest, a)))
    };
    let Some(place) = element(graph, size, axis).map(|v| before_reshapes(graph, v)) else { return Ok(None) };
    let next = element(graph, after, axis).map(|v| before_reshapes(graph, v));
    let follows = next.is_some_and(|next| {
        let Op::Binary(Binary { f: BinaryFn::Add }) = graph.producer(next) else { return false };
        let operands = graph.operands(next.node);
        operands.iter().any(|&v| before_reshapes(graph, v) == place)
            && operands.iter().any(|&v| known(graph, v, 0) == Some(1))
    });
    if same != x || !follows || !(0..n.rank(x)).all(whole) {
        return Ok(None);
    }
    let place = n.reshape(place, &[1])?;
    let place = n.cast(place, Elem::I64)?;
    let zero = computed::number(n, 0);
    let starts: Values = (0..n.rank(x)).map(|a| if a == axis { place } else { zero }).collect();
    let starts = if starts.len() == 1 { place } else { n.add(Concat { axis: 0 }, &starts)? };
    n.with_block(Block { x, block, starts, readers: 2 }).map(Some)
}

/// Stacks values along a new axis.
fn pack(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let o: Pack = n.options()?;
    let mut parts = n.all_inputs()?;
    let axis = count_axis(o.axis.into(), n.rank(parts[0]) + 1)?;
    for part in &mut parts {
        let shape = movement::unsqueezed(n, *part, &[axis as i64])?;
        *part = n.reshape_to(*part, shape)?;
    }
    one(n.give(Concat { axis }, &parts)?)
}

fn unpack(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let o: Unpack = n.options()?;
    let x = n.input(0)?;
    let axis = n.axis(o.axis.into(), x)?;
    let shape = n.shape(x).without(axis);
    let count = n.extent(x, axis)?;
    if count != n.outputs() {
        return Err(Refusal::Invalid(format!("{count} parts for {} results", n.outputs())));
    }
    let parts = parts(n, x, axis, &vec![1; count])?;
    parts.into_iter().map(|part| n.reshape_to(part, shape.clone())).collect()
}

/// Splits `x` into parts of these lengths, one for each result.
fn parts(n: &mut NodeCx<'_, '_>, x: ValueId, axis: usize, lengths: &[usize]) -> Result<Values, Refusal> {
    if lengths.len() != n.outputs() || lengths.iter().sum::<usize>() != n.extent(x, axis)? {
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
    let whole = n.shape(x).dims()[axis].clone();
    let Some(extent) = whole.known() else {
        let part =
            whole.expr().exact_div(&i64::from(o.num_splits).into()).ok_or_else(|| Refusal::Open(n.shape(x).clone()))?;
        return open_parts(n, x, axis, vec![part; count]);
    };
    if count != n.outputs() || !extent.is_multiple_of(count) {
        return Err(Refusal::Invalid(format!("{extent} cannot be split into {count} equal parts")));
    }
    parts(n, x, axis, &vec![extent / count; count])
}

/// One length may be -1: the rest of the axis.
fn split_v(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let (x, axis) = (n.input(0)?, n.integer(2)?);
    let axis = n.axis(axis, x)?;
    let whole = n.shape(x).dims()[axis].clone();
    let lengths = match n.computed(1)? {
        Some(asked) => computed::lengths(n, &whole, asked)?,
        None => n.whole(1)?,
    };
    let numbers: Option<Vec<i64>> = lengths.iter().map(Expr::constant).collect();
    let (Some(whole), Some(numbers)) = (whole.known(), numbers) else {
        return open_parts(n, x, axis, lengths);
    };
    let sum: i64 = numbers.iter().filter(|&&l| l >= 0).fold(0, |sum, &l| sum.saturating_add(l));
    let rest = (whole as i64).saturating_sub(sum);
    let lengths = numbers.iter().map(|&l| extent(if l == -1 { rest } else { l })).collect::<Result<Vec<_>, _>>()?;
    parts(n, x, axis, &lengths)
}

/// Parts of lengths that are known at run time only, or of an axis whose extent is open.
fn open_parts(n: &mut NodeCx<'_, '_>, x: ValueId, axis: usize, mut lengths: Vec<Expr>) -> Result<Values, Refusal> {
    plain(n, x)?;
    let unfit = || Refusal::Open(n.shape(x).clone());
    let given = lengths.iter().filter(|l| **l != (-1).into()).try_fold(Expr::default(), |sum, l| sum.plus(l));
    let rest = given.and_then(|given| n.shape(x).dims()[axis].expr().minus(&given)).ok_or_else(unfit)?;
    lengths.iter_mut().filter(|l| **l == (-1).into()).for_each(|l| *l = rest.clone());
    if lengths.len() != n.outputs() {
        return Err(Refusal::Invalid(format!("{} lengths for {} results", lengths.len(), n.outputs())));
    }
    computed::parts(n, x, axis, &lengths)
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
    if let Some(by_axis) = open_pads(n, x)? {
        let PadMode::Constant(number) = mode else { return Err(Refusal::Open(n.shape(x).clone())) };
        plain(n, x)?;
        let number = n.scalar(number.into(), x)?;
        return one(filled(n, x, &by_axis, number)?);
    }
    let [before, after] = pads(n, x)?;
    if before.iter().chain(&after).all(|&p| p == 0) {
        return one(x);
    }
    one(n.give(Pad { before, after, mode }, &[x])?)
}

/// The number of elements that are added before and after each axis.
type AxisPads = Vec<(usize, [Expr; 2])>;

/// The pads of each axis where they follow from open extents, or are known at run time only.
fn open_pads(n: &mut NodeCx<'_, '_>, x: ValueId) -> Result<Option<AxisPads>, Refusal> {
    let asked = n.input(1)?;
    if n.constant(asked).is_some() {
        return Ok(None);
    }
    let rank = n.rank(x);
    let pads = match n.shape(asked).elements() {
        Some(count) if count == 2 * rank => {
            let asked = n.reshape(asked, &[count])?;
            computed::defined(n, asked)?
        }
        _ => None,
    };
    let name = n.operand_name(1);
    let pads = pads.ok_or(Refusal::NotConstant { index: 1, name })?;
    Ok(Some((0..rank).map(|axis| (axis, [pads[2 * axis].clone(), pads[2 * axis + 1].clone()])).collect()))
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
    let (x, repeats) = (n.input(0)?, n.extents(1)?);
    match repeats.iter().map(Expr::constant).collect::<Option<Vec<i64>>>() {
        Some(repeats) => one(n.give(Tile { repeats: Extents::from_vec(extents(&repeats)?) }, &[x])?),
        None => {
            plain(n, x)?;
            one(computed::tiled(n, x, &repeats)?)
        }
    }
}

fn broadcast_to(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let (x, shape) = (n.input(0)?, n.shape_at(1)?);
    if n.ty(x).shape == shape { one(x) } else { one(n.give(Expand { shape }, &[x])?) }
}

/// The extents of two shapes that are broadcast to one.
fn broadcast_args(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let shapes = [n.extents(0)?, n.extents(1)?];
    let rank = shapes[0].len().max(shapes[1].len());
    let at = |shape: &[Expr], axis: usize| {
        (axis + shape.len()).checked_sub(rank).map_or_else(|| 1.into(), |own| shape[own].clone())
    };
    let pair = |axis: usize| {
        let [a, b] = shapes.each_ref().map(|shape| at(shape, axis));
        match [&a, &b].map(|extent| extent.constant()) {
            _ if a == b => Ok(a),
            [Some(1), _] => Ok(b),
            [_, Some(1)] => Ok(a),
            [Some(a), Some(b)] => Err(Refusal::Invalid(format!("extents {a} and {b} cannot be broadcast"))),
            [Some(_), _] => Ok(a),
            [_, Some(_)] => Ok(b),
            _ => a.larger(&b).ok_or_else(|| Refusal::Unsupported(format!("extents {a} and {b} that may differ"))),
        }
    };
    let extents = (0..rank).map(pair).collect::<Result<Vec<_>, _>>()?;
    let shape = n.add_whole(extents, Extents::from_elem(rank, 1))?;
    let to = n.declared(0)?;
    one(n.cast(shape, to)?)
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
    let dims = n.shape(x).dims().to_vec();
    let mut split = dims[..1].to_vec();
    for (i, &b) in sizes.iter().enumerate() {
        split.extend([divided(n, x, 1 + i, b)?, b.into()]);
    }
    split.extend_from_slice(&dims[1 + count..]);
    // Axes in the order: positions in the blocks, batch, spatial axes, the rest.
    let places = (0..count).map(|i| 2 + 2 * i);
    let space = (0..count).map(|i| 1 + 2 * i);
    let perm: Extents = places.chain([0]).chain(space).chain(1 + 2 * count..split.len()).collect();
    let batch = sizes.iter().try_fold(dims[0].clone(), |p, &b| p.times(&b.into()));
    let batch = batch.ok_or_else(|| Refusal::Invalid(format!("blocks of {sizes:?} are too many")))?;
    let space = (0..count).map(|i| split[1 + 2 * i].clone());
    let last = std::iter::once(batch).chain(space).chain(dims[1 + count..].iter().cloned()).collect();
    let x = n.reshape_to(x, split.into_iter().collect())?;
    let x = n.give(Transpose { perm }, &[x])?;
    reshaped(n, x, last)
}

/// An extent of `x` divided by a number.
fn divided(n: &NodeCx<'_, '_>, x: ValueId, axis: usize, by: usize) -> Result<Dim, Refusal> {
    let dim = &n.shape(x).dims()[axis];
    match dim.map(|extent| extent.exact_div(&(by as i64).into())) {
        Some(part) if dim.known().is_none_or(|extent| extent.is_multiple_of(by)) => Ok(part),
        _ if dim.known().is_none() => Err(Refusal::Open(n.shape(x).clone())),
        _ => Err(Refusal::Invalid(format!("an axis of {dim} cannot be split into blocks of {by}"))),
    }
}

/// The inverse of [`space_to_batch`], followed by the crop.
fn batch_to_space(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let x = n.input(0)?;
    let (sizes, sides) = blocks(n, x)?;
    let (dims, count) = (n.shape(x).dims().to_vec(), sizes.len());
    let product = sizes.iter().try_fold(1usize, |p, &b| p.checked_mul(b));
    let product = product.ok_or_else(|| Refusal::Invalid(format!("blocks of {sizes:?} are too many")))?;
    let batch = divided(n, x, 0, product)?;
    let split = sizes.iter().map(|&b| Dim::Known(b)).chain([batch.clone()]).chain(dims[1..].iter().cloned());
    let split: Shape = split.collect();
    let pairs = (0..count).flat_map(|i| [count + 1 + i, i]);
    let perm: Extents = std::iter::once(count).chain(pairs).chain(2 * count + 1..split.rank()).collect();
    let mut whole = vec![batch];
    for (i, &b) in sizes.iter().enumerate() {
        let extent = dims[1 + i].times(&b.into());
        whole.push(extent.ok_or_else(|| Refusal::Invalid(format!("blocks of {sizes:?} are too many")))?);
    }
    whole.extend_from_slice(&dims[1 + count..]);
    let x = n.reshape_to(x, split)?;
    let x = n.give(Transpose { perm }, &[x])?;
    let x = n.reshape_to(x, whole.iter().cloned().collect())?;
    let cut = |(i, &(before, after)): (usize, &(usize, usize))| {
        let (axis, extent) = (1 + i, &whole[1 + i]);
        let start = Expr::from(before as i64);
        let end = extent
            .expr()
            .minus(&(after as i64).into())
            .filter(|end| end.minus(&start).is_some_and(|len| len.bounds().1.is_none_or(|most| most >= 0)));
        let end =
            end.ok_or_else(|| Refusal::Invalid(format!("{extent} elements are cut off at {before} and {after}")))?;
        Ok(Cut { axis, start, end, step: 1 })
    };
    let cuts = sides.iter().enumerate().map(cut).collect::<Result<Vec<_>, Refusal>>()?;
    one(movement::sliced(n, x, &cuts)?)
}
