//! Reports what the nodes of a quantized graph compute with, from the plan and the graph that was built.

use qcc_ir::ops::Op;
use qcc_ir::{Graph, NodeId, ValueId};
use rustc_hash::FxHashMap;

use super::Quantized;
use super::kernels::weights;
use super::plan::{Mode, Plan};
use crate::decisions::{Decision, Form, Reason};

/// The decisions for the nodes of the float graph `g`, in order.
pub(super) fn decisions(g: &Graph, plan: &Plan, quantized: &Quantized) -> Vec<Decision> {
    let new: FxHashMap<ValueId, ValueId> = quantized.values.iter().copied().collect();
    let decided = |n: NodeId| match (plan.mode(n), plan.veto(n)) {
        (Some(Mode::Integer), _) => Some((Form::Integer, Reason::Kernel)),
        (Some(Mode::FloatResult), _) => Some((Form::Integer, Reason::FloatResult)),
        (Some(Mode::Weights), veto) => Some(match new.get(&n.value(0)) {
            Some(v) => match beside_weights(&quantized.graph, v.node) {
                Some(form) => (form, veto.unwrap_or(Reason::WeightsAsked)),
                None => (Form::Float, Reason::CoarseTable),
            },
            None => return None,
        }),
        (None, Some(Reason::NotFloat)) => Some((Form::Unchanged, Reason::NotFloat)),
        (None, Some(veto)) => Some((Form::Float, veto)),
        (None, None) => None,
    };
    let computes = |n: &NodeId| !matches!(g.op(*n), Op::Input(_) | Op::Const(_));
    g.order().into_iter().filter(computes).filter_map(|n| Some(decision(g, n, decided(n)?))).collect()
}

/// How a node with quantized weights treats its activations. `None` if it has no quantized weights.
pub(super) fn beside_weights(g: &Graph, n: NodeId) -> Option<Form> {
    let operands = g.operands(n);
    let is_constant = |v: ValueId| match g.producer(v) {
        Op::Dequantize(_) => g.constant(g.operands(v.node)[0]).is_some(),
        _ => g.ty(v).elem.qparams().is_some() && g.constant(v).is_some(),
    };
    if !weights(g.op(n)).iter().any(|&i| is_constant(operands[i])) {
        return None;
    }
    let rounded = g.op(n).is_contraction() && matches!(g.producer(operands[0]), Op::DynamicQuantize(_));
    Some(if rounded { Form::Dynamic } else { Form::Weights })
}

pub(super) fn decision(g: &Graph, n: NodeId, (form, reason): (Form, Reason)) -> Decision {
    Decision { origin: g.origin(n).clone(), operator: g.op(n).kind().name(), form, reason }
}
