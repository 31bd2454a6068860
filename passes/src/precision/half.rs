//! Conversion of weights to 16-bit floats.

use half::f16;
use qcc_ir::diagnostic::Diagnostic;
use qcc_ir::ops::{Cast, Op, QuantRule};
use qcc_ir::{Elem, Graph, NodeId, Tensor};
use rayon::prelude::*;
use rustc_hash::FxHashSet;

use crate::rounding::{against_each_other, places};
use crate::{Context, Given, Pass, PassError};

/// The smallest constants, up to this share of all elements, stay `F32`. Converting them saves little, and they include
/// the filters of first layers and depthwise layers, where rounding has the largest effect.
const SHARE: f64 = 0.06;

/// The maximum number of elements of a constant that stays `F32` for that reason.
const LARGEST: usize = 16384;

/// Stores all but the smallest `F32` constants as `F16`, with a Cast before their users. The rounding errors of the
/// weights of each output of a contraction are balanced, because activations are mostly similar or of one sign. A
/// constant that exceeds the range of `F16` stays as it is, with a note. Constants that are outputs stay too, because
/// no delegate of LiteRT widens them. The pass runs after layout, when constants have their final order.
#[derive(Clone, Copy, Debug)]
pub struct HalfWeights {
    /// Convert only constants that are exactly representable, in graphs whose 16-bit weights were widened for the
    /// target.
    pub exact: bool,
}

impl Pass for HalfWeights {
    fn name(&self) -> &'static str {
        "half-weights"
    }

    fn applies(&self, cx: &Context<'_>) -> bool {
        // Kernels with quantized weights do not support 16-bit biases.
        let came_so = cx.source.half_weights && cx.source.given == Given::Nothing;
        !cx.target.lacks(&Elem::F16) && (!self.exact || (came_so && !cx.target.half_graphs))
    }

    fn run(&self, g: &mut Graph, cx: &mut Context<'_>) -> Result<(), PassError> {
        let smallest = smallest(g);
        for node in g.order() {
            let Op::Const(c) = g.op(node) else { continue };
            if c.value.ty().elem != Elem::F32 || smallest.contains(&node) || g.is_output(node.value(0)) {
                continue;
            }
            // Kernels of custom operators may require constant operands.
            if g.readers(node.value(0)).any(|(n, _)| matches!(g.op(n), Op::Custom(_))) {
                continue;
            }
            let origin = g.origin(node).clone();
            if self.exact && !fits(&c.value) {
                continue;
            }
            let Some(narrow) = narrowed(&c.value, outputs(g, node)) else {
                let message = "a constant that 16-bit floats cannot hold stays 32 bits wide";
                cx.diagnostics.push(Diagnostic::note("half-range", message).at(&g.place(node)));
                continue;
            };
            let narrow = g.add_const(narrow, origin.clone());
            let wide = g.add1(Cast { to: Elem::F32 }, &[narrow], origin)?;
            g.replace(node.value(0), wide)?;
        }
        Ok(())
    }
}

/// The constants that are too small for conversion.
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

/// The output-channel axis of a constant, if it is the weight of all its users.
fn outputs(g: &Graph, constant: NodeId) -> Option<usize> {
    let axis = |(reader, operand): &(NodeId, usize)| match g.op(*reader).quant_rule() {
        QuantRule::Contraction { channel } if *operand == 1 => Some(channel),
        _ => None,
    };
    let users = g.users(constant.value(0));
    let first = users.first().and_then(axis)?;
    users.iter().all(|u| axis(u) == Some(first)).then_some(first)
}

/// The share of the energy of a tensor that may be lost: far more than rounding loses within the range of `F16`.
const LOST: f64 = 1e-6;

/// Rounds to `F16`, with the errors of each of the `outputs` along that axis balanced. `None` if a finite number would
/// overflow or too much would underflow.
pub(super) fn narrowed(value: &Tensor, outputs: Option<usize>) -> Option<Tensor> {
    let exact = value.view::<f32>();
    let mut narrow: Vec<f16> = exact.iter().map(|&wide| f16::from_f32(wide)).collect();
    let (mut all, mut lost) = (0.0, 0.0);
    for (narrow, &wide) in narrow.iter().zip(exact.iter()).filter(|(_, wide)| wide.is_finite()) {
        // Infinities stay infinite.
        lost += f64::from(narrow.to_f32() - wide).powi(2);
        all += f64::from(wide).powi(2);
    }
    if lost > LOST * all {
        return None;
    }
    if let Some(axis) = outputs {
        let place = value.ty().layout.position(axis);
        let physical = value.ty().layout.physical(&value.ty().shape).extents()?;
        cancel(&mut narrow, &exact, physical[place], physical[place + 1..].iter().product());
    }
    Some(Tensor::of(value.ty().with_elem(Elem::F16), narrow))
}

/// Balances the rounding errors of each output, in runs of `run` elements.
fn cancel(narrow: &mut [f16], exact: &[f32], outputs: usize, run: usize) {
    let turned = |output: usize| -> Vec<(usize, f16)> {
        let places = places(output, outputs, run, exact.len());
        let error = |(&k, &x): (&usize, &f16)| x.to_f32() - exact[k];
        let nearest: Vec<f16> = places.iter().map(|&k| narrow[k]).collect();
        let errors: Vec<f32> = places.iter().zip(&nearest).map(error).collect();
        let others: Vec<f16> = nearest.iter().zip(&errors).map(|(&x, &e)| neighbour(x, e < 0.0)).collect();
        let other_errors: Vec<f32> = places.iter().zip(&others).map(error).collect();
        let turned = against_each_other(&errors, &other_errors).into_iter();
        turned.map(|k| (places[k], others[k])).filter(|(_, x)| x.is_finite()).collect()
    };
    let turned: Vec<(usize, f16)> = (0..outputs).into_par_iter().flat_map_iter(turned).collect();
    turned.into_iter().for_each(|(k, x)| narrow[k] = x);
}

/// The next 16-bit float above or below.
fn neighbour(x: f16, above: bool) -> f16 {
    let bits = x.to_bits();
    f16::from_bits(match (bits & 0x7fff, x.is_sign_negative() == above) {
        (0, _) => {
            if above {
                1
            } else {
                0x8001
            }
        }
        (_, true) => bits - 1,
        (_, false) => bits + 1,
    })
}

/// True if all numbers are exactly representable in `F16`.
fn fits(value: &Tensor) -> bool {
    value.view::<f32>().iter().all(|&wide| f16::from_f32(wide).to_f32().to_bits() == wide.to_bits())
}

#[cfg(test)]
mod tests {
    use qcc_ir::ops::{Binary, BinaryFn};
    use qcc_ir::{Layout, Origin, Shape, TensorType};

    use super::*;
    use crate::testing::apply;

    fn scaled(values: Vec<f32>, exact: bool) -> Graph {
        let mut g = Graph::new("half");
        let shape = Shape::known(&[values.len()]);
        let x = g.add_input("x", TensorType::new(Elem::F32, shape.clone()));
        let w = g.add_const(Tensor::from_vec(shape, values), Origin::none());
        let y = g.add1(Binary { f: BinaryFn::Mul }, &[x, w], Origin::none()).unwrap();
        g.add_output("y", y);
        HalfWeights { exact }.run(&mut g, &mut Context::new(&crate::testing::BARE)).unwrap();
        g.verify().unwrap();
        g
    }

    fn halves(g: &Graph) -> usize {
        g.order().into_iter().filter(|n| matches!(g.op(*n), Op::Const(c) if c.value.ty().elem == Elem::F16)).count()
    }

    #[test]
    fn constants_that_are_outputs_stay_f32() {
        let mut g = Graph::new("anchors");
        let w = g.add_const(Tensor::from_vec(Shape::known(&[64]), vec![0.5f32; 64]), Origin::none());
        let y = g.add1(Binary { f: BinaryFn::Mul }, &[w, w], Origin::none()).unwrap();
        g.add_output("w", w);
        g.add_output("y", y);
        apply(&mut g, vec![Box::new(HalfWeights { exact: false })]);
        assert_eq!(halves(&g), 0);
    }

    #[test]
    fn constants_are_narrowed_where_they_fit() {
        assert_eq!(halves(&scaled(vec![0.1; 8], false)), 1);
        assert_eq!(halves(&scaled(vec![1e5; 8], false)), 0);
        assert_eq!(halves(&scaled(vec![f32::INFINITY; 8], false)), 1);
        assert_eq!(halves(&scaled(vec![0.1; 8], true)), 0);
        assert_eq!(halves(&scaled(vec![0.125; 8], true)), 1);
    }

    /// The errors of an output sum to less than a step of its largest number, in any order.
    #[test]
    fn errors_of_an_output_cancel_out() {
        let noise = qcc_ir::testing::numbers(Shape::known(&[6, 40, 3, 3]), 5);
        let lain = qcc_ir::eval::relayout(&noise, &Layout::from_order(&[1, 2, 3, 0]).unwrap()).unwrap();
        for w in [noise, lain] {
            let h = narrowed(&w, Some(0)).unwrap();
            let [exact, rounded] = [&w, &h]
                .map(|t| qcc_ir::eval::relayout(&t.to_float(), &Layout::row_major(4)).unwrap().floats().into_owned());
            for (w, h) in exact.chunks(360).zip(rounded.chunks(360)) {
                let error = |(w, h): (&f32, &f32)| f64::from(h - w);
                let sum: f64 = w.iter().zip(h).map(error).sum();
                assert!(sum.abs() <= 0.5f64.powi(11), "{sum}");
                assert!(w.iter().zip(h).all(|(w, h)| (w - h).abs() <= w.abs() * 0.5f32.powi(10)));
            }
        }
    }

    #[test]
    fn constants_that_would_underflow_are_not_narrowed() {
        assert_eq!(halves(&scaled(vec![1e-10; 8], false)), 0);
        assert_eq!(halves(&scaled(vec![0.0; 8], false)), 1);
        assert_eq!(halves(&scaled(vec![0.0, 1e-10, 1.0, 2.0], false)), 1);
    }

    #[test]
    fn the_smallest_constants_stay_f32() {
        let mut g = Graph::new("half");
        let x = g.add_input("x", TensorType::new(Elem::F32, Shape::known(&[1, 1])));
        for length in [1, 2, 30, 60] {
            let w = g.add_const(Tensor::from_vec(Shape::known(&[1, length]), vec![0.1; length]), Origin::none());
            let y = g.add1(Binary { f: BinaryFn::Mul }, &[x, w], Origin::none()).unwrap();
            g.add_output("y", y);
        }
        apply(&mut g, vec![Box::new(HalfWeights { exact: false })]);
        // 3 of 93 elements are within the share, 33 are not.
        assert_eq!(halves(&g), 2);
    }
}
