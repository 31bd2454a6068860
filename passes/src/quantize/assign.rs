//! Which grid each value has.

use std::collections::BTreeMap;

use qcc_ir::ops::{Extents, GridRule};
use qcc_ir::target::{Target, ZeroPoint};
use qcc_ir::{Elem, Graph, Grid, NodeId, Tensor, ValueId};
use rustc_hash::{FxHashMap, FxHashSet};

use super::grids::{fixed_grid, grid_of};
use super::kernels::clamped;
use super::plan::{Mode, Plan};
use super::weights::constant_range;
use crate::calibrate::{OwnRanges, Range};
use crate::sets::Sets;

/// An operand of a join that has other readers keeps its own grid where the joint one is this much coarser.
const COARSER: f32 = 2.0;

/// Grids of all values that integer nodes read or give, and the operands that are moved to another grid on the way in.
#[derive(Debug, Default)]
pub(super) struct Grids {
    grids: FxHashMap<ValueId, Grid>,
    moved: FxHashSet<(NodeId, usize)>,
    apart: FxHashMap<NodeId, Grid>,
}

impl Grids {
    /// The grid a value has, where it has one.
    pub(super) fn of(&self, v: ValueId) -> Option<&Grid> {
        self.grids.get(&v)
    }

    /// The grid that operand `i` of `n`, the value `v`, is to be on.
    pub(super) fn of_operand(&self, n: NodeId, i: usize, v: ValueId) -> Option<&Grid> {
        if self.moved.contains(&(n, i)) {
            return self.of(n.value(0));
        }
        self.apart.get(&n).filter(|_| i == 0).or_else(|| self.of(v))
    }
}

pub(super) fn assign(g: &Graph, target: &Target, plan: &Plan) -> Grids {
    let order: Vec<NodeId> =
        g.order().into_iter().filter(|n| matches!(plan.mode(*n), Some(Mode::Integer | Mode::Sums))).collect();
    let (store, own) = (target.activation, &plan.ranges);
    let mut moved = FxHashSet::default();
    let mut classes: Sets<ValueId> = Sets::default();
    // Values whose range follows from another of their class: what a clamp behind them cuts off does not count.
    let mut silent: FxHashSet<ValueId> = FxHashSet::default();
    let mut fixed: FxHashMap<ValueId, Grid> = FxHashMap::default();
    let mut zeros: BTreeMap<ValueId, ZeroPoint> = BTreeMap::new();
    let mut alone: Vec<(NodeId, ValueId)> = Vec::new();
    for &n in &order {
        let (op, operands, result) = (g.op(n), g.operands(n), n.value(0));
        let dynamic = |v: &ValueId| g.constant(*v).is_none() && g.ty(*v).elem == Elem::F32;
        match op.grid() {
            GridRule::Carry => classes.join(result, operands[0]),
            GridRule::Unify => {
                for i in moved_operands(g, n, own, &fixed, &classes) {
                    moved.insert((n, i));
                }
                for (i, v) in operands.iter().enumerate().filter(|(_, v)| dynamic(v)) {
                    if !moved.contains(&(n, i)) {
                        classes.join(result, *v);
                    }
                }
            }
            GridRule::Fixed { lo, hi } => drop(fixed.insert(result, fixed_grid(lo, hi, store))),
            GridRule::Contract { .. } => {
                let known = g.constant(operands[1]).is_some();
                let kernel = target.kernel_of(g, n).and_then(|kernel| kernel.quantized);
                for (i, v) in operands.iter().enumerate().take(2).filter(|(_, v)| dynamic(v)) {
                    match kernel.as_ref().map(|kernel| kernel.zero_point_of(i, known)) {
                        Some(ZeroPoint::Any) | None => {}
                        Some(ZeroPoint::AnyPerConsumer) => alone.push((n, *v)),
                        // The stricter of two demands holds.
                        Some(zero) if zeros.get(v) != Some(&ZeroPoint::Symmetric) => drop(zeros.insert(*v, zero)),
                        Some(_) => {}
                    }
                }
            }
            GridRule::Own if clamped(g, target, n).is_some_and(|c| plan.mode(c) == Some(Mode::Integer)) => {
                classes.join(result, operands[0]);
                silent.insert(operands[0]);
            }
            _ => {}
        }
    }
    let constants = joined_constants(g, &order);
    let mut joint: FxHashMap<ValueId, Range> = FxHashMap::default();
    let mut values: Vec<ValueId> = order.iter().flat_map(|&n| g.operands(n).into_iter().chain(g.results(n))).collect();
    values.retain(|v| own.contains_key(v));
    values.sort_unstable();
    values.dedup();
    for v in values.iter().filter(|v| !silent.contains(v)) {
        let r = constants.get(v).map_or(own[v], |c| own[v].union(*c));
        let root = classes.root(*v);
        let all = joint.get(&root).map_or(r, |j| j.union(r));
        joint.insert(root, all);
    }
    let fixed: FxHashMap<ValueId, Grid> = fixed.into_iter().map(|(v, grid)| (classes.root(v), grid)).collect();
    let mut demands: FxHashMap<ValueId, ZeroPoint> = FxHashMap::default();
    for (v, zero) in zeros {
        let all = demands.entry(classes.root(v)).or_insert(zero);
        *all = if zero == ZeroPoint::Symmetric { zero } else { *all };
    }
    // A range, and whether its grid has the zero in the middle; `None` on a grid that is known beforehand.
    let placed = |v: ValueId| -> Option<(Range, bool)> {
        let root = classes.root(v);
        let range = *joint.get(&root).filter(|_| !fixed.contains_key(&root))?;
        let symmetric = match demands.get(&root) {
            Some(ZeroPoint::Symmetric) => true,
            Some(ZeroPoint::SymmetricOrUnsigned) => range.lo < 0.0,
            Some(ZeroPoint::Any | ZeroPoint::AnyPerConsumer) | None => false,
        };
        Some((range, symmetric))
    };
    let grid = |v: ValueId| {
        let known = fixed.get(&classes.root(v)).cloned();
        known.or_else(|| placed(v).map(|(range, symmetric)| grid_of(range, store, symmetric)))
    };
    let apart = alone.into_iter().filter_map(|(n, v)| {
        let (range, symmetric) = placed(v)?;
        symmetric.then(|| (n, grid_of(range, store, false)))
    });
    Grids { apart: apart.collect(), grids: values.iter().filter_map(|v| Some((*v, grid(*v)?))).collect(), moved }
}

/// Operands of a join that keep their own grid: those on a fixed grid, and those with other readers for which the
/// joint grid is much coarser.
fn moved_operands(
    g: &Graph,
    n: NodeId,
    own: &OwnRanges,
    fixed: &FxHashMap<ValueId, Grid>,
    classes: &Sets<ValueId>,
) -> Extents {
    let operands = g.operands(n);
    let spans: Vec<Option<f32>> = operands.iter().map(|v| own.get(v).map(|r| r.span())).collect();
    let joint = spans.iter().flatten().copied().fold(0.0f32, f32::max);
    let is_fixed = |v: ValueId| fixed.keys().any(|f| classes.root(*f) == classes.root(v));
    let keeps = |i: &usize| {
        let v = operands[*i];
        let coarse = spans[*i].is_some_and(|s| s * COARSER < joint);
        is_fixed(v) || (coarse && g.users(v).len() > 1)
    };
    (0..operands.len()).filter(|i| spans[*i].is_some()).filter(keeps).collect()
}

/// Ranges of constants that lie on the grid of a join's result.
fn joined_constants(g: &Graph, order: &[NodeId]) -> FxHashMap<ValueId, Range> {
    let mut all: FxHashMap<ValueId, Range> = FxHashMap::default();
    for &n in order.iter().filter(|n| g.op(**n).grid() == GridRule::Unify) {
        let reals = g.operands(n).into_iter().filter(|&v| g.ty(v).elem == Elem::F32);
        for c in reals.filter_map(|v| g.constant(v)).map(|c: &Tensor| constant_range(c)) {
            let joint = all.get(&n.value(0)).map_or(c, |a| a.union(c));
            all.insert(n.value(0), joint);
        }
    }
    all
}
