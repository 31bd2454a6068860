//! Vetoes nodes for which the target has no integer kernel, or one that is slower than the float kernel.

use qcc_ir::NodeId;
use qcc_ir::ops::QuantRule;
use rustc_hash::FxHashSet;

use super::super::Dynamic;
use super::{Case, Vetoes};
use crate::decisions::Reason;

pub(super) fn vetoes(case: &Case<'_>, able: &FxHashSet<NodeId>) -> Vetoes {
    let g = case.g;
    let reason = |n: NodeId| {
        let op = g.op(n);
        if op.quant_rule() == QuantRule::Float {
            return Some(Reason::NoQuantizedForm);
        }
        match case.kernel(n) {
            None => return Some(Reason::NoKernel),
            // Accelerators that need `Dynamic::Never` compute with integers only.
            Some(kernel) if kernel.slow && case.options.dynamic != Dynamic::Never => return Some(Reason::SlowKernel),
            Some(_) => {}
        }
        // The scale of a bias is computed from that of a constant weight.
        let has_bias = op.is_contraction() && g.operands(n).len() > 2;
        (has_bias && g.constant(g.operands(n)[1]).is_none()).then_some(Reason::BiasOfComputedWeight)
    };
    case.able(able).filter_map(|n| Some((n, reason(n)?))).collect()
}
