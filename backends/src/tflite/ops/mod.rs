//! The operators, by family. Logical axes become physical ones, attributes become options.

use qcc_ir::NodeId;
use qcc_ir::ops::Op;

use super::emit::{Emitter, NodeContext, Unsupported};

pub(super) mod boxes;
pub(super) mod conv;
mod custom;
pub(super) mod elementwise;
mod index;
pub(super) mod matmul;
mod movement;
mod norm;
pub(super) mod pool;
mod quantize;
pub(super) mod recurrent;
mod reduce;
mod repeat;
pub(super) mod resize;
mod window;

/// Writes one node.
pub(super) fn emit(e: &mut Emitter<'_>, op: &Op, site: &NodeContext<'_>) -> Result<(), Unsupported> {
    match op {
        Op::Input(_) | Op::Const(_) => Ok(()),
        Op::Unary(op) => elementwise::unary(e, op, site),
        Op::Binary(op) => elementwise::binary(e, op, site),
        Op::Clamp(op) => elementwise::clamp(e, op, site),
        Op::Select(_) => elementwise::select(e, site),
        Op::Cast(op) => elementwise::cast(e, op, site),
        Op::Conv(op) => conv::conv(e, op, site),
        Op::ConvTranspose(op) => conv::conv_transpose(e, op, site),
        Op::Pool(op) => pool::pool(e, op, site),
        Op::MatMul(op) => matmul::matmul(e, op, site),
        Op::Softmax(op) => norm::softmax(e, op, site),
        Op::Reduce(op) => reduce::reduce(e, op, site),
        Op::ArgReduce(op) => reduce::arg_reduce(e, op, site),
        Op::CumSum(op) => reduce::cum_sum(e, op, site),
        Op::Reshape(_) => movement::reshape(e, site),
        Op::Transpose(op) => movement::transpose(e, op, site),
        Op::Concat(op) => movement::concat(e, op, site),
        Op::Slice(op) => movement::slice(e, op, site),
        Op::OpenSlice(op) => movement::open_slice(e, op, site),
        Op::Symbolic(op) => movement::symbolic(e, op, site),
        // Its result is its operand.
        Op::Define(_) => Ok(()),
        Op::NonZero(_) => index::non_zero(e, site),
        Op::NonMaxSuppression(op) => boxes::non_max_suppression(e, op, site),
        Op::Pad(op) => movement::pad(e, op, site),
        Op::Expand(_) => movement::expand(e, site),
        Op::Tile(op) => movement::tile(e, op, site),
        Op::Reverse(op) => movement::reverse(e, op, site),
        Op::DepthToSpace(op) => movement::depth_to_space(e, op, site),
        Op::SpaceToDepth(op) => movement::space_to_depth(e, op, site),
        Op::Gather(op) => index::gather(e, op, site),
        Op::GatherNd(_) => index::gather_nd(e, site),
        Op::ScatterNd(_) => index::scatter_nd(e, site),
        Op::TopK(op) => index::top_k(e, op, site),
        Op::Resize(op) => resize::resize(e, op, site),
        Op::Quantize(_) => quantize::quantize(e, site),
        Op::Dequantize(_) => quantize::dequantize(e, site),
        Op::Relayout(_) => movement::relayout(e, site),
        Op::DetectionPostProcess(op) => boxes::detection_post_process(e, op, site),
        Op::Custom(op) => custom::custom(e, op, site),
        Op::Loop(op) => repeat::repeat(e, op, site),
        Op::If(op) => repeat::choose(e, op, site),
        Op::Recurrent(op) => recurrent::recurrent(e, op, site),
        Op::LayerNorm(_) | Op::GatherElements(_) | Op::GridSample(_) | Op::RoiAlign(_) | Op::DynamicQuantize(_) => {
            Err("it has no operator".into())
        }
    }
}

/// True if a node's result has the bytes and the physical shape of its operand.
pub(super) fn is_alias(e: &Emitter<'_>, node: NodeId) -> bool {
    let graph = e.graph;
    let operand = match graph.operands(node).first() {
        Some(&v) => v,
        None => return false,
    };
    let (x, y) = (graph.ty(operand), graph.ty(node.value(0)));
    let same_extents = || x.layout.physical(&x.shape) == y.layout.physical(&y.shape);
    match graph.op(node) {
        Op::Reshape(_) => same_extents(),
        Op::Transpose(op) => same_extents() && movement::moves_nothing(&movement::physical(x, y, &op.perm), x),
        Op::Relayout(_) => same_extents() && x.layout.same_bytes(&y.layout, &x.shape),
        Op::Cast(_) => e.narrowed(operand) || x == y,
        Op::Quantize(_) => x == y,
        Op::Define(_) => true,
        // The product's kernel quantizes dynamically.
        Op::DynamicQuantize(_) => true,
        _ => false,
    }
}
