//! Nodes that compute where something is looked up, back to the contractions that they read: a step of a grid is another
//! element there.

use qcc_ir::ops::Op;
use qcc_ir::{NodeId, ValueId};
use rustc_hash::FxHashSet;

use super::{Case, Vetoes};
use crate::decisions::Reason;

pub(super) fn vetoes(case: &Case<'_>, able: &FxHashSet<NodeId>) -> Vetoes {
    let g = case.g;
    let mut places: FxHashSet<NodeId> = FxHashSet::default();
    for &n in case.order.iter().rev() {
        let read: &[ValueId] = match g.op(n) {
            _ if places.contains(&n) => &g.operands(n),
            Op::GridSample(_) => &g.operands(n)[1..],
            Op::Cast(c) if c.to.is_integer() && g.ty(g.operand(n, 0)).elem.is_float() => &g.operands(n),
            _ => continue,
        };
        places.extend(read.iter().map(|v| v.node).filter(|&n| !g.op(n).is_contraction()));
    }
    case.able(able).filter(|n| places.contains(n)).map(|n| (n, Reason::Position)).collect()
}
