//! Vetoes nodes that measurements of the outputs showed to lose too much accuracy.

use qcc_ir::NodeId;
use rustc_hash::{FxHashMap, FxHashSet};

use super::super::Raised;
use super::{Case, Vetoes};
use crate::decisions::Reason;

pub(super) fn vetoes(case: &Case<'_>, able: &FxHashSet<NodeId>) -> Vetoes {
    let raised: FxHashMap<NodeId, Raised> = case.options.raised.iter().copied().collect();
    let reason = |n: NodeId| {
        Some(match raised.get(&n)? {
            Raised::Activations => Reason::Accuracy,
            Raised::Weights => Reason::AccuracyOfWeights,
        })
    };
    case.able(able).filter_map(|n| Some((n, reason(n)?))).collect()
}
