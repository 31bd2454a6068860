//! The operators, by family. Each family maps an operator to layers and returns the ports of the results.

use qcc_formats::openvino::Port;
use qcc_ir::ops::Op;

use super::emit::{Emitter, NodeContext, Ports, Unsupported};

mod boxes;
pub(super) mod conv;
pub(super) mod elementwise;
mod index;
mod matmul;
mod movement;
mod norm;
mod pool;
pub(super) mod quantize;
pub(super) mod recurrent;
mod reduce;
mod repeat;
pub(super) mod resize;

/// Writes one node and returns the ports of its results. Quantized values are represented as floats.
pub(super) fn emit(e: &mut Emitter<'_>, op: &Op, site: &NodeContext) -> Result<Ports, Unsupported> {
    let one = |port: Port| Ok(Ports::from_elem(port, 1));
    match op {
        Op::Input(_) | Op::Const(_) => Err("it is no operation".into()),
        Op::Unary(op) => one(elementwise::unary(e, op, site)?),
        Op::Binary(op) => one(elementwise::binary(e, op, site)?),
        Op::Clamp(op) => one(elementwise::clamp(e, op, site)?),
        Op::Select(_) => one(elementwise::select(e, site)),
        Op::Cast(_) => one(elementwise::cast(e, site)),
        Op::Conv(op) => one(conv::conv(e, op, site)),
        Op::ConvTranspose(op) => one(conv::conv_transpose(e, op, site)),
        Op::Pool(op) => one(pool::pool(e, op, site)?),
        Op::MatMul(op) => one(matmul::matmul(e, op, site)),
        Op::LayerNorm(op) => one(norm::layer_norm(e, op, site)),
        Op::Recurrent(op) => recurrent::recurrent(e, op, site),
        Op::Softmax(op) => one(norm::softmax(e, op, site)),
        Op::Reduce(op) => one(reduce::reduce(e, op, site)?),
        Op::ArgReduce(op) => one(reduce::arg_reduce(e, op, site)),
        Op::CumSum(op) => one(reduce::cum_sum(e, op, site)),
        Op::Reshape(_) => one(movement::reshape(e, site)?),
        Op::Transpose(op) => one(movement::transpose(e, op, site)),
        Op::Concat(op) => one(movement::concat(e, op, site)),
        Op::Slice(op) => one(movement::slice(e, op, site)),
        Op::Pad(op) => one(movement::pad(e, op, site)?),
        Op::Symbolic(op) => one(movement::symbolic(e, op, site)?),
        Op::Define(_) => one(e.operand(site, 0)),
        Op::NonZero(_) => one(index::non_zero(e, site)),
        Op::RoiAlign(op) => one(boxes::roi_align(e, op, site)),
        Op::NonMaxSuppression(op) => one(boxes::non_max_suppression(e, op, site)),
        Op::OpenSlice(op) => one(movement::open_slice(e, op, site)?),
        Op::Expand(_) => one(movement::expand(e, site)?),
        Op::Tile(op) => one(movement::tile(e, op, site)),
        Op::Reverse(op) => one(movement::reverse(e, op, site)),
        Op::DepthToSpace(op) => one(movement::depth_to_space(e, op, site)),
        Op::SpaceToDepth(op) => one(movement::space_to_depth(e, op, site)),
        Op::Gather(op) => one(index::gather(e, op, site)),
        Op::GatherElements(op) => one(index::gather_elements(e, op, site)),
        Op::GatherNd(op) => one(index::gather_nd(e, op, site)),
        Op::ScatterNd(op) => one(index::scatter_nd(e, op, site)),
        Op::TopK(op) => index::top_k(e, op, site),
        Op::Resize(op) => one(resize::resize(e, op, site)?),
        Op::GridSample(op) => one(resize::grid_sample(e, op, site)),
        Op::Quantize(_) => one(quantize::quantize(e, site)?),
        // The product's kernel quantizes dynamically.
        Op::DynamicQuantize(_) => one(e.operand(site, 0)),
        Op::Dequantize(_) => one(quantize::dequantize(e, site)),
        Op::Relayout(_) => one(e.operand(site, 0)),
        Op::DetectionPostProcess(_) => Err("it has no operator".into()),
        Op::Custom(op) => Err(op.refusal().into()),
        Op::Loop(op) => repeat::repeat(e, op, site),
        Op::If(op) => repeat::choose(e, op, site),
    }
}
