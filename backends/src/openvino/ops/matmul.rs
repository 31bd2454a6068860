//! Matrix products.

use qcc_formats::openvino::{Operation, Port};
use qcc_ir::ops::MatMul;

use super::super::emit::{Emitter, NodeContext, attribute};

/// MatMul, followed by the bias.
pub(super) fn matmul(e: &mut Emitter<'_>, op: &MatMul, site: &NodeContext) -> Port {
    let ty = site.results[0].real();
    let data = [attribute("transpose_a", false), attribute("transpose_b", op.transpose_b)];
    let inputs = [e.operand(site, 0), e.operand(site, 1)];
    let product = e.op(Operation("MatMul", 1), &data, &inputs, &ty);
    if site.values.len() < 3 {
        return product;
    }
    let bias = e.operand(site, 2);
    e.binary("Add", product, bias, &ty)
}
