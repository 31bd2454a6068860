//! Passes over the typed graph: simplification, lowering to a target, layout, calibration and quantization.
//!
//! A [`Pass`] changes a graph; [`run`] verifies the graph after each one. A [`Rule`] is a local change around one
//! node; [`Rules`] is the pass that applies a list of them until none applies.

use std::fmt::Debug;

use qcc_ir::diagnostic::Diagnostic;
use qcc_ir::error::{EvalError, TypeError};
use qcc_ir::ops::OpKind;
use qcc_ir::target::Target;
use qcc_ir::{Graph, NodeId, VerifyError};

/// What passes know besides the graph.
#[derive(Debug)]
pub struct Context<'a> {
    /// What the backend asks.
    pub target: &'a Target,
    /// What the user is to be told.
    pub diagnostics: Vec<Diagnostic>,
}

/// Why a pass failed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum PassError {
    /// The graph does not verify after the pass: a fault of qcc's own.
    #[error("internal error: after pass {pass}: {error}")]
    Verify {
        /// The pass.
        pass: &'static str,
        /// What does not verify.
        error: VerifyError,
    },
    /// A node could not be made.
    #[error(transparent)]
    Type(#[from] TypeError),
    /// A constant could not be computed.
    #[error(transparent)]
    Eval(#[from] EvalError),
    /// Something the user can change.
    #[error("{}", .0.message)]
    Refused(Box<Diagnostic>),
}

/// A change of a whole graph.
pub trait Pass: Debug {
    /// Name, as `--print-after` takes it.
    fn name(&self) -> &'static str;
    /// Changes the graph.
    fn run(&self, g: &mut Graph, cx: &mut Context<'_>) -> Result<(), PassError>;
}

/// Runs passes in order, verifies after each, and shows the graph to `after`.
pub fn run(
    passes: &[Box<dyn Pass>],
    g: &mut Graph,
    cx: &mut Context<'_>,
    after: &mut dyn FnMut(&'static str, &Graph),
) -> Result<(), PassError> {
    for pass in passes {
        pass.run(g, cx)?;
        g.sweep();
        g.verify().map_err(|error| PassError::Verify { pass: pass.name(), error })?;
        after(pass.name(), g);
    }
    Ok(())
}

/// Why a rule leaves a node as it is.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Skip {
    /// The pattern is not there.
    #[error("no match")]
    NoMatch,
    /// It is there, but the change would not keep the meaning or not pay.
    #[error("{0}")]
    Because(&'static str),
    /// A node could not be made.
    #[error(transparent)]
    Type(#[from] TypeError),
    /// A constant could not be computed.
    #[error(transparent)]
    Eval(#[from] EvalError),
}

/// A local change. It adds nodes and then calls [`Graph::replace`]; what is no longer needed is swept away.
pub trait Rule: Debug + Sync {
    /// Name.
    fn name(&self) -> &'static str;
    /// The kinds of node it starts at.
    fn anchor(&self) -> &'static [OpKind];
    /// Changes the graph around `at`, or says why not. Where it gives `Ok`, a value was replaced.
    fn apply(&self, g: &mut Graph, at: NodeId, target: &Target) -> Result<(), Skip>;
}

/// Applies rules, first to last at each node and operands before users, until none applies.
#[derive(Debug)]
pub struct Rules {
    /// Name of the pass.
    pub name: &'static str,
    /// The rules.
    pub rules: &'static [&'static dyn Rule],
}

impl Pass for Rules {
    fn name(&self) -> &'static str {
        self.name
    }

    fn run(&self, g: &mut Graph, cx: &mut Context<'_>) -> Result<(), PassError> {
        loop {
            let mut changed = false;
            for node in g.order() {
                let kind = g.op(node).kind();
                let rules = self.rules.iter().filter(|r| r.anchor().contains(&kind));
                changed |= rules.into_iter().any(|r| r.apply(g, node, cx.target).is_ok());
            }
            if !changed {
                return Ok(());
            }
            g.sweep();
        }
    }
}
