//! Recognition of normalizations that exporters write as several operators.

use qcc_ir::ops::{BinaryFn, LayerNorm, Op, OpKind, UnaryFn};
use qcc_ir::{Graph, NodeId, ValueId};

use crate::pattern::{Match, become_op, binary, by_constant, by_scalar, mean, only_here, reshaped, unary, when};
use crate::{Rule, Skip};

pub(super) const RULES: &[Rule] = &[
    Rule { name: "recognise-layer-norm", anchor: &[OpKind::Binary], apply: recognise_layer_norm },
    Rule { name: "scale-layer-norm", anchor: &[OpKind::Binary], apply: scale_layer_norm },
];

/// d * rsqrt(mean(d^2) + epsilon), where d is x - mean(x) over the last axes.
fn recognise_layer_norm(g: &mut Graph, at: NodeId) -> Result<(), Skip> {
    let [a, b] = binary(g, at.value(0), BinaryFn::Mul)?;
    let (d, root) = if unary(g, b, UnaryFn::Rsqrt).is_ok() { (a, b) } else { (b, a) };
    let (variance, epsilon) = by_scalar(g, unary(g, root, UnaryFn::Rsqrt)?, BinaryFn::Add)?;
    let [x, mu] = binary(g, d, BinaryFn::Sub)?;
    let (averaged, axes) = mean(g, mu)?;
    let (square, same_axes) = mean(g, variance)?;
    when(averaged == x && axes == same_axes && is_square(g, square, x, mu, d))?;
    let axis = axes[0];
    when(axes.iter().copied().eq(axis..g.ty(x).rank()))?;
    let others = [d.node, mu.node, variance.node, root.node];
    become_op(g, at, LayerNorm { axis, epsilon }, &[x], &others)
}

/// True if `v` is the square of d = x - mu.
fn is_square(g: &Graph, v: ValueId, x: ValueId, mu: ValueId, d: ValueId) -> bool {
    binary(g, v, BinaryFn::Mul).is_ok_and(|o| o == [d, d])
        || binary(g, v, BinaryFn::SquaredDifference).is_ok_and(|o| o == [x, mu] || o == [mu, x])
}

/// Folds scale and bias into a layer normalization.
fn scale_layer_norm(g: &mut Graph, at: NodeId) -> Result<(), Skip> {
    let v = at.value(0);
    let (y, c) = by_constant(g, v, BinaryFn::Mul).or_else(|_| by_constant(g, v, BinaryFn::Add))?;
    let multiplies = binary(g, v, BinaryFn::Mul).is_ok();
    let Op::LayerNorm(op) = g.producer(y).clone() else { return Err(Skip::NoMatch) };
    only_here(g, y, at)?;
    let mut operands = g.operands(y.node);
    // The scale comes first, then the bias.
    when(operands.len() == if multiplies { 1 } else { 2 })?;
    let normalised = normalised_extents(g, y, op.axis)?;
    when(g.ty(c).shape.elements() == Some(normalised.iter().product()))?;
    let trailing = &g.ty(c).shape.extents().ok_or(Skip::NoMatch)?;
    when(trailing.iter().skip_while(|&&e| e == 1).eq(normalised.iter().skip_while(|&&e| e == 1)))?;
    let origin = g.origin(at).clone();
    operands.push(reshaped(g, c, &normalised, &origin)?);
    become_op(g, at, op, &operands, &[y.node])
}

fn normalised_extents(g: &Graph, v: ValueId, axis: usize) -> Match<Vec<usize>> {
    g.ty(v).shape.dims()[axis..].iter().map(|d| d.known().ok_or(Skip::NoMatch)).collect()
}
