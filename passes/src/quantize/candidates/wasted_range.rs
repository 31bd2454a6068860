//! Vetoes nodes whose kernel has predefined output parameters, if their results use a small part of that range.

use qcc_ir::ops::QuantRule;
use qcc_ir::{NodeId, StorageType};
use rustc_hash::FxHashSet;

use super::{Case, Vetoes};
use crate::decisions::Reason;

/// Results that span less than this share of the predefined range would lose more than a quarter of their bits.
fn waste(storage: StorageType) -> f32 {
    if storage == StorageType::I16 { 16.0 } else { 4.0 }
}

pub(super) fn vetoes(case: &Case<'_>, able: &FxHashSet<NodeId>) -> Vetoes {
    let reason = |n: NodeId| {
        let QuantRule::Fixed { lo, hi } = case.g.op(n).quant_rule() else { return None };
        match case.ranges.get(n.value(0)) {
            None => Some(Reason::NotCalibrated),
            Some(s) => ((s.max - s.min.min(0.0)) * waste(case.storage) < hi - lo).then_some(Reason::WastedRange),
        }
    };
    case.able(able).filter_map(|n| Some((n, reason(n)?))).collect()
}
