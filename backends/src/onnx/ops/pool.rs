//! Pooling.

use qcc_ir::ops::{Op, Pool, PoolFn, QuantRule};
use qcc_ir::{Graph, ValueId};
use rustc_hash::FxHashSet;

use super::super::call::Call;
use super::super::emit::{Emitter, NodeContext, Unsupported};
use super::quantize;

/// True if runtimes support the number of axes and the padding, which must be smaller than the window.
pub(in crate::onnx) fn native(op: &Pool) -> bool {
    op.window.len() <= 3
        && op.window.iter().zip(op.before.iter().zip(&op.after)).all(|(w, (before, after))| before.max(after) < w)
}

/// MaxPool, or AveragePool without counting padding.
pub(super) fn pool(e: &mut Emitter<'_>, op: &Pool, site: &NodeContext<'_>) -> Result<(), Unsupported> {
    let is_quantized = site.results[0].elem.qparams().is_some();
    let dilated = op.dilation.iter().any(|&d| d != 1);
    let call = match op.f {
        PoolFn::Max => Call::new("MaxPool"),
        PoolFn::Average if is_quantized => Call::contrib("QLinearAveragePool"),
        PoolFn::Average if dilated => Call::new("AveragePool").since(19),
        PoolFn::Average => Call::new("AveragePool"),
    };
    let call = call
        .sizes("kernel_shape", op.window.iter().copied())
        .sizes("strides", op.stride.iter().copied())
        .sizes("pads", op.before.iter().chain(&op.after).copied());
    let call = if dilated { call.sizes("dilations", op.dilation.iter().copied()) } else { call };
    if is_quantized && op.f == PoolFn::Average {
        return quantize::qlinear(e, call, site);
    }
    if op.f == PoolFn::Max
        && !is_quantized
        && !e.options.has_standard_qdq()
        && is_quantized_behind(e.graph, site.node.value(0))
    {
        // ONNX Runtime moves a QuantizeLinear before the pool, where its kernel for bytes takes 60 times as long. It does not
        // move one past a Clip, which has no limits here.
        let inputs = e.inputs(site);
        let pooled = e.scratch(site, &site.results[0]);
        e.push(call, &inputs, std::slice::from_ref(&pooled));
        e.push(Call::new("Clip"), &[pooled], &site.outputs);
        return Ok(());
    }
    e.push_at(call, site);
    Ok(())
}

/// True if a float value is quantized, by itself or after its elements are moved.
fn is_quantized_behind(g: &Graph, v: ValueId) -> bool {
    let (mut seen, mut left) = (FxHashSet::default(), vec![v]);
    while let Some(v) = left.pop() {
        for (n, _) in g.users(v) {
            match g.op(n) {
                Op::Quantize(_) => return true,
                op if matches!(op.quant_rule(), QuantRule::SameAsInput) && seen.insert(n) => left.extend(g.results(n)),
                _ => {}
            }
        }
    }
    false
}
