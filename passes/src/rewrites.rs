//! What rules do to a graph, and why they leave it as it is.

use std::borrow::Cow;

use qcc_ir::error::{EvalError, TooLarge, TypeError};
use qcc_ir::{NodeId, Origin};
use rustc_hash::FxHashMap;

/// Why a rule leaves a node as it is.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
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
}

/// What rules did and did not do.
#[derive(Clone, Debug, Default)]
pub struct Rewrites {
    /// How many were made by passes that may stop at any time.
    pub count: usize,
    /// After so many no more are made, to find the one that changes something.
    pub limit: Option<usize>,
    /// The rule of the last one and the node it started at.
    pub last: Option<(&'static str, Origin)>,
    reasons: FxHashMap<NodeId, Vec<(&'static str, Skip)>>,
}

impl Rewrites {
    /// None yet, and no more than `limit`.
    pub fn limited(limit: Option<usize>) -> Self {
        Rewrites { limit, ..Rewrites::default() }
    }

    /// The rules whose pattern a node has but which left it as it is, and why.
    pub fn reasons(&self, node: NodeId) -> &[(&'static str, Skip)] {
        self.reasons.get(&node).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn are_all(&self) -> bool {
        self.limit.is_some_and(|limit| self.count >= limit)
    }

    pub(crate) fn made(&mut self, rule: &'static str, origin: Origin) {
        self.count += 1;
        if self.limit.is_some() {
            self.last = Some((rule, origin));
        }
    }

    pub(crate) fn skipped(&mut self, node: NodeId, rule: &'static str, why: Skip) {
        if why == Skip::NoMatch {
            return;
        }
        let reasons = self.reasons.entry(node).or_default();
        match reasons.iter_mut().find(|(name, _)| *name == rule) {
            Some((_, reason)) => *reason = why,
            None => reasons.push((rule, why)),
        }
    }
}
