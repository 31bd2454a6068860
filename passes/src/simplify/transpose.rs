//! Transposes.

use qcc_ir::ops::{Concat, Extents, MatMul, Op, OpKind, Pad, Reduce, Reshape, Slice, Softmax, Transpose, Types};
use qcc_ir::{Dim, Graph, NodeId, Origin, ValueId};

use crate::pattern::{Match, become_op, when};
use crate::{Rule, Skip};

pub(super) const RULES: &[Rule] = &[
    Rule { name: "merge-transposes", anchor: &[OpKind::Transpose], apply: merge_transposes },
    Rule { name: "lift-transpose", anchor: &[OpKind::Transpose], apply: lift_transpose },
    Rule { name: "transpose-to-reshape", anchor: &[OpKind::Transpose], apply: transpose_to_reshape },
    Rule { name: "transpose-into-matmul", anchor: &[OpKind::MatMul], apply: transpose_into_matmul },
];

/// The permutation of the transposes `first` and then `second`.
fn compose(first: &[usize], second: &[usize]) -> Extents {
    second.iter().map(|&a| first[a]).collect()
}

fn merge_transposes(g: &mut Graph, at: NodeId) -> Result<(), Skip> {
    let Op::Transpose(second) = g.op(at) else { return Err(Skip::NoMatch) };
    let inner = g.operands(at)[0].node;
    let Op::Transpose(first) = g.op(inner) else { return Err(Skip::NoMatch) };
    let perm = compose(&first.perm, &second.perm);
    become_op(g, at, Transpose { perm }, &[g.operands(inner)[0]], &[])
}

/// A transpose that only moves axes of extent 1 keeps the order of elements.
fn transpose_to_reshape(g: &mut Graph, at: NodeId) -> Result<(), Skip> {
    let Op::Transpose(op) = g.op(at) else { return Err(Skip::NoMatch) };
    let x = g.operands(at)[0];
    let dims = g.ty(x).shape.dims();
    when(op.perm.iter().filter(|&&a| dims[a] != Dim::Known(1)).is_sorted())?;
    when(dims.iter().filter(|d| d.known().is_none()).count() < 2)?;
    let shape = g.ty(at.value(0)).shape.clone();
    become_op(g, at, Reshape { shape }, &[x], &[])
}

/// Folds a transpose of the second matrix.
fn transpose_into_matmul(g: &mut Graph, at: NodeId) -> Result<(), Skip> {
    let Op::MatMul(op) = g.op(at) else { return Err(Skip::NoMatch) };
    let mut operands = g.operands(at);
    let moved = operands[1].node;
    let Op::Transpose(Transpose { perm }) = g.op(moved) else { return Err(Skip::NoMatch) };
    let mut swapped: Vec<usize> = (0..perm.len()).collect();
    swapped.swap(perm.len() - 2, perm.len() - 1);
    when(perm.as_slice() == swapped)?;
    let op = MatMul { transpose_b: !op.transpose_b };
    operands[1] = g.operands(moved)[0];
    become_op(g, at, op, &operands, &[])
}

/// Moves a transpose towards the inputs, through operators that work on transposed operands, if it meets other
/// transposes and fewer remain.
fn lift_transpose(g: &mut Graph, at: NodeId) -> Result<(), Skip> {
    let Op::Transpose(op) = g.op(at) else { return Err(Skip::NoMatch) };
    let (perm, x) = (op.perm.clone(), g.operands(at)[0]);
    when(passes_through(g, x, &perm).is_some() && cost(g, x, &perm, &mut 0).is_some_and(|cost| cost < 1))?;
    let new = lifted(g, x, &perm)?;
    Ok(g.replace(at.value(0), new)?)
}

/// The operator that computes the transposed result from transposed operands. All operands that are not constant have
/// full rank. `None` if there is none, or if `v` has other users.
fn passes_through(g: &Graph, v: ValueId, perm: &[usize]) -> Option<Op> {
    g.only_user(v)?;
    let moved = |axis: usize| perm.iter().position(|&a| a == axis).unwrap_or(axis);
    let reorder = |old: &Extents| -> Extents { perm.iter().map(|&a| old[a]).collect() };
    let op: Op = match g.producer(v) {
        op @ (Op::Unary(_) | Op::Binary(_) | Op::Clamp(_) | Op::Select(_) | Op::Cast(_)) => op.clone(),
        op @ (Op::Quantize(_) | Op::Dequantize(_)) if has_one_scale(g, v) => op.clone(),
        Op::Softmax(s) => Softmax { axis: moved(s.axis), ..s.clone() }.into(),
        Op::Concat(c) => Concat { axis: moved(c.axis) }.into(),
        Op::Pad(p) => Pad { before: reorder(&p.before), after: reorder(&p.after), mode: p.mode }.into(),
        Op::Slice(s) => {
            let mut ranges = s.ranges.clone();
            ranges.iter_mut().for_each(|r| r.axis = moved(r.axis));
            ranges.sort_unstable_by_key(|r| r.axis);
            Slice { ranges }.into()
        }
        Op::Reduce(r) if r.keep => {
            let mut axes: Extents = r.axes.iter().map(|&a| moved(a)).collect();
            axes.sort_unstable();
            Reduce { axes, ..r.clone() }.into()
        }
        _ => return None,
    };
    let fits = |&o: &ValueId| g.ty(o).rank() == perm.len() || g.constant(o).is_some_and(|c| c.ty().rank() < perm.len());
    g.operands(v.node).iter().all(fits).then_some(op)
}

/// True for a `Quantize` or `Dequantize` with per-tensor parameters.
fn has_one_scale(g: &Graph, border: ValueId) -> bool {
    let grids = [g.operands(border.node)[0], border].map(|v| g.ty(v).elem.qparams());
    grids.into_iter().flatten().all(|grid| grid.tensor_map().is_some())
}

/// The maximum number of operators that a transpose is moved through.
const MOST_LIFTED: usize = 512;

/// The change in the number of transposes if `v` is computed in the order `perm`. `None` if more than [`MOST_LIFTED`]
/// operators would be `passed`.
fn cost(g: &Graph, v: ValueId, perm: &[usize], passed: &mut usize) -> Option<i32> {
    Some(match g.producer(v) {
        Op::Const(_) => 0,
        Op::Transpose(inner) => {
            let (needed, freed) = (!compose(&inner.perm, perm).is_sorted(), g.only_user(v).is_some());
            i32::from(needed) - i32::from(freed)
        }
        _ if passes_through(g, v, perm).is_some() => {
            *passed += 1;
            when(*passed <= MOST_LIFTED).ok()?;
            g.operands(v.node).iter().map(|&o| cost(g, o, perm, passed)).sum::<Option<i32>>()?
        }
        _ => 1,
    })
}

/// Computes `v` in the order `perm`.
fn lifted(g: &mut Graph, v: ValueId, perm: &[usize]) -> Match<ValueId> {
    let origin = g.origin(v.node).clone();
    if let Op::Transpose(inner) = g.producer(v) {
        let (perm, x) = (compose(&inner.perm, perm), g.operands(v.node)[0]);
        return if perm.is_sorted() { Ok(x) } else { Ok(g.add1(Transpose { perm }, &[x], origin)?) };
    }
    let Some(op) = passes_through(g, v, perm).filter(|_| g.constant(v).is_none()) else {
        return transposed(g, v, perm, origin);
    };
    let operands: Vec<ValueId> = g.operands(v.node).into_iter().map(|o| lifted(g, o, perm)).collect::<Match<_>>()?;
    match op {
        Op::Quantize(_) => {
            let placed = g.ty(operands[0]).with_elem(g.ty(v).elem.clone());
            Ok(g.add_typed(op, &operands, Types::from_elem(placed, 1), origin)?.value(0))
        }
        op => Ok(g.add1(op, &operands, origin)?),
    }
}

/// Transposes `v`, after adding leading axes of extent 1 if its rank is smaller.
fn transposed(g: &mut Graph, v: ValueId, perm: &[usize], origin: Origin) -> Match<ValueId> {
    let missing = perm.len() - g.ty(v).rank();
    let shape = std::iter::repeat_n(Dim::Known(1), missing).chain(g.ty(v).shape.dims().iter().cloned()).collect();
    let v = if missing > 0 { g.add1(Reshape { shape }, &[v], origin.clone())? } else { v };
    Ok(g.add1(Transpose { perm: perm.into() }, &[v], origin)?)
}
