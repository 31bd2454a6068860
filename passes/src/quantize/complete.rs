//! Quantized graphs whose model gives some of their values no grid.

use qcc_ir::ops::{Dequantize, Op, QuantRule, Quantize, Types};
use qcc_ir::target::Target;
use qcc_ir::{Elem, Graph, NodeId, QuantParams, Tensor, ValueId};
use rustc_hash::{FxHashMap, FxHashSet};

use super::kernels::clamped;
use super::plan::{Mode, Plan, plan};
use super::{Options, parameters_of};
use crate::PassError;
use crate::calibrate::CalibrationTable;

/// True where the result of a contraction whose operands the model has on grids is read as it is, or on several grids.
pub fn lacks_qparams(g: &Graph) -> bool {
    let border = |n: NodeId| is_border(g, n);
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
        g.is_output(v) || users.iter().any(|u| !border(u.0) || !same(u.0))
    };
    g.order().into_iter().filter(are_quantized).any(lacks)
}

/// The quantized graph `g`, lowered to the target, with a grid for each value that integer nodes read or give. Grids of
/// the model are kept; others follow from `ranges`, which are those of `g`. Contractions whose weights the model has on no
/// grid stay real.
///
/// # Errors
/// Where a node cannot be made, with its name, or a fault of the pass leaves a graph that does not verify.
pub fn complete(g: &Graph, target: &Target, ranges: &CalibrationTable, options: &Options) -> Result<Graph, PassError> {
    let (bare, real) = without_borders(g);
    let mut plan = plan(&bare, target, ranges, options, &real);
    let qparams = parameters_of(&bare, target, options, &mut plan);
    let mut new = g.clone();
    // Values of `g`, and the grids that they are on in the end.
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
            let reads = |n: NodeId| matches!(plan.mode(n), Some(Mode::Integer | Mode::Sums));
            let wanted = gives || g.users(v).iter().any(|u| reads(u.0));
            if matches!(g.op(n), Op::Dequantize(_)) || !wanted || is_limited(&bare, target, v, &plan) {
                continue;
            }
            let handed_on = || carries(g, n).then(|| placed.get(&g.operands(n)[0]).cloned()).flatten();
            let own = placed.get(&v).cloned().or_else(handed_on).or_else(|| qparams.of(v).cloned());
            let Some(qparams) = own else { continue };
            place(&mut new, v, &qparams, gives)?;
            placed.insert(v, qparams);
        }
    }
    new.sweep();
    new.verify().map_err(|error| PassError::Verify { pass: "complete", error })?;
    Ok(new)
}

/// True where a node only hands on what it reads.
fn carries(g: &Graph, n: NodeId) -> bool {
    g.op(n).quant_rule() == QuantRule::SameAsInput && g.op(n).carries_integers()
}

/// The grid that the model has the real value `v` on; of several, the widest.
fn given(g: &Graph, v: ValueId) -> Option<QuantParams> {
    let fits = |qparams: &&QuantParams| qparams.tensor_map().is_some() && qparams.storage.size() == 1;
    let of = |v: ValueId| g.ty(v).elem.qparams().filter(fits).cloned();
    if let Op::Dequantize(_) = g.producer(v) {
        return of(g.operands(v.node)[0]);
    }
    let borders = g.users(v).into_iter().map(|u| u.0).filter(|&n| is_border(g, n));
    borders.filter_map(|n| of(n.value(0))).max_by(|a, b| a.scales()[0].total_cmp(&b.scales()[0]))
}

/// True where an integer limit follows that kernels compute in one with what gives `v`.
fn is_limited(bare: &Graph, target: &Target, v: ValueId, plan: &Plan) -> bool {
    bare.only_user(v).is_some_and(|u| clamped(bare, target, u).is_some() && plan.mode(u) == Some(Mode::Integer))
}

fn is_border(g: &Graph, n: NodeId) -> bool {
    matches!(g.op(n), Op::Quantize(_))
}

/// Has all that reads `v` read it from a grid. What the model puts on other grids comes from that one where `v` itself is
/// computed `on_it`.
fn place(g: &mut Graph, v: ValueId, qparams: &QuantParams, on_it: bool) -> Result<(), PassError> {
    let ty = g.ty(v).with_elem(Elem::Quantized(qparams.clone()));
    let readers = g.users(v);
    let outputs: Vec<usize> = (0..g.outputs().len()).filter(|&i| g.outputs()[i].value == v).collect();
    let there = |n: NodeId| is_border(g, n) && *g.ty(n.value(0)) == ty;
    if outputs.is_empty() && readers.iter().all(|u| there(u.0)) {
        return Ok(());
    }
    let origin = g.origin(v.node).clone();
    let q = g.add_typed(Quantize {}, &[v], Types::from_elem(ty, 1), origin.clone())?.value(0);
    let real = g.add1(Dequantize {}, &[q], origin)?;
    for (n, i) in readers {
        match is_border(g, n) {
            true if g.ty(n.value(0)) == g.ty(q) => g.redirect(n.value(0), q),
            true if !on_it => {}
            _ => g.set_operand(n, i, real),
        }
    }
    outputs.into_iter().for_each(|i| g.set_output(i, real));
    Ok(())
}

/// The graph without the borders of its activations and with real weights, and the contractions that the model has in
/// real numbers. Ids are those of `g`.
fn without_borders(g: &Graph) -> (Graph, FxHashSet<NodeId>) {
    let mut bare = g.clone();
    let contractions = g.order().into_iter().filter(|&n| g.op(n).is_contraction());
    let weight = |n: &NodeId| g.constant(g.operands(*n)[1]).is_some();
    let real = contractions.filter(weight).collect();
    for n in g.order().into_iter().filter(|&n| matches!(g.op(n), Op::Dequantize(_))) {
        let stored = g.operands(n)[0];
        if let Some(c) = g.constant(stored).map(Tensor::to_real) {
            let c = bare.add_const(c, g.origin(n).clone());
            bare.redirect(n.value(0), c);
        } else if let Op::Quantize(_) = g.producer(stored) {
            let x = bare.operands(stored.node)[0];
            if bare.ty(x).elem == Elem::F32 {
                bare.redirect(n.value(0), x);
            }
        }
    }
    bare.sweep();
    (bare, real)
}
