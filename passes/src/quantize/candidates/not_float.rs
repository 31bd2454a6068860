//! Vetoes nodes without floating-point values: there is nothing to quantize.

use qcc_ir::NodeId;
use rustc_hash::FxHashSet;

use super::{Case, Vetoes};
use crate::decisions::Reason;

pub(super) fn vetoes(case: &Case<'_>, able: &FxHashSet<NodeId>) -> Vetoes {
    let g = case.g;
    let real = |n: NodeId| g.operands(n).into_iter().chain(g.results(n)).any(|v| g.ty(v).elem.is_float());
    case.able(able).filter(|&n| !real(n)).map(|n| (n, Reason::NotFloat)).collect()
}
