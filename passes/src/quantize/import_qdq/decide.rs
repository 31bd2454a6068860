//! Reports what the nodes of a graph that comes quantized compute with.

use qcc_ir::ops::Op;
use qcc_ir::{Elem, Graph, NodeId, ValueId};

use super::super::decide::{beside_weights, decision};
use crate::decisions::{Decision, Form, Reason};

/// The decisions for the nodes of `before`, given the imported graph `after`. `now` maps a value to its replacement, if
/// there is one.
pub(super) fn decisions(before: &Graph, after: &Graph, now: impl Fn(ValueId) -> Option<ValueId>) -> Vec<Decision> {
    let computes = |n: &NodeId| {
        !matches!(
            before.op(*n),
            Op::Input(_) | Op::Const(_) | Op::Quantize(_) | Op::Dequantize(_) | Op::DynamicQuantize(_)
        )
    };
    let decided = |n: NodeId| {
        let mut values = before.operands(n).into_iter().chain(before.results(n));
        if !values.any(|v| before.ty(v).elem.is_float() || before.ty(v).elem.qparams().is_some()) {
            return Some((Form::Unchanged, Reason::NotFloat));
        }
        let v = now(n.value(0))?;
        let is_quantized = |v: ValueId| after.ty(v).elem.qparams().is_some();
        Some(match after.operands(v.node).first() {
            _ if is_quantized(v) => (Form::Integer, Reason::GivenIntegers),
            Some(&x) if is_quantized(x) && after.op(v.node).is_contraction() => (Form::Integer, Reason::FloatResult),
            // An index or the result of a comparison.
            Some(&x) if is_quantized(x) && after.ty(v).elem != Elem::F32 => (Form::Integer, Reason::GivenIntegers),
            _ => {
                let form = beside_weights(after, v.node).unwrap_or(Form::Float);
                (form, obstacle(before, n, form))
            }
        })
    };
    before.order().into_iter().filter(computes).filter_map(|n| Some(decision(before, n, decided(n)?))).collect()
}

/// Why a node does not compute with the quantized values of the model only.
fn obstacle(g: &Graph, n: NodeId, form: Form) -> Reason {
    let activations = g.operands(n).into_iter().filter(|&v| g.ty(v).elem == Elem::F32 && g.constant(v).is_none());
    let mut real = false;
    for v in activations {
        match g.producer(v) {
            Op::DynamicQuantize(_) if form == Form::Dynamic => return Reason::GivenDynamic,
            Op::DynamicQuantize(_) => return Reason::NoKernelForGiven,
            Op::Dequantize(_) => {}
            _ => real = true,
        }
    }
    if real {
        return Reason::GivenFloatOperand;
    }
    let quantized = |v: ValueId| {
        let v = g.only_user(v).filter(|&u| matches!(g.op(u), Op::Clamp(_))).map_or(v, |u| u.value(0));
        !g.is_output(v) && g.users(v).iter().all(|u| matches!(g.op(u.0), Op::Quantize(_)))
    };
    let reals = g.results(n).filter(|&v| g.ty(v).elem == Elem::F32);
    if reals.into_iter().all(quantized) { Reason::NoKernelForGiven } else { Reason::GivenFloatResult }
}
