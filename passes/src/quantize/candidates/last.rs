//! Contractions whose result stays real, their weight alone on a grid: where what follows needs more than 8 bits; and where
//! only real nodes read them, since their 8 bits would be the last and the worst, if that is at the end, does not make the
//! products real, or these are few.

use qcc_ir::ops::QuantRule;
use qcc_ir::{Graph, NodeId};
use rustc_hash::FxHashSet;

use super::super::Dynamic;
use super::few_steps::FewSteps;
use super::paths::{leading_on, puts_on_integers, read_real};
use super::weights::weights_only;
use super::{Case, Vetoes, partition};
use crate::decisions::Reason;

/// Two borders cost more than integers save where a number is the sum of fewer products.
const FEWEST_PRODUCTS: usize = 128;

pub(in super::super) fn vetoes(case: &Case<'_>, able: &FxHashSet<NodeId>, few: &FewSteps) -> Vetoes {
    let (g, target) = (case.g, case.target);
    let integer = partition::fewest(case, able);
    let leads_on = leading_on(g, case.order);
    let ends = |n: NodeId| {
        if !case.has_real_interface() || !read_real(g, n, &integer) {
            return None;
        }
        let last = !leads_on.contains(&n);
        match puts_on_integers(g, target, n) {
            true => (last && case.options.dynamic == Dynamic::AtEnds).then_some(Reason::LastContraction),
            false if last => Some(Reason::LastContraction),
            false => (summed(g, n) < FEWEST_PRODUCTS).then_some(Reason::FewProducts),
        }
    };
    let reason = |n: NodeId| {
        let quantized_only = || case.kernel(n).is_some_and(|kernel| !kernel.gives_real);
        let is_quantized = g.op(n).is_contraction() && quantized_only() && weights_only(g, target, n);
        if !integer.contains(&n) || !is_quantized {
            return None;
        }
        ends(n).or_else(|| few.result(g, n).then_some(Reason::FewStepsOfResult))
    };
    case.able(able).filter_map(|n| Some((n, reason(n)?))).collect()
}

/// The products that are summed up to one number of a contraction's result.
fn summed(g: &Graph, n: NodeId) -> usize {
    let (weight, QuantRule::Contraction { channel }) = (g.ty(g.operands(n)[1]), g.op(n).quant_rule()) else { return 0 };
    let outputs = weight.shape.dims()[channel].known().unwrap_or(1);
    weight.shape.elements().unwrap_or(0) / outputs.max(1)
}
