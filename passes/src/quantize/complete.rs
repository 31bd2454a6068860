//! Completion of quantized graphs that lack quantization parameters for some values.

use qcc_ir::ops::{Dequantize, Op, QuantRule, Quantize, Types};
use qcc_ir::target::Target;
use qcc_ir::{Elem, Graph, NodeId, QuantParams, Tensor, ValueId};
use rustc_hash::{FxHashMap, FxHashSet};

use super::kernels::clamped;
use super::plan::{Mode, Plan, plan};
use super::{Options, parameters_of};
use crate::PassError;
use crate::calibrate::CalibrationTable;

/// True if the result of a contraction with quantized operands has a float user, or users with different quantization
/// parameters.
pub fn lacks_qparams(g: &Graph) -> bool {
    let quantizes = |n: NodeId| is_quantize(g, n);
    let are_quantized = |n: &NodeId| {
        let operands = g.operands(*n);
        g.op(*n).is_contraction() && operands.iter().take(2).all(|&v| matches!(g.producer(v), Op::Dequantize(_)))
    };
    let lacks = |n: NodeId| {
        let mut v = n.value(0);
        while let Some(user) = g.only_user(v).filter(|&u| matches!(g.op(u), Op::Clamp(_)) || carries(g, u)) {
            v = user.value(0);
        }
        let users = g.users(v);
        let same = |n: NodeId| users.first().is_some_and(|first| g.ty(first.0.value(0)) == g.ty(n.value(0)));
        g.is_output(v) || users.iter().any(|u| !quantizes(u.0) || !same(u.0))
    };
    g.order().into_iter().filter(are_quantized).any(lacks)
}

/// Adds quantization parameters for each operand and result of quantized nodes to the quantized graph `g`, which is
/// lowered to the target. Parameters of the model are kept. Others are computed from `ranges`, the calibration table of
/// `g`. Contractions whose weights are floating point in the model stay in floating point.
///
/// # Errors
/// If a node cannot be created, with its name, or if a bug of the pass leaves a graph that does not verify.
pub fn complete(g: &Graph, target: &Target, ranges: &CalibrationTable, options: &Options) -> Result<Graph, PassError> {
    let (float, float_in_source) = without_qdq(g);
    let mut plan = plan(&float, target, ranges, options, &float_in_source);
    let qparams = parameters_of(&float, target, options, &mut plan);
    let mut new = g.clone();
    // The values of `g` that are quantized in the end, with their parameters.
    let mut placed: FxHashMap<ValueId, QuantParams> = FxHashMap::default();
    for n in g.order() {
        if matches!(g.op(n), Op::Const(_)) {
            continue;
        }
        for v in g.results(n).filter(|&v| g.ty(v).elem == Elem::F32) {
            if let Some(qparams) = given(g, v) {
                placed.insert(v, qparams);
            }
            let gives = plan.mode(n) == Some(Mode::Integer);
            let reads = |n: NodeId| matches!(plan.mode(n), Some(Mode::Integer | Mode::FloatResult));
            let wanted = gives || g.users(v).iter().any(|u| reads(u.0));
            if matches!(g.op(n), Op::Dequantize(_)) || !wanted || has_fused_clamp(&float, target, v, &plan) {
                continue;
            }
            let handed_on = || carries(g, n).then(|| placed.get(&g.operands(n)[0]).cloned()).flatten();
            let own = placed.get(&v).cloned().or_else(handed_on).or_else(|| qparams.of(v).cloned());
            let Some(qparams) = own else { continue };
            quantize_for_users(&mut new, v, &qparams, gives)?;
            placed.insert(v, qparams);
        }
    }
    new.sweep();
    new.verify().map_err(|error| PassError::Verify { pass: "complete", error })?;
    Ok(new)
}

/// True if a node only forwards or moves elements.
fn carries(g: &Graph, n: NodeId) -> bool {
    g.op(n).quant_rule() == QuantRule::SameAsInput && g.op(n).carries_integers()
}

/// The quantization parameters of the float value `v` in the model; of several, those with the largest scale.
fn given(g: &Graph, v: ValueId) -> Option<QuantParams> {
    let fits = |qparams: &&QuantParams| qparams.tensor_map().is_some() && qparams.storage.size() == 1;
    let of = |v: ValueId| g.ty(v).elem.qparams().filter(fits).cloned();
    if let Op::Dequantize(_) = g.producer(v) {
        return of(g.operands(v.node)[0]);
    }
    let quantizes = g.users(v).into_iter().map(|u| u.0).filter(|&n| is_quantize(g, n));
    quantizes.filter_map(|n| of(n.value(0))).max_by(|a, b| a.scales()[0].total_cmp(&b.scales()[0]))
}

/// True if a quantized clamp follows that the kernel of the producer of `v` fuses.
fn has_fused_clamp(float: &Graph, target: &Target, v: ValueId, plan: &Plan) -> bool {
    float
        .only_user(v)
        .is_some_and(|u| clamped(float, target, plan.storage, u).is_some() && plan.mode(u) == Some(Mode::Integer))
}

fn is_quantize(g: &Graph, n: NodeId) -> bool {
    matches!(g.op(n), Op::Quantize(_))
}

/// Has all users of `v` use its quantized value. If `v` is `computed_quantized`, other quantizations of the model
/// requantize that value.
fn quantize_for_users(
    g: &mut Graph,
    v: ValueId,
    qparams: &QuantParams,
    computed_quantized: bool,
) -> Result<(), PassError> {
    let ty = g.ty(v).with_elem(Elem::Quantized(qparams.clone()));
    let users = g.users(v);
    let outputs: Vec<usize> = (0..g.outputs().len()).filter(|&i| g.outputs()[i].value == v).collect();
    let there = |n: NodeId| is_quantize(g, n) && *g.ty(n.value(0)) == ty;
    if outputs.is_empty() && users.iter().all(|u| there(u.0)) {
        return Ok(());
    }
    let origin = g.origin(v.node).clone();
    let q = g.add_typed(Quantize {}, &[v], Types::from_elem(ty, 1), origin.clone())?.value(0);
    let real = g.add1(Dequantize {}, &[q], origin)?;
    for (n, i) in users {
        match is_quantize(g, n) {
            true if g.ty(n.value(0)) == g.ty(q) => g.redirect(n.value(0), q),
            true if !computed_quantized => {}
            _ => g.set_operand(n, i, real),
        }
    }
    outputs.into_iter().for_each(|i| g.set_output(i, real));
    Ok(())
}

/// Returns the graph without Q/DQ pairs at activations and with dequantized weights, and the contractions whose weights
/// are floating point in the model. Node ids are those of `g`.
fn without_qdq(g: &Graph) -> (Graph, FxHashSet<NodeId>) {
    let mut float = g.clone();
    let contractions = g.order().into_iter().filter(|&n| g.op(n).is_contraction());
    let weight = |n: &NodeId| g.constant(g.operands(*n)[1]).is_some();
    let real = contractions.filter(weight).collect();
    for n in g.order().into_iter().filter(|&n| matches!(g.op(n), Op::Dequantize(_))) {
        let stored = g.operands(n)[0];
        if let Some(c) = g.constant(stored).map(Tensor::to_float) {
            let c = float.add_const(c, g.origin(n).clone());
            float.redirect(n.value(0), c);
        } else if let Op::Quantize(_) = g.producer(stored) {
            let x = float.operands(stored.node)[0];
            if float.ty(x).elem == Elem::F32 {
                float.redirect(n.value(0), x);
            }
        }
    }
    float.sweep();
    (float, real)
}
