//! Common subexpression elimination.

use qcc_ir::ops::{Op, OpKind};
use qcc_ir::{Graph, NodeId, ValueId};
use rustc_hash::FxHashMap;

use crate::pattern::when;
use crate::{Context, Pass, PassError, Rule, Skip};

pub(super) const RULES: &[Rule] = &[Rule { name: "compute-once", anchor: OpKind::ALL, apply: compute_once }];

/// The maximum number of users of a value, or of constants with equal first bytes, among which an equal one is
/// searched.
const MOST_USERS: usize = 256;

/// Replaces a node by an equal older one.
fn compute_once(g: &mut Graph, at: NodeId) -> Result<(), Skip> {
    // Custom operators may not be deterministic.
    when(!matches!(g.op(at), Op::Custom(_)))?;
    let operands = g.operands(at);
    // Constants have many users, so candidates are searched among the users of another operand.
    let variable = operands.iter().filter(|&&v| g.constant(v).is_none());
    let shared = variable.min_by_key(|&&v| g.readers(v).len()).ok_or(Skip::NoMatch)?;
    let does_the_same = |other: NodeId| {
        if other >= at || g.op(other) != g.op(at) {
            return false;
        }
        let theirs = g.operands(other);
        theirs.len() == operands.len()
            && theirs.iter().zip(&operands).all(|(&a, &b)| equal(g, a, b))
            && g.results(other).zip(g.results(at)).all(|(a, b)| g.ty(a) == g.ty(b))
    };
    let readers = g.readers(*shared).take(MOST_USERS).map(|(node, _)| node);
    let twin = readers.into_iter().find(|&n| does_the_same(n)).ok_or(Skip::NoMatch)?;
    for (old, new) in g.results(at).zip(g.results(twin)) {
        g.replace(old, new)?;
    }
    Ok(())
}

fn equal(g: &Graph, a: ValueId, b: ValueId) -> bool {
    a == b || matches!((g.constant(a), g.constant(b)), (Some(a), Some(b)) if a == b)
}

/// Merges equal constants.
#[derive(Debug)]
pub(super) struct ShareConstants;

impl Pass for ShareConstants {
    fn name(&self) -> &'static str {
        "share-constants"
    }

    fn run(&self, g: &mut Graph, _cx: &mut Context<'_>) -> Result<(), PassError> {
        // Most constants differ in size or in the first bytes. Others are compared with the first constant with the
        // same ones.
        let mut seen: FxHashMap<(usize, [u8; 16]), Vec<ValueId>> = FxHashMap::default();
        for node in g.order() {
            let Op::Const(c) = g.op(node) else { continue };
            let data = c.value.data();
            let mut head = [0; 16];
            head.iter_mut().zip(data.iter()).for_each(|(h, b)| *h = *b);
            let twins = seen.entry((data.len(), head)).or_default();
            let same = |&&t: &&ValueId| g.constant(t) == Some(&c.value);
            match twins.iter().rev().take(MOST_USERS).find(same).copied() {
                Some(twin) => g.replace(node.value(0), twin)?,
                None => twins.push(node.value(0)),
            }
        }
        Ok(())
    }
}
