//! The activation behind a value: what all of its readers together make of it.

use std::fmt;

use qcc_ir::ops::{BinaryFn, Op, Unary, UnaryFn};
use qcc_ir::{Graph, NodeId, Shape, Tensor, ValueId};

/// A function of one number that a value goes through before anything else reads it.
#[derive(Clone, Debug)]
pub(crate) struct Activation {
    /// The function.
    function: Op,
    /// The value behind it.
    pub(crate) result: ValueId,
}

impl fmt::Display for Activation {
    /// The function alone.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.function)
    }
}

impl Activation {
    /// The activation behind `v`, where its readers are one.
    pub(crate) fn behind(g: &Graph, v: ValueId) -> Option<Activation> {
        if g.is_output(v) {
            return None;
        }
        let users = g.users(v);
        let found = |function: Op, node: NodeId| Some(Activation { function, result: node.value(0) });
        match *users.as_slice() {
            [(node, 0)] => match g.op(node) {
                op @ (Op::Unary(_) | Op::Clamp(_)) => found(op.clone(), node),
                // What lies below 0 is multiplied by a slope of its channel; over channels errors add up as squares.
                Op::Binary(b) if b.f == BinaryFn::Prelu => {
                    let slopes = g.constant(g.operands(node)[1])?.reals();
                    let alpha = (slopes.iter().map(|s| s * s).sum::<f32>() / slopes.len().max(1) as f32).sqrt();
                    found(Unary { f: UnaryFn::LeakyRelu { alpha } }.into(), node)
                }
                _ => None,
            },
            [(a, _), (b, _)] => {
                let gated = |&(gate, mul): &(NodeId, NodeId)| Some((gated(g, v, gate, mul)?, mul));
                let (f, product) = [(a, b), (b, a)].iter().find_map(gated)?;
                found(Unary { f }.into(), product)
            }
            _ => None,
        }
    }

    /// The function of each number.
    pub(crate) fn apply(&self, values: Vec<f32>) -> Vec<f32> {
        let x = Tensor::from_vec(Shape::known(&[values.len()]), values);
        match self.function.eval(&[&x]) {
            Ok(results) => results[0].reals().into_owned(),
            Err(_) => x.reals().into_owned(),
        }
    }
}

/// The function of `v` that `mul` gives, where that is `v` times the result of `gate`, a function of `v` too.
fn gated(g: &Graph, v: ValueId, gate: NodeId, mul: NodeId) -> Option<UnaryFn> {
    let operands = g.operands(mul);
    let product = matches!(g.op(mul), Op::Binary(b) if b.f == BinaryFn::Mul);
    let f = match g.op(gate) {
        Op::Unary(Unary { f: UnaryFn::Sigmoid }) => UnaryFn::Silu,
        Op::Unary(Unary { f: UnaryFn::HardSigmoid { alpha, beta: 0.5 } }) if (alpha * 6.0 - 1.0).abs() < 1e-5 => {
            UnaryFn::HardSwish
        }
        _ => return None,
    };
    (product && operands.contains(&v) && operands.contains(&gate.value(0))).then_some(f)
}
