//! A record of the rewrites that rules made, and of the reasons why others were not made.

use std::borrow::Cow;

use qcc_ir::error::{EvalError, TooLarge, TypeError};
use qcc_ir::{NodeId, Origin};
use rustc_hash::FxHashMap;

/// Why a rule does not change a node.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Skip {
    /// The pattern does not match.
    #[error("no match")]
    NoMatch,
    /// The pattern matches, but the rewrite would change the result or would not help.
    #[error("{0}")]
    Because(Cow<'static, str>),
    /// The rewrite needs known extents.
    #[error("its extents are open")]
    Open,
    /// A node could not be created.
    #[error(transparent)]
    Type(#[from] TypeError),
    /// A constant could not be evaluated.
    #[error(transparent)]
    Eval(#[from] EvalError),
    /// The constants would be too large.
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
}

impl Skip {
    /// A rewrite that would change the result or would not help, with the reason.
    pub fn because(why: impl Into<Cow<'static, str>>) -> Self {
        Skip::Because(why.into())
    }
}

/// A record of applied and skipped rewrites.
#[derive(Clone, Debug, Default)]
pub struct Rewrites {
    /// The number of rewrites that passes subject to the limit have made.
    pub count: usize,
    /// The maximum number of rewrites, to find the faulty one by bisection.
    pub limit: Option<usize>,
    /// The last rule that was applied, and the node it started at.
    pub last: Option<(&'static str, Origin)>,
    reasons: FxHashMap<NodeId, Vec<(&'static str, Skip)>>,
}

impl Rewrites {
    /// An empty record with a limit.
    pub fn limited(limit: Option<usize>) -> Self {
        Rewrites { limit, ..Rewrites::default() }
    }

    /// The rules whose pattern matches a node but that did not change it, with the reasons.
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
