//! Subgraphs of the program.

use super::super::node::NodeCx;
use super::Row;
use crate::build::Values;
use crate::refusal::Refusal;

pub(super) const ROWS: &[Row] = &[
    ("higher_order.cond", cond),
    ("higher_order.wrap_with_autocast", |n| wrapped(n, 4)),
    ("higher_order.wrap_with_set_grad_enabled", |n| wrapped(n, 1)),
];

/// Inlines the graph that a constant condition selects.
fn cond(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let condition =
        n.number_at(0).map_err(|e| e.advised("export the model with the branch that is taken"))?.float() != 0.0;
    let (then, otherwise) = (n.graph_at(1)?, n.graph_at(2)?);
    let operands = n.tensors_from(3)?;
    n.inline(if condition { then } else { otherwise }, &operands)
}

/// Inlines a graph under settings that only affect training; it is argument `at`, followed by its operands.
fn wrapped(n: &mut NodeCx<'_, '_>, at: usize) -> Result<Values, Refusal> {
    n.pass_over(at);
    let graph = n.graph_at(at)?;
    let operands = n.tensors_from(at + 1)?;
    n.inline(graph, &operands)
}
