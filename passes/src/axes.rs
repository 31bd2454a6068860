//! The axes of channels of the operands of products.

use qcc_ir::ops::{Conv, Op};
use qcc_ir::{Graph, NodeId, Tensor};

/// The reduction axis of the first operand of a contraction.
pub(crate) fn summed_axis(g: &Graph, n: NodeId) -> usize {
    match g.op(n) {
        Op::MatMul(_) => g.ty(g.operands(n)[0]).rank() - 1,
        _ => 1,
    }
}

/// True for one filter for each channel.
pub(crate) fn is_depthwise(c: &Conv, w: &Tensor) -> bool {
    c.has_one_filter_per_channel(&w.ty().shape)
}

/// The axis of the weight along which its inputs are. Of a depthwise convolution that is the axis of its outputs.
pub(crate) fn weight_axis(op: &Op, w: &Tensor) -> usize {
    match op {
        Op::MatMul(m) => usize::from(m.transpose_b),
        Op::Conv(c) => usize::from(!is_depthwise(c, w)),
        _ => 1,
    }
}

/// The axis of the weight along which its outputs are.
pub(crate) fn output_axis(op: &Op, w: &Tensor) -> usize {
    match op {
        Op::MatMul(m) => w.dims().len() - if m.transpose_b { 2 } else { 1 },
        _ => 0,
    }
}
