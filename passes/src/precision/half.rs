//! Weights of 16-bit floats.

use half::f16;
use qcc_ir::diagnostic::Diagnostic;
use qcc_ir::ops::{Cast, Op};
use qcc_ir::{Elem, Graph, Tensor};

use crate::{Context, Pass, PassError};

/// Constants with fewer elements stay as they are: halving them saves next to nothing, and small filters are those whose
/// taps cancel out, so that rounding shows.
const FEWEST: usize = 512;

/// Stores large `F32` constants as `F16`, widened by a Cast where they are read. A constant with a number beyond the
/// range of `F16` stays as it is, and a note says so. Comes after layout, so that constants are in their last order.
#[derive(Clone, Copy, Debug)]
pub struct HalfWeights;

impl Pass for HalfWeights {
    fn name(&self) -> &'static str {
        "half-weights"
    }

    fn run(&self, g: &mut Graph, cx: &mut Context<'_>) -> Result<(), PassError> {
        for node in g.order() {
            let Op::Const(c) = g.op(node) else { continue };
            if c.value.ty().elem != Elem::F32 || c.value.len() < FEWEST {
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
    fn large_constants_are_narrowed_where_they_fit() {
        assert_eq!(halves(&scaled(vec![0.1; FEWEST])), 1);
        assert_eq!(halves(&scaled(vec![0.1; FEWEST - 1])), 0);
        assert_eq!(halves(&scaled(vec![1e5; FEWEST])), 0);
        assert_eq!(halves(&scaled(vec![f32::INFINITY; FEWEST])), 1);
    }
}
