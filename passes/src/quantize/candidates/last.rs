//! Vetoes contractions whose result must stay a float, where the integer kernel quantizes it. Their weights may still be
//! quantized. There are two cases:
//!
//! - The nodes after the contraction need more than 8 bits. Without a kernel for a quantized weight, all of the
//!   contraction is computed in floating point.
//! - All users are float nodes, so that quantizing the result would only add an error. This applies if the contraction
//!   is the last of the model, or sums few products without dynamic quantization.

use qcc_ir::ops::QuantRule;
use qcc_ir::{Graph, NodeId, StorageType};
use rustc_hash::FxHashSet;

use super::super::Dynamic;
use super::few_steps::FewSteps;
use super::paths::{only_float_users, quantizes_dynamically, reaching_contractions};
use super::weights::weights_only;
use super::{Case, Vetoes, partition};
use crate::decisions::Reason;

/// With fewer products for each result, two Q/DQ boundaries cost more than the integer kernel saves.
const FEWEST_PRODUCTS: usize = 128;

pub(in super::super) fn vetoes(case: &Case<'_>, able: &FxHashSet<NodeId>, few: &FewSteps) -> Vetoes {
    let (g, target) = (case.g, case.target);
    let integer = partition::fewest_boundaries(case, able);
    let reaching = reaching_contractions(g, case.order);
    let ends = |n: NodeId| {
        // 16 bits add next to no error.
        if case.storage == StorageType::I16
            || !case.has_float_interface()
            || !weights_only(g, target, n)
            || !only_float_users(g, n, &integer)
        {
            return None;
        }
        let last = !reaching.contains(&n);
        match quantizes_dynamically(g, target, n) {
            true => (last && case.options.dynamic == Dynamic::AtEnds).then_some(Reason::LastContraction),
            false if last => Some(Reason::LastContraction),
            false => (summed(g, n) < FEWEST_PRODUCTS).then_some(Reason::FewProducts),
        }
    };
    let reason = |n: NodeId| {
        let quantized_only = || case.kernel(n).is_some_and(|kernel| !kernel.gives_float);
        if !integer.contains(&n) || !g.op(n).is_contraction() || !quantized_only() {
            return None;
        }
        ends(n).or_else(|| few.result(g, n).then_some(Reason::FewStepsOfResult))
    };
    case.able(able).filter_map(|n| Some((n, reason(n)?))).collect()
}

/// The number of products that each result of a contraction sums.
fn summed(g: &Graph, n: NodeId) -> usize {
    let (weight, QuantRule::Contraction { channel }) = (g.ty(g.operands(n)[1]), g.op(n).quant_rule()) else { return 0 };
    let outputs = weight.shape.dims()[channel].known().unwrap_or(1);
    weight.shape.elements().unwrap_or(0) / outputs.max(1)
}
