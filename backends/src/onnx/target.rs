//! What ONNX takes.

use qcc_ir::ops::Op;
use qcc_ir::target::{GridDemands, Sums, Target, Zero};
use qcc_ir::{Elem, Layout, Store, TensorType};

/// ONNX, run by ONNX Runtime: everything is row-major.
pub static TARGET: Target = Target {
    name: "onnx",
    native,
    image_layout: Layout::row_major,
    weight_layout: |_, _, ty| Layout::row_major(ty.rank()),
    index: Elem::I64,
    half: Some(half),
    grids: GridDemands {
        activation: Store::U8,
        integer,
        weights_only: |_, _| false,
        per_channel: |_, _| true,
        sums: |_, _| Sums::Grid,
        zero: |_, _, _| Zero::Anywhere,
    },
};

fn native(_: &Op, _: &[&TensorType]) -> bool {
    false
}

fn integer(_: &Op, _: &[&TensorType]) -> bool {
    false
}

/// What accumulates along an axis, or orders by size, stays in single precision.
fn half(op: &Op, _: &[&TensorType]) -> bool {
    !matches!(op, Op::CumSum(_) | Op::TopK(_))
}
