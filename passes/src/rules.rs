//! Rules: local changes around one node, and the engine that applies them.

use std::borrow::Cow;
use std::fmt::Debug;
use std::sync::Arc;

use qcc_ir::ops::OpKind;
use qcc_ir::{Graph, NodeId, Origin};

use crate::pass::{Context, Pass, PassError};
use crate::rewrites::Skip;

impl Skip {
    /// The reason for leaving the node as it is, where one was given; an error where that is no choice but a failure.
    pub(crate) fn reason(self) -> Result<Option<Cow<'static, str>>, PassError> {
        match self {
            Skip::NoMatch => Ok(None),
            Skip::Because(why) => Ok(Some(why)),
            Skip::Type(e) => Err(e.into()),
            Skip::Eval(e) => Err(e.into()),
            Skip::TooLarge(e) => Ok(Some(e.to_string().into())),
        }
    }
}

/// A local change with or without a state of its own. It adds nodes and then calls [`Graph::replace`]; what is no longer
/// needed is swept away.
pub trait Rewrite: Debug + Send + Sync {
    /// Name.
    fn name(&self) -> &'static str;

    /// The kinds of node it starts at.
    fn anchors(&self) -> &[OpKind];

    /// Changes the graph around a node. Where it gives `Ok`, the node's values were replaced.
    ///
    /// # Errors
    /// Why the node stays as it is.
    fn apply(&self, g: &mut Graph, node: NodeId) -> Result<(), Skip>;
}

/// A local change as a constant.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// Name.
    pub name: &'static str,
    /// The kinds of node it starts at.
    pub anchor: &'static [OpKind],
    /// Changes the graph around a node, or says why not. Where it gives `Ok`, the node's values were replaced.
    pub apply: fn(&mut Graph, NodeId) -> Result<(), Skip>,
}

impl Rewrite for Rule {
    fn name(&self) -> &'static str {
        self.name
    }

    fn anchors(&self) -> &[OpKind] {
        self.anchor
    }

    fn apply(&self, g: &mut Graph, node: NodeId) -> Result<(), Skip> {
        (self.apply)(g, node)
    }
}

/// Applies rules, first to last at each node and operands before users, until none applies.
#[derive(Debug)]
pub struct Rules {
    name: &'static str,
    families: &'static [&'static [Rule]],
    own: Vec<Arc<dyn Rewrite>>,
    required: bool,
}

impl Rules {
    /// Rules that are constants, in families.
    pub const fn new(name: &'static str, families: &'static [&'static [Rule]]) -> Self {
        Rules { name, families, own: Vec::new(), required: false }
    }

    /// The same rules, which what follows relies on: no limit of rewrites stops them.
    pub(crate) const fn required(mut self) -> Self {
        self.required = true;
        self
    }

    /// The same rules and, behind them, another.
    pub fn and(mut self, rule: impl Rewrite + 'static) -> Self {
        self.own.push(Arc::new(rule));
        self
    }

    fn all(&self) -> impl Iterator<Item = &dyn Rewrite> {
        let families = self.families.iter().copied().flatten().map(|r| r as &dyn Rewrite);
        families.chain(self.own.iter().map(|r| &**r))
    }

    /// Applies the first rule that changes something around a node; its name.
    fn at(&self, g: &mut Graph, node: NodeId, cx: &mut Context<'_>) -> Option<&'static str> {
        let kind = g.op(node).kind();
        for rule in self.all().filter(|r| r.anchors().contains(&kind)) {
            // The node is gone where the rule applies.
            let origin = cx.rewrites.limit.map(|_| g.origin(node).clone());
            match rule.apply(g, node) {
                Ok(()) => {
                    if !self.required {
                        cx.rewrites.made(rule.name(), origin.unwrap_or_else(Origin::none));
                    }
                    return Some(rule.name());
                }
                Err(why) => cx.rewrites.skipped(node, rule.name(), why),
            }
        }
        None
    }
}

impl Pass for Rules {
    fn name(&self) -> &'static str {
        self.name
    }

    fn run(&self, g: &mut Graph, cx: &mut Context<'_>) -> Result<(), PassError> {
        until_settled(self.name, g, |g| {
            let mut last = None;
            for node in g.order() {
                if !self.required && cx.rewrites.are_all() {
                    return Ok(None);
                }
                last = self.at(g, node, cx).or(last);
            }
            Ok(last)
        })
    }
}

/// Rounds over the graph that a set of rules may take; sound ones need far fewer.
const MOST_ROUNDS: usize = 1000;

/// Goes over the graph `round` after round until one changes nothing. Each gives the name of its last change.
pub(crate) fn until_settled(
    pass: &'static str,
    g: &mut Graph,
    mut round: impl FnMut(&mut Graph) -> Result<Option<&'static str>, PassError>,
) -> Result<(), PassError> {
    let mut rule = "none";
    for _ in 0..MOST_ROUNDS {
        let changed = round(g)?;
        // Readers that are no longer needed would hide that a value has one reader only.
        g.sweep();
        match changed {
            Some(last) => rule = last,
            None => return Ok(()),
        }
    }
    Err(PassError::Endless { pass, rule })
}
