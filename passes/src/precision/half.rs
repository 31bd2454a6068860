//! Weights of 16-bit floats.

use half::f16;
use qcc_ir::diagnostic::Diagnostic;
use qcc_ir::ops::{Cast, Op};
use qcc_ir::{Elem, Graph, NodeId, Tensor};
use rustc_hash::FxHashSet;

use crate::{Context, Pass, PassError};

/// The smallest constants stay as they are while they hold at most this share of all numbers: halving them saves next
/// to nothing, and the filters among them are those of the first layers and of single channels, where rounding shows.
const SHARE: f64 = 0.04;

/// No constant with more elements stays for that reason.
const LARGEST: usize = 4096;

/// Stores `F32` constants, but for the smallest, as `F16`, widened by a Cast where they are read. A constant with a number beyond the
/// range of `F16` stays as it is, and a note says so. Comes after layout, so that constants are in their last order.
#[derive(Clone, Copy, Debug)]
pub struct HalfWeights;

impl Pass for HalfWeights {
    fn name(&self) -> &'static str {
        "half-weights"
    }

    fn run(&self, g: &mut Graph, cx: &mut Context<'_>) -> Result<(), PassError> {
        let smallest = smallest(g);
        for node in g.order() {
            let Op::Const(c) = g.op(node) else { continue };
            if c.value.ty().elem != Elem::F32 || smallest.contains(&node) {
                continue;
            }
            let origin = g.origin(node).clone();
            let Some(narrow) = narrowed(&c.value) else {
                let message = "a weight beyond the range of 16-bit floats stays 32 bits wide";
                cx.diagnostics.push(Diagnostic::note("half-range", message).at(&origin));
                continue;
            };
            let narrow = g.add_const(narrow, origin.clone());
            let wide = g.add1(Cast { to: Elem::F32 }, &[narrow], origin)?;
            g.replace(node.value(0), wide)?;
        }
        Ok(())
    }
}

/// The constants that are too small to be halved.
fn smallest(g: &Graph) -> FxHashSet<NodeId> {
    let length = |n: NodeId| match g.op(n) {
        Op::Const(c) if c.value.ty().elem == Elem::F32 => Some((c.value.len(), n)),
        _ => None,
    };
    let mut constants: Vec<(usize, NodeId)> = g.order().into_iter().filter_map(length).collect();
    constants.sort_unstable();
    let most = (constants.iter().map(|c| c.0).sum::<usize>() as f64 * SHARE) as usize;
    let mut kept = 0;
    let stays = |&(length, _): &(usize, NodeId)| {
        kept += length;
        kept <= most && length <= LARGEST
    };
    constants.into_iter().take_while(stays).map(|c| c.1).collect()
}

/// The same numbers, rounded to `F16`; `None` where a finite one would become infinite.
pub(super) fn narrowed(value: &Tensor) -> Option<Tensor> {
    let narrow: Option<Vec<f16>> = value
        .view::<f32>()
        .iter()
        .map(|&wide| {
            let narrow = f16::from_f32(wide);
            (narrow.is_finite() || !wide.is_finite()).then_some(narrow)
        })
        .collect();
    Some(Tensor::of(value.ty().with_elem(Elem::F16), narrow?))
}

#[cfg(test)]
mod tests {
    use qcc_ir::ops::{Binary, BinaryFn};
    use qcc_ir::{Origin, Shape, TensorType};

    use super::*;
    use crate::testing::apply;

    fn scaled(values: Vec<f32>) -> Graph {
        let mut g = Graph::new("half");
        let shape = Shape::known(&[values.len()]);
        let x = g.add_input("x", TensorType::new(Elem::F32, shape.clone()));
        let w = g.add_const(Tensor::from_vec(shape, values), Origin::none());
        let y = g.add1(Binary { f: BinaryFn::Mul }, &[x, w], Origin::none()).unwrap();
        g.add_output("y", y);
        apply(&mut g, vec![Box::new(HalfWeights)]);
        g
    }

    fn halves(g: &Graph) -> usize {
        g.order().into_iter().filter(|n| matches!(g.op(*n), Op::Const(c) if c.value.ty().elem == Elem::F16)).count()
    }

    #[test]
    fn constants_are_narrowed_where_they_fit() {
        assert_eq!(halves(&scaled(vec![0.1; 8])), 1);
        assert_eq!(halves(&scaled(vec![1e5; 8])), 0);
        assert_eq!(halves(&scaled(vec![f32::INFINITY; 8])), 1);
    }

    #[test]
    fn the_smallest_stay() {
        let mut g = Graph::new("half");
        let x = g.add_input("x", TensorType::new(Elem::F32, Shape::known(&[1, 1])));
        for length in [1, 2, 40, 60] {
            let w = g.add_const(Tensor::from_vec(Shape::known(&[1, length]), vec![0.1; length]), Origin::none());
            let y = g.add1(Binary { f: BinaryFn::Mul }, &[x, w], Origin::none()).unwrap();
            g.add_output("y", y);
        }
        apply(&mut g, vec![Box::new(HalfWeights)]);
        // 3 of 103 numbers are within the share, 43 are not.
        assert_eq!(halves(&g), 2);
    }
}
