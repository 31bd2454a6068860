//! Splitting and concatenation.

use qcc_ir::ops::{BinaryFn, Concat, Extents, Gather, Range, Slice};
use qcc_ir::{Elem, Shape, ValueId};

use super::super::node::{NodeCx, Operand};
use super::Row;
use crate::build::index::range;
use crate::build::{Build, Values, count_axis, extent, extents, one};
use crate::refusal::Refusal;

pub(super) const ROWS: &[Row] = &[
    ("cat", cat),
    ("chunk", ranges),
    ("concat", cat),
    ("concatenate", cat),
    ("diff", diff),
    ("hstack", |n| {
        let vectors = n.tensors("tensors")?.iter().all(|&v| n.rank(v) <= 1);
        cat_along(n, i64::from(!vectors))
    }),
    ("narrow", ranges),
    ("roll", roll),
    ("select", ranges),
    ("slice", ranges),
    ("split", ranges),
    ("split_with_sizes", ranges),
    ("stack", stack),
    ("tensor_split", ranges),
    ("unbind", ranges),
    ("unfold", unfold),
    ("unsafe_chunk", ranges),
    ("unsafe_split", ranges),
    ("unsafe_split_with_sizes", ranges),
    ("vstack", |n| cat_along(n, 0)),
];

/// Maximum number of parts of a split.
const MOST_PARTS: usize = 1 << 16;

/// The parts of `x` that a node selects, one for each result.
pub(in super::super) fn parts(n: &mut NodeCx<'_, '_>, x: ValueId) -> Result<Vec<Range>, Refusal> {
    let axis = n.int("dim", 0)?;
    let axis = n.axis(axis, x)?;
    let size = n.dims(x)?[axis];
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
            // The first parts are larger by one if the axis is not divisible.
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

/// Parts of equal length; the last may be shorter.
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
    let dims = n.dims(x)?;
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

/// Empty vectors are ignored, whatever the rank of the others.
fn cat(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let axis = n.int("dim", 0)?;
    cat_along(n, axis)
}

fn cat_along(n: &mut NodeCx<'_, '_>, axis: i64) -> Result<Values, Refusal> {
    let all = n.tensors("tensors")?;
    let mut parts: Values = all.iter().copied().filter(|&v| *n.shape(v) != Shape::known(&[0])).collect();
    if parts.is_empty() {
        return one(all[0]);
    }
    // `vstack` makes rows of vectors.
    if n.op() == "vstack" {
        for part in &mut parts {
            if n.rank(*part) == 1 {
                *part = n.reshape(*part, &[1, n.dims(*part)?[0]])?;
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

/// The n-th difference of adjacent elements; for booleans whether they differ.
fn diff(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let x = n.input()?;
    let (times, axis) = (n.int("n", 1)?, n.int("dim", -1)?);
    let axis = n.axis(axis, x)?;
    let parts: Values = [n.optional("prepend")?, Some(x), n.optional("append")?].into_iter().flatten().collect();
    let mut y = if parts.len() == 1 { x } else { n.add(Concat { axis }, &parts)? };
    let f = if n.ty(x).elem == Elem::Bool { BinaryFn::NotEqual } else { BinaryFn::Sub };
    for _ in 0..times {
        let Some(len) = n.dims(y)?[axis].checked_sub(1).filter(|&len| len > 0) else {
            return Err(Refusal::Unsupported(format!("no difference is left of {}", n.ty(x))));
        };
        let mut from = |start| n.add(Slice { ranges: vec![Range { axis, start, len, step: 1 }] }, &[y]);
        let (before, after) = (from(0)?, from(1)?);
        y = n.binary(f, after, before)?;
    }
    one(y)
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
        let mut dims = n.dims(v)?;
        dims.insert(axis.min(dims.len()), 1);
        parts.push(n.reshape(v, &dims)?);
    }
    match *parts {
        [only] => one(only),
        _ => one(n.add(Concat { axis }, &parts)?),
    }
}

/// Elements that are shifted beyond the end of an axis reappear at its front.
fn roll(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let x = n.input()?;
    let (shifts, axes) = (n.ints("shifts")?, n.optional_ints("dims")?.unwrap_or_default());
    let flat = axes.is_empty();
    let mut y = if flat { n.reshape(x, &[n.dims(x)?.iter().product()])? } else { x };
    let axes = if flat { vec![0] } else { axes };
    if axes.len() != shifts.len() {
        return Err(Refusal::Invalid(format!("shifts {shifts:?} for axes {axes:?}")));
    }
    for (&axis, &shift) in axes.iter().zip(&shifts) {
        let axis = n.axis(axis, y)?;
        let size = n.dims(y)?[axis];
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
    one(n.reshape(y, &n.dims(x)?)?)
}

/// Sliding windows along an axis, with their elements along a new last axis.
fn unfold(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let x = n.input()?;
    let (axis, size, step) = (n.required_int("dimension")?, n.required_int("size")?, n.required_int("step")?);
    let (axis, size, step) = (n.axis(axis, x)?, extent(size)?, extent(step)?);
    let steps = n.dims(x)?[axis].checked_sub(size).filter(|_| step > 0).map(|room| room / step + 1);
    let steps = steps.ok_or_else(|| Refusal::Invalid(format!("windows of {size} for {}", n.ty(x))))?;
    let places = n.table(&[steps, size], |i| (i / size * step + i % size) as i64)?;
    let y = n.add(Gather { axis }, &[x, places])?;
    let mut perm: Extents = (0..n.rank(y)).filter(|&a| a != axis + 1).collect();
    perm.push(axis + 1);
    one(n.transpose(y, &perm)?)
}
