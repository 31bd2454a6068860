//! Passes over the typed graph: simplification, lowering to a target, layout, calibration and quantization.
//!
//! A [`Pass`] changes a graph; [`run`] verifies the graph after each one. A [`Rule`] is a local change around one
//! node; [`Rules`] is the pass that applies a list of them until none applies.

use std::borrow::Cow;
use std::fmt::Debug;

use qcc_ir::diagnostic::Diagnostic;
use qcc_ir::error::{EvalError, TooLarge, TypeError};
use qcc_ir::ops::OpKind;
use qcc_ir::target::Target;
use qcc_ir::{Graph, NodeId, VerifyError};

mod activation;
pub mod calibrate;
mod check;
mod joint;
pub mod layout;
pub mod lower;
pub mod open_batch;
mod pattern;
pub mod precision;
pub mod quality;
pub mod quantize;
mod rounding;
mod sets;
pub mod simplify;
#[cfg(test)]
mod testing;

pub use check::{CheckError, check_meaning};
pub use joint::Joint;

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
    /// Rules undo each other: a fault of qcc's own.
    #[error("internal error: pass {pass} finds no end, last with rule {rule}")]
    Endless {
        /// The pass.
        pass: &'static str,
        /// The rule applied last.
        rule: &'static str,
    },
    /// A node could not be made.
    #[error(transparent)]
    Type(#[from] TypeError),
    /// A constant could not be computed.
    #[error(transparent)]
    Eval(#[from] EvalError),
    /// Things the user can change.
    #[error("{}", .0.first().map_or("refused", |d| &d.message))]
    Refused(Vec<Diagnostic>),
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
    Because(Cow<'static, str>),
    /// A node could not be made.
    #[error(transparent)]
    Type(#[from] TypeError),
    /// A constant could not be computed.
    #[error(transparent)]
    Eval(#[from] EvalError),
    /// Constants would be too large.
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
}

impl Skip {
    /// A change that would not keep the meaning or not pay, and why.
    pub fn because(why: impl Into<Cow<'static, str>>) -> Self {
        Skip::Because(why.into())
    }

    /// The reason for leaving the node as it is, where one was given; an error where that is no choice but a failure.
    fn reason(self) -> Result<Option<Cow<'static, str>>, PassError> {
        match self {
            Skip::NoMatch => Ok(None),
            Skip::Because(why) => Ok(Some(why)),
            Skip::Type(e) => Err(e.into()),
            Skip::Eval(e) => Err(e.into()),
            Skip::TooLarge(e) => Ok(Some(e.to_string().into())),
        }
    }
}

/// A local change. It adds nodes and then calls [`Graph::replace`]; what is no longer needed is swept away.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// Name.
    pub name: &'static str,
    /// The kinds of node it starts at.
    pub anchor: &'static [OpKind],
    /// Changes the graph around a node, or says why not. Where it gives `Ok`, the node's values were replaced.
    pub apply: fn(&mut Graph, NodeId) -> Result<(), Skip>,
}

/// Applies rules, first to last at each node and operands before users, until none applies.
#[derive(Debug)]
pub struct Rules {
    /// Name of the pass.
    pub name: &'static str,
    /// The rules, in families.
    pub rules: &'static [&'static [Rule]],
}

/// Rounds over the graph that a set of rules may take; sound ones need far fewer.
const MOST_ROUNDS: usize = 1000;

impl Pass for Rules {
    fn name(&self) -> &'static str {
        self.name
    }

    fn run(&self, g: &mut Graph, _cx: &mut Context<'_>) -> Result<(), PassError> {
        let mut last = "none";
        for _ in 0..MOST_ROUNDS {
            let mut changed = false;
            for node in g.order() {
                let kind = g.op(node).kind();
                for rule in self.rules.iter().copied().flatten().filter(|r| r.anchor.contains(&kind)) {
                    if (rule.apply)(g, node).is_ok() {
                        (changed, last) = (true, rule.name);
                        break;
                    }
                }
            }
            // Readers that are no longer needed would hide that a value has one reader only.
            g.sweep();
            if !changed {
                return Ok(());
            }
        }
        Err(PassError::Endless { pass: self.name, rule: last })
    }
}
