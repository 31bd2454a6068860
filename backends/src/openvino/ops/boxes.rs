//! Operators on boxes.

use qcc_formats::openvino::{Operation, Port};
use qcc_ir::ops::NonMaxSuppression;
use qcc_ir::{Elem, Shape, TensorType};

use super::super::emit::{Emitter, NodeContext, attribute};

/// NonMaxSuppression, of whose results the indices are used.
pub(super) fn non_max_suppression(e: &mut Emitter<'_>, op: &NonMaxSuppression, site: &NodeContext) -> Port {
    let data = [
        attribute("box_encoding", "corner"),
        attribute("sort_result_descending", false),
        attribute("output_type", "i64"),
    ];
    let mut inputs = e.operands(site);
    let score = op.score.unwrap_or(f32::NEG_INFINITY);
    inputs.extend([e.index(op.most), e.scalar(op.overlap), e.scalar(score)]);
    let indices = &site.results[0];
    let scores = indices.with_elem(Elem::F32);
    let count = TensorType::new(Elem::I64, Shape::known(&[1]));
    e.op_many(Operation("NonMaxSuppression", 9), &data, &inputs, &[indices, &scores, &count])[0]
}
