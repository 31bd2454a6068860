//! Operators that move elements and change none.

use qcc_ir::ops::{
    Concat, DepthToSpace, Extents, Gather, Pad, PadMode, Range, Reverse, Select, Slice, SpaceToDepth, Tile, broadcast,
};
use qcc_ir::{Shape, Tensor, ValueId};
use rustc_hash::FxHashMap;

use super::super::node::{NodeCx, Operand};
use super::super::weights::View;
use super::Row;
use crate::build::index::{range, triangle};
use crate::build::{Build, Values, count_axes, count_axis, extent, extents, one};
use crate::refusal::Refusal;

pub(super) const ROWS: &[Row] = &[
    ("_reshape_alias", |n| reshaped(n, "size")),
    ("_unsafe_view", |n| reshaped(n, "size")),
    ("alias", same),
    ("alpha_dropout", dropout),
    ("as_strided", as_strided),
    ("broadcast_to", expand),
    ("cat", cat),
    ("channel_shuffle", channel_shuffle),
    ("chunk", ranges),
    ("clone", same),
    ("concat", cat),
    ("concatenate", cat),
    ("constant_pad_nd", pad),
    ("contiguous", same),
    ("detach", same),
    ("dropout", dropout),
    ("expand", expand),
    ("expand_as", |n| {
        let (x, other) = (n.input()?, n.tensor("other")?);
        one(n.expand(x, &n.dims(other))?)
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
    ("hstack", |n| {
        let vectors = n.tensors("tensors")?.iter().all(|&v| n.rank(v) <= 1);
        cat_along(n, i64::from(!vectors))
    }),
    ("lift_fresh", same),
    ("lift_fresh_copy", same),
    ("mT", permute),
    ("movedim", permute),
    ("narrow", ranges),
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
    ("roll", roll),
    ("select", ranges),
    ("slice", ranges),
    ("split", ranges),
    ("split_with_sizes", ranges),
    ("squeeze", squeeze),
    ("stack", stack),
    ("swapaxes", permute),
    ("swapdims", permute),
    ("t", permute),
    ("tensor_split", ranges),
    ("tile", |n| tile(n, "dims")),
    ("transpose", permute),
    ("tril", |n| triangular(n, false)),
    ("triu", |n| triangular(n, true)),
    ("unbind", ranges),
    ("unflatten", unflatten),
    ("unfold", unfold),
    ("unsafe_chunk", ranges),
    ("unsafe_split", ranges),
    ("unsafe_split_with_sizes", ranges),
    ("unsqueeze", unsqueeze),
    ("view", view),
    ("view_as", |n| {
        let (x, other) = (n.input()?, n.tensor("other")?);
        one(n.reshape(x, &n.dims(other))?)
    }),
    ("vstack", |n| cat_along(n, 0)),
];

/// A node may split a tensor into this many.
const MOST_PARTS: usize = 1 << 16;

/// Windows of more elements than this are not unfolded.
const LARGEST_WINDOWS: usize = 1 << 24;

/// Operators whose results show the memory of their first operand, always or sometimes.
pub(super) const VIEWS: &[&str] = &[
    "_reshape_alias",
    "alias",
    "alpha_dropout",
    "as_strided",
    "broadcast_to",
    "chunk",
    "contiguous",
    "detach",
    "dropout",
    "expand",
    "expand_as",
    "feature_alpha_dropout",
    "feature_dropout",
    "flatten",
    "lift_fresh",
    "mT",
    "movedim",
    "narrow",
    "numpy_T",
    "permute",
    "ravel",
    "reshape",
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
];

fn same(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    one(n.input()?)
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
    let asked = n.ints(name)?;
    let dims = filled(n, &asked, n.dims(x).iter().product(), x)?;
    one(n.reshape(x, &dims)?)
}

fn view(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    if n.has("dtype") {
        return Err(Refusal::Unsupported("reading the bytes of a tensor as another type is not supported".into()));
    }
    reshaped(n, "size")
}

/// The extents, -1 replaced by what is left of the elements.
fn filled(n: &NodeCx<'_, '_>, asked: &[i64], elements: usize, x: ValueId) -> Result<Vec<usize>, Refusal> {
    let known: Vec<i64> = asked.iter().copied().filter(|&d| d != -1).collect();
    let known: usize = extents(&known)?.iter().try_fold(1usize, |all, &d| all.checked_mul(d)).unwrap_or(usize::MAX);
    let left = || {
        let whole = known > 0 && elements.is_multiple_of(known);
        if whole { Ok(elements / known) } else { Err(Refusal::Invalid(format!("{} does not fill {asked:?}", n.ty(x)))) }
    };
    asked.iter().map(|&d| if d == -1 { left() } else { extent(d) }).collect()
}

fn flatten(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let x = n.input()?;
    let (start, end) = (n.int("start_dim", 0)?, n.int("end_dim", -1)?);
    let dims = n.dims(x);
    if dims.is_empty() {
        return one(n.reshape(x, &[1])?);
    }
    let (start, end) = (n.axis(start, x)?, n.axis(end, x)?);
    if start > end {
        return Err(Refusal::Invalid(format!("axes {start} to {end} are flattened")));
    }
    let flat = std::iter::once(dims[start..=end].iter().product());
    let dims: Extents = dims[..start].iter().copied().chain(flat).chain(dims[end + 1..].iter().copied()).collect();
    one(n.reshape(x, &dims)?)
}

fn unflatten(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let x = n.input()?;
    let axis = n.required_int("dim")?;
    let axis = n.axis(axis, x)?;
    let dims = n.dims(x);
    let sizes = n.ints("sizes")?;
    let sizes = filled(n, &sizes, dims[axis], x)?;
    let dims: Extents = dims[..axis].iter().copied().chain(sizes).chain(dims[axis + 1..].iter().copied()).collect();
    one(n.reshape(x, &dims)?)
}

/// Only axes of extent 1 go.
fn squeeze(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let x = n.input()?;
    let dims = n.dims(x);
    let axes = match n.optional_ints("dim")? {
        Some(_) if dims.is_empty() => return one(x),
        Some(axes) => count_axes(&axes, dims.len())?,
        None => (0..dims.len()).collect(),
    };
    let kept: Extents = (0..dims.len()).filter(|a| dims[*a] != 1 || !axes.contains(a)).map(|a| dims[a]).collect();
    one(n.reshape(x, &kept)?)
}

fn unsqueeze(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let x = n.input()?;
    let mut dims = n.dims(x);
    let axis = n.required_int("dim")?;
    dims.insert(count_axis(axis, dims.len() + 1)?, 1);
    one(n.reshape(x, &dims)?)
}

fn permute(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let x = n.input()?;
    let perm = permutation(n, x)?;
    one(n.transpose(x, &perm)?)
}

/// The order of axes that a node gives to `x`.
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

/// The parts that a node takes of `x`, one for each result.
pub(in super::super) fn parts(n: &mut NodeCx<'_, '_>, x: ValueId) -> Result<Vec<Range>, Refusal> {
    let axis = n.int("dim", 0)?;
    let axis = n.axis(axis, x)?;
    let size = n.dims(x)[axis];
    let whole = i64::try_from(size).unwrap_or(i64::MAX);
    let lengths: Vec<usize> = match n.op() {
        "slice" | "slice_scatter" => {
            let (start, end) = (n.int("start", 0)?, n.int("end", i64::MAX)?);
            let step = n.int("step", 1)?;
            return Ok(vec![range(axis, size, start, end, step)?]);
        }
        "select" | "select_scatter" | "narrow" => {
            let narrow = n.op() == "narrow";
            let start = n.required_int(if narrow { "start" } else { "index" })?;
            let start = if start < 0 { start.saturating_add(whole) } else { start };
            let length = if narrow { n.required_int("length")? } else { 1 };
            let (start, len) = (extent(start)?, extent(length)?);
            if start + len > size {
                return Err(Refusal::Invalid(format!("index {start} lies beyond an axis of extent {size}")));
            }
            return Ok(vec![Range { axis, start, len, step: 1 }]);
        }
        "unbind" => side_by_side(size, 1)?,
        "tensor_split" if n.has("indices") => {
            let mut lengths = Vec::new();
            let mut start = 0;
            for end in n.ints("indices")?.into_iter().chain([whole]) {
                let Range { len, .. } = range(axis, size, start, end, 1)?;
                lengths.push(len);
                start = end;
            }
            lengths
        }
        "tensor_split" => {
            // The first parts are larger by one where the axis does not divide.
            let sections = n.required_int("sections")?;
            let sections = extent(sections)?.clamp(1, MOST_PARTS);
            (0..sections).map(|i| size / sections + usize::from(i < size % sections)).collect()
        }
        "chunk" | "unsafe_chunk" => {
            let chunks = n.required_int("chunks")?;
            side_by_side(size, size.div_ceil(extent(chunks)?.max(1)))?
        }
        _ => {
            let name = if n.has("split_size") { "split_size" } else { "split_sizes" };
            match n.ints(name)?.as_slice() {
                &[length] if name == "split_size" && !n.op().ends_with("with_sizes") => {
                    side_by_side(size, extent(length)?)?
                }
                lengths => extents(lengths)?,
            }
        }
    };
    if lengths.iter().sum::<usize>() != size {
        return Err(Refusal::Invalid(format!("an axis of {size} cannot be split into {lengths:?}")));
    }
    let starts = lengths.iter().scan(0, |start, &len| Some(std::mem::replace(start, *start + len)));
    Ok(starts.zip(&lengths).map(|(start, &len)| Range { axis, start, len, step: 1 }).collect())
}

/// Parts of one length; the last may be shorter.
fn side_by_side(size: usize, length: usize) -> Result<Vec<usize>, Refusal> {
    let length = length.max(1);
    let count = size.div_ceil(length).max(1);
    if count > MOST_PARTS {
        return Err(Refusal::Unsupported(format!("an axis of {size} falls into {count} parts")));
    }
    Ok((0..count).map(|i| length.min(size - i * length)).collect())
}

fn ranges(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let x = n.input()?;
    let parts = parts(n, x)?;
    let dims = n.dims(x);
    let drops_axis = matches!(n.op(), "select" | "unbind");
    let mut values = Values::new();
    for part in parts {
        let whole = part.start == 0 && part.step == 1 && part.len == dims[part.axis];
        let mut v = if whole { x } else { n.add(Slice { ranges: vec![part] }, &[x])? };
        if drops_axis {
            let mut dims = dims.clone();
            dims.remove(part.axis);
            v = n.reshape(v, &dims)?;
        }
        values.push(v);
    }
    Ok(values)
}

/// An empty vector takes no part, whatever the rank of the others.
fn cat(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let axis = n.int("dim", 0)?;
    cat_along(n, axis)
}

fn cat_along(n: &mut NodeCx<'_, '_>, axis: i64) -> Result<Values, Refusal> {
    let all = n.tensors("tensors")?;
    let mut parts: Values = all.iter().copied().filter(|&v| n.dims(v).as_slice() != [0]).collect();
    if parts.is_empty() {
        return one(all[0]);
    }
    // `vstack` makes rows of vectors.
    if n.op() == "vstack" {
        for part in &mut parts {
            if n.rank(*part) == 1 {
                *part = n.reshape(*part, &[1, n.dims(*part)[0]])?;
            }
        }
    }
    let axis = n.axis(axis, parts[0])?;
    let operands: Vec<_> = all.iter().map(|&v| Operand::Tensor(v)).collect();
    let elem = n.promoted(&operands);
    for part in &mut parts {
        *part = n.cast(*part, elem.clone())?;
    }
    match *parts {
        [only] => one(only),
        _ => one(n.add(Concat { axis }, &parts)?),
    }
}

fn stack(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let tensors = n.tensors("tensors")?;
    let axis = n.int("dim", 0)?;
    let axis = count_axis(axis, n.rank(tensors[0]) + 1)?;
    let operands: Vec<_> = tensors.iter().map(|&v| Operand::Tensor(v)).collect();
    let elem = n.promoted(&operands);
    let mut parts = Values::new();
    for v in tensors {
        let v = n.cast(v, elem.clone())?;
        let mut dims = n.dims(v);
        dims.insert(axis.min(dims.len()), 1);
        parts.push(n.reshape(v, &dims)?);
    }
    match *parts {
        [only] => one(only),
        _ => one(n.add(Concat { axis }, &parts)?),
    }
}

/// -1 keeps an extent; new axes come in front.
fn expand(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let x = n.input()?;
    let asked = n.ints("size")?;
    let old = n.dims(x);
    let new = asked.len().checked_sub(old.len());
    let new = new.ok_or_else(|| Refusal::Invalid(format!("{} is expanded to {asked:?}", n.ty(x))))?;
    let mut dims = Extents::new();
    for (i, &d) in asked.iter().enumerate() {
        dims.push(if d == -1 && i >= new { old[i - new] } else { extent(d)? });
    }
    let shape = broadcast(&n.ty(x).shape, &Shape::known(&dims))?;
    if shape != Shape::known(&dims) {
        return Err(Refusal::Invalid(format!("{} is expanded to {asked:?}", n.ty(x))));
    }
    one(n.expand(x, &dims)?)
}

/// Fewer numbers than axes are for the last ones; more add axes in front.
fn tile(n: &mut NodeCx<'_, '_>, name: &str) -> Result<Values, Refusal> {
    let x = n.input()?;
    let mut repeats = n.extents(name)?;
    let mut dims = n.dims(x);
    while repeats.len() < dims.len() {
        repeats.insert(0, 1);
    }
    while dims.len() < repeats.len() {
        dims.insert(0, 1);
    }
    let x = n.reshape(x, &dims)?;
    one(if repeats.iter().all(|&r| r == 1) { x } else { n.add(Tile { repeats: repeats.into() }, &[x])? })
}

/// Each element along an axis, the same number of times.
fn repeat_interleave(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let x = n.input()?;
    let times = n.required_int("repeats")?;
    let times = extent(times)?;
    let x = if n.has("dim") { x } else { n.reshape(x, &[n.dims(x).iter().product()])? };
    let axis = n.int("dim", 0)?;
    let axis = n.axis(axis, x)?;
    n.optional_int("output_size")?;
    let mut dims = n.dims(x);
    dims.insert(axis + 1, 1);
    let apart = n.reshape(x, &dims)?;
    dims[axis + 1] = times;
    let repeated = n.expand(apart, &dims)?;
    dims.remove(axis + 1);
    dims[axis] *= times;
    one(n.reshape(repeated, &dims)?)
}

/// Elements that leave an axis at its end come in again at its front.
fn roll(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let x = n.input()?;
    let (shifts, axes) = (n.ints("shifts")?, n.optional_ints("dims")?.unwrap_or_default());
    let flat = axes.is_empty();
    let mut y = if flat { n.reshape(x, &[n.dims(x).iter().product()])? } else { x };
    let axes = if flat { vec![0] } else { axes };
    if axes.len() != shifts.len() {
        return Err(Refusal::Invalid(format!("shifts {shifts:?} for axes {axes:?}")));
    }
    for (&axis, &shift) in axes.iter().zip(&shifts) {
        let axis = n.axis(axis, y)?;
        let size = n.dims(y)[axis];
        let signed = i64::try_from(size).unwrap_or(i64::MAX).max(1);
        let front = usize::try_from(shift.rem_euclid(signed)).unwrap_or(0);
        if front == 0 {
            continue;
        }
        let (end, start) = (
            Range { axis, start: size - front, len: front, step: 1 },
            Range { axis, start: 0, len: size - front, step: 1 },
        );
        let end = n.add(Slice { ranges: vec![end] }, &[y])?;
        let start = n.add(Slice { ranges: vec![start] }, &[y])?;
        y = n.add(Concat { axis }, &[end, start])?;
    }
    one(n.reshape(y, &n.dims(x))?)
}

fn pad(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let mode = n.text("mode", "constant")?;
    pad_in(n, mode)
}

/// Pads are given for the last axis first; negative ones cut off.
fn pad_in(n: &mut NodeCx<'_, '_>, mode: &str) -> Result<Values, Refusal> {
    let x = n.input()?;
    let name = if n.has("pad") { "pad" } else { "padding" };
    let (pads, value) = (n.ints(name)?, n.float("value", 0.0)?);
    let dims = n.dims(x);
    if pads.len() % 2 != 0 || pads.len() > 2 * dims.len() {
        return Err(Refusal::Invalid(format!("pads {pads:?} for {}", n.ty(x))));
    }
    let mut before = Extents::from_elem(0, dims.len());
    let mut after = before.clone();
    let mut cuts = Vec::new();
    for (i, pair) in pads.chunks_exact(2).enumerate() {
        let axis = dims.len() - 1 - i;
        let (front, back) = (pair[0], pair[1]);
        (before[axis], after[axis]) = (extent(front.max(0))?, extent(back.max(0))?);
        let (front, back) = (extent(front.min(0).saturating_neg())?, extent(back.min(0).saturating_neg())?);
        if front + back > 0 {
            let len = dims[axis].checked_sub(front + back).filter(|&len| len > 0);
            let len = len.ok_or_else(|| Refusal::Invalid(format!("pads {pads:?} cut away all of {}", n.ty(x))))?;
            cuts.insert(0, Range { axis, start: front, len, step: 1 });
        }
    }
    let mode = match mode {
        "constant" => PadMode::Constant(value as f32),
        "reflect" if cuts.is_empty() => PadMode::Reflect,
        "replicate" if cuts.is_empty() => PadMode::Edge,
        other => return Err(Refusal::Unsupported(format!("padding in mode {other} is not supported here"))),
    };
    let inner = if cuts.is_empty() { x } else { n.add(Slice { ranges: cuts }, &[x])? };
    let none = before.iter().chain(&after).all(|&p| p == 0);
    one(if none { inner } else { n.add(Pad { before, after, mode }, &[inner])? })
}

/// Blocks of pixels to channels or back, on the last three axes.
fn pixels(n: &mut NodeCx<'_, '_>, shuffle: bool) -> Result<Values, Refusal> {
    let x = n.input()?;
    let block = n.required_int(if shuffle { "upscale_factor" } else { "downscale_factor" })?;
    let block = extent(block)?;
    let dims = n.dims(x);
    let &[.., channels, height, width] = dims.as_slice() else {
        return Err(Refusal::Invalid(format!("{} is no image", n.ty(x))));
    };
    let outer = &dims[..dims.len() - 3];
    let image = n.reshape(x, &[outer.iter().product(), channels, height, width])?;
    let y = if shuffle {
        n.add(DepthToSpace { block, channel_first: true }, &[image])?
    } else {
        unshuffled(n, image, block)?
    };
    let dims: Extents = outer.iter().copied().chain(n.dims(y)[1..].iter().copied()).collect();
    one(n.reshape(y, &dims)?)
}

/// The graph's operator puts the block outside the channels; here it lies inside.
fn unshuffled(n: &mut NodeCx<'_, '_>, x: ValueId, block: usize) -> Result<ValueId, Refusal> {
    let y = n.add(SpaceToDepth { block }, &[x])?;
    let dims = n.dims(y);
    let channels = n.dims(x)[1];
    let apart = n.reshape(y, &[dims[0], block * block, channels, dims[2], dims[3]])?;
    let inside = n.transpose(apart, &[0, 2, 1, 3, 4])?;
    n.reshape(inside, &dims)
}

fn channel_shuffle(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let x = n.input()?;
    let groups = n.required_int("groups")?;
    let groups = extent(groups)?;
    let dims = n.dims(x);
    if dims.len() < 2 || groups == 0 || !dims[1].is_multiple_of(groups) {
        return Err(Refusal::Invalid(format!("{groups} groups for {}", n.ty(x))));
    }
    let apart: Extents = [dims[0], groups, dims[1] / groups].into_iter().chain(dims[2..].iter().copied()).collect();
    let mut perm: Extents = (0..apart.len()).collect();
    perm.swap(1, 2);
    let y = n.reshape(x, &apart)?;
    let y = n.transpose(y, &perm)?;
    one(n.reshape(y, &dims)?)
}

/// Zero below (`upper`) or above a diagonal of each matrix.
fn triangular(n: &mut NodeCx<'_, '_>, upper: bool) -> Result<Values, Refusal> {
    let x = n.input()?;
    let diagonal = n.int("diagonal", 0)?;
    let dims = n.dims(x);
    let &[.., rows, columns] = dims.as_slice() else {
        return Err(Refusal::Invalid(format!("{} holds no matrices", n.ty(x))));
    };
    let kept = triangle(n, rows, columns, diagonal, upper)?;
    let zero = n.scalar(0.0, x)?;
    one(n.add(Select {}, &[kept, x, zero])?)
}

/// Elements by their places in the memory of self, which PyTorch laid out as the file declares.
fn as_strided(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let x = n.input()?;
    let unknown = || Refusal::Unsupported("as_strided of what PyTorch laid out in an unknown way".into());
    let laid_out = n.declared_view("self").ok_or_else(unknown)?;
    let offset = n.optional_int("storage_offset")?.unwrap_or(laid_out.offset);
    let asked = View { sizes: n.ints("size")?, strides: n.ints("stride")?, offset };
    let elements: usize =
        extents(&asked.sizes)?.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).unwrap_or(usize::MAX);
    if elements.max(n.dims(x).iter().product()) > LARGEST_WINDOWS {
        return Err(Refusal::Unsupported(format!("as_strided of {elements} elements is not supported")));
    }
    let (held, wanted) = (laid_out.places()?, asked.places()?);
    let order: FxHashMap<usize, i64> = held.into_iter().zip(0..).collect();
    let indices: Option<Vec<i64>> = wanted.iter().map(|place| order.get(place).copied()).collect();
    let indices =
        indices.ok_or_else(|| Refusal::Unsupported("as_strided beyond its operand is not supported".into()))?;
    let dims = extents(&asked.sizes)?;
    let flat = n.reshape(x, &[n.dims(x).iter().product()])?;
    if indices.iter().copied().eq(0..n.dims(flat)[0] as i64) {
        return one(n.reshape(x, &dims)?);
    }
    let indices = n.add_constant(Tensor::from_vec(Shape::known(&dims), indices));
    one(n.add(Gather { axis: 0 }, &[flat, indices])?)
}

/// Windows along an axis, their elements along a new last axis.
fn unfold(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let x = n.input()?;
    let (axis, size, step) = (n.required_int("dimension")?, n.required_int("size")?, n.required_int("step")?);
    let (axis, size, step) = (n.axis(axis, x)?, extent(size)?, extent(step)?);
    let steps = n.dims(x)[axis].checked_sub(size).filter(|_| step > 0).map(|room| room / step + 1);
    let steps = steps.ok_or_else(|| Refusal::Invalid(format!("windows of {size} for {}", n.ty(x))))?;
    if steps.saturating_mul(size) > LARGEST_WINDOWS {
        return Err(Refusal::Unsupported(format!("{steps} windows of {size} are too many")));
    }
    let places: Vec<i64> = (0..steps).flat_map(|i| (0..size).map(move |j| (i * step + j) as i64)).collect();
    let places = n.add_constant(Tensor::from_vec(Shape::known(&[steps, size]), places));
    let y = n.add(Gather { axis }, &[x, places])?;
    let mut perm: Extents = (0..n.rank(y)).filter(|&a| a != axis + 1).collect();
    perm.push(axis + 1);
    one(n.transpose(y, &perm)?)
}
