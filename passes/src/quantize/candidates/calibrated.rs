//! Vetoes nodes with values that are not calibrated or not finite.

use qcc_ir::{Elem, NodeId, ValueId};
use rustc_hash::FxHashSet;

use super::{Case, Vetoes};
use crate::decisions::Reason;

pub(super) fn vetoes(case: &Case<'_>, able: &FxHashSet<NodeId>) -> Vetoes {
    let g = case.g;
    let reason = |v: ValueId| {
        let finite = match g.constant(v) {
            Some(c) => c.floats().iter().all(|x| x.is_finite()),
            None => match case.ranges.get(v) {
                Some(seen) if seen.not_finite > 0 => false,
                Some(seen) if !seen.is_empty() => true,
                _ => return Some(Reason::NotCalibrated),
            },
        };
        (!finite).then_some(Reason::NotFinite)
    };
    let first = |n: NodeId| {
        let all = g.operands(n).into_iter().chain(g.results(n));
        let mut reals = all.filter(|&v| g.ty(v).elem == Elem::F32).peekable();
        // The calibration table has ranges of `F32` values only.
        if reals.peek().is_none() { Some(Reason::NotCalibrated) } else { reals.find_map(reason) }
    };
    case.able(able).filter_map(|n| Some((n, first(n)?))).collect()
}
