//! The property that simplification preserves results. The effect on single graphs is tested in
//! `tests/corpus/passes/simplify`.

use proptest::prelude::*;
use qcc_ir::testing::{graphs, inputs_for};
use qcc_ir::text::print_full;
use qcc_ir::{Elem, Graph, Layout, StorageType, TensorType};

use super::{simplify, tidy};
use crate::testing::{everything, try_apply};
use crate::{Pass, check_meaning};
use qcc_ir::ops::Op;
use qcc_ir::target::{BlockDynamic, BlockGrid, Blocks, Kernel, Quantized, Target, Weights, ZeroPoint};

/// A target that supports every operator. Simplification does not depend on it.
pub(crate) fn target() -> Target {
    Target {
        name: "any",
        kernel: |op, operands| Some(row(op, operands)),
        image_layout: Layout::row_major,
        index: Elem::I64,
        integers: Elem::I64,
        negative_indices: true,
        activation: StorageType::I8,
        half_graphs: true,
        half_values: false,
        open_batch: false,
        keeps_states: false,
        latency: None,
        device: None,
    }
}

/// Its kernels support any quantization, except that a second computed factor must be symmetric.
pub(crate) fn row(op: &Op, operands: &[&TensorType]) -> Kernel {
    let kernel = everything(op, operands);
    let zero_points = [ZeroPoint::Any, ZeroPoint::Symmetric];
    let blocks =
        Blocks { fits: |extent, size| extent >= size, dynamic: BlockDynamic::Groups(|_| None), grid: BlockGrid::Any };
    Kernel {
        quantized: kernel.quantized.map(|quantized| Quantized { zero_points, ..quantized }),
        weights: kernel.weights.map(|weights| Weights { blocks: Some(blocks), ..weights }),
        ..kernel
    }
}

fn after(g: &Graph, passes: Vec<Box<dyn Pass>>) -> Graph {
    let mut g = g.clone();
    try_apply(&mut g, passes, &target()).unwrap();
    g
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn simplification_keeps_the_meaning_and_is_done_once(g in graphs(), seed in any::<u64>()) {
        for passes in [simplify, tidy] {
            let once = after(&g, passes());
            let error = check_meaning(&g, &once, &inputs_for(&g, seed)).unwrap();
            prop_assert!(error < 1e-4, "differs by {error}\n{}\n{}", print_full(&g), print_full(&once));
            prop_assert!(after(&once, passes()).same(&once), "{}\n{}", print_full(&g), print_full(&once));
        }
    }
}
