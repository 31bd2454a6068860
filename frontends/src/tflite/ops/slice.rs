//! Parts of tensors.

use qcc_formats::tflite::{BuiltinOperator as B, StridedSlice};
use qcc_ir::ops::{BinaryFn, OpenSlice, Range, Slice};
use qcc_ir::{Dim, ValueId};

use super::super::node::NodeCx;
use super::Row;
use super::movement::plain;
use crate::build::index::part;
use crate::build::movement::{self, Cut};
use crate::build::{Build, Operands, Values, computed, extent, one};
use crate::refusal::Refusal;

pub(super) const ROWS: &[Row] = &[(B::SLICE, slice), (B::STRIDED_SLICE, strided_slice)];

/// Slices `x`, as result 0; returns `x` where the ranges cover all of it.
fn chosen(n: &mut NodeCx<'_, '_>, x: ValueId, mut ranges: Vec<Range>) -> Result<ValueId, Refusal> {
    let dims = n.shape(x).dims();
    ranges.retain(|r| r.start != 0 || r.step != 1 || dims[r.axis] != r.len.into());
    if ranges.is_empty() { Ok(x) } else { n.give(Slice { ranges }, &[x]) }
}

/// A length of -1 is the rest of the axis.
fn slice(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let x = n.input(0)?;
    plain(n, x)?;
    if n.computed(1)?.is_some() || n.computed(2)?.is_some() {
        return computed_runs(n, x);
    }
    let (begin, lengths) = (n.whole(1)?, n.whole(2)?);
    let dims = n.shape(x).dims().to_vec();
    if [begin.len(), lengths.len()] != [dims.len(); 2] {
        return Err(Refusal::Invalid(format!(
            "{} beginnings and {} lengths for {}",
            begin.len(),
            lengths.len(),
            n.ty(x)
        )));
    }
    let (mut ranges, mut open) = (Vec::new(), Vec::new());
    for (axis, (start, len)) in begin.into_iter().zip(lengths).enumerate() {
        let rest = len == (-1).into();
        match (dims[axis].known(), start.constant(), len.constant()) {
            (Some(whole), Some(start), Some(_)) if rest => {
                let start = extent(start)?;
                ranges.push(Range { axis, start, len: whole.saturating_sub(start), step: 1 });
            }
            (_, Some(start), Some(len)) if !rest => {
                ranges.push(Range { axis, start: extent(start)?, len: extent(len)?, step: 1 });
            }
            _ => {
                let unfit = || Refusal::Open(n.shape(x).clone());
                let len = if rest { dims[axis].expr().minus(&start).ok_or_else(unfit)? } else { len };
                let whole = start == 0.into() && len == dims[axis].expr();
                open.extend((!whole).then_some(OpenSlice { axis, start, len }));
            }
        }
    }
    let known = chosen(n, x, ranges)?;
    one(open.into_iter().try_fold(known, |y, slice| part(n, y, slice))?)
}

/// A slice whose beginnings or lengths are known at run time only.
fn computed_runs(n: &mut NodeCx<'_, '_>, x: ValueId) -> Result<Values, Refusal> {
    let lists = [n.input(1)?, n.input(2)?].map(|v| computed::list(n, v));
    let [begin, lengths] = [lists[0].clone()?, lists[1].clone()?];
    let rank = n.rank(x);
    if [n.dims(begin)?[0], n.dims(lengths)?[0]] != [rank; 2] {
        return Err(Refusal::Invalid(format!("beginnings {} and lengths for {}", n.ty(begin), n.ty(x))));
    }
    let mut y = x;
    for axis in 0..rank {
        let run = [computed::position(n, begin, axis)?, computed::position(n, lengths, axis)?];
        y = computed::run(n, y, axis, run)?;
    }
    one(y)
}

/// What the masks of STRIDED_SLICE make of an entry.
enum Entry {
    /// All axes without an entry of their own.
    Rest,
    /// An axis of extent 1.
    New,
    /// One element, without its axis.
    Element(usize),
    /// A part of an axis.
    Part(usize),
}

/// The entries of a slice of `x`.
fn entries(n: &NodeCx<'_, '_>, o: &StridedSlice, x: ValueId, count: usize) -> Result<Vec<Entry>, Refusal> {
    let has = |mask: i32, i: usize| mask >> i & 1 == 1;
    let rank = n.rank(x);
    // Number of axes with an entry of their own; the ellipsis stands for all others.
    let own = (0..count).filter(|&i| !has(o.ellipsis_mask, i) && !has(o.new_axis_mask, i)).count();
    if own > rank || (0..count).filter(|&i| has(o.ellipsis_mask, i)).count() > 1 {
        return Err(Refusal::Invalid(format!("{own} ranges for {}", n.ty(x))));
    }
    let mut axis = 0;
    let mut entry = |i: usize| {
        if has(o.ellipsis_mask, i) {
            axis += rank - own;
            return Entry::Rest;
        }
        if has(o.new_axis_mask, i) {
            return Entry::New;
        }
        axis += 1;
        if has(o.shrink_axis_mask, i) { Entry::Element(axis - 1) } else { Entry::Part(axis - 1) }
    };
    Ok((0..count).map(&mut entry).collect())
}

fn strided_slice(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let o: StridedSlice = n.options()?;
    let x = n.input(0)?;
    plain(n, x)?;
    if n.computed(1)?.is_some() || n.computed(2)?.is_some() {
        return computed_slice(n, &o, x);
    }
    let (begin, end, steps) = (n.whole(1)?, n.whole(2)?, n.integers(3)?);
    let count = begin.len();
    if [end.len(), steps.len()] != [count; 2] || count > 31 {
        return Err(Refusal::Invalid("beginnings, ends and steps are not of one length".into()));
    }
    let has = |mask: i32, i: usize| mask >> i & 1 == 1;
    let large = || Refusal::Unsupported("a slice to very large positions".into());
    let entries = entries(n, &o, x, count)?;
    let mut cuts = Vec::new();
    for (i, entry) in entries.iter().enumerate() {
        match *entry {
            Entry::Rest | Entry::New => {}
            Entry::Element(axis) => cuts.push(movement::element(axis, &n.shape(x).dims()[axis], &begin[i])?),
            Entry::Part(axis) => {
                let (from_end, to_end) = if steps[i] < 0 { (i64::MAX, i64::MIN) } else { (0, i64::MAX) };
                let start = if has(o.begin_mask, i) { from_end.into() } else { begin[i].clone() };
                let end = if has(o.end_mask, i) {
                    to_end.into()
                } else if o.offset {
                    begin[i].plus(&end[i]).ok_or_else(large)?
                } else {
                    end[i].clone()
                };
                cuts.push(Cut { axis, start, end, step: steps[i] });
            }
        }
    }
    let part = movement::sliced(n, x, &cuts)?;
    shown(n, part, &entries)
}

/// The result of a slice: new axes are added to `part`, and those of single elements removed.
fn shown(n: &mut NodeCx<'_, '_>, part: ValueId, entries: &[Entry]) -> Result<Values, Refusal> {
    let dims = n.shape(part).dims();
    let own = entries.iter().filter(|e| matches!(e, Entry::Element(_) | Entry::Part(_))).count();
    let (mut axis, mut kept) = (0, Vec::new());
    for entry in entries {
        match entry {
            Entry::Rest => {
                kept.extend_from_slice(&dims[axis..axis + dims.len() - own]);
                axis += dims.len() - own;
            }
            Entry::New => kept.push(Dim::Known(1)),
            Entry::Element(_) => axis += 1,
            Entry::Part(_) => {
                kept.push(dims[axis].clone());
                axis += 1;
            }
        }
    }
    kept.extend_from_slice(&dims[axis..]);
    one(n.reshape_to(part, kept.into_iter().collect())?)
}

/// A slice whose beginnings or ends are known at run time only.
fn computed_slice(n: &mut NodeCx<'_, '_>, o: &StridedSlice, x: ValueId) -> Result<Values, Refusal> {
    let (begin, end, steps) = (n.input(1)?, n.input(2)?, n.integers(3)?);
    let (begin, mut end) = (computed::list(n, begin)?, computed::list(n, end)?);
    let count = n.dims(begin)?[0];
    if [n.dims(end)?[0], steps.len()] != [count; 2] || count > 31 {
        return Err(Refusal::Invalid("beginnings, ends and steps are not of one length".into()));
    }
    if o.offset {
        end = n.binary(BinaryFn::Add, begin, end)?;
    }
    let has = |mask: i32, i: usize| mask >> i & 1 == 1;
    let entries = entries(n, o, x, count)?;
    let mut y = x;
    for (i, entry) in entries.iter().enumerate() {
        match *entry {
            Entry::Rest | Entry::New => {}
            Entry::Element(axis) => {
                let at = computed::position(n, begin, i)?;
                y = computed::element_at(n, y, axis, at)?;
            }
            Entry::Part(axis) => {
                let ends = [(begin, has(o.begin_mask, i)), (end, has(o.end_mask, i))];
                let far = |back: bool| if back { i64::from(i32::MIN) } else { i64::from(i32::MAX) };
                let mut at = Values::new();
                for (side, (list, ignored)) in ends.into_iter().enumerate() {
                    at.push(match (ignored, side) {
                        (false, _) => computed::position(n, list, i)?,
                        (true, 0) if steps[i] > 0 => computed::number(n, 0),
                        (true, side) => computed::number(n, far((steps[i] < 0) == (side == 1))),
                    });
                }
                y = computed::slice(n, y, axis, [at[0], at[1]], steps[i])?;
            }
        }
    }
    shown(n, y, &entries)
}
