//! Which grid each value has: what operators and kernels ask of values ([`constraints`]), and grids that meet it ([`solve`]).

mod constraints;
mod solve;

use qcc_ir::target::Target;
use qcc_ir::{Graph, NodeId, QuantParams, ValueId};
use rustc_hash::{FxHashMap, FxHashSet};

use super::plan::Plan;
use constraints::Constraints;

/// Grids of all values that integer nodes read or give, and the operands that are moved to another grid on the way in.
#[derive(Debug, Default)]
pub(super) struct Parameters {
    qparams: FxHashMap<ValueId, QuantParams>,
    moved: FxHashSet<(NodeId, usize)>,
    apart: FxHashMap<NodeId, QuantParams>,
}

impl Parameters {
    /// The grid a value has, where it has one.
    pub(super) fn of(&self, v: ValueId) -> Option<&QuantParams> {
        self.qparams.get(&v)
    }

    /// The grid that operand `i` of `n`, the value `v`, is to be on.
    pub(super) fn of_operand(&self, n: NodeId, i: usize, v: ValueId) -> Option<&QuantParams> {
        if self.moved.contains(&(n, i)) {
            return self.of(n.value(0));
        }
        self.apart.get(&n).filter(|_| i == 0).or_else(|| self.of(v))
    }
}

/// The grids of the values of a plan.
pub(super) fn assign(g: &Graph, target: &Target, plan: &Plan) -> Parameters {
    let constraints = Constraints::of(g, target, plan);
    let mut values: Vec<ValueId> =
        constraints.nodes.iter().flat_map(|&n| g.operands(n).into_iter().chain(g.results(n))).collect();
    values.retain(|v| plan.ranges.contains_key(v));
    values.sort_unstable();
    values.dedup();
    constraints.solve(&values, &plan.ranges, target.activation)
}
