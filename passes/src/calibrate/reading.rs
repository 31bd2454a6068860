//! How contractions with constant weights read their activations.

use qcc_ir::matrix::Windows;
use qcc_ir::ops::{Conv, Op};
use qcc_ir::{Elem, Graph, NodeId, Tensor};

/// The rows of an activation that a contraction multiplies by the weights of an output.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Reading {
    /// The innermost axis, of this extent.
    Rows(usize),
    /// What is under the window of a convolution without groups. The extents are those of a filter.
    Windows(Conv, Vec<usize>),
}

impl Reading {
    /// How contraction `n` reads its float activation, if its weight is constant, and outputs do not read different parts
    /// of the activation.
    pub(crate) fn of(g: &Graph, n: NodeId) -> Option<Self> {
        let operands = g.operands(n);
        let (&x, &w) = (operands.first()?, operands.get(1)?);
        let weight = g.constant(w).filter(|_| g.constant(x).is_none() && g.ty(x).elem == Elem::F32)?.dims();
        match g.op(n) {
            Op::MatMul(_) if weight.len() == 2 => Some(Reading::Rows(g.ty(x).shape.dims().last()?.known()?)),
            Op::Conv(op) if op.groups == 1 => Some(Reading::Windows(op.clone(), weight[1..].to_vec())),
            _ => None,
        }
    }

    /// The length of a row.
    pub(crate) fn extent(&self) -> usize {
        match self {
            Reading::Rows(extent) => *extent,
            Reading::Windows(_, filter) => filter.iter().product(),
        }
    }

    /// Some rows of `x`: as many as `wanted` makes of the number that there are. They are spread over all, from one that
    /// `start` selects.
    pub(super) fn rows(&self, x: &Tensor, wanted: impl FnOnce(usize) -> usize, start: u64) -> Vec<f32> {
        match self {
            Reading::Rows(extent) => {
                let (x, extent) = (x.view::<f32>(), *extent);
                let there = x.len() / extent.max(1);
                let row = |i: usize| x[i * extent..][..extent].iter().copied();
                spread(there, wanted(there), start).flat_map(row).collect()
            }
            Reading::Windows(op, filter) => {
                let windows = Windows::new(op, x, filter);
                let there = windows.positions();
                windows.rows(spread(there, wanted(there), start))
            }
        }
    }
}

/// Some of `0..all`: all of them in order, or as many as `wanted` at nearly equal distances in an order without a period.
fn spread(all: usize, wanted: usize, start: u64) -> impl Iterator<Item = usize> {
    // The fraction of the golden ratio: its multiples fill an interval evenly.
    const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
    let at = move |i: usize| {
        let share = (i as u64).wrapping_mul(STEP).wrapping_add(start);
        usize::try_from((u128::from(share) * all as u128) >> 64).unwrap_or(0)
    };
    (0..wanted.min(all)).map(move |i| if wanted < all { at(i) } else { i })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_rows_are_spread_over_all() {
        assert_eq!(spread(5, 9, 77).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
        for start in [0, 1 << 40, u64::MAX / 3] {
            let mut found: Vec<usize> = spread(1000, 100, start).collect();
            found.sort_unstable();
            let gaps = found.windows(2).map(|pair| pair[1] - pair[0]);
            assert!(found.len() == 100 && gaps.clone().all(|gap| (4..=18).contains(&gap)), "{found:?}");
        }
    }
}
