//! Splitting and concatenation.

use qcc_ir::diagnostic::list;
use qcc_ir::ops::{BinaryFn, Concat, Extents, Gather, OpenSlice, Range, Slice};
use qcc_ir::{Dim, Elem, Expr, Shape, Tensor, ValueId};

use super::super::node::{NodeCx, Operand};
use super::super::symbols::ceil_div;
use super::Row;
use super::movement::flat;
use crate::build::computed::{counted, open};
use crate::build::index::{open_range, part, range, strided};
use crate::build::{Build, Values, count_axis, extent, one};
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

/// A part of an axis: every `step`th element from `start` on, `len` of them.
#[derive(Clone, Debug)]
pub(in super::super) struct Part {
    pub(in super::super) axis: usize,
    pub(in super::super) start: Expr,
    pub(in super::super) len: Expr,
    pub(in super::super) step: isize,
}

impl Part {
    /// The part with these numbers, if its extents are known.
    pub(in super::super) fn known(&self) -> Option<Range> {
        let number = |e: &Expr| usize::try_from(e.constant()?).ok();
        Some(Range { axis: self.axis, start: number(&self.start)?, len: number(&self.len)?, step: self.step })
    }

    fn of(range: &Range) -> Part {
        let number = |n: usize| Dim::Known(n).expr();
        Part { axis: range.axis, start: number(range.start), len: number(range.len), step: range.step }
    }

    /// The part of `x`.
    fn select(&self, n: &mut NodeCx<'_, '_>, x: ValueId) -> Result<ValueId, Refusal> {
        let whole = self.start == 0.into() && self.step == 1 && self.len == n.shape(x).dims()[self.axis].expr();
        let slice = OpenSlice { axis: self.axis, start: self.start.clone(), len: self.len.clone() };
        match self.known() {
            _ if whole => Ok(x),
            Some(range) => n.add(Slice { ranges: vec![range] }, &[x]),
            None if self.step == 1 => part(n, x, slice),
            None => strided(n, x, &slice, self.step as i64),
        }
    }
}

/// The parts of `x` that a node selects, one for each result.
pub(in super::super) fn parts(n: &mut NodeCx<'_, '_>, x: ValueId) -> Result<Vec<Part>, Refusal> {
    let axis = n.int("dim", 0)?;
    let axis = n.axis(axis, x)?;
    let size = n.shape(x).dims()[axis].clone();
    match n.op() {
        "slice" | "slice_scatter" => Ok(vec![sliced(n, axis, &size)?]),
        "select" | "select_scatter" | "narrow" => Ok(vec![narrowed(n, axis, &size)?]),
        _ => {
            let lengths = lengths(n, axis, &size)?;
            let mut start = Expr::default();
            let mut parts = Vec::new();
            for len in &lengths {
                parts.push(Part { axis, start: start.clone(), len: len.clone(), step: 1 });
                start = start.plus(len).ok_or_else(|| Refusal::Unsupported(format!("{} parts", lengths.len())))?;
            }
            if Dim::of(start).is_none_or(|sum| sum.agreed(&size).is_none()) {
                let message = format!("an axis of {size} cannot be split into {}", list(&lengths));
                return Err(Refusal::Invalid(message));
            }
            Ok(parts)
        }
    }
}

fn sliced(n: &mut NodeCx<'_, '_>, axis: usize, size: &Dim) -> Result<Part, Refusal> {
    let start = n.optional_whole("start")?.unwrap_or_default();
    let end = n.optional_whole("end")?.unwrap_or_else(|| i64::MAX.into());
    let step = n.int("step", 1)?;
    if let (Dim::Known(size), Some(start), Some(end)) = (size, start.constant(), end.constant()) {
        return Ok(Part::of(&range(axis, *size, start, end, step)?));
    }
    let slice = open_range(axis, size, &start, &end)?;
    let slice = slice.unwrap_or_else(|| OpenSlice { axis, start: Expr::default(), len: size.expr() });
    // Where positions are clamped to the axis, the program declares what is left.
    let declared = if n.op() == "slice" { n.declared_extent(0, axis).map(|d| d.expr()) } else { None };
    let len = declared.or_else(|| ceil_div(&slice.len, step));
    let step_size = isize::try_from(step).ok().filter(|&step| step > 0);
    let (Some(len), Some(step)) = (len, step_size) else {
        return Err(Refusal::Invalid(format!("a slice with step {step}")));
    };
    Ok(Part { axis, start: slice.start, len, step })
}

fn narrowed(n: &mut NodeCx<'_, '_>, axis: usize, size: &Dim) -> Result<Part, Refusal> {
    let narrow = n.op() == "narrow";
    let asked = n.whole(if narrow { "start" } else { "index" })?;
    let len = if narrow { n.whole("length")? } else { 1.into() };
    let beyond = || Refusal::Invalid(format!("index {asked} lies beyond an axis of extent {size}"));
    let from_end = asked.bounds().1.is_some_and(|most| most < 0);
    let start = if from_end { asked.plus(&size.expr()).ok_or_else(beyond)? } else { asked.clone() };
    let room = size.expr().minus(&len).and_then(|room| room.minus(&start)).ok_or_else(beyond)?;
    let never = |e: &Expr| e.bounds().1.is_some_and(|most| most < 0);
    if [&start, &len, &room].into_iter().any(never) {
        return Err(beyond());
    }
    Ok(Part { axis, start, len, step: 1 })
}

/// The lengths of adjacent parts. Of an open axis they are those that the program declares.
fn lengths(n: &mut NodeCx<'_, '_>, axis: usize, size: &Dim) -> Result<Vec<Expr>, Refusal> {
    let name = if n.has("split_size") { "split_size" } else { "split_sizes" };
    let equal = name == "split_size" && !n.op().ends_with("with_sizes");
    let is_split = matches!(n.op(), "split" | "split_with_sizes" | "unsafe_split" | "unsafe_split_with_sizes");
    if is_split {
        let all = n.wholes(name)?;
        if !equal || all.len() != 1 {
            return Ok(all);
        }
    }
    let Dim::Known(size) = *size else {
        n.pass_over(usize::MAX);
        let declared: Option<Vec<Expr>> = (0..n.results()).map(|i| Some(n.declared_extent(i, axis)?.expr())).collect();
        return declared
            .filter(|all| !all.is_empty())
            .ok_or_else(|| Refusal::Open([size.clone()].into_iter().collect()));
    };
    let whole = i64::try_from(size).unwrap_or(i64::MAX);
    let lengths = match n.op() {
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
            let length = n.required_int(name)?;
            side_by_side(size, extent(length)?)?
        }
    };
    Ok(lengths.into_iter().map(|len| Dim::Known(len).expr()).collect())
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
    let drops_axis = matches!(n.op(), "select" | "unbind");
    let mut values = Values::new();
    for part in parts(n, x)? {
        let v = part.select(n, x)?;
        values.push(if drops_axis { n.reshape_to(v, n.shape(v).without(part.axis))? } else { v });
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
                let row = [Dim::Known(1), n.shape(*part).dims()[0].clone()].into_iter().collect();
                *part = n.reshape_to(*part, row)?;
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
        let len = n.shape(y).dims()[axis].expr().minus(&1.into());
        let Some(len) = len.filter(|len| len.bounds().1.is_none_or(|most| most > 0)) else {
            return Err(Refusal::Unsupported(format!("no difference is left of {}", n.ty(x))));
        };
        let mut from = |start: i64| part(n, y, OpenSlice { axis, start: start.into(), len: len.clone() });
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
        let mut dims = n.shape(v).dims().to_vec();
        dims.insert(axis.min(dims.len()), Dim::Known(1));
        parts.push(n.reshape_to(v, dims.into_iter().collect())?);
    }
    match *parts {
        [only] => one(only),
        _ => one(n.add(Concat { axis }, &parts)?),
    }
}

/// Elements that are shifted beyond the end of an axis reappear at its front.
fn roll(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let x = n.input()?;
    let (shifts, axes) = (n.wholes("shifts")?, n.optional_ints("dims")?.unwrap_or_default());
    let is_flat = axes.is_empty();
    let mut y = if is_flat { flat(n, x)? } else { x };
    let axes = if is_flat { vec![0] } else { axes };
    if axes.len() != shifts.len() {
        return Err(Refusal::Invalid(format!("shifts {} for axes {axes:?}", list(&shifts))));
    }
    for (&axis, shift) in axes.iter().zip(&shifts) {
        let axis = n.axis(axis, y)?;
        let size = n.shape(y).dims()[axis].expr();
        let front = match (size.constant(), shift.constant()) {
            (Some(size), Some(shift)) => Some(Expr::from(shift.rem_euclid(size.max(1)))),
            // A shift is taken to be smaller than an open axis.
            _ => match shift.bounds() {
                (_, Some(..=0)) => shift.plus(&size),
                _ => Some(shift.clone()),
            },
        };
        let rest = front.as_ref().and_then(|front| size.minus(front));
        let (Some(front), Some(rest)) = (front, rest) else { return Err(Refusal::Open(n.shape(y).clone())) };
        if front == 0.into() || rest == 0.into() {
            continue;
        }
        let end = part(n, y, OpenSlice { axis, start: rest.clone(), len: front })?;
        let start = part(n, y, OpenSlice { axis, start: 0.into(), len: rest })?;
        y = n.add(Concat { axis }, &[end, start])?;
    }
    one(n.reshape_to(y, n.shape(x).clone())?)
}

/// Sliding windows along an axis, with their elements along a new last axis.
fn unfold(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let x = n.input()?;
    let (axis, size, step) = (n.required_int("dimension")?, n.required_int("size")?, n.required_int("step")?);
    let (axis, size, step) = (n.axis(axis, x)?, extent(size)?, extent(step)?);
    let room = n.shape(x).dims()[axis].expr().minus(&Dim::Known(size).expr());
    let room = room.filter(|room| step > 0 && room.bounds().1.is_none_or(|most| most >= 0));
    let steps = room.and_then(|room| room.floor_div(step as i64)?.plus(&1.into()));
    let steps = steps.ok_or_else(|| Refusal::Invalid(format!("windows of {size} for {}", n.ty(x))))?;
    let places = match steps.constant() {
        Some(steps) => n.table(&[extent(steps)?, size], |i| (i / size * step + i % size) as i64)?,
        None => {
            let first = counted(n, steps.clone())?;
            let first = n.reshape_to(first, [open(steps)?, Dim::Known(1)].into_iter().collect())?;
            let step = n.add_constant(Tensor::scalar(step as i64));
            let first = n.binary(BinaryFn::Mul, first, step)?;
            let inside = n.table(&[size], |i| i as i64)?;
            n.binary(BinaryFn::Add, first, inside)?
        }
    };
    let y = n.add(Gather { axis }, &[x, places])?;
    let mut perm: Extents = (0..n.rank(y)).filter(|&a| a != axis + 1).collect();
    perm.push(axis + 1);
    one(n.transpose(y, &perm)?)
}
