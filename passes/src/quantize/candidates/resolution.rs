//! Vetoes nodes whose result is below the resolution of an operand: one step of the operand exceeds the range of the
//! result.

use qcc_ir::ops::{BinaryFn, Op};
use qcc_ir::{Graph, NodeId, QuantParams, StorageType, ValueId};

use super::Vetoes;
use crate::decisions::Reason;

/// `qparams` returns the quantization parameters of the values of `integers`, which have this storage type.
pub(in super::super) fn vetoes<'a>(
    g: &Graph,
    storage: StorageType,
    integers: impl Iterator<Item = NodeId>,
    qparams: impl Fn(ValueId) -> Option<&'a QuantParams>,
) -> Vetoes {
    let (lowest, highest) = storage.range();
    let steps = (highest - lowest) as f32;
    let step = |v: ValueId| qparams(v).map(|qparams| qparams.scales()[0]);
    let largest = |v: ValueId| match g.constant(v) {
        Some(w) => Some(w.floats().iter().fold(0f32, |most, x| most.max(x.abs()))),
        None => step(v).map(|step| step * steps),
    };
    let moved_by_a_step = |n: NodeId| {
        let operands = g.operands(n);
        match g.op(n) {
            Op::Binary(b) if matches!(b.f, BinaryFn::Add | BinaryFn::Sub) => {
                operands.iter().filter_map(|&v| step(v)).reduce(f32::max)
            }
            op if op.is_contraction() => Some(step(operands[0])? * largest(operands[1])?),
            _ => None,
        }
    };
    let below_resolution =
        |n: &NodeId| moved_by_a_step(*n).zip(step(n.value(0))).is_some_and(|(moved, step)| moved > step * steps);
    integers.filter(below_resolution).map(|n| (n, Reason::BelowResolution)).collect()
}
