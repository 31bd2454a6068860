//! The law that every pass keeps the meaning. What single graphs become stands in `tests/corpus/passes/simplify`.

use proptest::prelude::*;
use qcc_ir::testing::{graphs, inputs_for};
use qcc_ir::text::print_full;
use qcc_ir::{Elem, Graph, Layout, Store, TensorType};

use super::{simplify, tidy};
use crate::testing::try_apply;
use crate::{Pass, check_meaning};
use qcc_ir::ops::{Granularity, Op};
use qcc_ir::target::{GridDemands, OpenBatch, Sums, Tables, Target, Zero};

/// A target that takes everything: passes of this room do not ask it.
pub(crate) fn target() -> Target {
    fn native(_: &Op, _: &[&TensorType]) -> bool {
        true
    }
    fn weight_layout(_: &Op, _: usize, ty: &TensorType) -> Layout {
        Layout::row_major(ty.rank())
    }
    fn per_channel(_: &Op, _: &TensorType) -> bool {
        true
    }
    Target {
        name: "any",
        native,
        image_layout: Layout::row_major,
        weight_layout,
        index: Elem::I64,
        integers: Elem::I64,
        negative_indices: true,
        half_graphs: true,
        half: None,
        open_batch: OpenBatch::Never,
        grids: GridDemands {
            activation: Store::I8,
            integer: native,
            weights_only: native,
            dynamic: |_, operands| Some(Granularity::Axes { from: 0, to: operands[0].rank() }),
            tables: Tables::Columns,
            per_channel,
            pairs: |_, _| false,
            blocks: Some(|extent, size| extent >= size),
            sums: |_, _| Sums::Grid,
            zero: |_, operand, _| if operand == 1 { Zero::Middle } else { Zero::Anywhere },
        },
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
