//! The activation behind a value: what all of its readers together make of it.

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
                let product = [(a, b), (b, a)].into_iter().find(|&(gate, mul)| gates(g, v, gate, mul))?.1;
                found(Unary { f: UnaryFn::Silu }.into(), product)
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

/// True where `gate` is sigmoid(v) and `mul` is v times that.
fn gates(g: &Graph, v: ValueId, gate: NodeId, mul: NodeId) -> bool {
    let operands = g.operands(mul);
    matches!(g.op(gate), Op::Unary(u) if u.f == UnaryFn::Sigmoid)
        && matches!(g.op(mul), Op::Binary(b) if b.f == BinaryFn::Mul)
        && operands.contains(&v)
        && operands.contains(&gate.value(0))
}
