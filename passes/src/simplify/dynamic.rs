//! Recognition of dynamic quantization: an integer product of quantized activations and weights that is scaled back
//! equals the product of rounded activations and a quantized weight.

use qcc_ir::ops::{
    BinaryFn, Clamp, Dequantize, DynamicQuantize, Granularity, Op, OpKind, QuantRule, ReduceFn, UnaryFn,
};
use qcc_ir::{Affine, Elem, Graph, NodeId, QuantParams, Tensor, ValueId};

use crate::pattern::{Match, binary, unary, when};
use crate::{Rule, Skip};

pub(super) const RULES: &[Rule] =
    &[Rule { name: "recognise-dynamic-product", anchor: &[OpKind::Binary], apply: dynamic_product }];

/// float(int(contraction(q - z, weight))) * (s * t), where q, z and s are x quantized by its own range, with its zero
/// point and scale, and t is the scale of the weight.
fn dynamic_product(g: &mut Graph, at: NodeId) -> Result<(), Skip> {
    let [a, b] = binary(g, at.value(0), BinaryFn::Mul)?;
    let (sums, scales) = if cast(g, a, &Elem::F32).is_ok() { (a, b) } else { (b, a) };
    let sums = cast(g, sums, &Elem::F32)?;
    let product = cast(g, sums, &Elem::I32)?.node;
    let QuantRule::Contraction { channel } = g.op(product).quant_rule() else { return Err(Skip::NoMatch) };
    let operands = g.operands(product);
    when(operands.len() == 2 && matches!(g.producer(operands[1]), Op::Dequantize(_)))?;
    let (x, scale) = quantized_by_its_range(g, operands[0])?;
    let factor = match binary(g, scales, BinaryFn::Mul)? {
        [s, t] if s == scale => t,
        [t, s] if s == scale => t,
        _ => return Err(Skip::NoMatch),
    };
    let integers = g.constant(g.operands(operands[1].node)[0]).ok_or(Skip::NoMatch)?;
    // The channel axis of the result: the last axis of a matrix product, axis 1 of an image.
    let axis = if matches!(g.op(product), Op::MatMul(_)) { g.ty(at.value(0)).rank() - 1 } else { 1 };
    let weight = scaled(integers, g.constant(factor).ok_or(Skip::NoMatch)?, channel, g.ty(at.value(0)).rank() - axis)?;
    let origin = g.origin(product).and(g.origin(at));
    let weight = g.add_const(weight, g.origin(operands[1].node).clone());
    let weight = g.add1(Dequantize {}, &[weight], origin.clone())?;
    let all = Granularity::Axes { from: 0, to: g.ty(x).rank() };
    let x = g.add1(DynamicQuantize { granularity: all }, &[x], origin.clone())?;
    let new = g.add1(g.op(product).clone(), &[x, weight], origin)?;
    Ok(g.replace(at.value(0), new)?)
}

/// Matches a cast to `elem` and returns its operand.
fn cast(g: &Graph, v: ValueId, elem: &Elem) -> Match<ValueId> {
    when(matches!(g.producer(v), Op::Cast(c) if c.to == *elem))?;
    Ok(g.operands(v.node)[0])
}

/// Matches `v = clamp(round(x / scale) + zero, 0, 255) - zero`, computed in 8 bits, where `scale` depends only on the
/// minimum and the maximum of x. Returns `x` and `scale`.
fn quantized_by_its_range(g: &Graph, v: ValueId) -> Match<(ValueId, ValueId)> {
    let [q, _] = binary(g, v, BinaryFn::Sub)?;
    let q = cast(g, q, &Elem::F32)?;
    let q = cast(g, q, &Elem::U8)?;
    when(matches!(g.producer(q), Op::Clamp(Clamp { lo: 0.0, hi: 255.0 })))?;
    let [steps, _] = binary(g, g.operands(q.node)[0], BinaryFn::Add)?;
    let [x, scale] = binary(g, unary(g, steps, UnaryFn::Round)?, BinaryFn::Div)?;
    let mut open = vec![scale];
    let mut ends = 0;
    while let Some(v) = open.pop() {
        match g.producer(v) {
            Op::Const(_) => {}
            Op::Reduce(r) if matches!(r.f, ReduceFn::Min | ReduceFn::Max) && g.operands(v.node)[0] == x => ends += 1,
            Op::Binary(_) | Op::Clamp(_) => open.extend(g.operands(v.node)),
            _ => return Err(Skip::NoMatch),
        }
    }
    when(ends == 2)?;
    Ok((x, scale))
}

/// Quantized integers with the scale `factor` in place of 1. `factor` has one element, or one for each channel; its
/// channel axis is then `from_end` from the end.
fn scaled(integers: &Tensor, factor: &Tensor, channel: usize, from_end: usize) -> Match<Tensor> {
    let own = integers.ty().elem.qparams().ok_or(Skip::NoMatch)?;
    let scales = factor.floats();
    when(scales.iter().all(|s| s.is_normal() && *s > 0.0) && own.scales().iter().all(|&s| s == 1.0))?;
    let qparams = match &own.map {
        Affine::PerTensor { zero_point, .. } if scales.len() == 1 => {
            QuantParams::per_tensor(own.storage, scales[0], *zero_point)
        }
        _ => {
            let dims = factor.dims();
            let placed = dims.len().checked_sub(from_end).is_some_and(|axis| dims[axis] == scales.len());
            when(own.zero_point() == 0 && placed && integers.dims()[channel] == scales.len())?;
            QuantParams::per_axis(own.storage, channel, scales.into_owned())
        }
    };
    integers.retype(integers.ty().with_elem(Elem::Quantized(qparams))).ok_or(Skip::NoMatch)
}
