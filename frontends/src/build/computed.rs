//! Integers that are known at run time only, where an operator takes extents, positions or axes: nodes compute from them
//! what the operator means, and symbols name the results ([`Define`]). Extents and attributes are then expressions of
//! these symbols, as they are of open extents.

use qcc_ir::ops::{
    BinaryFn, Concat, CumSum, Define, Expand, Extents, Gather, Op, OpenSlice, Range, ReduceFn, Select, Slice, Tile,
    UnaryFn,
};
use qcc_ir::{Dim, Elem, Expr, Shape, Tensor, ValueId};

use super::symbolic::whole;
use super::{Build, MOST_ELEMENTS, Values, extent};
use crate::refusal::Refusal;

/// Lists of more integers are not taken for extents.
const MOST_COMPUTED: usize = 16;

/// A name for a symbol that a node of the graph will define.
pub(crate) fn fresh(n: &impl Build) -> String {
    n.graph().undefined(n.origin().path())
}

/// Names for symbols that one node of the graph will define.
pub(crate) fn all_fresh<B: Build>(n: &B) -> impl Iterator<Item = String> + use<B> {
    let first = fresh(n);
    (0..).map(move |i| if i == 0 { first.clone() } else { format!("{first}.{i}") })
}

/// The result of an operator that defines how much it finds: a constant where all operands are known.
pub(crate) fn found(n: &mut impl Build, op: impl Into<Op>, operands: &[ValueId]) -> Result<ValueId, Refusal> {
    let op = op.into();
    match operands.iter().map(|&v| n.constant(v)).collect::<Option<Vec<_>>>() {
        Some(known) => {
            let found = op.eval(&known)?.swap_remove(0);
            Ok(n.add_constant(found))
        }
        None => n.add(op, operands),
    }
}

/// The integers of a list or scalar: constants, expressions of open extents, or symbols for those that are known at run
/// time only, which must not be negative then. `None` if the value is no such list.
pub(crate) fn defined(n: &mut impl Build, v: ValueId) -> Result<Option<Vec<Expr>>, Refusal> {
    if let Some(known) = whole(n.graph(), v) {
        return Ok(Some(known));
    }
    let Some(count) = length(n, v) else { return Ok(None) };
    if let Op::Concat(_) = n.graph().producer(v) {
        let parts =
            n.graph().operands(v.node).into_iter().map(|part| defined(n, part)).collect::<Result<Vec<_>, _>>()?;
        return Ok(parts.into_iter().collect::<Option<Vec<_>>>().map(|parts| parts.concat()));
    }
    let v = n.cast(v, Elem::I64)?;
    let symbols: Vec<String> = all_fresh(n).take(count).collect();
    let values = symbols.iter().map(|symbol| Expr::computed(symbol.as_str())).collect();
    n.add(Define { symbols }, &[v])?;
    Ok(Some(values))
}

/// The number of integers of a list or scalar that may be extents.
pub(crate) fn length(n: &impl Build, v: ValueId) -> Option<usize> {
    let ty = n.ty(v);
    let count = ty.shape.elements().filter(|_| ty.rank() < 2)?;
    (matches!(ty.elem, Elem::I64 | Elem::I32) && count <= MOST_COMPUTED).then_some(count)
}

/// One extent that is computed.
pub(crate) fn one_defined(n: &mut impl Build, v: ValueId) -> Result<Expr, Refusal> {
    let values = defined(n, v)?.unwrap_or_default();
    let ty = n.ty(v);
    let [value] = values.try_into().map_err(|_| Refusal::Invalid(format!("{ty}; expected one integer")))?;
    Ok(value)
}

/// An extent that is an expression.
pub(crate) fn open(extent: Expr) -> Result<Dim, Refusal> {
    let text = extent.to_string();
    Dim::of(extent).ok_or_else(|| Refusal::Invalid(format!("an extent of {text}")))
}

/// The shape with these extents.
pub(crate) fn shape_of(extents: &[Expr]) -> Result<Shape, Refusal> {
    let dim = |e: &Expr| match e.constant() {
        Some(d) => Ok(extent(d)?.into()),
        None => open(e.clone()),
    };
    if extents.len() > 8 {
        return Err(Refusal::Unsupported(format!("rank {} is not supported; 8 is the most", extents.len())));
    }
    extents.iter().map(dim).collect()
}

/// An integer as a list of one element.
pub(crate) fn number(n: &mut impl Build, value: i64) -> ValueId {
    n.add_constant(Tensor::from_vec(Shape::known(&[1]), vec![value]))
}

/// An expression as a list of one element.
fn whole_number(n: &mut impl Build, value: Expr) -> Result<ValueId, Refusal> {
    n.add_whole(vec![value], Extents::from_elem(1, 1))
}

/// A list of `I64`; a scalar is a list of one.
pub(crate) fn list(n: &mut impl Build, v: ValueId) -> Result<ValueId, Refusal> {
    let v = n.cast(v, Elem::I64)?;
    if n.rank(v) == 0 { n.reshape(v, &[1]) } else { Ok(v) }
}

/// The elements of a list of `count` integers that are known or follow from open extents, where others do not.
fn known_parts(n: &impl Build, list: ValueId, count: usize) -> Vec<Option<Expr>> {
    if let Some(known) = whole(n.graph(), list) {
        return known.into_iter().map(Some).collect();
    }
    let operands = n.graph().operands(list.node);
    match n.graph().producer(list) {
        Op::Cast(_) if length(n, operands[0]) == Some(count) => known_parts(n, operands[0], count),
        Op::Concat(_) => {
            let of = |&part: &ValueId| known_parts(n, part, length(n, part).unwrap_or(0));
            operands.iter().flat_map(of).collect()
        }
        _ => vec![None; count],
    }
}

/// Element `i` of a list.
fn element(n: &mut impl Build, list: ValueId, mut i: usize) -> Result<ValueId, Refusal> {
    if let Op::Cast(_) = n.graph().producer(list) {
        let from = n.graph().operands(list.node)[0];
        if matches!(n.ty(from).elem, Elem::I32 | Elem::I64) {
            let element = element(n, from, i)?;
            return n.cast(element, n.ty(list).elem.clone());
        }
    }
    if let Op::Concat(_) = n.graph().producer(list) {
        for part in n.graph().operands(list.node) {
            let count = n.dims(part)?.iter().product();
            if i < count {
                return element(n, part, i);
            }
            i -= count;
        }
    }
    let single = n.dims(list)?.as_slice() == [1];
    if single { Ok(list) } else { n.add(Slice { ranges: vec![Range { axis: 0, start: i, len: 1, step: 1 }] }, &[list]) }
}

fn select(n: &mut impl Build, condition: ValueId, yes: ValueId, no: ValueId) -> Result<ValueId, Refusal> {
    n.add(Select {}, &[condition, yes, no])
}

/// The first of two values where a condition holds, else the second: a part of both, which differ in the extent of an axis.
pub(crate) fn either(
    n: &mut impl Build,
    condition: ValueId,
    [yes, no]: [ValueId; 2],
    axis: usize,
) -> Result<ValueId, Refusal> {
    let [a, b] = [yes, no].map(|v| n.shape(v).dims()[axis].expr());
    let (zero, a, b) = (number(n, 0), whole_number(n, a)?, whole_number(n, b)?);
    let (start, len) = (select(n, condition, zero, a)?, select(n, condition, a, b)?);
    let (start, len) = (one_defined(n, start)?, one_defined(n, len)?);
    let both = n.add(Concat { axis }, &[yes, no])?;
    n.add(OpenSlice { axis, start, len }, &[both])
}

/// The integers from 0 to before an extent.
pub(crate) fn counted(n: &mut impl Build, extent: Expr) -> Result<ValueId, Refusal> {
    if let Some(extent) = extent.constant() {
        return n.table(&[super::extent(extent)?], |i| i as i64);
    }
    let one = n.add_constant(Tensor::scalar(1i64));
    let ones = n.add(Expand { shape: [open(extent)?].into_iter().collect() }, &[one])?;
    n.add(CumSum { axis: 0, exclusive: true, reverse: false }, &[ones])
}

/// A slice `start`, `end`, `step` of an axis whose start or end is known at run time only: positions are
/// lists of one integer, negative ones count from the end, all are clamped to the axis.
pub(crate) fn slice(
    n: &mut impl Build,
    x: ValueId,
    axis: usize,
    [start, end]: [ValueId; 2],
    step: i64,
) -> Result<ValueId, Refusal> {
    if step == 0 {
        return Err(Refusal::Invalid("a slice with step 0".into()));
    }
    let extent = n.shape(x).dims()[axis].expr();
    let (extent, zero) = (whole_number(n, extent)?, number(n, 0));
    let one = number(n, 1);
    let last = n.binary(BinaryFn::Sub, extent, one)?;
    let before = number(n, -1);
    let mut inside = |v: ValueId, [low, high]: [ValueId; 2]| -> Result<ValueId, Refusal> {
        let negative = n.binary(BinaryFn::Less, v, zero)?;
        let from_end = n.binary(BinaryFn::Add, v, extent)?;
        let v = select(n, negative, from_end, v)?;
        let v = n.binary(BinaryFn::Max, v, low)?;
        n.binary(BinaryFn::Min, v, high)
    };
    let (start, end) = if step > 0 {
        (inside(start, [zero, extent])?, inside(end, [zero, extent])?)
    } else {
        (inside(start, [zero, last])?, inside(end, [before, last])?)
    };
    // The number of steps, rounded up.
    let (from, to) = if step > 0 { (start, end) } else { (end, start) };
    let mut len = n.binary(BinaryFn::Sub, to, from)?;
    if step.unsigned_abs() > 1 {
        let rest = number(n, step.saturating_abs() - 1);
        let by = number(n, step.saturating_abs());
        len = n.binary(BinaryFn::Add, len, rest)?;
        len = n.binary(BinaryFn::FloorDiv, len, by)?;
    }
    len = n.binary(BinaryFn::Max, len, zero)?;
    if step == 1 {
        let (start, len) = (one_defined(n, start)?, one_defined(n, len)?);
        return n.add(OpenSlice { axis, start, len }, &[x]);
    }
    let len = one_defined(n, len)?;
    let places = counted(n, len)?;
    let step = number(n, step);
    let places = n.binary(BinaryFn::Mul, places, step)?;
    let places = n.binary(BinaryFn::Add, places, start)?;
    n.add(Gather { axis }, &[x, places])
}

/// A part of an axis from a position on, of a length that is what remains where it is negative. Both are lists of one
/// integer.
pub(crate) fn run(n: &mut impl Build, x: ValueId, axis: usize, [start, len]: [ValueId; 2]) -> Result<ValueId, Refusal> {
    let (zero, far) = (number(n, 0), number(n, MOST_ELEMENTS as i64));
    let rest = n.binary(BinaryFn::Less, len, zero)?;
    let end = n.binary(BinaryFn::Add, start, len)?;
    let end = select(n, rest, far, end)?;
    slice(n, x, axis, [start, end], 1)
}

/// The element of an axis at a position, a list of one integer, which counts from the end where it is negative. The axis
/// stays, with extent 1.
pub(crate) fn element_at(n: &mut impl Build, x: ValueId, axis: usize, at: ValueId) -> Result<ValueId, Refusal> {
    let extent = n.shape(x).dims()[axis].expr();
    let (extent, zero) = (whole_number(n, extent)?, number(n, 0));
    let negative = n.binary(BinaryFn::Less, at, zero)?;
    let from_end = n.binary(BinaryFn::Add, at, extent)?;
    let start = select(n, negative, from_end, at)?;
    let start = one_defined(n, start)?;
    n.add(OpenSlice { axis, start, len: 1.into() }, &[x])
}

/// The lengths of adjacent parts of an axis of this extent: a negative one is what the others leave.
pub(crate) fn lengths(n: &mut impl Build, whole: &Dim, asked: ValueId) -> Result<Vec<Expr>, Refusal> {
    let asked = list(n, asked)?;
    let zero = number(n, 0);
    let negative = n.binary(BinaryFn::Less, asked, zero)?;
    let given = select(n, negative, zero, asked)?;
    let sum = n.reduce(ReduceFn::Sum, given, &[0], true)?;
    let whole = whole_number(n, whole.expr())?;
    let rest = n.binary(BinaryFn::Sub, whole, sum)?;
    let all = select(n, negative, rest, asked)?;
    Ok(defined(n, all)?.unwrap_or_default())
}

/// Position `i` of a list as a list of one. Constants beyond 32 bits are clamped: they are outside any axis.
pub(crate) fn position(n: &mut impl Build, list: ValueId, i: usize) -> Result<ValueId, Refusal> {
    let far = MOST_ELEMENTS as i64;
    let element = element(n, list, i)?;
    match whole(n.graph(), element).as_deref() {
        Some([value]) => match value.constant() {
            Some(value) => Ok(number(n, value.clamp(-far, far))),
            None => whole_number(n, value.clone()),
        },
        _ => Ok(element),
    }
}

/// The extents of a reshape of `x` to a shape that is known at run time only: -1 is what the other extents leave, and 0,
/// if `copies`, the extent of `x`.
pub(crate) fn reshaped(n: &mut impl Build, x: ValueId, asked: ValueId, copies: bool) -> Result<ValueId, Refusal> {
    let mut asked = list(n, asked)?;
    let count = length(n, asked).unwrap_or(0);
    let known = known_parts(n, asked, count);
    let own = n.shape(x).dims().to_vec();
    let zero = number(n, 0);
    if copies {
        let old = (0..count).map(|i| own.get(i).map_or_else(|| 0.into(), Dim::expr)).collect();
        let old = n.add_whole(old, Extents::from_elem(count, 1))?;
        let copied = n.binary(BinaryFn::Equal, asked, zero)?;
        asked = select(n, copied, old, asked)?;
    }
    let negative = n.binary(BinaryFn::Less, asked, zero)?;
    let one = number(n, 1);
    let given = select(n, negative, one, asked)?;
    let given = n.reduce(ReduceFn::Prod, given, &[0], true)?;
    let given = n.binary(BinaryFn::Max, given, one)?;
    let all = Shape::count(&own).ok_or_else(|| Refusal::Invalid(format!("{} has too many elements", n.ty(x))))?;
    let all = whole_number(n, all.expr())?;
    let rest = n.binary(BinaryFn::FloorDiv, all, given)?;
    let asked = select(n, negative, rest, asked)?;
    let computed = defined(n, asked)?.unwrap_or_default();
    let is_extent = |e: &Expr| e.bounds().0 > Some(0);
    let extents = known.into_iter().zip(computed).map(|(known, computed)| known.filter(is_extent).unwrap_or(computed));
    let dims = extents.map(open).collect::<Result<Shape, _>>()?;
    n.reshape_to(x, dims)
}

/// `x` in a shape that is a list of integers.
fn shaped(n: &mut impl Build, x: ValueId, shape: ValueId) -> Result<ValueId, Refusal> {
    let dims = defined(n, shape)?.unwrap_or_default().into_iter().map(open).collect::<Result<Shape, _>>()?;
    n.reshape_to(x, dims)
}

/// `x` with axes of extent 1 before these places of the result, which are known at run time only.
pub(crate) fn unsqueezed(n: &mut impl Build, x: ValueId, axes: ValueId) -> Result<ValueId, Refusal> {
    let axes = list(n, axes)?;
    let rank = n.rank(x) + length(n, axes).unwrap_or(0);
    let new = among(n, axes, rank)?;
    let new = n.cast(new, Elem::I64)?;
    // An axis that is not new is that of `x` after the new ones before it.
    let places = n.table(&[rank], |i| i as i64)?;
    let before = n.add(CumSum { axis: 0, exclusive: false, reverse: false }, &[new])?;
    let from = n.binary(BinaryFn::Sub, places, before)?;
    let (zero, one) = (number(n, 0), number(n, 1));
    let from = n.binary(BinaryFn::Max, from, zero)?;
    let own = n.shape(x).dims().iter().map(Dim::expr).chain([1.into()]).collect();
    let own = n.add_whole(own, Extents::from_elem(n.rank(x) + 1, 1))?;
    let kept = n.add(Gather { axis: 0 }, &[own, from])?;
    let is_new = n.binary(BinaryFn::Equal, new, one)?;
    let dims = select(n, is_new, one, kept)?;
    shaped(n, x, dims)
}

/// `x` without these axes, which are known at run time only and must have extent 1.
pub(crate) fn squeezed(n: &mut impl Build, x: ValueId, axes: ValueId) -> Result<ValueId, Refusal> {
    let axes = list(n, axes)?;
    let rank = n.rank(x);
    let left = rank.checked_sub(length(n, axes).unwrap_or(0));
    let left = left.ok_or_else(|| Refusal::Invalid(format!("{} has not so many axes", n.ty(x))))?;
    let gone = among(n, axes, rank)?;
    let zero = number(n, 0);
    let gone = n.cast(gone, Elem::I64)?;
    let kept = n.binary(BinaryFn::Equal, gone, zero)?;
    let kept = n.cast(kept, Elem::I64)?;
    // Axis i of `x` is the axis of the result that as many kept ones are before; row i has that one.
    let order = n.add(CumSum { axis: 0, exclusive: true, reverse: false }, &[kept])?;
    let order = n.reshape(order, &[1, rank])?;
    let rows = n.table(&[left, 1], |i| i as i64)?;
    let hit = n.binary(BinaryFn::Equal, order, rows)?;
    let hit = n.cast(hit, Elem::I64)?;
    let kept = n.reshape(kept, &[1, rank])?;
    let hit = n.binary(BinaryFn::Mul, hit, kept)?;
    let own = n.shape(x).dims().iter().map(Dim::expr).collect();
    let own = n.add_whole(own, Extents::from_slice(&[1, rank]))?;
    let dims = n.binary(BinaryFn::Mul, hit, own)?;
    let dims = n.reduce(ReduceFn::Sum, dims, &[1], false)?;
    shaped(n, x, dims)
}

/// For each of `rank` axes whether it is among those of a list; negative ones count from the end.
fn among(n: &mut impl Build, axes: ValueId, rank: usize) -> Result<ValueId, Refusal> {
    let all = n.table(&[rank, 1], |i| i as i64)?;
    let from_end = n.table(&[rank, 1], |i| i as i64 - rank as i64)?;
    let a = n.binary(BinaryFn::Equal, all, axes)?;
    let b = n.binary(BinaryFn::Equal, from_end, axes)?;
    let hit = n.binary(BinaryFn::Or, a, b)?;
    let hit = n.cast(hit, Elem::I64)?;
    let count = n.reduce(ReduceFn::Sum, hit, &[1], false)?;
    let zero = number(n, 0);
    n.binary(BinaryFn::Less, zero, count)
}

/// What `along` makes of each axis of `x`, selected by an axis that is known at run time only: all results have one shape.
pub(crate) fn by_axis<B: Build>(
    n: &mut B,
    x: ValueId,
    axis: ValueId,
    mut along: impl FnMut(&mut B, usize) -> Result<ValueId, Refusal>,
) -> Result<ValueId, Refusal> {
    let axis = list(n, axis)?;
    let rank = n.rank(x);
    let mut y = None;
    for a in 0..rank {
        let result = along(n, a)?;
        y = Some(match y {
            None => result,
            Some(other) => {
                let (this, from_end) = (number(n, a as i64), number(n, a as i64 - rank as i64));
                let hit = n.binary(BinaryFn::Equal, axis, this)?;
                let from_end = n.binary(BinaryFn::Equal, axis, from_end)?;
                let hit = n.binary(BinaryFn::Or, hit, from_end)?;
                let hit = n.reshape(hit, &[])?;
                select(n, hit, result, other)?
            }
        });
    }
    y.ok_or_else(|| Refusal::Invalid("a scalar has no axis".into()))
}

/// `x` repeated along its axes.
pub(crate) fn tiled(n: &mut impl Build, mut x: ValueId, repeats: &[Expr]) -> Result<ValueId, Refusal> {
    if repeats.len() != n.rank(x) {
        return Err(Refusal::Invalid(format!("{} repeats for {}", repeats.len(), n.ty(x))));
    }
    if let Some(known) = repeats.iter().map(Expr::constant).collect::<Option<Vec<i64>>>() {
        let repeats: Extents = super::extents(&known)?.into();
        return if repeats.iter().all(|&times| times == 1) { Ok(x) } else { n.add(Tile { repeats }, &[x]) };
    }
    for (axis, times) in repeats.iter().enumerate().filter(|(_, times)| **times != 1.into()) {
        let dims = n.shape(x).dims().to_vec();
        let large = || Refusal::Invalid(format!("{} has too many elements", Shape::from_iter(dims.iter().cloned())));
        let outer = Shape::count(&dims[..axis]).ok_or_else(large)?;
        let inner = Shape::count(&dims[axis..]).ok_or_else(large)?;
        let repeated = open(times.clone())?;
        let longer = dims[axis].times(&repeated).ok_or_else(large)?;
        x = n.reshape_to(x, [outer.clone(), Dim::Known(1), inner.clone()].into_iter().collect())?;
        x = n.add(Expand { shape: [outer, repeated, inner].into_iter().collect() }, &[x])?;
        let whole: Shape = dims.iter().cloned().collect();
        x = n.reshape_to(x, whole.with(axis, longer))?;
    }
    Ok(x)
}

/// The parts of an axis of these sizes.
pub(crate) fn parts(n: &mut impl Build, x: ValueId, axis: usize, sizes: &[Expr]) -> Result<Values, Refusal> {
    let mut start = Expr::default();
    let mut parts = Values::new();
    for len in sizes {
        parts.push(n.add(OpenSlice { axis, start: start.clone(), len: len.clone() }, &[x])?);
        start = start.plus(len).ok_or_else(|| Refusal::Invalid("too many parts".into()))?;
    }
    Ok(parts)
}

/// The numbers `start`, `start + delta`, .. before `limit`, which are scalars: none where `delta` is 0.
pub(crate) fn range(n: &mut impl Build, [start, limit, delta]: [ValueId; 3]) -> Result<ValueId, Refusal> {
    let elem = n.ty(start).elem.clone();
    let far = n.binary(BinaryFn::Sub, limit, start)?;
    // Runtimes crash on integers that are divided by 0.
    let moves = n.graph().constant(delta).is_some_and(|delta| delta.floats().iter().all(|&delta| delta != 0.0));
    let still =
        if moves { None } else { Some(n.scalar(0.0, delta).and_then(|zero| n.binary(BinaryFn::Equal, delta, zero))?) };
    let by = match still {
        Some(still) => {
            let one = n.scalar(1.0, delta)?;
            select(n, still, one, delta)?
        }
        None => delta,
    };
    // The quotient rounded up.
    let count = if elem.is_float() {
        let steps = n.binary(BinaryFn::Div, far, by)?;
        n.unary(UnaryFn::Ceil, steps)?
    } else {
        let zero = n.scalar(0.0, far)?;
        let back = n.binary(BinaryFn::Sub, zero, far)?;
        let steps = n.binary(BinaryFn::FloorDiv, back, by)?;
        n.binary(BinaryFn::Sub, zero, steps)?
    };
    let count = n.cast(count, Elem::I64)?;
    let zero = n.add_constant(Tensor::scalar(0i64));
    let mut count = n.binary(BinaryFn::Max, count, zero)?;
    if let Some(still) = still {
        count = select(n, still, zero, count)?;
    }
    let count = one_defined(n, count)?;
    let places = counted(n, count)?;
    let places = n.cast(places, elem)?;
    let far = n.binary(BinaryFn::Mul, places, delta)?;
    n.binary(BinaryFn::Add, far, start)
}
