//! Loops and branches.

use qcc_formats::openvino::{Link, Slices};
use qcc_ir::ops::{Concat, Extents, Reverse};
use qcc_ir::{Dim, Elem, Shape, Tensor, ValueId};

use super::super::body::{Branch, Carried, Inside, Sliced, Turns};
use super::super::node::NodeCx;
use super::Row;
use crate::build::attempt::Attempt;
use crate::build::control::{self, Condition, SET};
use crate::build::symbolic::whole;
use crate::build::{Build, Values, computed, count_axis};
use crate::refusal::Refusal;

pub(super) const ROWS: &[Row] = &[("If", if_), ("Loop", loop_), ("TensorIterator", tensor_iterator)];

/// The branch that a constant condition selects. Otherwise both are computed, and each result is selected by the condition,
/// where they give the same types at the same extents. Other branches stay branches.
fn if_<'m>(n: &mut NodeCx<'_, 'm>) -> Result<Values, Refusal> {
    let branches = [branch(n, "then")?, branch(n, "else")?];
    let value = n.input(0)?;
    let condition = match Condition::of(n, value)? {
        Condition::Known(holds) => return computed_branch(n, &branches[usize::from(!holds)]),
        Condition::Value(condition) => condition,
    };
    let both = |n: &mut NodeCx<'_, 'm>| {
        let assumed = n.assumed();
        let (yes, no) = (computed_branch(n, &branches[0])?, computed_branch(n, &branches[1])?);
        let may_fail = n.assumed() > assumed;
        let selected = |(&yes, &no)| control::selected(n, condition, yes, no);
        let results: Values = yes.iter().zip(&no).map(selected).collect::<Result<_, _>>()?;
        if may_fail && results != yes {
            return Err(Refusal::Invalid("one of its branches fails for extents that the other is for".into()));
        }
        Ok(results)
    };
    if let Some(results) = n.attempt(both) {
        return Ok(results);
    }
    let (op, reads) = n.branches(&branches)?;
    let operands: Values = std::iter::once(condition).chain(reads).collect();
    n.add_all(op, &operands).map_err(|e| Refusal::Advised { message: e.to_string(), help: SET })
}

fn operand(n: &mut NodeCx<'_, '_>, link: &Link) -> Result<ValueId, Refusal> {
    let i = link.outside.ok_or_else(|| Refusal::Invalid("an input of its network has no value".into()))?;
    n.input(i)
}

/// A branch, with the values of its inputs.
fn branch<'m>(n: &mut NodeCx<'_, 'm>, role: &str) -> Result<Branch<'m>, Refusal> {
    let inside = n.nested().into_iter().find(|inside| inside.nested.role == role);
    let inside = inside.ok_or_else(|| Refusal::Invalid(format!("it has no {role}_body")))?;
    let inputs = inside.nested.inputs.iter().map(|link| Ok((link.inside, operand(n, link)?)));
    let inputs = inputs.collect::<Result<_, Refusal>>()?;
    let result = |i: usize| {
        let link = inside.nested.outputs.iter().find(|link| link.outside == Some(i));
        link.map(|link| link.inside).ok_or_else(|| Refusal::Invalid(format!("its {role}_body has no result {i}")))
    };
    Ok(Branch { inside, inputs, results: (0..n.outputs()).map(result).collect::<Result<_, _>>()? })
}

fn computed_branch<'m>(n: &mut NodeCx<'_, 'm>, branch: &Branch<'m>) -> Result<Values, Refusal> {
    n.inline(branch.inside, &branch.inside.nested.role, &branch.inputs, &branch.results)
}

/// What a result of a loop is.
enum Given {
    /// The last of a carried value.
    Carried(usize),
    /// The pieces of all iterations along an axis, from the last one on where it is backward.
    Joined { row: usize, axis: i64, backward: bool },
    /// The value of a Result layer in the last iteration.
    Last(usize),
}

/// A loop whose first operands are the most iterations, none where that is negative, and whether there is a first one.
fn loop_(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let (most, first) = (n.input(0)?, n.input(1)?);
    let most = n.cast(most, Elem::I64)?;
    let most = n.reshape(most, &[])?;
    let known = whole(n.graph(), most).and_then(|values| values.into_iter().next());
    let most = match known.map(|known| known.bounds()) {
        Some((_, Some(..0))) => None,
        Some((Some(0..), _)) => Some(most),
        _ => Some(control::or_endless(n, most)?),
    };
    let (turns, given, _) = turns(n)?;
    repeat(n, &turns, &given, most, Some(first))
}

/// A loop over slices of its operands.
fn tensor_iterator(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let (turns, given, length) = turns(n)?;
    let length = length.ok_or_else(|| Refusal::Unsupported("a loop without slices of an operand".into()))?;
    let most = n.add_whole(vec![length.expr()], Extents::new())?;
    repeat(n, &turns, &given, Some(most), None)
}

/// The loop, what its results are, and the number of slices, if it has some.
fn turns<'m>(n: &mut NodeCx<'_, 'm>) -> Result<(Turns<'m>, Vec<Given>, Option<Dim>), Refusal> {
    let inside = n.nested().into_iter().next().ok_or_else(|| Refusal::Invalid("it has no body".into()))?;
    let (mut number, mut lengths) = (None, Vec::new());
    let (mut carried, mut sliced, mut fixed) = (Vec::new(), Vec::new(), Vec::new());
    for link in &inside.nested.inputs {
        let layer = link.inside;
        if link.outside.is_none() {
            number = Some(layer);
            continue;
        }
        let v = operand(n, link)?;
        let next = inside.nested.back_edges.iter().find(|(_, to)| *to == layer);
        match (link.slices, next) {
            (Some(slices), None) => {
                let (slice, length) = slices_of(n, layer, v, slices)?;
                sliced.push(slice);
                lengths.push(length);
            }
            (None, Some(&(next, _))) => carried.push(Carried { layer, first: v, next }),
            (None, None) => fixed.push((layer, v)),
            (Some(_), Some(_)) => return Err(Refusal::Unsupported("a carried value of slices".into())),
        }
    }
    let linked = |to: &usize| carried.iter().any(|c| c.layer == *to);
    if !inside.nested.back_edges.iter().all(|(_, to)| linked(to)) {
        return Err(Refusal::Invalid("a carried value has no first value".into()));
    }
    let condition = inside.nested.outputs.iter().find(|link| link.outside.is_none()).map(|link| link.inside);
    let mut joined = Vec::new();
    let given = (0..n.outputs()).map(|i| given(&inside, &carried, &mut joined, i)).collect::<Result<_, _>>()?;
    let mut lengths = lengths.into_iter();
    let length = match lengths.next() {
        Some(first) => Some(
            lengths
                .try_fold(first, |a, b| a.agreed(&b))
                .ok_or_else(|| Refusal::Invalid("it iterates over axes of unlike lengths".into()))?,
        ),
        None => None,
    };
    Ok((Turns { inside, number, condition, carried, sliced, fixed, joined }, given, length))
}

/// A value with an axis for the iterations before that of the slices, and their number.
fn slices_of(n: &mut NodeCx<'_, '_>, layer: usize, v: ValueId, slices: Slices) -> Result<(Sliced, Dim), Refusal> {
    let axis = n.axis(slices.axis, v)?;
    let mut dims = n.shape(v).dims().to_vec();
    let extent = dims[axis].clone();
    let (backward, part) = whole_axis(slices, extent.known())?;
    let length = match (part, extent.known()) {
        (1, _) => extent,
        (part, Some(extent)) if extent.is_multiple_of(part) => Dim::Known(extent / part),
        _ => return Err(Refusal::Invalid(format!("slices of extent {part} of {}", n.ty(v)))),
    };
    dims.splice(axis..=axis, [length.clone(), Dim::Known(part)]);
    let whole = n.reshape_to(v, dims.into_iter().collect())?;
    Ok((Sliced { layer, whole, axis, backward }, length))
}

/// Whether slices that are adjacent and fill an axis begin at its end, and the extent of one.
fn whole_axis(slices: Slices, extent: Option<usize>) -> Result<(bool, usize), Refusal> {
    let Slices { start, end, stride, part, .. } = slices;
    let extent = extent.and_then(|extent| i64::try_from(extent).ok());
    let is_end = |p: i64| p == -1 || (p > 0 && Some(p) == extent);
    let backward = stride < 0;
    let (low, high) = if backward { (end, start) } else { (start, end) };
    match usize::try_from(part) {
        Ok(extent @ 1..) if low == 0 && is_end(high) && stride.checked_abs() == Some(part) => Ok((backward, extent)),
        _ => Err(Refusal::Unsupported(format!(
            "slices from {start} to {end} with stride {stride} and extent {part} are not supported"
        ))),
    }
}

/// What result `i` is. Rows are added to `joined`.
fn given(inside: &Inside<'_>, carried: &[Carried], joined: &mut Vec<usize>, i: usize) -> Result<Given, Refusal> {
    let link = inside.nested.outputs.iter().find(|link| link.outside == Some(i));
    let link = link.ok_or_else(|| Refusal::Invalid(format!("its body has no result {i}")))?;
    if let Some(slices) = link.slices {
        let (backward, _) = whole_axis(slices, None)?;
        joined.push(link.inside);
        return Ok(Given::Joined { row: joined.len() - 1, axis: slices.axis, backward });
    }
    let source = |result: usize| inside.nested.network.layers[result].inputs.first();
    let same = carried.iter().position(|c| source(c.next) == source(link.inside));
    Ok(same.map_or(Given::Last(link.inside), Given::Carried))
}

/// Unrolls a loop where the number of iterations follows from constants. Others stay loops.
fn repeat<'m>(
    n: &mut NodeCx<'_, 'm>,
    turns: &Turns<'m>,
    given: &[Given],
    most: Option<ValueId>,
    first: Option<ValueId>,
) -> Result<Values, Refusal> {
    let limit = match most.map(|v| n.constant(v).and_then(Tensor::integers)) {
        None => Some(None),
        Some(Some(most)) => Some(Some(most[0])),
        Some(None) => None,
    };
    let unrolled = match limit {
        Some(limit) => unrolled(n, turns, given, limit, first)?,
        None => None,
    };
    match unrolled {
        Some(results) => Ok(results),
        None => looped(n, turns, given, most, first),
    }
}

/// The results of a loop of which all iterations are imported; `None` where the condition is known at run time only.
fn unrolled<'m>(
    n: &mut NodeCx<'_, 'm>,
    turns: &Turns<'m>,
    given: &[Given],
    limit: Option<i64>,
    first: Option<ValueId>,
) -> Result<Option<Values>, Refusal> {
    let mut running = first.map_or(Ok(Condition::Known(true)), |v| Condition::of(n, v))?;
    let mut carried: Values = turns.carried.iter().map(|c| c.first).collect();
    let mut rows = vec![Values::new(); turns.joined.len()];
    let lasts: Vec<usize> = given.iter().filter_map(|g| if let Given::Last(r) = g { Some(*r) } else { None }).collect();
    let (mut last, mut turn) = (Values::new(), 0);
    let results: Vec<usize> = turns.condition.iter().copied().chain(turns.carried.iter().map(|c| c.next)).collect();
    let results: Vec<usize> = results.into_iter().chain(turns.joined.iter().chain(&lasts).copied()).collect();
    while limit.is_none_or(|limit| turn < limit) {
        match running {
            Condition::Known(true) => {}
            Condition::Known(false) => break,
            Condition::Value(_) => return Ok(None),
        }
        let inputs = inputs_of(n, turns, &carried, turn)?;
        let mut values = n.inline(turns.inside, &turn.to_string(), &inputs, &results)?;
        if turns.condition.is_some() {
            running = Condition::of(n, values.remove(0))?;
        }
        last = values.drain(carried.len() + rows.len()..).collect();
        rows.iter_mut().zip(&values[carried.len()..]).for_each(|(rows, &row)| rows.push(row));
        values.truncate(carried.len());
        carried = values;
        turn += 1;
    }
    let mut last = last.into_iter();
    let result = |g: &Given| match *g {
        Given::Carried(i) => Ok(carried[i]),
        Given::Joined { row, axis, backward } => joined(n, &rows[row], axis, backward),
        Given::Last(_) => last.next().ok_or_else(control::without_iterations),
    };
    given.iter().map(result).collect::<Result<_, _>>().map(Some)
}

/// The values of the Parameter layers in an iteration.
fn inputs_of<'m>(
    n: &mut NodeCx<'_, 'm>,
    turns: &Turns<'m>,
    carried: &[ValueId],
    turn: i64,
) -> Result<Vec<(usize, ValueId)>, Refusal> {
    let mut inputs: Vec<(usize, ValueId)> =
        turns.carried.iter().map(|c| c.layer).zip(carried.iter().copied()).collect();
    if let Some(layer) = turns.number {
        let number = n.add_constant(Tensor::scalar(turn));
        inputs.push((layer, n.numbered(&turns.inside, layer, number)?));
    }
    for sliced in &turns.sliced {
        let (step, length) = (usize::try_from(turn).unwrap_or(usize::MAX), n.extent(sliced.whole, sliced.axis)?);
        let back = length.checked_sub(1).and_then(|last| last.checked_sub(step));
        let at = if sliced.backward { back } else { Some(step).filter(|&step| step < length) };
        let at = at.ok_or_else(|| Refusal::Invalid(format!("it has more iterations than {length} slices")))?;
        inputs.push((sliced.layer, control::slice_at(n, sliced.whole, sliced.axis, at)?));
    }
    inputs.extend(&turns.fixed);
    Ok(inputs)
}

/// Pieces of all iterations along an axis.
fn joined(n: &mut NodeCx<'_, '_>, pieces: &[ValueId], axis: i64, backward: bool) -> Result<ValueId, Refusal> {
    let first = *pieces.first().ok_or_else(control::without_iterations)?;
    let axis = n.axis(axis, first)?;
    let mut pieces: Values = pieces.into();
    if backward {
        pieces.reverse();
    }
    if let [only] = *pieces { Ok(only) } else { n.add(Concat { axis }, &pieces) }
}

/// A loop whose number of iterations is known at run time only.
fn looped<'m>(
    n: &mut NodeCx<'_, 'm>,
    turns: &Turns<'m>,
    given: &[Given],
    most: Option<ValueId>,
    first: Option<ValueId>,
) -> Result<Values, Refusal> {
    if given.iter().any(|g| matches!(g, Given::Last(_))) {
        let message = "a result of the last iteration alone, where their number is known at run time only".into();
        return Err(Refusal::Advised { message, help: "carry the value from iteration to iteration" });
    }
    let first = match first {
        Some(v) => n.reshape(v, &[])?,
        None => n.add_constant(Tensor::from_bools(Shape::scalar(), [true])),
    };
    let (most, known) = control::most(n, most)?;
    let runs = n.constant(first).and_then(Tensor::integers).is_some_and(|runs| runs == [1]);
    let (body, reads) = n.repeated(turns)?;
    let count = computed::fresh(n);
    let op = control::repeat(turns.carried.len(), known.filter(|_| runs), count, body);
    let carried = turns.carried.iter().map(|c| c.first);
    let operands: Values = [most, first].into_iter().chain(carried).chain(reads).collect();
    let found = n.add_all(op, &operands)?;
    let result = |g: &Given| match *g {
        Given::Carried(i) => Ok(found[i]),
        Given::Joined { row, axis, backward } => {
            let mut rows = found[turns.carried.len() + row];
            if backward {
                rows = n.add(Reverse { axes: [0].into_iter().collect() }, &[rows])?;
            }
            let axis = count_axis(axis, n.rank(rows) - 1)?;
            control::along(n, rows, axis)
        }
        Given::Last(_) => Err(control::without_iterations()),
    };
    given.iter().map(result).collect()
}
