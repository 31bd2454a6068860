//! Indices: their width, and operators that use them.

use qcc_ir::diagnostic::Diagnostic;
use qcc_ir::ops::{ArgReduce, Cast, Extents, Gather, GatherNd, Op, OpKind, TopK, UnaryFn};
use qcc_ir::{Dim, Elem, Graph, NodeId, Shape, Tensor, TensorType, ValueId};

use super::build::{Build, Built, made_by};
use crate::{Context, Pass, PassError, Rule, Skip};

/// For targets whose indices are 32 bits wide: all arithmetic on 64-bit integers becomes 32 bits wide. Inputs and
/// outputs keep their width, behind a Cast; so do the indices of TopK and ArgReduce, whose Cast the backend absorbs.
#[derive(Debug)]
pub(super) struct NarrowIndices;

impl Pass for NarrowIndices {
    fn name(&self) -> &'static str {
        "narrow-indices"
    }

    fn run(&self, g: &mut Graph, cx: &mut Context<'_>) -> Result<(), PassError> {
        if cx.target.index != Elem::I32 {
            return Ok(());
        }
        let wide: Vec<bool> = g.outputs().iter().map(|o| g.ty(o.value).elem == Elem::I64).collect();
        for node in g.order() {
            narrow(g, node)?;
        }
        for (i, _) in wide.into_iter().enumerate().filter(|(_, wide)| *wide) {
            let value = g.outputs()[i].value;
            let origin = g.origin(value.node).clone();
            let widened = g.add1(Cast { to: Elem::I64 }, &[value], origin)?;
            g.set_output(i, widened);
        }
        Ok(())
    }
}

/// Makes the 64-bit results of a node, whose operands are narrow already, narrow.
fn narrow(g: &mut Graph, node: NodeId) -> Result<(), PassError> {
    let wide: Vec<ValueId> = g.results(node).filter(|&v| g.ty(v).elem == Elem::I64).collect();
    for v in wide {
        let origin = g.origin(node).clone();
        match g.op(node) {
            Op::Const(c) => {
                let refused = |v| {
                    Diagnostic::error("wide-integer", format!("the constant {v} does not fit 32 bits"))
                        .at(&origin)
                        .with_help("this target computes integers in 32 bits")
                };
                let narrow = narrow_constant(&c.value).map_err(|v| PassError::Refused(Box::new(refused(v))))?;
                let narrow = g.add_const(narrow, origin);
                g.redirect(v, narrow);
            }
            Op::Cast(_) => {
                let x = g.operands(node)[0];
                let narrow = match g.ty(x).elem {
                    Elem::I32 => x,
                    _ => g.add1(Cast { to: Elem::I32 }, &[x], origin)?,
                };
                g.redirect(v, narrow);
            }
            Op::Input(_) | Op::TopK(_) | Op::ArgReduce(_) => {
                let narrow = g.add1(Cast { to: Elem::I32 }, &[v], origin)?;
                g.redirect(v, narrow);
            }
            _ => {
                let ty = TensorType { elem: Elem::I32, ..g.ty(v).clone() };
                g.set_type(v, ty);
            }
        }
    }
    Ok(())
}

/// The same integers, or the first one that does not fit.
fn narrow_constant(value: &Tensor) -> Result<Tensor, i64> {
    let narrow: Result<Vec<i32>, i64> = value.view::<i64>().iter().map(|&v| i32::try_from(v).map_err(|_| v)).collect();
    Ok(Tensor::of(value.ty().with_elem(Elem::I32), narrow?))
}

/// The kept axis is put back by a Reshape.
pub(super) fn arg_reduce(b: &mut Build<'_>, node: NodeId) -> Built {
    let &Op::ArgReduce(ArgReduce { axis, largest, keep: true }) = b.g.op(node) else { return Err(Skip::NoMatch) };
    let x = b.g.operands(node)[0];
    let y = b.op(ArgReduce { axis, largest, keep: false }, &[x])?;
    b.unsqueeze(y, axis)
}

/// The smallest are the largest of the negated.
pub(super) fn top_k(b: &mut Build<'_>, node: NodeId) -> Built {
    let &Op::TopK(TopK { k, axis, largest: false }) = b.g.op(node) else { return Err(Skip::NoMatch) };
    let x = b.g.operands(node)[0];
    let minus = b.unary(UnaryFn::Neg, x)?;
    let values = b.op(TopK { k, axis, largest: true }, &[minus])?;
    b.g.replace(node.value(1), values.node.value(1))?;
    b.unary(UnaryFn::Neg, values)
}

/// A Gather where the index is the same off the axis, else GatherNd with all coordinates spelled out.
pub(super) fn gather_elements(b: &mut Build<'_>, node: NodeId) -> Built {
    let Op::GatherElements(op) = b.g.op(node) else { return Err(Skip::NoMatch) };
    let (axis, operands) = (op.axis, b.g.operands(node));
    let (x, index) = (operands[0], operands[1]);
    let (data, extents) = (b.extents(x)?, b.extents(index)?);
    let whole = (0..data.len()).all(|a| a == axis || data[a] == extents[a]);
    if let Some(narrow) = constant_off_axis(b.g, index, axis).filter(|_| whole) {
        let flat = b.reshape(narrow, Shape::known(&[extents[axis]]))?;
        return b.op(Gather { axis }, &[x, flat]);
    }
    let column: Extents = extents.iter().copied().chain([1]).collect();
    let index = b.cast(index, Elem::I32)?;
    let coordinates: Result<Vec<ValueId>, Skip> = (0..data.len())
        .map(|a| match a == axis {
            true => b.reshape(index, Shape::known(&column)),
            false => positions(b, &extents, a),
        })
        .collect();
    let tuples = b.concat(data.len(), &coordinates?)?;
    b.op(GatherNd { batch: 0 }, &[x, tuples])
}

/// GatherNd with the coordinates of the shared axes spelled out.
pub(super) fn gather_nd(b: &mut Build<'_>, node: NodeId) -> Built {
    let &Op::GatherNd(GatherNd { batch: shared @ 1.. }) = b.g.op(node) else { return Err(Skip::NoMatch) };
    let operands = b.g.operands(node);
    let (x, index) = (operands[0], operands[1]);
    let extents = b.extents(index)?;
    let Some((_, tuples)) = extents.split_last() else { return Err(Skip::NoMatch) };
    let mut coordinates: Vec<ValueId> =
        (0..shared).map(|axis| positions(b, tuples, axis)).collect::<Result<_, Skip>>()?;
    coordinates.push(b.cast(index, Elem::I32)?);
    let whole = b.concat(tuples.len(), &coordinates)?;
    b.op(GatherNd { batch: 0 }, &[x, whole])
}

/// The index before it was repeated, where it has extent 1 everywhere but along `axis`.
fn constant_off_axis(g: &Graph, index: ValueId, axis: usize) -> Option<ValueId> {
    let column = |v: ValueId| {
        let ty = g.ty(v);
        ty.shape.elements() == ty.shape.dims().get(axis).and_then(Dim::known)
    };
    if column(index) {
        return Some(index);
    }
    let repeat = made_by(g, index, OpKind::Expand).or_else(|| made_by(g, index, OpKind::Tile))?;
    let before = g.operands(repeat)[0];
    let same =
        g.ty(before).rank() == g.ty(index).rank() && g.ty(before).shape.dims()[axis] == g.ty(index).shape.dims()[axis];
    (same && column(before)).then_some(before)
}

/// The position of each element along an axis: `[extents.., 1]`.
fn positions(b: &mut Build<'_>, extents: &[usize], axis: usize) -> Built {
    let inner: usize = extents[axis + 1..].iter().product();
    let dims: Vec<usize> = extents.iter().copied().chain([1]).collect();
    b.table(&dims, |i| (i / inner % extents[axis]) as i32)
}

/// The same indices counted from the front, or `None` where they are already. `ends` are the extents that the columns
/// of the last axis count in (one for all where there is one).
pub(super) fn from_front(index: &Tensor, ends: &[usize]) -> Option<Tensor> {
    let values = index.integers()?;
    if values.iter().all(|&v| v >= 0) {
        return None;
    }
    let end = |i: usize| ends[i % ends.len()] as i64;
    let values = values.into_iter().enumerate().map(|(i, v)| if v < 0 { v + end(i) } else { v });
    Some(match index.ty().elem {
        Elem::I64 => Tensor::of(index.ty().clone(), values.collect::<Vec<i64>>()),
        _ => Tensor::of(index.ty().with_elem(Elem::I32), values.map(|v| v as i32).collect::<Vec<i32>>()),
    })
}

/// Rules about indices.
pub(super) const RULES: &[Rule] = &[Rule {
    name: "count-from-front",
    anchor: &[OpKind::Gather, OpKind::GatherNd, OpKind::ScatterNd],
    apply: count_from_front,
}];

/// Constant indices count from the front.
fn count_from_front(g: &mut Graph, at: NodeId) -> Result<(), Skip> {
    let operands = g.operands(at);
    let (x, index) = (g.ty(operands[0]).shape.extents(), g.constant(operands[1]));
    let (Some(x), Some(index)) = (x, index) else { return Err(Skip::NoMatch) };
    let fixed = match g.op(at) {
        Op::Gather(op) => from_front(index, &[x[op.axis]]),
        Op::GatherNd(op) => {
            let tuple = index.dims().last().copied().unwrap_or(0);
            from_front(index, &x[op.batch..op.batch + tuple])
        }
        Op::ScatterNd(_) => from_front(index, &x[..index.dims().last().copied().unwrap_or(0)]),
        _ => None,
    };
    let fixed = fixed.ok_or(Skip::NoMatch)?;
    let origin = g.origin(at).clone();
    let fixed = g.add_const(fixed, origin);
    g.set_operand(at, 1, fixed);
    Ok(())
}
