//! Folds scales and offsets into the weights and the bias of an adjacent contraction. Batch normalization is imported
//! as such a scale and offset.

use qcc_ir::ops::{BinaryFn, Expand, Op, OpKind, Reduce, ReduceFn};
use qcc_ir::{Graph, NodeId, Origin, Shape, ValueId};

use crate::pattern::{Match, add_binary, become_op, by_constant, extents, is_known, only_here, reshaped, when};
use crate::{Rule, Skip};

pub(super) const RULES: &[Rule] = &[
    Rule { name: "scale-into-weights", anchor: &[OpKind::Binary], apply: scale_behind },
    Rule { name: "offset-into-bias", anchor: &[OpKind::Binary], apply: offset_behind },
    Rule { name: "scale-before-into-weights", anchor: CONTRACTIONS, apply: scale_before },
    Rule { name: "offset-before-into-bias", anchor: CONTRACTIONS, apply: offset_before },
    Rule { name: "scale-behind-offset", anchor: CONTRACTIONS, apply: scale_behind_offset },
];

const CONTRACTIONS: &[OpKind] = &[OpKind::Conv, OpKind::ConvTranspose, OpKind::MatMul];

/// A contraction with constant weights, and its channel axes.
struct Contraction {
    op: Op,
    x: ValueId,
    weight: ValueId,
    bias: Option<ValueId>,
    /// The shape of the weight.
    dims: Vec<usize>,
    /// The channel axis of operand 0 and of the result, counted from the end.
    from_end: usize,
    /// The weight axes of input and output channels.
    input_axis: usize,
    output_axis: usize,
    groups: usize,
}

impl Contraction {
    fn at(g: &Graph, node: NodeId) -> Match<Contraction> {
        let op = g.op(node).clone();
        let (input_axis, output_axis, groups, spatial) = match &op {
            Op::Conv(c) => (1, 0, c.groups, c.stride.len()),
            Op::ConvTranspose(c) => (0, 1, c.groups, c.stride.len()),
            Op::MatMul(m) => {
                let last = g.ty(g.operands(node)[1]).rank() - 1;
                let (input, output) = if m.transpose_b { (last, last - 1) } else { (last - 1, last) };
                (input, output, 1, 0)
            }
            _ => return Err(Skip::NoMatch),
        };
        let operands = g.operands(node);
        let (x, weight, bias) = (operands[0], operands[1], operands.get(2).copied());
        when(is_known(g, weight) && g.ty(weight).elem.is_float())?;
        when(bias.is_none_or(|b| g.constant(b).is_some()))?;
        let dims = extents(g, weight)?;
        Ok(Contraction { op, x, weight, bias, dims, from_end: spatial + 1, input_axis, output_axis, groups })
    }

    /// Matches if the weight can be changed: it is not quantized.
    fn takes_factor(&self, g: &Graph) -> Match<()> {
        when(g.constant(self.weight).is_some())
    }

    /// The number of output channels.
    fn outputs(&self) -> usize {
        match self.op {
            Op::ConvTranspose(_) => self.dims[self.output_axis] * self.groups,
            _ => self.dims[self.output_axis],
        }
    }

    /// The number of input channels.
    fn inputs(&self) -> usize {
        match self.op {
            Op::Conv(_) => self.dims[self.input_axis] * self.groups,
            _ => self.dims[self.input_axis],
        }
    }

    /// The constant `c` as a vector of `channels` elements, if it is per-channel or scalar.
    fn per_channel(&self, g: &mut Graph, c: ValueId, channels: usize, origin: &Origin) -> Match<ValueId> {
        let dims = extents(g, c)?;
        let wide = |(i, &d): (usize, &usize)| d == 1 || (dims.len() - i == self.from_end && d == channels);
        when(dims.iter().enumerate().all(wide))?;
        let flat = reshaped(g, c, &[dims.iter().product()], origin)?;
        expanded(g, flat, &[channels], origin)
    }

    /// A per-channel vector, reshaped to broadcast with the weight. `inner` is the channel axis that counts within a
    /// group.
    fn along_weight(&self, g: &mut Graph, c: ValueId, axis: usize, origin: &Origin) -> Match<ValueId> {
        let mut dims = vec![1; self.dims.len()];
        let inner = if matches!(self.op, Op::ConvTranspose(_)) { self.output_axis } else { self.input_axis };
        dims[axis] = self.dims[axis];
        if self.groups == 1 || axis != inner {
            return reshaped(g, c, &dims, origin);
        }
        let outer = 1 - inner;
        dims[outer] = self.dims[outer];
        let each = self.dims[outer] / self.groups;
        let split = reshaped(g, c, &[self.groups, 1, self.dims[axis]], origin)?;
        let repeated = expanded(g, split, &[self.groups, each, self.dims[axis]], origin)?;
        reshaped(g, repeated, &dims, origin)
    }

    /// Replaces `old` by the contraction with other constants.
    fn put(self, g: &mut Graph, old: NodeId, operands: [Option<ValueId>; 3], others: &[NodeId]) -> Result<(), Skip> {
        let operands: Vec<ValueId> = operands.into_iter().flatten().collect();
        become_op(g, old, self.op, &operands, others)
    }
}

fn expanded(g: &mut Graph, v: ValueId, dims: &[usize], origin: &Origin) -> Match<ValueId> {
    let shape = Shape::known(dims);
    if g.ty(v).shape == shape {
        return Ok(v);
    }
    Ok(g.add1(Expand { shape }, &[v], origin.clone())?)
}

/// contraction(x) * c
fn scale_behind(g: &mut Graph, at: NodeId) -> Result<(), Skip> {
    let (y, c) = by_constant(g, at.value(0), BinaryFn::Mul)?;
    let k = Contraction::at(g, y.node)?;
    only_here(g, y, at)?;
    k.takes_factor(g)?;
    only_here(g, k.weight, y.node)?;
    let origin = g.origin(at).clone();
    let c = k.per_channel(g, c, k.outputs(), &origin)?;
    let factor = k.along_weight(g, c, k.output_axis, &origin)?;
    let weight = add_binary(g, BinaryFn::Mul, k.weight, factor, &origin)?;
    let bias = k.bias.map(|b| add_binary(g, BinaryFn::Mul, b, c, &origin)).transpose()?;
    let x = k.x;
    k.put(g, at, [Some(x), Some(weight), bias], &[y.node])
}

/// contraction(x) + c
fn offset_behind(g: &mut Graph, at: NodeId) -> Result<(), Skip> {
    let (y, c) = by_constant(g, at.value(0), BinaryFn::Add)?;
    let k = Contraction::at(g, y.node)?;
    only_here(g, y, at)?;
    takes_bias(&k)?;
    let origin = g.origin(at).clone();
    let c = k.per_channel(g, c, k.outputs(), &origin)?;
    let bias = with_bias(g, &k, c, &origin)?;
    let (x, weight) = (k.x, k.weight);
    k.put(g, at, [Some(x), Some(weight), Some(bias)], &[y.node])
}

/// contraction(x * c)
fn scale_before(g: &mut Graph, at: NodeId) -> Result<(), Skip> {
    let k = Contraction::at(g, at)?;
    k.takes_factor(g)?;
    let (x, c) = by_constant(g, k.x, BinaryFn::Mul)?;
    only_here(g, k.x, at)?;
    only_here(g, k.weight, at)?;
    belongs_here(g, x, k.x.node)?;
    let origin = g.origin(at).clone();
    let c = k.per_channel(g, c, k.inputs(), &origin)?;
    let factor = k.along_weight(g, c, k.input_axis, &origin)?;
    let weight = add_binary(g, BinaryFn::Mul, k.weight, factor, &origin)?;
    let (product, bias) = (k.x.node, k.bias);
    k.put(g, at, [Some(x), Some(weight), bias], &[product])
}

/// contraction(x + c), if every result sums over all weights of its channel.
fn offset_before(g: &mut Graph, at: NodeId) -> Result<(), Skip> {
    let k = Contraction::at(g, at)?;
    takes_bias(&k)?;
    k.takes_factor(g)?;
    match &k.op {
        Op::Conv(c) => when(c.before.iter().chain(&c.after).all(|&n| n == 0))?,
        Op::MatMul(_) => {}
        _ => return Err(Skip::because("results at the edges sum over fewer weights")),
    }
    let (x, c) = by_constant(g, k.x, BinaryFn::Add)?;
    only_here(g, k.x, at)?;
    belongs_here(g, x, k.x.node)?;
    let origin = g.origin(at).clone();
    let c = k.per_channel(g, c, k.inputs(), &origin)?;
    let term = k.along_weight(g, c, k.input_axis, &origin)?;
    let products = add_binary(g, BinaryFn::Mul, k.weight, term, &origin)?;
    let axes = (0..k.dims.len()).filter(|&a| a != k.output_axis).collect();
    let sums = g.add1(Reduce { f: ReduceFn::Sum, axes, keep: false }, &[products], origin.clone())?;
    let bias = with_bias(g, &k, sums, &origin)?;
    let (weight, sum) = (k.weight, k.x.node);
    k.put(g, at, [Some(x), Some(weight), Some(bias)], &[sum])
}

/// contraction(x * s + t), if the offset cannot be folded: it equals contraction((x + t / s) * s).
fn scale_behind_offset(g: &mut Graph, at: NodeId) -> Result<(), Skip> {
    let k = Contraction::at(g, at)?;
    k.takes_factor(g)?;
    let (product, t) = by_constant(g, k.x, BinaryFn::Add)?;
    let (x, s) = by_constant(g, product, BinaryFn::Mul)?;
    belongs_here(g, x, product.node)?;
    only_here(g, k.x, at)?;
    only_here(g, product, k.x.node)?;
    only_here(g, k.weight, at)?;
    let invertible = g.constant(s).is_some_and(|s| s.floats().iter().all(|e| e.is_normal() && e.recip().is_normal()));
    when(invertible)?;
    let origin = g.origin(at).clone();
    let c = k.per_channel(g, s, k.inputs(), &origin)?;
    let factor = k.along_weight(g, c, k.input_axis, &origin)?;
    let weight = add_binary(g, BinaryFn::Mul, k.weight, factor, &origin)?;
    let offset = add_binary(g, BinaryFn::Div, t, s, &origin)?;
    let sum = g.origin(k.x.node).and(g.origin(product.node));
    let moved = add_binary(g, BinaryFn::Add, x, offset, &sum)?;
    when(g.ty(moved) == g.ty(x))?;
    let bias = k.bias;
    k.put(g, at, [Some(moved), Some(weight), bias], &[])
}

/// Matches if no contraction before `x` folds the scale or offset `user`. It folds first, so that the values between
/// two contractions do not depend on how a model was exported.
fn belongs_here(g: &Graph, x: ValueId, user: NodeId) -> Match<()> {
    let taken = CONTRACTIONS.contains(&g.op(x.node).kind()) && g.only_user(x) == Some(user);
    if taken { Err(Skip::because("the preceding contraction folds it")) } else { Ok(()) }
}

/// Most formats have no bias for batched matrix products.
fn takes_bias(k: &Contraction) -> Match<()> {
    when(!matches!(k.op, Op::MatMul(_)) || k.dims.len() == 2)
}

/// The bias plus `c`.
fn with_bias(g: &mut Graph, k: &Contraction, c: ValueId, origin: &Origin) -> Match<ValueId> {
    match k.bias {
        Some(b) => add_binary(g, BinaryFn::Add, b, c, origin),
        None => Ok(c),
    }
}
