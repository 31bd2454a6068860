//! Operators on boxes.

use qcc_formats::openvino::{Operation, Port};
use qcc_ir::ops::{NonMaxSuppression, RoiAlign};
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

/// ROIAlign, of mean samples. Its half_pixel mode also moves the boxes by half a unit of their own.
pub(super) fn roi_align(e: &mut Emitter<'_>, op: &RoiAlign, site: &NodeContext) -> Port {
    let data = [
        attribute("pooled_h", op.size[0]),
        attribute("pooled_w", op.size[1]),
        attribute("sampling_ratio", op.samples),
        attribute("spatial_scale", op.scale),
        attribute("mode", "avg"),
        attribute("aligned_mode", if op.half_pixel { "half_pixel_for_nn" } else { "asymmetric" }),
    ];
    let inputs = e.operands(site);
    e.op(Operation("ROIAlign", 9), &data, &inputs, &site.results[0])
}
