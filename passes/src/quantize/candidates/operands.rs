//! Vetoes shared-scale nodes whose operands have very different ranges, and nodes that only forward their result. Nodes
//! whose result a contraction uses are not vetoed: the contraction would quantize it with one scale anyway.

use qcc_ir::ops::{BinaryFn, Op, QuantRule};
use qcc_ir::{NodeId, StorageType, ValueId};
use rustc_hash::FxHashSet;

use super::super::weights::constant_range;
use super::{Case, Vetoes};
use crate::calibrate::Range;
use crate::decisions::Reason;

/// The ratio of ranges above which a shared scale leaves the smaller operand less than half of its bits.
fn conflict(storage: StorageType) -> f32 {
    if storage == StorageType::I16 { 256.0 } else { 16.0 }
}

pub(super) fn vetoes(case: &Case<'_>, able: &FxHashSet<NodeId>) -> Vetoes {
    let (g, conflict) = (case.g, conflict(case.storage));
    let span = |v: ValueId| case.ranges.get(v).map(|s| Range { lo: s.min, hi: s.max }.with_zero().span());
    let mut real: FxHashSet<NodeId> = FxHashSet::default();
    let mut vetoes = Vetoes::new();
    for n in case.able(able) {
        let op = g.op(n);
        let joins = match op {
            Op::Binary(b) => matches!(b.f, BinaryFn::Add | BinaryFn::Sub | BinaryFn::Max | BinaryFn::Min),
            _ => op.quant_rule() == QuantRule::SharedScale,
        };
        let operands = g.operands(n);
        let handed = matches!(
            op.quant_rule(),
            QuantRule::SameAsInput | QuantRule::SharedScale | QuantRule::OwnRange | QuantRule::Fixed { .. }
        ) && operands.iter().any(|v| real.contains(&v.node));
        let joined = span(n.value(0)).unwrap_or(0.0);
        // A constant that is concatenated must stay distinguishable at the shared scale. One that is added need not.
        let beside = |v: ValueId| g.constant(v).filter(|_| op.quant_rule() == QuantRule::SharedScale);
        let own = |v: ValueId| beside(v).map_or_else(|| span(v), |c| Some(constant_range(c).with_zero().span()));
        let small = |v: &ValueId| own(*v).is_some_and(|s| s > 0.0 && s * conflict < joined);
        let unlike = joins && operands.iter().any(small);
        let contracted = g.users(n.value(0)).iter().any(|u| g.op(u.0).is_contraction());
        if !contracted && (handed || unlike) {
            real.insert(n);
            vetoes.push((n, if unlike { Reason::UnlikeOperands } else { Reason::HandsOnUnlike }));
        }
    }
    vetoes
}
