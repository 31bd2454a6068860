//! Operators without effect.

use qcc_ir::ops::{BinaryFn, Coordinates, Nearest, Op, OpKind, Pool, ReduceFn, Resize, ResizeMode, Slice};
use qcc_ir::{Elem, Graph, NodeId, ValueId};

use crate::pattern::{by_constant, when};
use crate::{Rule, Skip};

pub(super) const RULES: &[Rule] = &[
    Rule { name: "drop-identity", anchor: OpKind::ALL, apply: drop_identity },
    Rule { name: "drop-cast-back", anchor: &[OpKind::Cast], apply: drop_cast_back },
    Rule { name: "drop-neutral-constant", anchor: &[OpKind::Binary], apply: drop_neutral_constant },
    Rule { name: "drop-empty-scatter", anchor: &[OpKind::ScatterNd], apply: drop_empty_scatter },
];

/// A scatter of no elements.
fn drop_empty_scatter(g: &mut Graph, at: NodeId) -> Result<(), Skip> {
    let operands = g.operands(at);
    let &[data, _, updates] = operands.as_slice() else { return Err(Skip::NoMatch) };
    when(g.ty(updates).shape.elements() == Some(0) && g.ty(data) == g.ty(at.value(0)))?;
    Ok(g.replace(at.value(0), data)?)
}

fn drop_identity(g: &mut Graph, at: NodeId) -> Result<(), Skip> {
    let &[x] = g.operands(at).as_slice() else { return Err(Skip::NoMatch) };
    let same_type = g.ty(x) == g.ty(at.value(0));
    when(same_type && is_identity(g.op(at)))?;
    Ok(g.replace(at.value(0), x)?)
}

/// True if the operator returns its operand unchanged when both have the same type.
fn is_identity(op: &Op) -> bool {
    match op {
        // The elements keep their order, or the shapes determine the result.
        Op::Reshape(_) | Op::Expand(_) | Op::Tile(_) | Op::Cast(_) | Op::Concat(_) | Op::Relayout(_) => true,
        Op::Transpose(t) => t.perm.is_sorted(),
        Op::Slice(Slice { ranges }) => ranges.iter().all(|r| r.len < 2 || r.step == 1),
        Op::Pad(p) => p.before.iter().chain(&p.after).all(|&n| n == 0),
        Op::Clamp(c) => c.lo == f32::NEG_INFINITY && c.hi == f32::INFINITY,
        Op::Reverse(r) => r.axes.is_empty(),
        Op::DepthToSpace(d) => d.block == 1,
        Op::SpaceToDepth(d) => d.block == 1,
        Op::Pool(Pool { window, before, after, .. }) => {
            window.iter().all(|&w| w == 1) && before.iter().chain(after).all(|&n| n == 0)
        }
        // With the same type, the reduced axes are kept and have extent 1.
        Op::Reduce(r) => !matches!(r.f, ReduceFn::All | ReduceFn::Any) || r.keep,
        Op::Resize(Resize { scale, mode, coordinates, .. }) => {
            let whole = *coordinates != Coordinates::HalfPixelForNearest;
            scale.iter().all(|&s| s == 1.0) && (whole || *mode == ResizeMode::Nearest(Nearest::Floor))
        }
        _ => false,
    }
}

/// A cast back from an integer type that has all values of the operand's.
fn drop_cast_back(g: &mut Graph, at: NodeId) -> Result<(), Skip> {
    let between = g.operand(at, 0);
    when(matches!(g.producer(between), Op::Cast(_)))?;
    let x = g.operand(between.node, 0);
    let bits = |v: ValueId| match g.ty(v).elem {
        Elem::I8 => Some(8),
        Elem::I16 => Some(16),
        Elem::I32 => Some(32),
        Elem::I64 => Some(64),
        _ => None,
    };
    when(g.ty(x) == g.ty(at.value(0)) && bits(x).zip(bits(between)).is_some_and(|(own, wide)| own <= wide))?;
    Ok(g.replace(at.value(0), x)?)
}

/// x + 0, x - 0, x * 1, x / 1 and x ^ 1.
fn drop_neutral_constant(g: &mut Graph, at: NodeId) -> Result<(), Skip> {
    use BinaryFn::{Add, Div, Mul, Pow, Sub};
    let neutral = |f: BinaryFn, n: f32| -> Result<ValueId, Skip> {
        let (x, c) = by_constant(g, at.value(0), f)?;
        when(g.constant(c).is_some_and(|t| t.floats().iter().all(|&e| e == n)))?;
        Ok(x)
    };
    let x = [(Add, 0.0), (Sub, 0.0), (Mul, 1.0), (Div, 1.0), (Pow, 1.0)]
        .into_iter()
        .find_map(|(f, n)| neutral(f, n).ok())
        .ok_or(Skip::NoMatch)?;
    Ok(g.replace(at.value(0), x)?)
}
