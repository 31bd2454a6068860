//! Nodes behind the last contraction on every path: they decode, cost little, and an error of theirs goes straight to the
//! output.

use qcc_ir::NodeId;
use rustc_hash::FxHashSet;

use super::super::kernels::clamped;
use super::paths::leading_on;
use super::{Case, Vetoes};
use crate::decisions::Reason;

pub(super) fn vetoes(case: &Case<'_>, able: &FxHashSet<NodeId>) -> Vetoes {
    if !case.has_real_interface() {
        return Vetoes::new();
    }
    let g = case.g;
    let leads_on = leading_on(g, case.order);
    let contracts =
        |n: NodeId| g.op(n).is_contraction() || clamped(g, case.target, n).is_some_and(|c| g.op(c).is_contraction());
    let decodes = |n: &NodeId| !leads_on.contains(n) && !contracts(*n);
    case.able(able).filter(decodes).map(|n| (n, Reason::Decoding)).collect()
}
