//! Vetoes nodes after the last contraction on every path. They decode the outputs: they cost little, and their errors
//! directly affect the output.

use qcc_ir::NodeId;
use rustc_hash::FxHashSet;

use super::super::kernels::clamped;
use super::paths::reaching_contractions;
use super::{Case, Vetoes};
use crate::decisions::Reason;

pub(super) fn vetoes(case: &Case<'_>, able: &FxHashSet<NodeId>) -> Vetoes {
    if !case.has_float_interface() {
        return Vetoes::new();
    }
    let g = case.g;
    let reaching = reaching_contractions(g, case.order);
    let contracts = |n: NodeId| {
        g.op(n).is_contraction() || clamped(g, case.target, case.storage, n).is_some_and(|c| g.op(c).is_contraction())
    };
    let decodes = |n: &NodeId| !reaching.contains(n) && !contracts(*n);
    case.able(able).filter(decodes).map(|n| (n, Reason::Decoding)).collect()
}
