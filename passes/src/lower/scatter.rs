//! Updates at indices: at known ones each place gathers what it becomes, at a few others it is compared with each.

use qcc_ir::ops::{Binary, BinaryFn, Expand, Gather, Op, Reduce, ReduceFn, ScatterFn, ScatterNd};
use qcc_ir::{Elem, NodeId, Shape, Tensor, ValueId};
use rustc_hash::FxHashSet;

use super::build::{Build, Built};
use super::index::from_front;
use crate::Skip;

/// At known indices, tables of more elements are not gathered.
const LARGEST_TABLE: usize = 1 << 24;

/// Most updates at indices that are not known.
const MOST_COMPARED: usize = 8;

pub(super) fn scatter_nd(b: &mut Build<'_>, node: NodeId) -> Built {
    let Op::ScatterNd(op) = b.g.op(node) else { return Err(Skip::NoMatch) };
    let (f, operands) = (op.f, b.g.operands(node));
    let (dims, index) = (b.extents(operands[0])?, b.extents(operands[1])?);
    let [tuples @ .., tuple] = index.as_slice() else { return Err(Skip::NoMatch) };
    let (places, run) = (dims[..*tuple].iter().product(), dims[*tuple..].iter().product());
    let count = tuples.iter().product();
    match b.g.constant(operands[1]) {
        Some(known) => {
            let known = from_front(known, &dims[..*tuple]).unwrap_or_else(|| known.clone());
            let targets = targets(&known, &dims[..*tuple]);
            if f == ScatterFn::Replace && is_number(b, operands[0]) && is_zero(b, operands[0]) && distinct(&targets) {
                // Added to zeros, updates are what they are.
                return b.op(ScatterNd { f: ScatterFn::Add }, &operands);
            }
            at_known(b, f, &operands, targets, [places, count, run])
        }
        None if count <= MOST_COMPARED => compared(b, f, &operands, &dims[..*tuple], [count, run]),
        None => Err(Skip::Because("its indices are not known")),
    }
}

/// Which of the places that the leading axes have each index tuple names.
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

/// True where a value is known to be zero everywhere.
fn is_zero(b: &Build<'_>, v: ValueId) -> bool {
    match b.g.producer(v) {
        Op::Const(c) => c.value.ty().elem.grid().is_none() && c.value.reals().iter().all(|&v| v == 0.0),
        Op::Expand(_) | Op::Reshape(_) => is_zero(b, b.g.operands(v.node)[0]),
        _ => false,
    }
}

fn distinct(targets: &[usize]) -> bool {
    let mut seen = FxHashSet::default();
    targets.iter().all(|t| seen.insert(t))
}

/// Rows of data and updates, of which each place takes its own.
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
        return Err(Skip::Because("it would gather too much"));
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
    // What changes nothing: the neutral row, or of the smallest and largest, one of them again.
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

/// One update after the other, wherever the place is the one it names.
fn compared(
    b: &mut Build<'_>,
    f: ScatterFn,
    operands: &[ValueId],
    extents: &[usize],
    [count, run]: [usize; 2],
) -> Built {
    let places: usize = extents.iter().product();
    let mut x = b.reshape(operands[0], Shape::known(&[places, run]))?;
    let index = b.cast(operands[1], Elem::I32)?;
    let index = b.reshape(index, Shape::known(&[count, extents.len()]))?;
    let updates = b.reshape(operands[2], Shape::known(&[count, run]))?;
    for update in 0..count {
        let tuple = b.slice(index, 0, update, 1)?;
        let new = b.slice(updates, 0, update, 1)?;
        let mut hit: Option<ValueId> = None;
        for (axis, &extent) in extents.iter().enumerate() {
            let inner: usize = extents[axis + 1..].iter().product();
            let along = b.table(&[places, 1], |p| (p / inner % extent) as i32)?;
            let end = b.constant(Tensor::scalar(extent as i32));
            let at = b.slice(tuple, 1, axis, 1)?;
            // Negative ones count from the end.
            let at = b.binary(BinaryFn::FloorMod, at, end)?;
            let same = b.binary(BinaryFn::Equal, along, at)?;
            hit = Some(match hit {
                Some(other) => b.binary(BinaryFn::And, other, same)?,
                None => same,
            });
        }
        let combine = |f| Op::from(Binary { f });
        let new = match f {
            ScatterFn::Replace => new,
            ScatterFn::Add => b.op(combine(BinaryFn::Add), &[x, new])?,
            ScatterFn::Mul => b.op(combine(BinaryFn::Mul), &[x, new])?,
            ScatterFn::Min => b.op(combine(BinaryFn::Min), &[x, new])?,
            ScatterFn::Max => b.op(combine(BinaryFn::Max), &[x, new])?,
        };
        x = match hit {
            Some(hit) => b.select(hit, new, x)?,
            None => new,
        };
    }
    let shape = b.ty(operands[0]).shape.clone();
    b.reshape(x, shape)
}
