//! Operators that move elements without changing them.

use qcc_ir::diagnostic::list;
use qcc_ir::ops::{DepthToSpace, Extents, Gather, OpenSlice, Pad, PadMode, Reverse, Select, SpaceToDepth, broadcast};
use qcc_ir::{Dim, Expr, Shape, Tensor, ValueId};
use rustc_hash::FxHashMap;

use super::super::node::NodeCx;
use super::super::storage::View;
use super::Row;
use crate::build::computed::{shape_of, tiled};
use crate::build::index::{diagonal, part, triangle};
use crate::build::pad::{Past, filled as pad_open, gathered};
use crate::build::{Build, Values, count_axes, count_axis, extent, extents, one};
use crate::refusal::Refusal;

pub(super) const ROWS: &[Row] = &[
    ("_reshape_alias", |n| reshaped(n, "size")),
    ("_unsafe_view", |n| reshaped(n, "size")),
    ("alias", same),
    ("alpha_dropout", dropout),
    ("as_strided", as_strided),
    ("broadcast_tensors", |n| {
        let all = n.tensors("tensors")?;
        let shape = all.iter().try_fold(Shape::scalar(), |shape, &v| broadcast(&shape, n.shape(v)))?;
        all.iter().map(|&v| n.expand_to(v, shape.clone())).collect()
    }),
    ("broadcast_to", expand),
    ("channel_shuffle", channel_shuffle),
    ("clone", same),
    ("constant_pad_nd", pad),
    ("contiguous", same),
    ("detach", same),
    ("diagonal", |n| {
        let x = n.input()?;
        let (offset, axes) = (n.int("offset", 0)?, [n.int("dim1", 0)?, n.int("dim2", 1)?]);
        let axes = [n.axis(axes[0], x)?, n.axis(axes[1], x)?];
        one(diagonal(n, x, axes, offset)?)
    }),
    ("dropout", dropout),
    ("expand", expand),
    ("expand_as", |n| {
        let (x, other) = (n.input()?, n.tensor("other")?);
        one(n.expand_to(x, n.shape(other).clone())?)
    }),
    ("feature_alpha_dropout", dropout),
    ("feature_dropout", dropout),
    ("flatten", flatten),
    ("flip", |n| {
        let x = n.input()?;
        let axes = n.ints("dims")?;
        let axes = count_axes(&axes, n.rank(x))?;
        one(if axes.is_empty() { x } else { n.add(Reverse { axes }, &[x])? })
    }),
    ("lift_fresh", same),
    ("lift_fresh_copy", same),
    ("mT", permute),
    ("movedim", permute),
    ("numpy_T", permute),
    ("pad", pad),
    ("permute", permute),
    ("pixel_shuffle", |n| pixels(n, true)),
    ("pixel_unshuffle", |n| pixels(n, false)),
    ("ravel", flatten),
    ("reflection_pad1d", |n| pad_in(n, "reflect")),
    ("reflection_pad2d", |n| pad_in(n, "reflect")),
    ("reflection_pad3d", |n| pad_in(n, "reflect")),
    ("repeat", |n| tile(n, "repeats")),
    ("repeat_interleave", repeat_interleave),
    ("replication_pad1d", |n| pad_in(n, "replicate")),
    ("replication_pad2d", |n| pad_in(n, "replicate")),
    ("replication_pad3d", |n| pad_in(n, "replicate")),
    ("reshape", |n| reshaped(n, "shape")),
    ("reshape_as", shaped_as),
    ("squeeze", squeeze),
    ("swapaxes", permute),
    ("swapdims", permute),
    ("t", permute),
    ("tile", |n| tile(n, "dims")),
    ("transpose", permute),
    ("tril", |n| triangular(n, false)),
    ("triu", |n| triangular(n, true)),
    ("unflatten", unflatten),
    ("unsqueeze", unsqueeze),
    ("view", view),
    ("view_as", shaped_as),
];

/// Operators whose results are views of their first operand, always or sometimes.
pub(super) const VIEWS: &[&str] = &[
    "_reshape_alias",
    "alias",
    "alpha_dropout",
    "as_strided",
    "broadcast_to",
    "chunk",
    "contiguous",
    "detach",
    "diagonal",
    "dropout",
    "expand",
    "expand_as",
    "feature_alpha_dropout",
    "feature_dropout",
    "flatten",
    "imag",
    "lift_fresh",
    "mT",
    "movedim",
    "narrow",
    "numpy_T",
    "permute",
    "ravel",
    "real",
    "reshape",
    "reshape_as",
    "select",
    "slice",
    "split",
    "split_with_sizes",
    "squeeze",
    "swapaxes",
    "swapdims",
    "t",
    "tensor_split",
    "to",
    "transpose",
    "type_as",
    "unbind",
    "unflatten",
    "unfold",
    "unsqueeze",
    "view",
    "view_as",
    "view_as_complex",
    "view_as_real",
];

fn same(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    one(n.input()?)
}

fn shaped_as(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let (x, other) = (n.input()?, n.tensor("other")?);
    one(n.reshape_to(x, n.shape(other).clone())?)
}

fn dropout(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let x = n.input()?;
    let p = n.float("p", 0.5)?;
    if n.flag("train", false)? && p != 0.0 {
        return Err(Refusal::Unsupported("dropout in training mode: call model.eval() before the export".into()));
    }
    one(x)
}

fn reshaped(n: &mut NodeCx<'_, '_>, name: &str) -> Result<Values, Refusal> {
    let x = n.input()?;
    let asked = n.wholes(name)?;
    let all = count(n, n.shape(x).dims())?;
    let dims = filled(n, &asked, &all, x, 0)?;
    one(n.reshape_to(x, dims.into_iter().collect())?)
}

/// The number of elements of these extents.
fn count(n: &NodeCx<'_, '_>, dims: &[Dim]) -> Result<Dim, Refusal> {
    let large = || Refusal::Invalid(format!("{}: {} has too many elements", n.op(), Shape::from_iter(dims.to_vec())));
    Shape::count(dims).ok_or_else(large)
}

fn view(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    if n.has("dtype") {
        return Err(Refusal::Unsupported("reading the bytes of a tensor as another type is not supported".into()));
    }
    reshaped(n, "size")
}

/// The extents, with -1 inferred from the number of elements. The first of them is axis `first` of the result.
fn filled(n: &NodeCx<'_, '_>, asked: &[Expr], elements: &Dim, x: ValueId, first: usize) -> Result<Vec<Dim>, Refusal> {
    let known: Vec<Expr> = asked.iter().filter(|d| **d != (-1).into()).cloned().collect();
    let known = shape_of(&known)?;
    let unfilled = || Refusal::Invalid(format!("{} does not fill {}", n.ty(x), list(asked)));
    let left = |axis: usize| {
        let known = count(n, known.dims())?;
        if known != Dim::Known(0)
            && let Some(rest) = elements.expr().exact_div(&known.expr()).and_then(Dim::of)
        {
            return Ok(rest);
        }
        // What PyTorch found where the quotient is no expression.
        let open = elements.known().is_none() || known.known().is_none();
        n.declared_extent(0, axis).filter(|_| open).ok_or_else(unfilled)
    };
    let mut given = known.dims().iter();
    let extent = |(i, d): (usize, &Expr)| {
        if *d == (-1).into() { left(first + i) } else { given.next().cloned().ok_or_else(unfilled) }
    };
    asked.iter().enumerate().map(extent).collect()
}

fn flatten(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let x = n.input()?;
    let (start, end) = (n.int("start_dim", 0)?, n.int("end_dim", -1)?);
    let dims = n.shape(x).dims().to_vec();
    if dims.is_empty() {
        return one(n.reshape(x, &[1])?);
    }
    let (start, end) = (n.axis(start, x)?, n.axis(end, x)?);
    if start > end {
        return Err(Refusal::Invalid(format!("axes {start} to {end} are flattened")));
    }
    let flat = count(n, &dims[start..=end])?;
    let dims = dims[..start].iter().cloned().chain([flat]).chain(dims[end + 1..].iter().cloned()).collect();
    one(n.reshape_to(x, dims)?)
}

fn unflatten(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let x = n.input()?;
    let axis = n.required_int("dim")?;
    let axis = n.axis(axis, x)?;
    let dims = n.shape(x).dims().to_vec();
    let sizes = n.wholes("sizes")?;
    let sizes = filled(n, &sizes, &dims[axis], x, axis)?;
    let dims = dims[..axis].iter().cloned().chain(sizes).chain(dims[axis + 1..].iter().cloned()).collect();
    one(n.reshape_to(x, dims)?)
}

/// Only axes of extent 1 are removed.
fn squeeze(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let x = n.input()?;
    let dims = n.shape(x).dims().to_vec();
    let axes = match n.optional_ints("dim")? {
        Some(_) if dims.is_empty() => return one(x),
        Some(axes) => count_axes(&axes, dims.len())?,
        None => (0..dims.len()).collect(),
    };
    // The program is for open extents other than 1.
    let kept = (0..dims.len()).filter(|a| dims[*a] != Dim::Known(1) || !axes.contains(a)).map(|a| dims[a].clone());
    one(n.reshape_to(x, kept.collect())?)
}

fn unsqueeze(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let x = n.input()?;
    let mut dims = n.shape(x).dims().to_vec();
    let axis = n.required_int("dim")?;
    dims.insert(count_axis(axis, dims.len() + 1)?, Dim::Known(1));
    one(n.reshape_to(x, dims.into_iter().collect())?)
}

fn permute(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let x = n.input()?;
    let perm = permutation(n, x)?;
    one(n.transpose(x, &perm)?)
}

/// The permutation that a node applies to `x`.
pub(in super::super) fn permutation(n: &mut NodeCx<'_, '_>, x: ValueId) -> Result<Extents, Refusal> {
    let rank = n.rank(x);
    let mut perm: Extents = (0..rank).collect();
    match n.op() {
        "permute" => {
            let axes = n.ints("dims")?;
            perm = axes.iter().map(|&a| count_axis(a, rank)).collect::<Result<_, _>>()?;
        }
        "t" | "numpy_T" => perm.reverse(),
        "mT" if rank >= 2 => perm.swap(rank - 2, rank - 1),
        "movedim" => {
            let (from, to) = (n.ints("source")?, n.ints("destination")?);
            let from = from.iter().map(|&a| count_axis(a, rank)).collect::<Result<Extents, _>>()?;
            let to = to.iter().map(|&a| count_axis(a, rank)).collect::<Result<Extents, _>>()?;
            let mut rest = (0..rank).filter(|a| !from.contains(a));
            perm = (0..rank)
                .filter_map(|i| match to.iter().position(|&t| t == i) {
                    Some(at) => from.get(at).copied(),
                    None => rest.next(),
                })
                .collect();
        }
        _ => {
            let (a, b) = if n.has("dim0") { ("dim0", "dim1") } else { ("axis0", "axis1") };
            let (a, b) = (n.required_int(a)?, n.required_int(b)?);
            if rank > 0 {
                perm.swap(count_axis(a, rank)?, count_axis(b, rank)?);
            }
        }
    }
    Ok(perm)
}

/// -1 keeps an extent; new axes are added in front.
fn expand(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let x = n.input()?;
    let asked = n.wholes("size")?;
    let old = n.shape(x).clone();
    let unfit = |n: &NodeCx<'_, '_>| Refusal::Invalid(format!("{} is expanded to {}", n.ty(x), list(&asked)));
    let new = asked.len().checked_sub(old.rank()).ok_or_else(|| unfit(n))?;
    let kept =
        |(i, d): (usize, &Expr)| if *d == (-1).into() && i >= new { old.dims()[i - new].expr() } else { d.clone() };
    let asked_dims: Vec<Expr> = asked.iter().enumerate().map(kept).collect();
    let wanted = shape_of(&asked_dims)?;
    let shape = broadcast(&old, &wanted)?;
    // Extents that are not known to differ are equal.
    if shape.dims().iter().zip(wanted.dims()).any(|(s, w)| s.agreed(w).is_none()) {
        return Err(unfit(n));
    }
    one(n.expand_to(x, wanted)?)
}

/// Fewer repeats than axes apply to the last axes; more repeats add axes in front.
fn tile(n: &mut NodeCx<'_, '_>, name: &str) -> Result<Values, Refusal> {
    let x = n.input()?;
    let mut repeats = n.wholes(name)?;
    let mut dims = n.shape(x).dims().to_vec();
    while repeats.len() < dims.len() {
        repeats.insert(0, 1.into());
    }
    while dims.len() < repeats.len() {
        dims.insert(0, Dim::Known(1));
    }
    let x = n.reshape_to(x, dims.into_iter().collect())?;
    one(tiled(n, x, &repeats)?)
}

/// Repeats each element along an axis by the same number of times.
fn repeat_interleave(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let x = n.input()?;
    let times = shape_of(&[n.whole("repeats")?])?.dims()[0].clone();
    let x = if n.has("dim") { x } else { flat(n, x)? };
    let axis = n.int("dim", 0)?;
    let axis = n.axis(axis, x)?;
    n.optional_whole("output_size")?;
    let mut dims = n.shape(x).dims().to_vec();
    dims.insert(axis + 1, Dim::Known(1));
    let apart = n.reshape_to(x, dims.iter().cloned().collect())?;
    dims[axis + 1] = times;
    let repeated = n.expand_to(apart, dims.iter().cloned().collect())?;
    let longer = count(n, &dims[axis..=axis + 1])?;
    dims.remove(axis + 1);
    dims[axis] = longer;
    one(n.reshape_to(repeated, dims.into_iter().collect())?)
}

/// The elements as a vector.
pub(super) fn flat(n: &mut NodeCx<'_, '_>, x: ValueId) -> Result<ValueId, Refusal> {
    let all = count(n, n.shape(x).dims())?;
    n.reshape_to(x, [all].into_iter().collect())
}

fn pad(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let mode = n.text("mode", "constant")?;
    pad_in(n, mode)
}

/// Pads are given for the last axis first; negative ones crop.
fn pad_in(n: &mut NodeCx<'_, '_>, mode: &str) -> Result<Values, Refusal> {
    let x = n.input()?;
    let name = if n.has("pad") { "pad" } else { "padding" };
    let (asked, value) = (n.wholes(name)?, n.float("value", 0.0)?);
    let rank = n.rank(x);
    if asked.len() % 2 != 0 || asked.len() > 2 * rank {
        return Err(Refusal::Invalid(format!("pads {} for {}", list(&asked), n.ty(x))));
    }
    let Some(pads) = asked.iter().map(Expr::constant).collect::<Option<Vec<i64>>>() else {
        let pair = |(i, pair): (usize, &[Expr])| (rank - 1 - i, [pair[0].clone(), pair[1].clone()]);
        let by_axis: Vec<_> = asked.chunks_exact(2).enumerate().map(pair).collect();
        if let Some(past) = Past::named(mode)? {
            return one(gathered(n, x, &by_axis, past)?);
        }
        let value = n.scalar(value, x)?;
        return one(pad_open(n, x, &by_axis, value)?);
    };
    let mut before = Extents::from_elem(0, rank);
    let mut after = before.clone();
    let mut cuts = Vec::new();
    for (i, pair) in pads.chunks_exact(2).enumerate() {
        let axis = rank - 1 - i;
        let (front, back) = (pair[0], pair[1]);
        (before[axis], after[axis]) = (extent(front.max(0))?, extent(back.max(0))?);
        let (front, back) = (extent(front.min(0).saturating_neg())?, extent(back.min(0).saturating_neg())?);
        if front + back > 0 {
            let removed = Expr::from((front + back) as i64);
            let len =
                n.shape(x).dims()[axis].expr().minus(&removed).filter(|len| len.bounds().1.is_none_or(|most| most > 0));
            let len = len.ok_or_else(|| Refusal::Invalid(format!("pads {pads:?} cut away all of {}", n.ty(x))))?;
            cuts.push(OpenSlice { axis, start: Expr::from(front as i64), len });
        }
    }
    let mode = match mode {
        "constant" => PadMode::Constant(value as f32),
        "reflect" if cuts.is_empty() => PadMode::Reflect,
        "replicate" if cuts.is_empty() => PadMode::Edge,
        other => return Err(Refusal::Unsupported(format!("padding in mode {other} is not supported here"))),
    };
    let inner = cuts.into_iter().rev().try_fold(x, |x, cut| part(n, x, cut))?;
    let none = before.iter().chain(&after).all(|&p| p == 0);
    one(if none { inner } else { n.add(Pad { before, after, mode }, &[inner])? })
}

/// Blocks of pixels to channels or back, on the last three axes.
fn pixels(n: &mut NodeCx<'_, '_>, shuffle: bool) -> Result<Values, Refusal> {
    let x = n.input()?;
    let block = n.required_int(if shuffle { "upscale_factor" } else { "downscale_factor" })?;
    let block = extent(block)?;
    let dims = n.shape(x).dims().to_vec();
    let Some(image) = dims.len().checked_sub(3) else {
        return Err(Refusal::Invalid(format!("{} is no image", n.ty(x))));
    };
    let (outer, inner) = dims.split_at(image);
    let images = count(n, outer)?;
    let image = n.reshape_to(x, [images].into_iter().chain(inner.iter().cloned()).collect())?;
    let y = if shuffle {
        n.add(DepthToSpace { block, channel_first: true }, &[image])?
    } else {
        unshuffled(n, image, block)?
    };
    let dims = outer.iter().cloned().chain(n.shape(y).dims()[1..].iter().cloned()).collect();
    one(n.reshape_to(y, dims)?)
}

/// The graph's operator has the block outside the channels; here it is inside.
fn unshuffled(n: &mut NodeCx<'_, '_>, x: ValueId, block: usize) -> Result<ValueId, Refusal> {
    let y = n.add(SpaceToDepth { block }, &[x])?;
    let shape = n.shape(y).clone();
    let [images, _, height, width] = shape.dims() else { return Err(Refusal::Open(shape)) };
    let channels = n.shape(x).dims()[1].clone();
    let apart = [images.clone(), (block * block).into(), channels, height.clone(), width.clone()];
    let apart = n.reshape_to(y, apart.into_iter().collect())?;
    let inside = n.transpose(apart, &[0, 2, 1, 3, 4])?;
    n.reshape_to(inside, shape)
}

fn channel_shuffle(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let x = n.input()?;
    let groups = n.required_int("groups")?;
    let groups = extent(groups)?;
    let shape = n.shape(x).clone();
    let channels = shape.dims().get(1).and_then(Dim::known).filter(|c| groups > 0 && c.is_multiple_of(groups));
    let channels = channels.ok_or_else(|| Refusal::Invalid(format!("{groups} groups for {}", n.ty(x))))?;
    let split = [shape.dims()[0].clone(), groups.into(), (channels / groups).into()];
    let apart: Shape = split.into_iter().chain(shape.dims()[2..].iter().cloned()).collect();
    let mut perm: Extents = (0..apart.rank()).collect();
    perm.swap(1, 2);
    let y = n.reshape_to(x, apart)?;
    let y = n.transpose(y, &perm)?;
    one(n.reshape_to(y, shape)?)
}

/// Each matrix with the elements below (`upper`) or above a diagonal set to zero.
fn triangular(n: &mut NodeCx<'_, '_>, upper: bool) -> Result<Values, Refusal> {
    let x = n.input()?;
    let diagonal = n.int("diagonal", 0)?;
    let dims = n.shape(x).dims().to_vec();
    let [.., rows, columns] = dims.as_slice() else {
        return Err(Refusal::Invalid(format!("{} holds no matrices", n.ty(x))));
    };
    let kept = triangle(n, rows, columns, diagonal, upper)?;
    let zero = n.scalar(0.0, x)?;
    one(n.add(Select {}, &[kept, x, zero])?)
}

/// Selects elements by their memory positions in self, whose layout in PyTorch the file declares.
fn as_strided(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let x = n.input()?;
    let unknown = || Refusal::Unsupported("as_strided of an operand with an unknown memory layout".into());
    let laid_out = n.declared_view("self").ok_or_else(unknown)?;
    let offset = n.optional_int("storage_offset")?.unwrap_or(laid_out.offset);
    let asked = View { sizes: n.ints("size")?, strides: n.ints("stride")?, offset };
    // The memory positions of all elements before and after.
    n.room(&extents(&asked.sizes)?, size_of::<i64>())?;
    n.room(&n.dims(x)?, size_of::<i64>())?;
    let (held, wanted) = (laid_out.places()?, asked.places()?);
    let order: FxHashMap<usize, i64> = held.into_iter().zip(0..).collect();
    let indices: Option<Vec<i64>> = wanted.iter().map(|place| order.get(place).copied()).collect();
    let indices =
        indices.ok_or_else(|| Refusal::Unsupported("as_strided beyond its operand is not supported".into()))?;
    let dims = extents(&asked.sizes)?;
    let flat = n.reshape(x, &[n.dims(x)?.iter().product()])?;
    if indices.iter().copied().eq(0..n.dims(flat)?[0] as i64) {
        return one(n.reshape(x, &dims)?);
    }
    let indices = n.add_constant(Tensor::from_vec(Shape::known(&dims), indices));
    one(n.add(Gather { axis: 0 }, &[flat, indices])?)
}
