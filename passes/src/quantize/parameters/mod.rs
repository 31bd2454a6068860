//! Assignment of quantization parameters: collects the constraints of operators and kernels ([`constraints`]), and
//! solves them ([`solve`]).

mod constraints;
mod solve;

use qcc_ir::target::Target;
use qcc_ir::{Graph, NodeId, QuantParams, ValueId};
use rustc_hash::{FxHashMap, FxHashSet};

use super::plan::Plan;
use constraints::Constraints;

/// The quantization parameters of all operands and results of quantized nodes, and the operands that are requantized.
#[derive(Debug, Default)]
pub(super) struct Parameters {
    qparams: FxHashMap<ValueId, QuantParams>,
    requantized: FxHashSet<(NodeId, usize)>,
    separate: FxHashMap<NodeId, QuantParams>,
}

impl Parameters {
    /// The parameters of a value, if it is quantized.
    pub(super) fn of(&self, v: ValueId) -> Option<&QuantParams> {
        self.qparams.get(&v)
    }

    /// The parameters of operand `i` of `n`, the value `v`.
    pub(super) fn of_operand(&self, n: NodeId, i: usize, v: ValueId) -> Option<&QuantParams> {
        if self.requantized.contains(&(n, i)) {
            return self.of(n.value(0));
        }
        self.separate.get(&n).filter(|_| i == 0).or_else(|| self.of(v))
    }
}

/// Assigns the quantization parameters of a plan.
pub(super) fn assign(g: &Graph, target: &Target, plan: &Plan) -> Parameters {
    let constraints = Constraints::of(g, target, plan);
    let mut values: Vec<ValueId> =
        constraints.nodes.iter().flat_map(|&n| g.operands(n).into_iter().chain(g.results(n))).collect();
    values.retain(|v| plan.ranges.contains_key(v));
    values.sort_unstable();
    values.dedup();
    constraints.solve(&values, &plan.ranges, plan.storage)
}
