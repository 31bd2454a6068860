//! Subgraphs of the program: inlined, or the bodies of loops.

use qcc_ir::diagnostic::Diagnostic;
use qcc_ir::{Dim, Shape, Tensor};

use super::super::body::Turns;
use super::super::node::NodeCx;
use super::Row;
use crate::build::control::{Condition, selected, slice_at, stacked};
use crate::build::{Build, Values};
use crate::refusal::Refusal;

pub(super) const ROWS: &[Row] = &[
    ("higher_order.cond", cond),
    ("higher_order.scan", scan),
    ("higher_order.while_loop", while_loop),
    ("higher_order.wrap_with_autocast", |n| wrapped(n, 4)),
    ("higher_order.wrap_with_set_grad_enabled", |n| wrapped(n, 1)),
];

/// Inlines the graph that a constant condition selects. Otherwise both are computed, and each result is selected by the
/// condition.
fn cond(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let condition = match n.number_at(0) {
        Ok(number) => Condition::Known(number.float() != 0.0),
        Err(Refusal::NotConstant { .. }) => {
            let value = n.tensors_at(0)?;
            Condition::of(n, value[0])?
        }
        Err(other) => return Err(other),
    };
    let (then, otherwise) = (n.graph_at(1)?, n.graph_at(2)?);
    let operands = n.operands_from(3)?;
    let condition = match condition {
        Condition::Known(holds) => return n.inline(if holds { then } else { otherwise }, &operands),
        Condition::Value(condition) => condition,
    };
    let (yes, no) = (n.inline(then, &operands)?, n.inline(otherwise, &operands)?);
    n.note_here(Diagnostic::note("both-branches", "both branches are computed, and the condition selects the results"));
    yes.iter().zip(&no).map(|(&yes, &no)| selected(n, condition, yes, no)).collect()
}

/// Unrolls a loop while its condition follows from constants and shapes. Others stay loops.
fn while_loop(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let (condition, body) = (n.graph_at(0)?, n.graph_at(1)?);
    let (mut carried, others) = (n.tensors_at(2)?, n.tensors_at(3)?);
    loop {
        let operands: Values = carried.iter().chain(&others).copied().collect();
        let holds = n.inline(condition, &operands)?;
        let &[holds] = holds.as_slice() else {
            return Err(Refusal::Invalid(format!("a condition of {} results", holds.len())));
        };
        match Condition::of(n, holds)? {
            Condition::Known(true) => carried = n.inline(body, &operands)?,
            Condition::Known(false) => return Ok(carried),
            Condition::Value(first) => {
                let condition = Some(condition);
                let turns = Turns { body, condition, carried: &carried, sliced: &[], others: &others, count: None };
                return n.repeated(&turns, first);
            }
        }
    }
}

/// Unrolls a loop over the slices of the first axis of its operands, if that is of known extent. Others stay loops.
fn scan(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let body = n.graph_at(0)?;
    let (mut state, operands, more) = (n.tensors_at(1)?, n.tensors_at(2)?, n.tensors_at(3)?);
    let mut lengths = operands.iter().map(|&v| n.shape(v).dims().first().cloned().unwrap_or(Dim::Known(0)));
    let first = lengths.next().unwrap_or(Dim::Known(0));
    let length = lengths.try_fold(first, |a, b| a.agreed(&b));
    let length = length.ok_or_else(|| Refusal::Invalid("it iterates over axes of unlike lengths".into()))?;
    let Some(steps) = length.known() else {
        let first = n.add_constant(Tensor::from_bools(Shape::scalar(), [true]));
        let count = Some(length.expr());
        let turns = Turns { body, condition: None, carried: &state, sliced: &operands, others: &more, count };
        return n.repeated(&turns, first);
    };
    let mut rows: Vec<Values> = Vec::new();
    for step in 0..steps {
        let mut inputs = state.clone();
        for &v in &operands {
            inputs.push(slice_at(n, v, 0, step)?);
        }
        inputs.extend(more.iter().copied());
        let results = n.inline(body, &inputs)?;
        let Some((new, out)) = results.split_at_checked(state.len()) else {
            return Err(Refusal::Invalid(format!("{} results for {} states", results.len(), state.len())));
        };
        state = new.into();
        rows.resize(out.len(), Values::new());
        rows.iter_mut().zip(out).for_each(|(rows, &row)| rows.push(row));
    }
    for rows in rows {
        state.push(stacked(n, &rows, 0, false)?);
    }
    Ok(state)
}

/// Inlines a graph under settings that only affect training; it is argument `at`, followed by its operands.
fn wrapped(n: &mut NodeCx<'_, '_>, at: usize) -> Result<Values, Refusal> {
    n.pass_over(at);
    let graph = n.graph_at(at)?;
    let operands = n.operands_from(at + 1)?;
    n.inline_as(graph, &operands)
}
