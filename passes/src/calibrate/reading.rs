//! How nodes with constant weights read their activations.

use qcc_ir::matrix::Windows;
use qcc_ir::ops::{Cell, Conv, Op};
use qcc_ir::{Elem, Graph, NodeId, Tensor, ValueId};
use smallvec::{SmallVec, smallvec};

/// An activation that is multiplied by a constant weight.
#[derive(Clone, Debug)]
pub(crate) struct Read {
    pub(crate) activation: ValueId,
    /// The index of the operand that is the weight. Its outputs are rows, but for matrix products.
    pub(crate) weight: usize,
    pub(crate) reading: Reading,
}

/// The rows of an activation that are multiplied by the weights of an output.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Reading {
    /// The innermost axis, of this extent.
    Rows(usize),
    /// What is under the window of a convolution without groups. The extents are those of a filter.
    Windows(Conv, Vec<usize>),
}

impl Reading {
    /// The float activations that node `n` multiplies by constant weights, if outputs do not read different parts of them.
    pub(crate) fn all(g: &Graph, n: NodeId) -> SmallVec<[Read; 2]> {
        let operands = g.operands(n);
        let (Some(&x), Some(&w)) = (operands.first(), operands.get(1)) else { return SmallVec::new() };
        let varies = |x| g.constant(x).is_none() && g.ty(x).elem == Elem::F32;
        let Some(weight) = g.constant(w).filter(|_| varies(x)).map(Tensor::dims) else { return SmallVec::new() };
        let rows = |activation, weight| {
            let extent = g.ty(activation).shape.dims().last()?.known()?;
            Some(Read { activation, weight, reading: Reading::Rows(extent) })
        };
        match g.op(n) {
            Op::MatMul(_) if weight.len() == 2 => rows(x, 1).into_iter().collect(),
            Op::Conv(op) if op.groups == 1 => {
                smallvec![Read {
                    activation: x,
                    weight: 1,
                    reading: Reading::Windows(op.clone(), weight[1..].to_vec())
                }]
            }
            Op::Recurrent(op) => {
                // The states are the results, but for the first. Where the reset gate scales the state, the product is
                // not of the state itself.
                let of_state = op.cell != Cell::Gru { reset_after: false } && g.constant(operands[2]).is_some();
                rows(x, 1).into_iter().chain(of_state.then(|| rows(n.value(0), 2)).flatten()).collect()
            }
            _ => SmallVec::new(),
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
pub(super) fn spread(all: usize, wanted: usize, start: u64) -> impl Iterator<Item = usize> {
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
