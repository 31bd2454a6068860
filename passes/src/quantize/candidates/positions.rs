//! Vetoes nodes that compute positions or indices, back to the contractions that they depend on: a small error selects
//! another element.

use qcc_ir::ops::Op;
use qcc_ir::{NodeId, ValueId};
use rustc_hash::FxHashSet;

use super::{Case, Vetoes};
use crate::decisions::Reason;

pub(super) fn vetoes(case: &Case<'_>, able: &FxHashSet<NodeId>) -> Vetoes {
    let g = case.g;
    let mut positions: FxHashSet<NodeId> = FxHashSet::default();
    for &n in case.order.iter().rev() {
        let read: &[ValueId] = match g.op(n) {
            _ if positions.contains(&n) => &g.operands(n),
            Op::GridSample(_) => &g.operands(n)[1..],
            Op::Cast(c) if c.to.is_integer() && g.ty(g.operand(n, 0)).elem.is_float() => &g.operands(n),
            _ => continue,
        };
        positions.extend(read.iter().map(|v| v.node).filter(|&n| !g.op(n).is_contraction()));
    }
    case.able(able).filter(|n| positions.contains(n)).map(|n| (n, Reason::Position)).collect()
}
