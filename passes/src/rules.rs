//! Rules: local rewrites around one node, and the engine that applies them.

use std::borrow::Cow;
use std::fmt::Debug;
use std::sync::Arc;

use qcc_ir::ops::OpKind;
use qcc_ir::{Graph, NodeId, Origin};

use crate::pass::{Context, Pass, PassError};
use crate::rewrites::Skip;

impl Skip {
    /// Why the rule does not apply, if it gave a reason. Failures become errors.
    pub(crate) fn reason(self) -> Result<Option<Cow<'static, str>>, PassError> {
        match self {
            Skip::NoMatch => Ok(None),
            Skip::Because(why) => Ok(Some(why)),
            Skip::Type(e) => Err(e.into()),
            Skip::Eval(e) => Err(e.into()),
            why @ (Skip::Open | Skip::TooLarge(_)) => Ok(Some(why.to_string().into())),
        }
    }
}

/// A local rewrite that may have state. It adds nodes and then calls [`Graph::replace`]. Nodes that become dead are
/// removed afterwards.
pub trait Rewrite: Debug + Send + Sync {
    /// The name.
    fn name(&self) -> &'static str;

    /// The kinds of the nodes at which the rewrite starts.
    fn anchors(&self) -> &[OpKind];

    /// Rewrites the graph around a node. If it returns `Ok`, the values of the node were replaced.
    ///
    /// # Errors
    /// The reason why the node is not changed.
    fn apply(&self, g: &mut Graph, node: NodeId) -> Result<(), Skip>;
}

/// A local rewrite that is a constant.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// The name.
    pub name: &'static str,
    /// The kinds of the nodes at which the rule starts.
    pub anchor: &'static [OpKind],
    /// Rewrites the graph around a node, or returns the reason why not. If it returns `Ok`, the values of the node were
    /// replaced.
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

/// A pass that applies rules until none applies: operands before users, and the rules in order at each node.
#[derive(Debug)]
pub struct Rules {
    name: &'static str,
    families: &'static [&'static [Rule]],
    own: Vec<Arc<dyn Rewrite>>,
    required: bool,
}

impl Rules {
    /// A pass of constant rules, grouped in families.
    pub const fn new(name: &'static str, families: &'static [&'static [Rule]]) -> Self {
        Rules { name, families, own: Vec::new(), required: false }
    }

    /// The same pass, exempt from the rewrite limit because later passes rely on it.
    pub(crate) const fn required(mut self) -> Self {
        self.required = true;
        self
    }

    /// The same pass with one more rule at the end.
    pub fn and(mut self, rule: impl Rewrite + 'static) -> Self {
        self.own.push(Arc::new(rule));
        self
    }

    fn all(&self) -> impl Iterator<Item = &dyn Rewrite> {
        let families = self.families.iter().copied().flatten().map(|r| r as &dyn Rewrite);
        families.chain(self.own.iter().map(|r| &**r))
    }

    /// Applies the first rule that changes the graph at a node and returns its name.
    fn at(&self, g: &mut Graph, node: NodeId, cx: &mut Context<'_>) -> Option<&'static str> {
        let kind = g.op(node).kind();
        for rule in self.all().filter(|r| r.anchors().contains(&kind)) {
            // A rule that applies removes the node.
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

/// The maximum number of sweeps over the graph. Rules that reach a fixed point need far fewer.
const MOST_ROUNDS: usize = 1000;

/// Repeats `round` until it changes nothing. Each call returns the name of the last rule that applied.
pub(crate) fn until_settled(
    pass: &'static str,
    g: &mut Graph,
    mut round: impl FnMut(&mut Graph) -> Result<Option<&'static str>, PassError>,
) -> Result<(), PassError> {
    let mut rule = "none";
    for _ in 0..MOST_ROUNDS {
        let changed = round(g)?;
        // Dead users must be removed first: they would hide that a value has only one live user.
        g.sweep();
        match changed {
            Some(last) => rule = last,
            None => return Ok(()),
        }
    }
    Err(PassError::Endless { pass, rule })
}
