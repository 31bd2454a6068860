//! Matrix products.

use qcc_formats::tflite::{Add, BatchMatMul, BuiltinOperator, FullyConnected};
use qcc_ir::ops::MatMul;
use qcc_ir::{Affine, Elem, Graph, NodeId, TensorType};

use super::super::emit::{Emitter, NodeContext, Unsupported, version};

/// True for a product with a constant matrix `[O, I]`.
pub(in crate::tflite) fn is_fully_connected(graph: &Graph, node: NodeId) -> bool {
    let qcc_ir::ops::Op::MatMul(op) = graph.op(node) else { return false };
    let b = graph.operands(node)[1];
    // Weights stored as F16 are constants followed by a conversion.
    let behind = match graph.producer(b) {
        qcc_ir::ops::Op::Cast(_) => graph.operands(b.node)[0],
        _ => b,
    };
    op.transpose_b && graph.ty(b).rank() == 2 && graph.constant(behind).is_some()
}

/// FULLY_CONNECTED for a constant matrix, else BATCH_MATMUL.
pub(super) fn matmul(e: &mut Emitter<'_>, op: &MatMul, site: &NodeContext<'_>) -> Result<(), Unsupported> {
    let [a, b] = [&site.operands[0], &site.operands[1]];
    let hybrid = a.elem == Elem::F32 && b.elem.qparams().is_some();
    if is_fully_connected(site.graph, site.node) {
        let per_axis = b.elem.qparams().is_some_and(|g| !matches!(g.map, Affine::PerTensor { .. }));
        let keep_num_dims = a.rank() != 2;
        let version = match (hybrid, per_axis) {
            (true, true) => 12,
            (true, false) => 9,
            _ if keep_num_dims => version(a, 5, 5, 7),
            _ => version(a, 1, 4, 7),
        };
        let options = FullyConnected {
            activation: site.activation,
            keep_num_dims,
            asymmetric_quantize_inputs: hybrid,
            ..FullyConnected::default()
        };
        let inputs = [site.inputs[0], site.inputs[1], site.inputs.get(2).copied().unwrap_or(-1)];
        e.push_operator(BuiltinOperator::FULLY_CONNECTED, version, options, &inputs, &site.outputs);
        return Ok(());
    }
    let constant = site.graph.constant(site.values[1]).is_some();
    if hybrid && !constant {
        return Err("its right operand is a computed integer matrix and its left operand is float".into());
    }
    let number = if hybrid { 4 } else { version(a, 1, 2, 3) };
    let options = BatchMatMul { adj_x: false, adj_y: op.transpose_b, asymmetric_quantize_inputs: hybrid };
    let Some(&bias) = site.inputs.get(2) else {
        e.push_operator(BuiltinOperator::BATCH_MATMUL, number, options, &site.inputs, &site.outputs);
        return Ok(());
    };
    if a.elem.qparams().is_some() {
        return Err("a bias on a product of two computed integer matrices".into());
    }
    let product = e.scratch(&TensorType::clone(&site.results[0]), site.node);
    e.push_operator(BuiltinOperator::BATCH_MATMUL, number, options, &site.inputs[..2], &[product]);
    e.push_operator(BuiltinOperator::ADD, 1, Add::default(), &[product, bias], &site.outputs);
    Ok(())
}
