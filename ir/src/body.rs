//! The bodies of loops as graphs.

use crate::error::TypeError;
use crate::graph::Graph;
use crate::ops::Loop;
use crate::text::{Weights, parse, print_whole};
use crate::types::TensorType;

impl Loop {
    /// A loop of a body that carries so many values, and the symbol for its number of iterations, which is used where the body
    /// has rows.
    ///
    /// # Errors
    /// Where the graph is no such body: an extent is open, or a value has another type after an iteration.
    pub fn of(body: &Graph, carried: usize, count: impl Into<String>) -> Result<Loop, TypeError> {
        let inputs: Vec<TensorType> = body.inputs().map(|v| body.ty(v).clone()).collect();
        let outputs: Vec<TensorType> = body.outputs().iter().map(|o| body.ty(o.value).clone()).collect();
        let part = |types: &[TensorType], from: usize, to: usize| types.get(from..to).unwrap_or_default().to_vec();
        let rows = part(&outputs, 1 + carried, outputs.len());
        let op = Loop {
            carried: part(&inputs, 1, 1 + carried),
            reads: part(&inputs, 1 + carried, inputs.len()),
            count: if rows.is_empty() { String::new() } else { count.into() },
            rows,
            body: print_whole(body),
        };
        op.graph().map(|_| op)
    }

    /// The body.
    ///
    /// # Errors
    /// Where the text is not the graph of a body of these types.
    pub fn graph(&self) -> Result<Graph, TypeError> {
        let invalid = |why: String| TypeError::Attribute(format!("the body of a loop: {why}"));
        let body = parse(&self.body, &Weights::new()).map_err(|e| invalid(e.to_string()))?;
        body.verify().map_err(|e| invalid(e.to_string()))?;
        if body.is_open() {
            return Err(invalid("an extent is not known before it runs".into()));
        }
        let takes = body.inputs().map(|v| body.ty(v).clone()).eq(self.takes());
        let gives = body.outputs().iter().map(|o| body.ty(o.value).clone()).eq(self.gives());
        if takes && gives { Ok(body) } else { Err(invalid("its inputs and outputs are not those of the loop".into())) }
    }

    /// The loop with another body of the same inputs and outputs.
    ///
    /// # Errors
    /// As [`Loop::of`].
    pub fn with(&self, body: &Graph) -> Result<Loop, TypeError> {
        let op = Loop { body: print_whole(body), ..self.clone() };
        op.graph().map(|_| op)
    }
}
