//! Control flow, which is resolved at import where what it does is known then.

use qcc_formats::onnx::GraphProto;
use qcc_ir::diagnostic::Diagnostic;
use qcc_ir::ops::{BinaryFn, Extents, Reverse};
use qcc_ir::{Dim, Shape, Tensor, ValueId};

use super::super::body::Turns;
use super::super::node::NodeCx;
use super::Row;
use crate::build::attempt::Attempt;
use crate::build::control::{self, Condition, SET};
use crate::build::{Build, Operands, Values, computed, count_axis};
use crate::refusal::Refusal;

pub(super) const ROWS: &[Row] = &[("If", if_), ("Loop", loop_), ("Scan", scan)];

/// Inlines the branch that a constant condition selects. Otherwise both branches are computed, and each result is selected
/// by the condition, where they give the same types at the same extents. Other branches stay branches.
fn if_(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let (then, otherwise) = (n.graph("then_branch")?, n.graph("else_branch")?);
    let value = n.input(0)?;
    let condition = match Condition::of(n, value)? {
        Condition::Known(holds) => return n.inline(if holds { then } else { otherwise }, &[], None),
        Condition::Value(condition) => condition,
    };
    if let Some(results) = n.attempt(|n| both_branches(n, condition, then, otherwise)) {
        return Ok(results);
    }
    let branches = n.branches([then, otherwise])?;
    branches.add(n, condition).map_err(|e| Refusal::Advised { message: e.to_string(), help: SET })
}

/// Computes both branches. Fails where they do not give the same types, or one computes at other extents only.
fn both_branches<'m>(
    n: &mut NodeCx<'_, 'm>,
    condition: ValueId,
    then: &'m GraphProto,
    otherwise: &'m GraphProto,
) -> Result<Values, Refusal> {
    let path = n.origin().path().to_owned();
    let assumed = n.assumed_extents();
    let yes = n.inline(then, &[], Some(format!("{path}/then")))?;
    let no = n.inline(otherwise, &[], Some(format!("{path}/else")))?;
    let may_fail = n.assumed_extents() > assumed;
    if yes.len() != no.len() {
        return Err(Refusal::Invalid(format!("its branches have {} and {} outputs", yes.len(), no.len())));
    }
    let results: Values =
        yes.iter().zip(&no).map(|(&yes, &no)| selected(n, condition, yes, no)).collect::<Result<_, Refusal>>()?;
    if may_fail && results != yes {
        return Err(Refusal::Invalid("one of its branches fails for extents that the other is for".into()));
    }
    n.note_here(
        Diagnostic::note("both-branches", "both branches are computed, and the condition selects the results")
            .with_help("--set fixes the inputs of a condition; then one branch is computed"),
    );
    Ok(results)
}

/// `yes` where the condition holds, else `no`.
fn selected(n: &mut NodeCx<'_, '_>, condition: ValueId, yes: ValueId, no: ValueId) -> Result<ValueId, Refusal> {
    match (n.elements(yes), n.elements(no)) {
        (None, None) => {}
        (Some(yes), Some(no)) if yes.len() == no.len() => {
            let elements = yes.iter().zip(&no).map(|(&yes, &no)| selected(n, condition, yes, no));
            let elements = elements.collect::<Result<_, _>>()?;
            return Ok(n.add_sequence(elements));
        }
        _ => {
            let message = "a condition that is known at run time only selects between sequences of unlike lengths";
            return Err(Refusal::Advised { message: message.into(), help: SET });
        }
    }
    let result = control::selected(n, condition, yes, no)?;
    n.hand_on(result, yes);
    Ok(result)
}

/// Unrolls a loop where the number of iterations follows from constants. Where a maximum does, and the condition is known at
/// run time only, all iterations are computed, and those after the last one do not change the carried values. Other loops
/// stay loops.
fn loop_(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let body = n.graph("body")?;
    let first: [Option<ValueId>; 2] = [n.optional(0), n.optional(1)];
    if first[0].is_some_and(|v| n.constant(v).is_none()) {
        return repeated(n, body, first);
    }
    let most = if first[0].is_some() { Some(n.integer(0)?) } else { None };
    let mut running = match n.optional(1) {
        Some(v) => Condition::of(n, v)?,
        None => Condition::Known(true),
    };
    let mut carried: Values = (2..n.inputs()).map(|i| n.input(i)).collect::<Result<_, _>>()?;
    let scanned = body.output.len().checked_sub(1 + carried.len()).ok_or_else(|| counts(body))?;
    let mut rows: Vec<Values> = vec![Values::new(); scanned];
    let path = n.origin().path().to_owned();
    let mut trip = 0;
    while most.is_none_or(|most| trip < most) {
        let holds = match running {
            Condition::Known(false) => break,
            Condition::Known(true) => n.add_constant(Tensor::from_bools(Shape::scalar(), [true])),
            Condition::Value(_) if !bounded(n, body, most.map(|most| most - trip), scanned) => {
                return repeated(n, body, first);
            }
            Condition::Value(v) => v,
        };
        let number = n.add_constant(Tensor::scalar(trip));
        let inputs: Values = [number, holds].into_iter().chain(carried.iter().copied()).collect();
        let results = n.inline(body, &inputs, Some(format!("{path}/{trip}")))?;
        let (new, out) = results[1..].split_at(carried.len());
        for (rows, &row) in rows.iter_mut().zip(out) {
            rows.push(row);
        }
        let next = Condition::of(n, results[0])?;
        (carried, running) = match running {
            Condition::Known(_) => (new.into(), next),
            Condition::Value(held) => {
                let kept = new.iter().zip(&carried).map(|(&new, &old)| selected(n, held, new, old));
                (kept.collect::<Result<_, _>>()?, both(n, held, next)?)
            }
        };
        trip += 1;
    }
    if trip > 1 {
        n.note_here(Diagnostic::note("unrolled", format!("the loop is unrolled: {trip} iterations")));
    }
    for rows in rows {
        carried.push(stacked(n, &rows, 0, false)?);
    }
    Ok(carried)
}

fn counts(body: &GraphProto) -> Refusal {
    Refusal::Invalid(format!("its body has {} inputs and {} outputs", body.input.len(), body.output.len()))
}

/// True if a loop whose condition is known at run time only has a maximum number of iterations, and no results whose
/// length is the number of iterations.
fn bounded(n: &NodeCx<'_, '_>, body: &GraphProto, most: Option<i64>, scanned: usize) -> bool {
    let nodes = most.and_then(|most| usize::try_from(most).ok()?.checked_mul(body.node.len().max(1)));
    scanned == 0 && nodes.is_some_and(|nodes| nodes <= n.nodes_left())
}

/// A loop whose number of iterations is known at run time only, from the maximum and the condition, where they are given.
fn repeated<'m>(
    n: &mut NodeCx<'_, 'm>,
    body: &'m GraphProto,
    [most, condition]: [Option<ValueId>; 2],
) -> Result<Values, Refusal> {
    let carried: Values = (2..n.inputs()).map(|i| n.input(i)).collect::<Result<_, _>>()?;
    if body.output.len() < 1 + carried.len() || body.input.len() < 2 + carried.len() {
        return Err(counts(body));
    }
    let (most, known) = control::most(n, most)?;
    let first = match condition {
        Some(v) => n.reshape(v, &[])?,
        None => n.add_constant(Tensor::from_bools(Shape::scalar(), [true])),
    };
    let runs = n.constant(first).and_then(Tensor::integers).is_some_and(|runs| runs == [1]);
    let count = computed::fresh(n);
    let turns = Turns { body, carried: &carried, sliced: None, most: known.filter(|_| runs), count };
    n.repeated(turns)?.add(n, most, first)
}

/// True where both conditions hold.
fn both(n: &mut NodeCx<'_, '_>, held: ValueId, next: Condition) -> Result<Condition, Refusal> {
    Ok(match next {
        Condition::Known(true) => Condition::Value(held),
        Condition::Known(false) => next,
        Condition::Value(next) => Condition::Value(n.binary(BinaryFn::And, held, next)?),
    })
}

/// Unrolls a loop over slices of its operands. Where their number is open, it stays a loop.
fn scan(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    if n.opset() < 9 {
        return Err(Refusal::Unsupported("Scan of opset 8 is not supported".into()));
    }
    let body = n.graph("body")?;
    let scanned = n.optional_int("num_scan_inputs")?.and_then(|count| usize::try_from(count).ok());
    let scanned = scanned.ok_or(Refusal::Attribute { name: "num_scan_inputs".into(), problem: "is missing" })?;
    let all = n.all_inputs()?;
    let states = all.len().checked_sub(scanned).ok_or_else(|| counts(body))?;
    let results = body.output.len().checked_sub(states).ok_or_else(|| counts(body))?;
    let axes = numbers(n, "scan_input_axes", scanned)?;
    let backward = numbers(n, "scan_input_directions", scanned)?;
    let out_axes = numbers(n, "scan_output_axes", results)?;
    let out_backward = numbers(n, "scan_output_directions", results)?;
    let (mut state, operands): (Values, &[ValueId]) = (all[..states].into(), &all[states..]);
    let axes: Vec<usize> = axes.iter().zip(operands).map(|(&a, &v)| n.axis(a, v)).collect::<Result<_, _>>()?;
    let mut lengths = axes.iter().zip(operands).map(|(&a, &v)| n.shape(v).dims()[a].clone());
    let first = lengths.next().unwrap_or(Dim::Known(0));
    let length = lengths.try_fold(first, |a, b| a.agreed(&b));
    let length = length.ok_or_else(|| Refusal::Invalid("it iterates over axes of unlike lengths".into()))?;
    let Some(steps) = length.known() else {
        let sliced = operands.iter().zip(&axes).zip(&backward);
        let sliced: Vec<_> = sliced.map(|((&v, &axis), &backward)| (v, axis, backward != 0)).collect();
        return scan_open(n, body, &state, &sliced, &length, (&out_axes, &out_backward));
    };
    let mut rows: Vec<Values> = vec![Values::new(); results];
    let path = n.origin().path().to_owned();
    for step in 0..steps {
        let mut inputs = state.clone();
        for (i, &v) in operands.iter().enumerate() {
            let at = if backward[i] == 0 { step } else { steps - 1 - step };
            inputs.push(slice_at(n, v, axes[i], at)?);
        }
        let results = n.inline(body, &inputs, Some(format!("{path}/{step}")))?;
        let (new, out) = results.split_at(states);
        state = new.into();
        for (rows, &row) in rows.iter_mut().zip(out) {
            rows.push(row);
        }
    }
    for (i, rows) in rows.iter().enumerate() {
        state.push(stacked(n, rows, out_axes[i], out_backward[i] != 0)?);
    }
    n.note_here(Diagnostic::note("unrolled", format!("the loop is unrolled: {steps} iterations")));
    Ok(state)
}

/// A loop over slices of an axis whose length is open.
fn scan_open<'m>(
    n: &mut NodeCx<'_, 'm>,
    body: &'m GraphProto,
    states: &[ValueId],
    sliced: &[(ValueId, usize, bool)],
    length: &Dim,
    (axes, backward): (&[i64], &[i64]),
) -> Result<Values, Refusal> {
    let most = n.add_whole(vec![length.expr()], Extents::new())?;
    let first = n.add_constant(Tensor::from_bools(Shape::scalar(), [true]));
    let turns = Turns { body, carried: states, sliced: Some(sliced), most: Some(length.expr()), count: String::new() };
    let mut results = n.repeated(turns)?.add(n, most, first)?;
    for (i, rows) in results[states.len()..].iter_mut().enumerate() {
        if backward[i] != 0 {
            *rows = n.add(Reverse { axes: [0].into_iter().collect() }, &[*rows])?;
        }
        let axis = count_axis(axes[i], n.rank(*rows))?;
        *rows = control::first_as(n, *rows, axis)?;
    }
    Ok(results)
}

/// An attribute with one integer for each of `count` values; 0 if it is omitted.
fn numbers(n: &mut NodeCx<'_, '_>, name: &str, count: usize) -> Result<Vec<i64>, Refusal> {
    let given = n.ints(name)?.map_or_else(|| vec![0; count], <[i64]>::to_vec);
    let problem = "has not one number for each value";
    if given.len() == count { Ok(given) } else { Err(Refusal::Attribute { name: name.into(), problem }) }
}

/// As [`control::slice_at`], for integers of the file's type as well.
pub(super) fn slice_at(n: &mut NodeCx<'_, '_>, v: ValueId, axis: usize, at: usize) -> Result<ValueId, Refusal> {
    let slice = control::slice_at(n, v, axis, at)?;
    n.hand_on(slice, v);
    Ok(slice)
}

/// As [`control::stacked`], for integers of the file's type as well.
pub(super) fn stacked(n: &mut NodeCx<'_, '_>, rows: &[ValueId], axis: i64, reverse: bool) -> Result<ValueId, Refusal> {
    if rows.iter().any(|&row| n.elements(row).is_some()) {
        return Err(Refusal::Invalid("a sequence in each iteration; expected a tensor".into()));
    }
    let stack = control::stacked(n, rows, axis, reverse)?;
    n.hand_on(stack, rows[0]);
    Ok(stack)
}
