//! Constraints of quantized nodes on the quantization parameters of their values.

use std::collections::BTreeMap;

use qcc_ir::ops::{Extents, QuantRule};
use qcc_ir::target::{Target, ZeroPoint};
use qcc_ir::{Elem, Graph, NodeId, QuantParams, StorageType, Tensor, ValueId};
use rustc_hash::{FxHashMap, FxHashSet};

use super::super::kernels::clamped;
use super::super::plan::{Mode, Plan};
use super::super::qparams::fixed_qparams;
use super::super::weights::constant_range;
use crate::calibrate::{OwnRanges, Range};
use crate::sets::Sets;

/// An operand of a shared-scale node that has other users keeps its own scale if the shared one is larger by this
/// factor.
const COARSER: f32 = 2.0;

/// The constraints of all quantized nodes.
#[derive(Debug, Default)]
pub(super) struct Constraints {
    /// The quantized nodes, in order.
    pub(super) nodes: Vec<NodeId>,
    /// Classes of values that share quantization parameters.
    pub(super) classes: Sets<ValueId>,
    /// Values with predefined parameters.
    pub(super) fixed: FxHashMap<ValueId, QuantParams>,
    /// Required zero points.
    pub(super) zero_points: BTreeMap<ValueId, ZeroPoint>,
    /// Values that are clamped by a fused clamp. Their range does not count: that of the clamp result does.
    pub(super) ignores_range: FxHashSet<ValueId>,
    /// For a value, the range of the constants that share its parameters.
    pub(super) constants: FxHashMap<ValueId, Range>,
    /// Operands that keep their own parameters and are requantized to those of the result.
    pub(super) requantized: FxHashSet<(NodeId, usize)>,
    /// Activations that a node quantizes with separate parameters if their own are symmetric.
    pub(super) separate: Vec<(NodeId, ValueId)>,
}

impl Constraints {
    pub(super) fn of(g: &Graph, target: &Target, plan: &Plan) -> Self {
        let integer = |n: &NodeId| matches!(plan.mode(*n), Some(Mode::Integer | Mode::FloatResult));
        let nodes: Vec<NodeId> = g.order().into_iter().filter(integer).collect();
        let mut all = Constraints { constants: shared_constants(g, &nodes), ..Constraints::default() };
        nodes.iter().for_each(|&n| all.add(g, target, plan, n));
        Constraints { nodes, ..all }
    }

    fn add(&mut self, g: &Graph, target: &Target, plan: &Plan, n: NodeId) {
        let (operands, result) = (g.operands(n), n.value(0));
        match g.op(n).quant_rule() {
            QuantRule::SameAsInput => self.classes.join(result, operands[0]),
            QuantRule::SharedScale => self.share_scale(g, &plan.ranges, n),
            QuantRule::Fixed { lo, hi } => drop(self.fixed.insert(result, fixed_qparams(lo, hi, plan.storage))),
            QuantRule::Contraction { .. } => self.contract(g, target, plan.storage, n),
            QuantRule::OwnRange
                if clamped(g, target, plan.storage, n).is_some_and(|c| plan.mode(c) == Some(Mode::Integer)) =>
            {
                self.classes.join(result, operands[0]);
                self.ignores_range.insert(operands[0]);
            }
            QuantRule::OwnRange | QuantRule::Float => {}
        }
    }

    /// A shared-scale node: its operands and its result have the same parameters.
    fn share_scale(&mut self, g: &Graph, own: &OwnRanges, n: NodeId) {
        for i in self.keeps(g, n, own) {
            self.requantized.insert((n, i));
        }
        for (i, v) in g.operands(n).into_iter().enumerate().filter(|(_, v)| is_computed(g, *v)) {
            if !self.requantized.contains(&(n, i)) {
                self.classes.join(n.value(0), v);
            }
        }
    }

    /// The zero-point rules of the factors of a contraction.
    fn contract(&mut self, g: &Graph, target: &Target, storage: StorageType, n: NodeId) {
        let operands = g.operands(n);
        let constant = g.constant(operands[1]).is_some();
        let Some(kernel) = target.kernel_of(g, n).and_then(|kernel| kernel.for_storage(storage)) else { return };
        for (i, v) in operands.into_iter().enumerate().take(2).filter(|(_, v)| is_computed(g, *v)) {
            match kernel.zero_point_of(i, constant) {
                ZeroPoint::Any => {}
                ZeroPoint::AnyPerConsumer => self.separate.push((n, v)),
                // The stricter of two rules applies.
                zero if self.zero_points.get(&v) != Some(&ZeroPoint::Symmetric) => {
                    self.zero_points.insert(v, zero);
                }
                _ => {}
            }
        }
    }

    /// Operands of a shared-scale node that keep their own parameters: those with predefined parameters, and those with
    /// other users for which the shared scale is much larger.
    fn keeps(&self, g: &Graph, n: NodeId, own: &OwnRanges) -> Extents {
        let operands = g.operands(n);
        let spans: Vec<Option<f32>> = operands.iter().map(|v| own.get(v).map(|r| r.span())).collect();
        let joint = spans.iter().flatten().copied().fold(0.0f32, f32::max);
        let is_fixed = |v: ValueId| self.fixed.keys().any(|f| self.classes.root(*f) == self.classes.root(v));
        let keeps = |i: &usize| {
            let v = operands[*i];
            let coarse = spans[*i].is_some_and(|s| s * COARSER < joint);
            is_fixed(v) || (coarse && g.users(v).len() > 1)
        };
        (0..operands.len()).filter(|i| spans[*i].is_some()).filter(keeps).collect()
    }
}

/// True for float values that are not constant.
fn is_computed(g: &Graph, v: ValueId) -> bool {
    g.constant(v).is_none() && g.ty(v).elem == Elem::F32
}

/// The ranges of constant operands of shared-scale nodes, for each result.
fn shared_constants(g: &Graph, order: &[NodeId]) -> FxHashMap<ValueId, Range> {
    let mut all: FxHashMap<ValueId, Range> = FxHashMap::default();
    for &n in order.iter().filter(|n| g.op(**n).quant_rule() == QuantRule::SharedScale) {
        let reals = g.operands(n).into_iter().filter(|&v| g.ty(v).elem == Elem::F32);
        for c in reals.filter_map(|v| g.constant(v)).map(|c: &Tensor| constant_range(c)) {
            let joint = all.get(&n.value(0)).map_or(c, |a| a.union(c));
            all.insert(n.value(0), joint);
        }
    }
    all
}
