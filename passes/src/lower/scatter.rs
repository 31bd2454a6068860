//! Lowering of scatter: with constant indices each position gathers its value, with others it is compared with each
//! index.

use qcc_ir::ops::{BinaryFn, Expand, Gather, Op, Reduce, ReduceFn, ScatterFn, ScatterNd};
use qcc_ir::{Dim, Elem, NodeId, Shape, Tensor, ValueId};
use rustc_hash::FxHashSet;

use super::build::{Build, Built};
use super::index::{counted_from_front, from_front};
use super::sign::is_nonnegative;
use crate::Skip;

/// The maximum number of elements of a gather table, for constant indices.
const LARGEST_TABLE: usize = 1 << 24;

/// The maximum number of comparisons, for computed indices.
const LARGEST_COMPARISON: usize = 1 << 22;

pub(super) fn scatter_nd(b: &mut Build<'_>, node: NodeId) -> Built {
    let Op::ScatterNd(op) = b.g.op(node) else { return Err(Skip::NoMatch) };
    let (f, operands) = (op.f, b.g.operands(node));
    if f == ScatterFn::Replace && operands[..2].iter().any(|&v| b.ty(v).shape.is_open()) {
        return replaced(b, &operands);
    }
    let (dims, index) = (b.extents(operands[0])?, b.extents(operands[1])?);
    let [tuples @ .., tuple] = index.as_slice() else { return Err(Skip::NoMatch) };
    let (places, run) = (dims[..*tuple].iter().product(), dims[*tuple..].iter().product());
    let count = tuples.iter().product();
    match b.g.constant(operands[1]) {
        Some(known) => {
            b.g.indices_within(node)?;
            let known = from_front(known, &dims[..*tuple]).unwrap_or_else(|| known.clone());
            let targets = targets(&known, &dims[..*tuple]);
            if f == ScatterFn::Replace && is_number(b, operands[0]) && is_zero(b, operands[0]) && distinct(&targets) {
                // Updates that are added to zeros replace them.
                return b.op(ScatterNd { f: ScatterFn::Add }, &operands);
            }
            at_known(b, f, &operands, targets, [places, count, run])
        }
        None => compared(b, f, &operands, &dims[..*tuple], [count, run]),
    }
}

/// The positions, on the leading axes, of each index tuple.
fn targets(index: &Tensor, extents: &[usize]) -> Vec<usize> {
    if extents.is_empty() {
        return vec![0; index.dims().iter().rev().skip(1).product()];
    }
    let place = |t: &[i64]| t.iter().zip(extents).fold(0, |at, (&i, &extent)| at * extent + i as usize);
    index.integers().unwrap_or_default().chunks_exact(extents.len()).map(place).collect()
}

fn is_number(b: &Build<'_>, v: ValueId) -> bool {
    matches!(b.ty(v).elem, Elem::F32 | Elem::I32)
}

/// True if a value is a constant of zeros.
fn is_zero(b: &Build<'_>, v: ValueId) -> bool {
    match b.g.producer(v) {
        Op::Const(c) => c.value.ty().elem.qparams().is_none() && c.value.floats().iter().all(|&v| v == 0.0),
        Op::Expand(_) | Op::Reshape(_) => is_zero(b, b.g.operands(v.node)[0]),
        _ => false,
    }
}

fn distinct(targets: &[usize]) -> bool {
    let mut seen = FxHashSet::default();
    targets.iter().all(|t| seen.insert(t))
}

/// Concatenates the rows of data and updates and gathers those of each position.
fn at_known(
    b: &mut Build<'_>,
    f: ScatterFn,
    operands: &[ValueId],
    targets: Vec<usize>,
    [places, count, run]: [usize; 3],
) -> Built {
    let x = b.reshape(operands[0], Shape::known(&[places, run]))?;
    let updates = b.reshape(operands[2], Shape::known(&[count, run]))?;
    let mut sources: Vec<Vec<usize>> = (0..places).map(|p| vec![p]).collect();
    for (update, target) in targets.into_iter().enumerate() {
        if f == ScatterFn::Replace {
            sources[target].clear();
        }
        sources[target].push(places + update);
    }
    let widest = sources.iter().map(Vec::len).max().unwrap_or(1);
    if places.saturating_mul(widest).saturating_mul(run) > LARGEST_TABLE {
        return Err(Skip::because(format!("it would need a table of more than {LARGEST_TABLE} elements")));
    }
    let mut rows = vec![x, updates];
    let reduce = match f {
        ScatterFn::Replace => None,
        ScatterFn::Add => Some((ReduceFn::Sum, 0.0)),
        ScatterFn::Mul => Some((ReduceFn::Prod, 1.0)),
        ScatterFn::Min => Some((ReduceFn::Min, f32::INFINITY)),
        ScatterFn::Max => Some((ReduceFn::Max, f32::NEG_INFINITY)),
    };
    if let Some((_, neutral)) = reduce.filter(|r| r.1.is_finite()) {
        let neutral = b.scalar(neutral, x)?;
        rows.push(b.op(Expand { shape: Shape::known(&[1, run]) }, &[neutral])?);
    }
    // The neutral row, or for minimum and maximum any of the rows again.
    let table = sources.iter().flat_map(|s| {
        let filler = if rows.len() == 3 { places + count } else { s[0] };
        s.iter().copied().chain(std::iter::repeat_n(filler, widest - s.len())).map(|i| i as i32)
    });
    let table = Tensor::from_vec(Shape::known(&[places, widest]), table.collect());
    let table = b.constant(table);
    let table = if reduce.is_some() { table } else { b.reshape(table, Shape::known(&[places]))? };
    let rows = b.concat(0, &rows)?;
    let mut y = b.op(Gather { axis: 0 }, &[rows, table])?;
    if let Some((f, _)) = reduce {
        y = b.op(Reduce { f, axes: [1].into_iter().collect(), keep: false }, &[y])?;
    }
    let shape = b.ty(operands[0]).shape.clone();
    b.reshape(y, shape)
}

/// Compares each position with all indices.
fn compared(
    b: &mut Build<'_>,
    f: ScatterFn,
    operands: &[ValueId],
    extents: &[usize],
    [count, run]: [usize; 2],
) -> Built {
    let places: usize = extents.iter().product();
    let width = if f == ScatterFn::Replace { 1 } else { run };
    if places.saturating_mul(count).saturating_mul(width) > LARGEST_COMPARISON {
        if f == ScatterFn::Replace {
            return replaced(b, operands);
        }
        let why = format!("{count} indices that are computed at run time are too many for {places} positions");
        return Err(Skip::because(why));
    }
    let x = b.reshape(operands[0], Shape::known(&[places, run]))?;
    let updates = b.reshape(operands[2], Shape::known(&[count, run]))?;
    let named = named_places(b, operands[1], extents, count)?;
    let places = ramp(b, &[places, 1], 0)?;
    let hit = b.binary(BinaryFn::Equal, places, named)?;
    let along = || [1].into_iter().collect();
    let y = match f {
        // The last update of the position, or the element itself: a gather of rows, with the updates after the data.
        ScatterFn::Replace => {
            let behind = b.extents(x)?[0];
            let update = ramp(b, &[1, count], behind as i32)?;
            let sources = b.select(hit, update, places)?;
            let source = b.op(Reduce { f: ReduceFn::Max, axes: along(), keep: false }, &[sources])?;
            let rows = b.concat(0, &[x, updates])?;
            b.op(Gather { axis: 0 }, &[rows, source])?
        }
        _ => {
            let (reduce, combine, neutral) = match f {
                ScatterFn::Replace | ScatterFn::Add => (ReduceFn::Sum, BinaryFn::Add, 0.0),
                ScatterFn::Mul => (ReduceFn::Prod, BinaryFn::Mul, 1.0),
                ScatterFn::Min => (ReduceFn::Min, BinaryFn::Min, f32::INFINITY),
                ScatterFn::Max => (ReduceFn::Max, BinaryFn::Max, f32::NEG_INFINITY),
            };
            let (hit, updates) = (b.unsqueeze(hit, 2)?, b.unsqueeze(updates, 0)?);
            let neutral = b.scalar(neutral, x)?;
            let all = b.select(hit, updates, neutral)?;
            let one = b.op(Reduce { f: reduce, axes: along(), keep: false }, &[all])?;
            b.binary(combine, x, one)?
        }
    };
    let shape = b.ty(operands[0]).shape.clone();
    b.reshape(y, shape)
}

/// Elements of open extent that are replaced: the sum of the updates of each position by their number, where there are any. The
/// updates of one position must be equal, as those of equal indices are in no order.
fn replaced(b: &mut Build<'_>, operands: &[ValueId]) -> Built {
    let &[x, index, updates] = operands else { return Err(Skip::NoMatch) };
    if b.ty(x).elem == Elem::Bool {
        let numbers = [b.cast(x, Elem::I32)?, index, b.cast(updates, Elem::I32)?];
        let y = replaced(b, &numbers)?;
        return b.cast(y, Elem::Bool);
    }
    if !is_number(b, x) {
        return Err(Skip::NoMatch);
    }
    let dims = b.ty(x).shape.dims().to_vec();
    let Some((Dim::Known(tuple), tuples)) =
        b.ty(index).shape.dims().split_last().map(|(t, all)| (t.clone(), all.to_vec()))
    else {
        return Err(Skip::NoMatch);
    };
    let index = if is_nonnegative(b.g, index) { index } else { counted_from_front(b, index, &dims[..tuple])? };
    let (zero, one) = (b.scalar(0.0, x)?, b.scalar(1.0, x)?);
    let sum = |b: &mut Build<'_>, places: Shape, updates: ValueId| {
        let zeros = b.op(Expand { shape: places }, &[zero])?;
        b.op(ScatterNd { f: ScatterFn::Add }, &[zeros, index, updates])
    };
    let each = b.op(Expand { shape: tuples.into_iter().collect() }, &[one])?;
    let counts = sum(b, dims[..tuple].iter().cloned().collect(), each)?;
    let along = dims[..tuple].iter().cloned().chain(dims[tuple..].iter().map(|_| Dim::Known(1)));
    let counts = b.reshape(counts, along.collect())?;
    let sums = sum(b, dims.iter().cloned().collect(), updates)?;
    let hit = b.binary(BinaryFn::Greater, counts, zero)?;
    let divisors = b.binary(BinaryFn::Max, counts, one)?;
    let updated = b.div(sums, divisors)?;
    b.select(hit, updated, x)
}

/// The position of each index tuple, `[1, count]`.
fn named_places(b: &mut Build<'_>, index: ValueId, extents: &[usize], count: usize) -> Built {
    if extents.is_empty() {
        return b.table(&[1, count], |_| 0i32);
    }
    let index = b.cast(index, Elem::I32)?;
    let mut index = b.reshape(index, Shape::known(&[count, extents.len()]))?;
    if !is_nonnegative(b.g, index) {
        let ends: Vec<Dim> = extents.iter().map(|&n| Dim::Known(n)).collect();
        index = counted_from_front(b, index, &ends)?;
    }
    let strides = b.table(&[1, extents.len()], |axis| extents[axis + 1..].iter().product::<usize>() as i32)?;
    let along = b.mul(index, strides)?;
    let sums = b.op(Reduce { f: ReduceFn::Sum, axes: [1].into_iter().collect(), keep: false }, &[along])?;
    b.reshape(sums, Shape::known(&[1, count]))
}

/// Consecutive integers starting with `first`.
fn ramp(b: &mut Build<'_>, dims: &[usize], first: i32) -> Built {
    b.table(dims, |i| first + i as i32)
}
