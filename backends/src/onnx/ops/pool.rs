//! Pooling.

use qcc_ir::ops::{Pool, PoolFn};

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
    e.push_at(call, site);
    Ok(())
}
