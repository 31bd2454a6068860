//! Lowering of element types that an operator does not support.

use qcc_ir::ops::{BinaryFn, Cast, Op, OpKind, UnaryFn};
use qcc_ir::{Elem, NodeId};

use super::build::{Build, Built};
use crate::Skip;

/// Computes with 32-bit integers in place of narrow ones. The cast back wraps around. Booleans become integers where
/// they are moved or compared.
pub(super) fn in_32_bits(b: &mut Build<'_>, node: NodeId) -> Built {
    let (op, mut operands) = (b.g.op(node).clone(), b.g.operands(node));
    // The condition of a Select stays boolean.
    let data = usize::from(matches!(op, Op::Select(_)));
    let elem = b.ty(*operands.get(data).ok_or(Skip::NoMatch)?).elem.clone();
    let narrow = match elem {
        Elem::I8 | Elem::U8 | Elem::I16 => !matches!(op, Op::Cast(_)),
        Elem::Bool => moves_or_compares(&op),
        _ => false,
    };
    if !narrow {
        return Err(Skip::NoMatch);
    }
    for v in operands.iter_mut().skip(data) {
        if b.ty(*v).elem == elem {
            *v = b.cast(*v, Elem::I32)?;
        }
    }
    let wide = b.node(op, &operands)?;
    for (old, new) in b.g.results(node).zip(b.g.results(wide)).skip(1) {
        let new = b.cast(new, b.ty(old).elem.clone())?;
        b.g.replace(old, new)?;
    }
    b.cast(wide.value(0), b.ty(node.value(0)).elem.clone())
}

/// A number is true if it is not 0.
pub(super) fn to_bool(b: &mut Build<'_>, node: NodeId) -> Built {
    let Op::Cast(Cast { to: Elem::Bool }) = b.g.op(node) else { return Err(Skip::NoMatch) };
    let x = b.g.operands(node)[0];
    let zero = b.scalar(0.0, x)?;
    b.binary(BinaryFn::NotEqual, x, zero)
}

/// A selection of integers is computed, in arithmetic that wraps around: `y + condition (x - y)`. That of booleans is
/// `(condition and x) or (not condition and y)`.
pub(super) fn select(b: &mut Build<'_>, node: NodeId) -> Built {
    let operands = b.g.operands(node);
    let (condition, x, y) = (operands[0], operands[1], operands[2]);
    match b.ty(x).elem {
        Elem::I32 => {
            let difference = b.sub(x, y)?;
            let factor = b.cast(condition, Elem::I32)?;
            let some = b.mul(factor, difference)?;
            b.add(y, some)
        }
        Elem::Bool => {
            let other = b.unary(UnaryFn::Not, condition)?;
            let (one, two) = (b.binary(BinaryFn::And, condition, x)?, b.binary(BinaryFn::And, other, y)?);
            b.binary(BinaryFn::Or, one, two)
        }
        _ => Err(Skip::NoMatch),
    }
}

fn moves_or_compares(op: &Op) -> bool {
    use OpKind::*;
    match op {
        Op::Binary(op) => op.f.compares(),
        _ => matches!(
            op.kind(),
            Select
                | Transpose
                | Concat
                | Slice
                | Pad
                | Expand
                | Tile
                | Reverse
                | DepthToSpace
                | SpaceToDepth
                | Gather
                | GatherElements
                | GatherNd
                | ScatterNd
                | ArgReduce
                | TopK
        ),
    }
}
