//! Which nodes work on integers.

use qcc_ir::ops::{BinaryFn, GridRule, Op};
use qcc_ir::target::{Sums, Target};
use qcc_ir::{Elem, Graph, NodeId, Tensor, ValueId};
use rustc_hash::{FxHashMap, FxHashSet};

use super::kernels::{clamped, weights};
use super::starved::starved;
use super::weights::constant_range;
use super::{Dynamic, Interface, Options, borders, loops};
use crate::calibrate::{OwnRanges, Range, Ranges};

/// What a node works on that does not work on real numbers alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// A constant weight on a grid, everything else real.
    Weights,
    /// Integers on grids, whose products sum up to real numbers.
    Sums,
    /// Integers on grids.
    Integer,
}

/// A join whose operands' ranges differ by more than this leaves the smaller one less than 4 of its 8 bits.
const CONFLICT: f32 = 16.0;

/// Results that span less than this part of a grid that is known beforehand would lose more than 2 of 8 bits to it.
const WASTE: f32 = 4.0;

/// Two borders cost more than integers save where a number is the sum of fewer products.
const FEWEST_PRODUCTS: usize = 128;

/// What works on integers, and the ranges of the values that may lie on grids there.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// Nodes that are not in it work on real numbers.
    modes: FxHashMap<NodeId, Mode>,
    pub(super) ranges: OwnRanges,
}

impl Plan {
    /// What a node works on, where that is not real numbers alone.
    pub(super) fn mode(&self, n: NodeId) -> Option<Mode> {
        self.modes.get(&n).copied()
    }

    /// The nodes that work on integers alone.
    pub(super) fn integers(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.modes.iter().filter(|(_, mode)| **mode == Mode::Integer).map(|(n, _)| *n)
    }

    /// Takes nodes off integers. Contractions with a constant weight keep that on a grid.
    pub(super) fn release(&mut self, g: &Graph, target: &Target, dynamic: Dynamic, nodes: &[NodeId]) {
        for &n in nodes {
            match g.op(n).is_contraction() && weights_alone(g, target, dynamic, n) {
                true => drop(self.modes.insert(n, Mode::Weights)),
                false => drop(self.modes.remove(&n)),
            }
        }
    }
}

pub(super) fn plan(g: &Graph, target: &Target, ranges: &Ranges, options: &Options) -> Plan {
    planned(g, target, ranges, options, &FxHashSet::default())
}

/// The plan that leaves the nodes of `real` on real numbers.
pub(super) fn planned(
    g: &Graph,
    target: &Target,
    ranges: &Ranges,
    options: &Options,
    real: &FxHashSet<NodeId>,
) -> Plan {
    let order = g.order();
    let named = |n: NodeId| g.origin(n).sources().iter().any(|s| options.exclude.iter().any(|p| matches(p, &s.path)));
    let excluded = |n: NodeId| real.contains(&n) || named(n);
    if !options.activations {
        let weights = |n: &NodeId| weights_only(g, target, *n) && !excluded(*n);
        let modes = order.into_iter().filter(weights).map(|n| (n, Mode::Weights)).collect();
        return Plan { modes, ranges: OwnRanges::default() };
    }
    let real_interface = options.interface == Interface::Float;
    let mut able: FxHashSet<NodeId> =
        order.iter().copied().filter(|&n| capable(g, target, ranges, n) && !excluded(n)).collect();
    let places = places(g, &order);
    able.retain(|n| !places.contains(n));
    let loops = if real_interface { loops::nodes(g, &order) } else { FxHashSet::default() };
    if real_interface {
        for n in tail(g, &order) {
            able.remove(&n);
        }
        able.retain(|n| !loops.contains(n));
    }
    for n in conflicts(g, &order, ranges, &able) {
        able.remove(&n);
    }
    let own = ranges.own(g, &able);
    let starved = starved(g, &order, ranges, &own);
    let gives_starved = |n: NodeId| g.results(n).any(|v| starved.values.contains(&v));
    let reads_starved = |n: NodeId| g.operands(n).iter().any(|v| starved.values.contains(v));
    let reads_steep = |n: NodeId| g.operands(n).iter().any(|v| starved.steep.contains(v));
    // Contractions put what they read on a grid all the same, where that may be.
    able.retain(|&n| match g.op(n).is_contraction() {
        true => !reads_steep(n),
        false => !(gives_starved(n) || reads_starved(n)),
    });

    let sums = |n: NodeId| (target.grids.sums)(g.op(n), &g.operand_types(n));
    let fewest = |able: &FxHashSet<NodeId>| borders::fewest(g, &order, able, &sums, options.interface);
    // An error on a grid inside a loop would grow with each turn.
    let alone = |n: NodeId| weights_alone(g, target, options.dynamic, n);
    let turns = loops.into_iter().filter(|&n| alone(n) && !excluded(n));
    let mut modes: FxHashMap<NodeId, Mode> = turns.map(|n| (n, Mode::Weights)).collect();
    // Contractions that would give numbers on a grid give real ones where what follows needs those; and where only real
    // nodes read them, since their 8 bits would be the last and the worst, if that is at the end, does not make the
    // products real, or these are few.
    let integer = fewest(&able);
    let leads_on = leading_on(g, &order);
    let ends = |n: NodeId| {
        let cheap = match puts_on_integers(g, target, n) {
            true => options.dynamic == Dynamic::AtEnds && !leads_on.contains(&n),
            false => !leads_on.contains(&n) || summed(g, n) < FEWEST_PRODUCTS,
        };
        real_interface && cheap && read_real(g, n, &integer)
    };
    let released = |n: &NodeId| {
        let on_grid = g.op(*n).is_contraction() && sums(*n) == Sums::Grid && weights_only(g, target, *n);
        integer.contains(n) && on_grid && (ends(*n) || gives_starved(*n))
    };
    let released: FxHashSet<NodeId> = order.iter().copied().filter(released).collect();
    able.retain(|n| !released.contains(n));
    modes.extend(released.into_iter().filter(|&n| alone(n)).map(|n| (n, Mode::Weights)));
    let integer = fewest(&able);
    let mode = |n: NodeId| match g.op(n).is_contraction().then(|| sums(n)) {
        Some(Sums::Real) => Mode::Sums,
        Some(Sums::Either) if real_interface && read_real(g, n, &integer) => Mode::Sums,
        _ => Mode::Integer,
    };
    modes.extend(integer.iter().map(|&n| (n, mode(n))));
    let stored = |n: &NodeId| !g.op(*n).is_contraction() && alone(*n) && !excluded(*n);
    for n in order.into_iter().filter(stored) {
        modes.entry(n).or_insert(Mode::Weights);
    }
    Plan { modes, ranges: own }
}

/// The products that are summed up to one number of a contraction's result.
fn summed(g: &Graph, n: NodeId) -> usize {
    let (weight, GridRule::Contract { channel }) = (g.ty(g.operands(n)[1]), g.op(n).grid()) else { return 0 };
    let outputs = weight.shape.dims()[channel].known().unwrap_or(1);
    weight.shape.elements().unwrap_or(0) / outputs.max(1)
}

/// True where no integer node reads a result.
fn read_real(g: &Graph, n: NodeId, integer: &FxHashSet<NodeId>) -> bool {
    g.results(n).all(|v| g.users(v).iter().all(|u| !integer.contains(&u.0)))
}

/// Patterns that match no node's name.
pub fn unmatched<'p>(g: &Graph, patterns: &'p [String]) -> Vec<&'p String> {
    let order = g.order();
    let hit = |p: &str| order.iter().any(|&n| g.origin(n).sources().iter().any(|s| matches(p, &s.path)));
    patterns.iter().filter(|p| !hit(p)).collect()
}

/// True where `pattern` is all of `name`; `*` stands for any characters.
fn matches(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|p| name.strip_prefix(p)) else { return false };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    for part in middle {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

/// True where a node has an integer kernel and its values are constants or calibration saw them, all of them finite: no
/// grid holds others.
fn capable(g: &Graph, target: &Target, ranges: &Ranges, n: NodeId) -> bool {
    let op = g.op(n);
    if op.grid() == GridRule::Float || !(target.grids.integer)(op, &g.operand_types(n)) {
        return false;
    }
    if let GridRule::Fixed { lo, hi } = op.grid()
        && ranges.get(n.value(0)).is_none_or(|s| (s.max - s.min.min(0.0)) * WASTE < hi - lo)
    {
        return false;
    }
    // The grid of a bias follows from that of a known weight.
    if g.op(n).is_contraction() && g.operands(n).len() > 2 && g.constant(g.operands(n)[1]).is_none() {
        return false;
    }
    let seen = |v: ValueId| match g.constant(v) {
        Some(c) => c.reals().iter().all(|x| x.is_finite()),
        None => ranges.get(v).is_some_and(|s| s.not_finite == 0),
    };
    let reals: Vec<ValueId> =
        g.operands(n).into_iter().chain(g.results(n)).filter(|&v| g.ty(v).elem == Elem::F32).collect();
    !reals.is_empty() && reals.into_iter().all(seen)
}

/// Constants with fewer numbers, of which no contraction is made, are not worth a grid.
const SMALL: usize = 4096;

/// True where the weights of a node are constants that the target takes on a grid beside real activations.
fn weights_only(g: &Graph, target: &Target, n: NodeId) -> bool {
    let (op, operands) = (g.op(n), g.operands(n));
    let large = |w: &Tensor| g.op(n).is_contraction() || (w.ty().rank() == 2 && w.len() >= SMALL);
    let known = |&i: &usize| g.constant(operands[i]).is_some_and(|w| w.ty().elem == Elem::F32 && large(w));
    let weights = weights(op);
    !weights.is_empty() && weights.iter().all(known) && (target.grids.weights_only)(op, &g.operand_types(n))
}

/// As [`weights_only`], where that may be in a graph of integers.
fn weights_alone(g: &Graph, target: &Target, dynamic: Dynamic, n: NodeId) -> bool {
    weights_only(g, target, n) && (dynamic != Dynamic::Never || !puts_on_integers(g, target, n))
}

/// True where the target quantizes the real activations of a contraction when the model runs.
fn puts_on_integers(g: &Graph, target: &Target, n: NodeId) -> bool {
    g.op(n).is_contraction() && (target.grids.dynamic)(g.op(n), &g.operand_types(n)).is_some()
}

/// True where the target quantizes the real activations of some contraction when the model runs, if its weight is on a grid.
pub fn may_be_dynamic(g: &Graph, target: &Target) -> bool {
    g.order().into_iter().any(|n| weights_only(g, target, n) && puts_on_integers(g, target, n))
}

/// Nodes that a contraction follows upon.
fn leading_on(g: &Graph, order: &[NodeId]) -> FxHashSet<NodeId> {
    let mut leads_on: FxHashSet<NodeId> = FxHashSet::default();
    for &n in order.iter().rev() {
        if g.op(n).is_contraction() || leads_on.contains(&n) {
            leads_on.extend(g.operands(n).iter().map(|v| v.node));
        }
    }
    leads_on
}

/// Nodes after the last contraction on every path: they decode, cost little, and an error of theirs goes straight to
/// the output.
fn tail(g: &Graph, order: &[NodeId]) -> Vec<NodeId> {
    let leads_on = leading_on(g, order);
    let contracts = |n: NodeId| g.op(n).is_contraction() || clamped(g, n).is_some_and(|c| g.op(c).is_contraction());
    let decodes = |n: &NodeId| !leads_on.contains(n) && !contracts(*n);
    order.iter().copied().filter(decodes).collect()
}

/// Nodes that compute where something is looked up, back to the contractions that they read: a step of a grid is another
/// element there.
fn places(g: &Graph, order: &[NodeId]) -> FxHashSet<NodeId> {
    let mut places: FxHashSet<NodeId> = FxHashSet::default();
    for &n in order.iter().rev() {
        let read: &[ValueId] = match g.op(n) {
            _ if places.contains(&n) => &g.operands(n),
            Op::GridSample(_) => &g.operands(n)[1..],
            Op::Cast(c) if c.to.is_integer() && g.ty(g.operand(n, 0)).elem.is_float() => &g.operands(n),
            _ => continue,
        };
        places.extend(read.iter().map(|v| v.node).filter(|&n| !g.op(n).is_contraction()));
    }
    places
}

/// Joins that would put values of very different ranges on one grid, and the nodes that only hand the joined value on.
/// A join that a contraction reads stays: the contraction would put it on one grid anyway.
fn conflicts(g: &Graph, order: &[NodeId], ranges: &Ranges, integer: &FxHashSet<NodeId>) -> Vec<NodeId> {
    let span = |v: ValueId| ranges.get(v).map(|s| Range { lo: s.min, hi: s.max }.with_zero().span());
    let mut real: Vec<NodeId> = Vec::new();
    for &n in order.iter().filter(|n| integer.contains(n)) {
        let op = g.op(n);
        let joins = match op {
            Op::Binary(b) => matches!(b.f, BinaryFn::Add | BinaryFn::Sub | BinaryFn::Max | BinaryFn::Min),
            _ => op.grid() == GridRule::Unify,
        };
        let operands = g.operands(n);
        let handed = matches!(op.grid(), GridRule::Carry | GridRule::Unify | GridRule::Own | GridRule::Fixed { .. })
            && operands.iter().any(|v| real.contains(&v.node));
        let joined = span(n.value(0)).unwrap_or(0.0);
        // A constant that lies beside other numbers is to be told apart on their grid, one that is added is not.
        let beside = |v: ValueId| g.constant(v).filter(|_| op.grid() == GridRule::Unify);
        let own = |v: ValueId| beside(v).map_or_else(|| span(v), |c| Some(constant_range(c).with_zero().span()));
        let starved = |v: &ValueId| own(*v).is_some_and(|s| s > 0.0 && s * CONFLICT < joined);
        let contracted = g.users(n.value(0)).iter().any(|u| g.op(u.0).is_contraction());
        if !contracted && (handed || (joins && operands.iter().any(starved))) {
            real.push(n);
        }
    }
    real
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn patterns() {
        assert!(matches("/model.23/*", "/model.23/cv2/Conv"));
        assert!(matches("*cv2*Conv", "/model.23/cv2/Conv"));
        assert!(matches("a", "a"));
        assert!(!matches("a", "ab"));
        assert!(!matches("*b", "bc"));
        assert!(!matches("ab*ba", "aba"));
    }
}
