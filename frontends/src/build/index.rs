//! Slices and indices.

use qcc_ir::eval::indices_within;
use qcc_ir::ops::{
    BinaryFn, Concat, Expand, Extents, Gather, NonZero, Op, OpenSlice, Range, ReduceFn, ScatterFn, ScatterNd, Select,
    Slice, UnaryFn,
};
use qcc_ir::{Dim, Elem, Expr, Shape, Tensor, ValueId};

use super::computed::{counted, found, fresh, list, number, position};
use super::{Build, Operands, Values, extent};
use crate::refusal::Refusal;

/// The range of a slice `start`, `end`, `step`: negative positions count from the end, all are clamped to the axis.
pub(crate) fn range(axis: usize, extent: usize, start: i64, end: i64, step: i64) -> Result<Range, Refusal> {
    if step == 0 {
        return Err(Refusal::Invalid("a slice with step 0".into()));
    }
    let (extent, step) = (extent as i128, i128::from(step));
    let from_front = |p: i64| i128::from(p) + if p < 0 { extent } else { 0 };
    let (first, last) = if step > 0 { (0, extent) } else { (-1, extent - 1) };
    let start = from_front(start).clamp(first.max(0), last.max(0));
    let end = from_front(end).clamp(first, last);
    let len = if step > 0 { (end - start + step - 1) / step } else { (start - end - step - 1) / -step };
    let len = if extent == 0 { 0 } else { len.max(0) };
    // A step matters only for two or more elements.
    let step = if len > 1 { step } else { 1 };
    let start = if len > 0 { start } else { 0 };
    Ok(Range { axis, start: start as usize, len: len as usize, step: step as isize })
}

/// Exporters write an end as large as this for the rest of an axis.
const THE_REST: i64 = 1_000_000_000;

/// The part from `start` to before `end` of an axis, negative ones counted from its end; `None` if it is the whole axis.
/// The end of a part that depends on open extents is taken to be inside an axis of known extent; an open axis ends it.
pub(crate) fn open_range(axis: usize, extent: &Dim, start: &Expr, end: &Expr) -> Result<Option<OpenSlice>, Refusal> {
    let all = extent.expr();
    let large = || Refusal::Unsupported(format!("a part from {start} to {end} of an axis of {extent}"));
    let from_front = |at: &Expr| match at.bounds() {
        (_, Some(high)) if high < 0 => at.plus(&all),
        _ => Some(at.clone()),
    };
    let asked = [start, end];
    let start = from_front(start).ok_or_else(large)?;
    let end = match end.constant() {
        Some(n) if n >= THE_REST => all.clone(),
        _ => from_front(end).ok_or_else(large)?,
    };
    let end = if extent.known().is_some() { end } else { end.smaller(&all).ok_or_else(large)? };
    let len = end.minus(&start).ok_or_else(large)?;
    match len.bounds() {
        // The larger the extents, the shorter the part: it ends where it starts.
        (None, Some(_)) if extent.known().is_none() => {
            return open_steps(axis, extent, asked, 1)?.ok_or_else(large).map(Some);
        }
        (_, Some(most)) if most < 0 => return Err(large()),
        _ => {}
    }
    Ok((start != 0.into() || len != all).then_some(OpenSlice { axis, start, len }))
}

/// The elements of an open axis at every `step`th position from the start to before the end, in the order of the steps: as
/// [`range`], for any extent. `None` where it is not known whether a position counts from the end.
pub(crate) fn open_steps(
    axis: usize,
    extent: &Dim,
    [start, end]: [&Expr; 2],
    step: i64,
) -> Result<Option<OpenSlice>, Refusal> {
    if step == 0 {
        return Err(Refusal::Invalid("a slice with step 0".into()));
    }
    let all = extent.expr();
    let inside = |at: &Expr, [low, high]: [&Expr; 2]| match at.bounds() {
        (Some(least), _) if least >= THE_REST => Some(high.clone()),
        (_, Some(most)) if most <= -THE_REST => Some(low.clone()),
        (_, Some(most)) if most < 0 => at.plus(&all)?.larger(low)?.smaller(high),
        (Some(0..), _) => at.larger(low)?.smaller(high),
        _ => None,
    };
    let covered = || {
        let (zero, last) = (Expr::default(), all.minus(&1.into())?);
        let (start, len) = if step > 0 {
            let (start, end) = (inside(start, [&zero, &all])?, inside(end, [&zero, &all])?);
            (start.clone(), end.minus(&start)?)
        } else {
            let (start, end) = (inside(start, [&zero, &last])?, inside(end, [&(-1).into(), &last])?);
            (start.clone(), start.minus(&end)?)
        };
        let by = step.saturating_abs();
        let len = len.larger(&zero)?.plus(&(by - 1).into())?.floor_div(by)?;
        Some(OpenSlice { axis, start, len })
    };
    Ok(covered())
}

/// A part of `x`, whose start and length may be numbers.
pub(crate) fn part(n: &mut impl Build, x: ValueId, slice: OpenSlice) -> Result<ValueId, Refusal> {
    match (slice.start.constant(), slice.len.constant()) {
        (Some(start), Some(len)) => {
            let range = Range { axis: slice.axis, start: extent(start)?, len: extent(len)?, step: 1 };
            n.add(Slice { ranges: vec![range] }, &[x])
        }
        _ => n.add(slice, &[x]),
    }
}

/// Every `step`th element of an axis from `start` on, `len` of them.
pub(crate) fn strided(n: &mut impl Build, x: ValueId, slice: &OpenSlice, step: i64) -> Result<ValueId, Refusal> {
    if let Some(len) = slice.len.constant() {
        let places = n.table(&[extent(len)?], |i| i as i64 * step)?;
        return placed(n, x, slice, places);
    }
    let places = counted(n, slice.len.clone())?;
    let step = n.add_constant(Tensor::scalar(step));
    let places = n.binary(BinaryFn::Mul, places, step)?;
    placed(n, x, slice, places)
}

/// The elements of `x` at these places from the start of a slice on.
fn placed(n: &mut impl Build, x: ValueId, slice: &OpenSlice, places: ValueId) -> Result<ValueId, Refusal> {
    let start = n.add_whole(vec![slice.start.clone()], Extents::new())?;
    let places = n.binary(BinaryFn::Add, places, start)?;
    n.add(Gather { axis: slice.axis }, &[x, places])
}

/// The number of sorted elements: the integer at operand `i`.
pub(crate) fn count_sorted(n: &mut impl Operands, i: usize) -> Result<Dim, Refusal> {
    match n.shape_at(i)?.dims() {
        [k] => Ok(k.clone()),
        _ => Err(Refusal::Invalid(format!("operand {i} is not one number of elements"))),
    }
}

/// Refuses constant indices that are out of range, before they are combined to tuples. Column `i` indexes an axis of
/// extent `extents[i]`.
pub(crate) fn within(n: &impl Build, indices: ValueId, extents: &[usize]) -> Result<(), Refusal> {
    n.constant(indices).map_or(Ok(()), |known| Ok(indices_within(known, extents)?))
}

/// The destinations of scattered updates.
pub(crate) struct Places {
    /// Index tuples along the last axis.
    tuples: ValueId,
    /// The axis that they index; it is moved to the front.
    axis: usize,
}

impl Places {
    /// The slices at these index tuples.
    pub(crate) fn tuples(n: &impl Build, x: ValueId, tuples: ValueId) -> Result<Places, Refusal> {
        let counted = n.shape(tuples).dims().last().and_then(Dim::known);
        let counted = counted.ok_or_else(|| Refusal::Open(n.shape(tuples).clone()))?;
        if counted > n.rank(x) {
            return Err(Refusal::Invalid(format!("{counted} indices for {}", n.ty(x))));
        }
        Ok(Places { tuples, axis: 0 })
    }

    /// The slices of an axis at a vector of indices.
    pub(crate) fn slices(n: &mut impl Build, axis: usize, indices: ValueId) -> Result<Places, Refusal> {
        let count = Shape::count(n.shape(indices).dims()).ok_or_else(|| Refusal::Open(n.shape(indices).clone()))?;
        Ok(Places { tuples: n.reshape_to(indices, [count, Dim::Known(1)].into_iter().collect())?, axis })
    }

    /// Single elements: update `[i][j]` goes to `x[indices[i][j]][j]` for axis 0 of rank 2.
    pub(crate) fn elements(n: &mut impl Build, x: ValueId, axis: usize, indices: ValueId) -> Result<Places, Refusal> {
        let (data, dims) = (n.shape(x).dims().to_vec(), n.shape(indices).dims().to_vec());
        let others = || (0..dims.len()).filter(|&a| a != axis);
        let room = |a: usize| data[a].expr().minus(&dims[a].expr()).map_or((None, None), |room| room.bounds());
        if dims.len() != data.len() || others().any(|a| room(a).1.is_some_and(|most| most < 0)) {
            return Err(Refusal::Invalid(format!("indices {} for {}", n.ty(indices), n.ty(x))));
        }
        if others().any(|a| room(a).0.is_none_or(|least| least < 0)) {
            return Err(Refusal::Open(n.shape(indices).clone()));
        }
        let whole = others().all(|a| dims[a] == data[a]);
        if let Some(vector) = same_off_axis(n, indices, axis).filter(|_| whole) {
            return Places::slices(n, axis, vector);
        }
        if let Some(extent) = data[axis].known() {
            within(n, indices, &[extent])?;
        }
        let grid: Shape = dims.iter().cloned().chain([Dim::Known(1)]).collect();
        let indices = n.cast(indices, Elem::I64)?;
        let mut columns = Values::new();
        for a in 0..dims.len() {
            columns.push(if a == axis { n.reshape_to(indices, grid.clone())? } else { positions(n, &grid, a)? });
        }
        Ok(Places { tuples: beside(n, columns, dims.len())?, axis: 0 })
    }

    /// x with its updates.
    pub(crate) fn update(
        &self,
        n: &mut impl Build,
        f: ScatterFn,
        x: ValueId,
        updates: ValueId,
    ) -> Result<ValueId, Refusal> {
        let to_front = |rank: usize| -> Extents {
            std::iter::once(self.axis).chain((0..rank).filter(|&a| a != self.axis)).collect()
        };
        if self.axis == 0 {
            return n.add(ScatterNd { f }, &[x, self.tuples, updates]);
        }
        let perm = to_front(n.rank(x));
        let (x, updates) = (n.transpose(x, &perm)?, n.transpose(updates, &perm)?);
        let y = n.add(ScatterNd { f }, &[x, self.tuples, updates])?;
        let mut back: Extents = (1..perm.len()).collect();
        back.insert(self.axis, 0);
        n.transpose(y, &back)
    }
}

/// `x` with a block in place of a part of one axis, where its position is a constant.
pub(crate) fn block_between(
    n: &mut impl Build,
    x: ValueId,
    block: ValueId,
    starts: ValueId,
) -> Result<Option<ValueId>, Refusal> {
    let (own, new) = (n.shape(x).dims().to_vec(), n.shape(block).dims().to_vec());
    let mut axes = (0..own.len().min(new.len())).filter(|&a| own[a] != new[a]);
    let (Some(axis), None) = (axes.next(), axes.next()) else { return Ok(None) };
    let start = n.constant(starts).and_then(Tensor::integers).and_then(|starts| starts.get(axis).copied());
    let (Some(start), Some(whole), Some(len)) = (start, own[axis].known(), new[axis].known()) else { return Ok(None) };
    let Some(rest) = whole.checked_sub(len).filter(|_| own.len() == new.len()) else { return Ok(None) };
    let start = usize::try_from(start.max(0)).unwrap_or(rest).min(rest);
    let mut parts = Values::new();
    for (is_block, start, len) in [(false, 0, start), (true, start, len), (false, start + len, rest - start)] {
        if is_block {
            parts.push(block);
        } else if len > 0 {
            parts.push(n.add(Slice { ranges: vec![Range { axis, start, len, step: 1 }] }, &[x])?);
        }
    }
    n.add(Concat { axis }, &parts).map(Some)
}

/// The index tuples of a block of these extents in `x` that begins at a list of positions, one for each axis. They are
/// clamped so that the block is inside. `None` where the block is all of `x`.
pub(crate) fn block_places(
    n: &mut impl Build,
    x: ValueId,
    block: ValueId,
    starts: ValueId,
) -> Result<Option<ValueId>, Refusal> {
    let (own, new) = (n.shape(x).dims().to_vec(), n.shape(block).dims().to_vec());
    let rests: Option<Vec<Expr>> = own.iter().zip(&new).map(|(own, new)| own.expr().minus(&new.expr())).collect();
    let fits = |rests: &Vec<Expr>| rests.iter().all(|rest| rest.bounds().1.is_none_or(|most| most >= 0));
    let Some(rests) = rests.filter(|rests| own.len() == new.len() && fits(rests)) else {
        return Err(Refusal::Invalid(format!("a block {} of {}", n.ty(block), n.ty(x))));
    };
    if n.shape(starts).elements() != Some(own.len()) {
        return Err(Refusal::Invalid(format!("{} positions for {}", n.ty(starts), n.ty(x))));
    }
    let Some(last) = rests.iter().rposition(|rest| *rest != 0.into()) else { return Ok(None) };
    let starts = list(n, starts)?;
    let zero = number(n, 0);
    let grid: Shape = new[..=last].iter().cloned().chain([Dim::Known(1)]).collect();
    let mut columns = Values::new();
    for (axis, rest) in rests.into_iter().enumerate().take(last + 1) {
        let mut places = counted(n, new[axis].expr())?;
        if rest != 0.into() {
            let start = position(n, starts, axis)?;
            let most = n.add_whole(vec![rest], Extents::from_elem(1, 1))?;
            let start = n.binary(BinaryFn::Min, start, most)?;
            let start = n.binary(BinaryFn::Max, start, zero)?;
            places = n.binary(BinaryFn::Add, places, start)?;
        }
        columns.push(across(n, places, &grid, axis)?);
    }
    beside(n, columns, last + 1).map(Some)
}

/// The positions along an axis of a grid, at all places of the grid.
fn positions(n: &mut impl Build, grid: &Shape, axis: usize) -> Result<ValueId, Refusal> {
    match grid.extents() {
        Some(known) => {
            let inner: usize = known[axis + 1..].iter().product();
            n.table(&known, |i| (i / inner % known[axis]) as i64)
        }
        None => {
            let places = counted(n, grid.dims()[axis].expr())?;
            across(n, places, grid, axis)
        }
    }
}

/// A vector along an axis of a grid, the same along all others.
fn across(n: &mut impl Build, v: ValueId, grid: &Shape, axis: usize) -> Result<ValueId, Refusal> {
    let dims = grid.dims().iter().enumerate().map(|(a, d)| if a == axis { d.clone() } else { Dim::Known(1) });
    let v = n.reshape_to(v, dims.collect())?;
    if n.shape(v) == grid { Ok(v) } else { n.add(Expand { shape: grid.clone() }, &[v]) }
}

/// Columns of index tuples joined along the last axis.
fn beside(n: &mut impl Build, columns: Values, axis: usize) -> Result<ValueId, Refusal> {
    if let [only] = *columns { Ok(only) } else { n.add(Concat { axis }, &columns) }
}

/// The indices along an axis as a vector, if they do not vary along the other axes.
fn same_off_axis(n: &mut impl Build, indices: ValueId, axis: usize) -> Option<ValueId> {
    let dims = n.dims(indices).ok()?;
    let extent = dims[axis];
    if let Some(values) = n.constant(indices).and_then(Tensor::integers) {
        let inner: usize = dims[axis + 1..].iter().product();
        let vector: Vec<i64> = (0..extent).map(|i| values.get(i * inner).copied()).collect::<Option<_>>()?;
        let same = values.iter().enumerate().all(|(i, &v)| v == vector[i / inner % extent]);
        return same.then(|| n.add_constant(Tensor::from_vec(Shape::known(&[extent]), vector)));
    }
    let repeated = matches!(n.graph().producer(indices), Op::Expand(_));
    let source = if repeated { n.graph().operands(indices.node)[0] } else { indices };
    let behind = (axis + n.rank(source)).checked_sub(dims.len())?;
    let from = n.dims(source).ok()?;
    let column = from.iter().product::<usize>() == extent && from[behind] == extent;
    if column { n.reshape(source, &[extent]).ok() } else { None }
}

/// `x` with the first `lens[i]` elements along axis `time` of sequence `i`, an index of axis `batch`, in reverse order.
pub(crate) fn reversed(
    n: &mut impl Build,
    x: ValueId,
    lens: ValueId,
    batch: usize,
    time: usize,
) -> Result<ValueId, Refusal> {
    if batch == time {
        return Err(Refusal::Invalid("batch and time are one axis".into()));
    }
    let dims = n.shape(x).dims().to_vec();
    let (sequences, steps) = (dims[batch].clone(), dims[time].clone());
    let agrees = |dims: &[Dim]| matches!(dims, [one] if one.agreed(&sequences).is_some());
    if !agrees(n.shape(lens).dims()) {
        return Err(Refusal::Invalid(format!("lengths {} for {sequences} sequences", n.ty(lens))));
    }
    let lens = n.cast(lens, Elem::I64)?;
    let lens = n.reshape_to(lens, [sequences.clone(), 1.into()].into_iter().collect())?;
    let places = counted(n, steps.expr())?;
    let places = n.reshape_to(places, [1.into(), steps.clone()].into_iter().collect())?;
    let last = n.scalar(1.0, lens)?;
    let last = n.binary(BinaryFn::Sub, lens, last)?;
    let mirrored = n.binary(BinaryFn::Sub, last, places)?;
    let within = n.binary(BinaryFn::Less, places, lens)?;
    let from = n.add(Select {}, &[within, mirrored, places])?;
    // Sequences and steps become one axis.
    let first = counted(n, sequences.expr())?;
    let first = n.reshape_to(first, [sequences.clone(), 1.into()].into_iter().collect())?;
    let each = n.add_whole(vec![steps.expr()], Extents::new())?;
    let first = n.binary(BinaryFn::Mul, first, each)?;
    let from = n.binary(BinaryFn::Add, from, first)?;
    let all = sequences.times(&steps).ok_or_else(|| Refusal::Open(n.shape(x).clone()))?;
    let from = n.reshape_to(from, [all.clone()].into_iter().collect())?;
    let mut perm: Extents = (0..dims.len()).filter(|&a| a != batch && a != time).collect();
    perm.insert_many(0, [batch, time]);
    let apart: Vec<Dim> = perm.iter().map(|&a| dims[a].clone()).collect();
    let flat = std::iter::once(all).chain(apart[2..].iter().cloned()).collect();
    let rows = n.transpose(x, &perm)?;
    let rows = n.reshape_to(rows, flat)?;
    let rows = n.add(Gather { axis: 0 }, &[rows, from])?;
    let y = n.reshape_to(rows, apart.into_iter().collect())?;
    let back: Extents = (0..perm.len()).filter_map(|a| perm.iter().position(|&p| p == a)).collect();
    n.transpose(y, &back)
}

/// Diagonal `k` of the matrices formed by two axes, as a new last axis that replaces them.
pub(crate) fn diagonal(
    n: &mut impl Build,
    x: ValueId,
    [rows, columns]: [usize; 2],
    k: i64,
) -> Result<ValueId, Refusal> {
    let dims = n.dims(x)?;
    if rows == columns {
        return Err(Refusal::Invalid(format!("the diagonal along axis {rows} alone")));
    }
    let (below, above) = (extent(k.saturating_neg().max(0))?, extent(k.max(0))?);
    let (height, width) = (dims[rows], dims[columns]);
    let len = height.saturating_sub(below).min(width.saturating_sub(above));
    if len == 0 {
        return Err(Refusal::Unsupported(format!("diagonal {k} of {height} by {width} is empty")));
    }
    let mut perm: Extents = (0..dims.len()).filter(|&a| a != rows && a != columns).collect();
    let mut flat: Extents = perm.iter().map(|&a| dims[a]).collect();
    perm.extend([rows, columns]);
    flat.push(height * width);
    let x = n.transpose(x, &perm)?;
    let x = n.reshape(x, &flat)?;
    let range = Range { axis: flat.len() - 1, start: below * width + above, len, step: width as isize + 1 };
    n.add(Slice { ranges: vec![range] }, &[x])
}

/// A `Bool` matrix: true on diagonal `k` and above it (`upper`) or below it.
pub(crate) fn triangle(
    n: &mut impl Build,
    rows: &Dim,
    columns: &Dim,
    k: impl Into<Expr>,
    upper: bool,
) -> Result<ValueId, Refusal> {
    let f = if upper { BinaryFn::GreaterEqual } else { BinaryFn::LessEqual };
    beside_diagonal(n, [rows, columns], k, f)
}

/// A `Bool` matrix: how the index of the column compares with that of the row plus `k`.
pub(crate) fn beside_diagonal(
    n: &mut impl Build,
    [rows, columns]: [&Dim; 2],
    k: impl Into<Expr>,
    f: BinaryFn,
) -> Result<ValueId, Refusal> {
    let k = k.into();
    if let (&Dim::Known(rows), &Dim::Known(columns), Some(k)) = (rows, columns, k.constant()) {
        n.room(&[rows, columns], 1)?;
        let place = |i: usize| ((i % columns) as i64).saturating_sub((i / columns) as i64);
        let marks = (0..rows * columns).map(|i| match f {
            BinaryFn::GreaterEqual => place(i) >= k,
            BinaryFn::LessEqual => place(i) <= k,
            _ => place(i) == k,
        });
        return Ok(n.add_constant(Tensor::from_bools(Shape::known(&[rows, columns]), marks)));
    }
    let k = n.add_whole(vec![k], Extents::new())?;
    beside_computed(n, [rows, columns], k, f)
}

/// As [`beside_diagonal`], for a `k` of integers that broadcast with the matrix.
pub(crate) fn beside_computed(
    n: &mut impl Build,
    [rows, columns]: [&Dim; 2],
    k: ValueId,
    f: BinaryFn,
) -> Result<ValueId, Refusal> {
    let (row, column) = (counted(n, rows.expr())?, counted(n, columns.expr())?);
    let row = n.column(row)?;
    let diagonal = n.binary(BinaryFn::Add, row, k)?;
    n.binary(f, column, diagonal)
}

/// The number of the boundaries with which each element compares so.
pub(crate) fn bucket(
    n: &mut impl Build,
    x: ValueId,
    boundaries: ValueId,
    f: BinaryFn,
    elem: Elem,
) -> Result<ValueId, Refusal> {
    let x = n.column(x)?;
    let hits = n.binary(f, x, boundaries)?;
    let hits = n.cast(hits, elem)?;
    n.reduce(ReduceFn::Sum, hits, &[n.rank(x) - 1], false)
}

/// The matrices `x` with these vectors along the last axis as their diagonals.
pub(crate) fn with_diagonal(n: &mut impl Build, x: ValueId, vectors: ValueId) -> Result<ValueId, Refusal> {
    let (dims, own) = (n.shape(x).dims().to_vec(), n.shape(vectors).dims().to_vec());
    let ([batch @ .., rows, columns], [.., len]) = (&dims[..], &own[..]) else {
        return Err(Refusal::Invalid(format!("diagonals {} of {}", n.ty(vectors), n.ty(x))));
    };
    let is_wide = rows == len;
    if (!is_wide && columns != len) || own.len() + 1 != dims.len() {
        return Err(Refusal::Invalid(format!("diagonals {} of {}", n.ty(vectors), n.ty(x))));
    }
    let last = if is_wide { [len.clone(), 1.into()] } else { [1.into(), len.clone()] };
    let marks = beside_diagonal(n, [rows, columns], 0, BinaryFn::Equal)?;
    let vectors = n.reshape_to(vectors, batch.iter().cloned().chain(last).collect())?;
    n.add(Select {}, &[marks, vectors, x])
}

/// Square matrices of zeros with these vectors along the last axis as their diagonals.
pub(crate) fn diagonal_matrix(n: &mut impl Build, vectors: ValueId) -> Result<ValueId, Refusal> {
    let dims = n.shape(vectors).dims().to_vec();
    let Some(len) = dims.last().cloned() else {
        return Err(Refusal::Invalid(format!("a diagonal {}", n.ty(vectors))));
    };
    let zero = n.scalar(0.0, vectors)?;
    let zeros = n.add(Expand { shape: dims.into_iter().chain([len]).collect() }, &[zero])?;
    with_diagonal(n, zeros, vectors)
}

/// The indices of non-zero elements: one row for each axis, one column for each element.
pub(crate) fn non_zero(n: &mut impl Build, x: ValueId) -> Result<ValueId, Refusal> {
    let truths = match n.ty(x).elem {
        Elem::Bool => x,
        _ => {
            let zero = n.scalar(0.0, x)?;
            let zeros = n.binary(BinaryFn::Equal, x, zero)?;
            n.unary(UnaryFn::Not, zeros)?
        }
    };
    let count = fresh(n);
    found(n, NonZero { count }, &[truths])
}
