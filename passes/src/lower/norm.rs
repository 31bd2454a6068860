//! Lowering of normalizations to means and products.

use qcc_ir::NodeId;
use qcc_ir::ops::{Extents, Op, UnaryFn};

use super::build::{Build, Built};
use crate::Skip;

pub(super) fn layer_norm(b: &mut Build<'_>, node: NodeId) -> Built {
    let Op::LayerNorm(op) = b.g.op(node) else { return Err(Skip::NoMatch) };
    let (axis, epsilon, operands) = (op.axis, op.epsilon, b.g.operands(node));
    let x = operands[0];
    let axes: Extents = (axis..b.ty(x).rank()).collect();
    let mean = b.mean(x, axes.clone())?;
    let centred = b.sub(x, mean)?;
    let square = b.mul(centred, centred)?;
    let variance = b.mean(square, axes)?;
    let safe = b.shift(variance, epsilon)?;
    let factor = b.unary(UnaryFn::Rsqrt, safe)?;
    let mut y = b.mul(centred, factor)?;
    if let Some(&scale) = operands.get(1) {
        y = b.mul(y, scale)?;
    }
    match operands.get(2) {
        Some(&bias) => b.add(y, bias),
        None => Ok(y),
    }
}
