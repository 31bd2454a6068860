//! What OpenVINO IR takes.

use qcc_ir::ops::Op;
use qcc_ir::target::{GridDemands, Sums, Target, Zero};
use qcc_ir::{Elem, Layout, Store, TensorType};

/// OpenVINO IR: everything is row-major.
pub static TARGET: Target = Target {
    name: "openvino",
    native,
    image_layout: Layout::row_major,
    weight_layout: |_, _, ty| Layout::row_major(ty.rank()),
    index: Elem::I64,
    half: None,
    grids: GridDemands {
        activation: Store::U8,
        integer,
        weights_only: |_, _| false,
        per_channel: |_, _| true,
        sums: |_, _| Sums::Real,
        zero: |_, _| Zero::Anywhere,
    },
};

fn native(_: &Op, _: &[&TensorType]) -> bool {
    false
}

fn integer(_: &Op, _: &[&TensorType]) -> bool {
    false
}
