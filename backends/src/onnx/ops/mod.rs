//! The operators, by family. Each family maps an operator to one standard node if there is one, or to operators of ONNX
//! Runtime if the tensors hold integers.

use qcc_ir::ops::Op;
use qcc_ir::{Graph, NodeId, ValueId};

use super::emit::{Emitter, NodeContext, Unsupported};

mod blocks;
mod boxes;
mod conv;
mod custom;
pub(super) mod elementwise;
mod index;
mod matmul;
mod movement;
mod norm;
pub(super) mod pool;
mod quantize;
mod recurrent;
pub(super) mod reduce;
mod repeat;
pub(super) mod resize;

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
        Op::Recurrent(op) => recurrent::recurrent(e, op, site),
        Op::LayerNorm(op) => norm::layer_norm(e, op, site),
        Op::Softmax(op) => norm::softmax(e, op, site),
        Op::Reduce(op) => reduce::reduce(e, op, site),
        Op::ArgReduce(op) => reduce::arg_reduce(e, op, site),
        Op::CumSum(op) => reduce::cum_sum(e, op, site),
        Op::Reshape(op) => movement::reshape(e, op, site),
        Op::Transpose(op) => movement::transpose(e, op, site),
        Op::Concat(op) => movement::concat(e, op, site),
        Op::Slice(op) => movement::slice(e, op, site),
        Op::Pad(op) => movement::pad(e, op, site),
        Op::Symbolic(op) => movement::symbolic(e, op, site),
        Op::Define(_) => movement::define(e, site),
        Op::NonZero(_) => index::non_zero(e, site),
        Op::Loop(op) => repeat::repeat(e, op, site),
        Op::If(op) => repeat::choose(e, op, site),
        Op::RoiAlign(op) => boxes::roi_align(e, op, site),
        Op::NonMaxSuppression(op) => boxes::non_max_suppression(e, op, site),
        Op::OpenSlice(op) => movement::open_slice(e, op, site),
        Op::Expand(op) => movement::expand(e, op, site),
        Op::Tile(op) => movement::tile(e, op, site),
        Op::Reverse(op) => movement::reverse(e, op, site),
        Op::DepthToSpace(op) => movement::depth_to_space(e, op, site),
        Op::SpaceToDepth(op) => movement::space_to_depth(e, op, site),
        Op::Gather(op) => index::gather(e, op, site),
        Op::GatherElements(op) => index::gather_elements(e, op, site),
        Op::GatherNd(op) => index::gather_nd(e, op, site),
        Op::ScatterNd(op) => index::scatter_nd(e, op, site),
        Op::TopK(op) => index::top_k(e, op, site),
        Op::Resize(op) => resize::resize(e, op, site),
        Op::GridSample(op) => resize::grid_sample(e, op, site),
        Op::Quantize(_) => quantize::quantize(e, site),
        Op::Custom(op) => custom::custom(e, op, site),
        // Aliases, and what is decomposed.
        Op::Dequantize(_) | Op::DynamicQuantize(_) | Op::Relayout(_) | Op::DetectionPostProcess(_) => {
            Err("it has no operator".into())
        }
    }
}

/// True if the float value `v` is an operand of a contraction, directly or after operators that only move elements:
/// ONNX Runtime moves a DequantizeLinear behind these.
pub(super) fn feeds_float_contraction(graph: &Graph, v: ValueId) -> bool {
    let contracts = |(n, i): &(NodeId, usize)| match graph.op(*n) {
        Op::Conv(_) | Op::ConvTranspose(_) | Op::MatMul(_) => *i == 0,
        Op::Reshape(_) | Op::Transpose(_) | Op::Slice(_) | Op::Pool(_) | Op::Relayout(_) => {
            feeds_float_contraction(graph, n.value(0))
        }
        _ => false,
    };
    graph.users(v).iter().any(contracts)
}

/// The value with the same content as the result of a node that needs no operator.
pub(super) fn alias(graph: &Graph, node: NodeId) -> Option<ValueId> {
    let source = *graph.operands(node).first()?;
    let (x, y) = (graph.ty(source), graph.ty(node.value(0)));
    let same = match graph.op(node) {
        Op::Clamp(op) => x == y && y.elem.qparams().is_some_and(|qparams| elementwise::limits_nothing(op, qparams)),
        Op::Reshape(_) | Op::Quantize(_) | Op::Cast(_) | Op::Relayout(_) => x == y,
        // Dynamic quantization is written with the product that consumes it.
        Op::Dequantize(_) | Op::DynamicQuantize(_) => true,
        _ => false,
    };
    same.then_some(source)
}
