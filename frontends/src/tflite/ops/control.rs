//! Operators whose implementation is in other subgraphs, and variables.

use qcc_formats::tflite::{BuiltinOperator as B, FurtherOptions, If, While};
use qcc_ir::ops::Extents;
use qcc_ir::{Shape, Tensor, ValueId};

use super::super::body::Turn;
use super::super::node::NodeCx;
use super::Row;
use crate::build::attempt::Attempt;
use crate::build::control::{self, Condition, SET};
use crate::build::{Build, Values, one};
use crate::refusal::Refusal;

pub(super) const ROWS: &[Row] = &[
    (B::ASSIGN_VARIABLE, assign),
    // Initial values are told with the states.
    (B::CALL_ONCE, |_| Ok(Values::new())),
    (B::IF, if_),
    (B::READ_VARIABLE, read),
    (B::STABLEHLO_COMPOSITE, composite),
    (B::VAR_HANDLE, |_| Ok(Values::new())),
    (B::WHILE, while_),
];

/// The branch that a constant condition selects. Otherwise both are computed, and each result is selected by the condition,
/// where they give the same types. Other branches stay branches.
fn if_(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let options: If = n.options()?;
    let value = n.input(0)?;
    let operands = n.inputs_from(1)?;
    let condition = match Condition::of(n, value)? {
        Condition::Known(true) => return n.call(options.then_branch, &operands),
        Condition::Known(false) => return n.call(options.else_branch, &operands),
        Condition::Value(condition) => condition,
    };
    let both = |n: &mut NodeCx<'_, '_>| {
        let (yes, no) = (n.call(options.then_branch, &operands)?, n.call(options.else_branch, &operands)?);
        if yes.len() != no.len() {
            return Err(Refusal::Invalid(format!("its branches have {} and {} outputs", yes.len(), no.len())));
        }
        yes.iter().zip(&no).map(|(&yes, &no)| control::selected(n, condition, yes, no)).collect::<Result<Values, _>>()
    };
    if let Some(results) = n.attempt(both) {
        return Ok(results);
    }
    let (op, reads) = n.branches([options.then_branch, options.else_branch], &operands)?;
    let operands: Values = std::iter::once(condition).chain(reads).collect();
    n.add_all(op, &operands).map_err(|e| Refusal::Advised { message: e.to_string(), help: SET })
}

/// Unrolls a loop while its condition follows from constants. Others stay loops.
fn while_(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let While { cond, body } = n.options()?;
    let turn = Turn { cond, body };
    let mut values = n.inputs_from(0)?;
    loop {
        let holds = n.holds(turn, &values)?;
        match Condition::of(n, holds)? {
            Condition::Known(false) => return Ok(values),
            Condition::Known(true) => values = n.call(body, &values)?,
            Condition::Value(first) => return repeated(n, turn, first, &values),
        }
    }
}

fn repeated(n: &mut NodeCx<'_, '_>, turn: Turn, first: ValueId, values: &[ValueId]) -> Result<Values, Refusal> {
    let turns = n.turns(turn, values)?;
    let (most, first) = match &turns.op.iterations {
        Some(count) => {
            let runs = n.add_constant(Tensor::from_bools(Shape::scalar(), [true]));
            (n.add_whole(vec![count.clone()], Extents::new())?, runs)
        }
        None => (control::most(n, None)?.0, first),
    };
    let operands: Values = [most, first].into_iter().chain(turns.operands.iter().copied()).collect();
    let found = n.add_all(turns.op.clone(), &operands)?;
    turns.results(n, values, &found)
}

fn read(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let variable = n.variable(0)?;
    let value = n.read(variable)?;
    one(value.ok_or_else(|| Refusal::Invalid("a variable without a value".into()))?)
}

/// An assignment that nothing reads has no effect.
fn assign(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let (variable, next) = (n.variable(0)?, n.input(1)?);
    if let Some(state) = n.read(variable)? {
        n.keep_as(variable, state, next)?;
    }
    Ok(Values::new())
}

/// Inlines the decomposition subgraph of the composite.
fn composite(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    match n.further_options() {
        FurtherOptions::Composite(o) => {
            let decomposition = o.decomposition;
            let operands = n.inputs_from(0)?;
            n.call(decomposition, &operands)
        }
        _ => Err(Refusal::Invalid("it has no decomposition".into())),
    }
}
