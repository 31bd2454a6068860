//! Ranks: operands that broadcast get equal ranks, and images with one spatial axis stay images with two.

use qcc_ir::ops::{Concat, Op, OpKind, Pad, Reshape, Slice, Softmax};
use qcc_ir::{Dim, Graph, NodeId, Shape, TensorType, ValueId};
use smallvec::SmallVec;

use super::build::Build;
use crate::{Context, Pass, PassError, Rule, Skip};

/// `shape` with leading axes of extent 1 up to that rank.
fn padded(shape: &Shape, rank: usize) -> Shape {
    let missing = rank.saturating_sub(shape.rank());
    std::iter::repeat_n(Dim::Known(1), missing).chain(shape.dims().iter().cloned()).collect()
}

/// Reshapes operands that broadcast to the rank of the result, for targets with non-row-major layouts. These targets
/// align physical axes, which matches the logical alignment only if the ranks are equal.
#[derive(Debug)]
pub(super) struct EqualRanks;

impl Pass for EqualRanks {
    fn name(&self) -> &'static str {
        "equal-ranks"
    }

    fn run(&self, g: &mut Graph, cx: &mut Context<'_>) -> Result<(), PassError> {
        if cx.target.is_row_major() {
            return Ok(());
        }
        for node in g.order() {
            if !matches!(g.op(node), Op::Binary(_) | Op::Select(_) | Op::Expand(_)) {
                continue;
            }
            let rank = g.ty(node.value(0)).rank();
            for (i, v) in g.operands(node).into_iter().enumerate() {
                let ty = g.ty(v);
                if ty.rank() != rank && ty.shape.elements() != Some(1) {
                    let wider = TensorType::new(ty.elem.clone(), padded(&ty.shape, rank));
                    let origin = g.origin(node).clone();
                    let v = match g.constant(v).and_then(|c| c.retype(wider.clone())) {
                        Some(constant) => g.add_const(constant, origin),
                        None => g.add1(Reshape { shape: wider.shape }, &[v], origin)?,
                    };
                    g.set_operand(node, i, v);
                }
            }
        }
        Ok(())
    }
}

/// Rewrite rules for Reshape and Expand.
pub(super) const RULES: &[Rule] = &[
    Rule { name: "drop-expand", anchor: &[OpKind::Expand], apply: drop_expand },
    Rule { name: "compose-reshapes", anchor: &[OpKind::Reshape], apply: compose_reshapes },
    Rule { name: "sink-squeeze", anchor: SINKABLE, apply: sink_squeeze },
];

/// Removes an Expand whose users broadcast themselves.
fn drop_expand(g: &mut Graph, at: NodeId) -> Result<(), Skip> {
    let (expanded, x) = (at.value(0), g.operands(at)[0]);
    let users = g.users(expanded);
    if g.is_output(expanded) || users.is_empty() {
        return Err(Skip::because("its shape is required"));
    }
    for &(user, _) in &users {
        let broadcasts = matches!(g.op(user), Op::Binary(_) | Op::Select(_));
        // A user may have it as several operands.
        let before = |v: ValueId| g.ty(if v == expanded { x } else { v });
        let types: SmallVec<[&TensorType; 4]> = g.operands(user).iter().map(|&v| before(v)).collect();
        let same = broadcasts && g.op(user).infer(&types).is_ok_and(|t| t[0].shape == g.ty(user.value(0)).shape);
        if !same {
            return Err(Skip::because("a user needs the full shape"));
        }
    }
    for (user, i) in users {
        g.set_operand(user, i, x);
    }
    Ok(())
}

/// Merges successive Reshapes.
fn compose_reshapes(g: &mut Graph, at: NodeId) -> Result<(), Skip> {
    let x = g.operands(at)[0];
    let shape = g.ty(at.value(0)).shape.clone();
    if !matches!(g.producer(x), Op::Reshape(_)) && g.ty(x).shape != shape {
        return Err(Skip::NoMatch);
    }
    let y = Build::at(g, at).reshape(x, shape)?;
    Ok(g.replace(at.value(0), y)?)
}

/// The axis of height 1 of a lowered operator with one spatial axis.
const HEIGHT: usize = 2;

/// Operators that work equally on images with one and with two spatial axes.
const SINKABLE: &[OpKind] = {
    use OpKind::*;
    &[Unary, Clamp, Binary, Select, Cast, Concat, Slice, Pad, Softmax]
};

/// Moves element-wise operators on an image of height 1 before the Reshape that removes the height, so that the
/// Reshapes between two such images become adjacent and are removed.
fn sink_squeeze(g: &mut Graph, at: NodeId) -> Result<(), Skip> {
    let (result, operands) = (at.value(0), g.operands(at));
    if g.ty(result).rank() != 3 || !operands.iter().any(|&v| is_squeeze(g, v)) {
        return Err(Skip::NoMatch);
    }
    let op = with_height(g.op(at));
    let mut b = Build::at(g, at);
    let mut images = operands.clone();
    for v in &mut images {
        let shape = b.ty(*v).shape.clone();
        if shape.elements() == Some(1) && shape.rank() < 3 {
            continue;
        }
        let shape = padded(&shape, 3);
        let (outer, inner) = shape.dims().split_at(HEIGHT);
        *v = b.reshape(*v, outer.iter().cloned().chain([Dim::Known(1)]).chain(inner.iter().cloned()).collect())?;
    }
    let image = b.op(op, &images)?;
    let y = b.squeeze(image, HEIGHT)?;
    Ok(g.replace(result, y)?)
}

/// True if a Reshape removes the height of an image.
fn is_squeeze(g: &Graph, v: ValueId) -> bool {
    let Op::Reshape(Reshape { shape }) = g.producer(v) else { return false };
    let image = g.ty(g.operands(v.node)[0]).shape.dims();
    image.len() == 4
        && shape.rank() == 3
        && image[HEIGHT] == Dim::Known(1)
        && image[..HEIGHT] == shape.dims()[..HEIGHT]
        && image[HEIGHT + 1] == shape.dims()[HEIGHT]
}

/// The operator for images of height 1.
fn with_height(op: &Op) -> Op {
    let shifted = |axis: usize| axis + usize::from(axis >= HEIGHT);
    match op.clone() {
        Op::Concat(op) => Concat { axis: shifted(op.axis) }.into(),
        Op::Softmax(op) => Softmax { axis: shifted(op.axis), ..op }.into(),
        Op::Slice(mut op) => {
            op.ranges.iter_mut().for_each(|r| r.axis = shifted(r.axis));
            Slice { ranges: op.ranges }.into()
        }
        Op::Pad(mut op) => {
            op.before.insert(HEIGHT, 0);
            op.after.insert(HEIGHT, 0);
            Pad { ..op }.into()
        }
        other => other,
    }
}
