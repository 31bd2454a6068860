//! Lowering of indices: their width, and operators that use them.

use qcc_ir::diagnostic::Diagnostic;
use qcc_ir::ops::{
    ArgReduce, Binary, BinaryFn, Cast, Expand, Extents, Gather, GatherNd, Op, OpKind, Reduce, ReduceFn, Symbolic, TopK,
    UnaryFn,
};
use qcc_ir::{Dim, Elem, Graph, NodeId, Shape, Tensor, TensorType, ValueId};
use rustc_hash::{FxHashMap, FxHashSet};

use super::build::{Build, Built, made_by};
use super::sign::is_nonnegative;
use crate::custom::as_declared;
use crate::{Context, Pass, PassError, Rule, Skip};

/// For targets with 32-bit integer arithmetic: refuses constants that do not fit in 32 bits. If indices have 32 bits as
/// well, all 64-bit integer arithmetic is converted to 32 bits. Inputs and outputs keep their type, with a Cast. So do
/// the indices of TopK and ArgReduce; the backend fuses their Cast.
#[derive(Debug)]
pub(super) struct NarrowIndices;

impl Pass for NarrowIndices {
    fn name(&self) -> &'static str {
        "narrow-indices"
    }

    fn run(&self, g: &mut Graph, cx: &mut Context<'_>) -> Result<(), PassError> {
        if cx.target.integers != Elem::I32 {
            return Ok(());
        }
        let order = g.order();
        let refused: Vec<Diagnostic> = order.iter().filter_map(|&node| wide_integer(g, node)).collect();
        if !refused.is_empty() {
            return Err(PassError::Refused(refused));
        }
        if cx.target.index != Elem::I32 {
            return Ok(());
        }
        let given = given_extents(g, &order);
        let wide: Vec<bool> = g.outputs().iter().map(|o| g.ty(o.value).elem == Elem::I64).collect();
        for node in order {
            as_declared(g, node)?;
            narrow(g, node, &given)?;
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

/// The refusal of a constant that does not fit in 32 bits.
fn wide_integer(g: &Graph, node: NodeId) -> Option<Diagnostic> {
    let Op::Const(c) = g.op(node) else { return None };
    let values = (c.value.ty().elem == Elem::I64).then(|| c.value.view::<i64>())?;
    let wide = values.iter().find(|&&v| i32::try_from(v).is_err())?;
    // For a constant without a name, the message names its user.
    let reader = || Some(g.users(node.value(0)).first()?.0);
    let at = if g.origin(node).path().is_empty() { reader().unwrap_or(node) } else { node };
    let refusal = Diagnostic::error("wide-integer", format!("the constant {wide} does not fit 32 bits"));
    let help = "this target computes integers in 32 bits; compute with smaller ones, or compile for another target";
    Some(refusal.at(&g.place(at)).with_help(help))
}

/// The 64-bit inputs from which extents and positions are computed at run time. The largest number often stands for the
/// end of an axis there.
fn given_extents(g: &Graph, order: &[NodeId]) -> FxHashSet<ValueId> {
    let mut defining: FxHashSet<ValueId> = FxHashSet::default();
    for &n in order.iter().rev() {
        if matches!(g.op(n), Op::Define(_)) || g.results(n).any(|v| defining.contains(&v)) {
            defining.extend(g.operands(n));
        }
    }
    g.inputs().filter(|v| g.ty(*v).elem == Elem::I64 && defining.contains(v)).collect()
}

/// A number that is at most the largest 32-bit integer, and at least the smallest.
fn saturated(g: &mut Graph, v: ValueId) -> Result<ValueId, PassError> {
    let origin = g.origin(v.node).clone();
    let mut bounded = v;
    for (f, limit) in [(BinaryFn::Min, i32::MAX), (BinaryFn::Max, i32::MIN)] {
        let limit = Tensor::of(TensorType::new(Elem::I64, Shape::scalar()), vec![i64::from(limit)]);
        let limit = g.add_const(limit, origin.clone());
        bounded = g.add1(Binary { f }, &[bounded, limit], origin.clone())?;
    }
    Ok(bounded)
}

/// Converts the 64-bit results of a node whose operands are converted already. Those of `given` are saturated.
fn narrow(g: &mut Graph, node: NodeId, given: &FxHashSet<ValueId>) -> Result<(), PassError> {
    let wide: Vec<ValueId> = g.results(node).filter(|&v| g.ty(v).elem == Elem::I64).collect();
    for v in wide {
        let origin = g.origin(node).clone();
        match g.op(node) {
            Op::Const(c) => {
                let values = c.value.view::<i64>().iter().map(|&v| v as i32).collect();
                let narrow = Tensor::of(c.value.ty().with_elem(Elem::I32), values);
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
            Op::Symbolic(s) => {
                let narrow = Symbolic { narrow: true, ..s.clone() };
                let narrow = g.add1(narrow, &[], origin)?;
                g.redirect(v, narrow);
            }
            // The values have the element type of the operand.
            Op::TopK(_) if v.port == 0 => g.set_type(v, g.ty(v).with_elem(Elem::I32)),
            Op::Input(_)
            | Op::Custom(_)
            | Op::Loop(_)
            | Op::If(_)
            | Op::TopK(_)
            | Op::ArgReduce(_)
            | Op::NonZero(_)
            | Op::NonMaxSuppression(_) => {
                let narrow = g.add1(Cast { to: Elem::I32 }, &[v], origin)?;
                g.redirect(v, narrow);
                if given.contains(&v) {
                    let bounded = saturated(g, v)?;
                    g.set_operand(narrow.node, 0, bounded);
                }
            }
            _ => g.set_type(v, TensorType { elem: Elem::I32, ..g.ty(v).clone() }),
        }
    }
    Ok(())
}

/// Refuses constant indices that are out of range. For targets whose kernels do not support negative indices, computed
/// indices and those along open axes are converted to non-negative ones.
#[derive(Debug)]
pub(super) struct IndicesFromFront;

impl Pass for IndicesFromFront {
    fn name(&self) -> &'static str {
        "indices-from-front"
    }

    fn run(&self, g: &mut Graph, cx: &mut Context<'_>) -> Result<(), PassError> {
        let outside = |&node: &NodeId| Some(super::invalid(g, node, &g.indices_within(node).err()?));
        let refused: Vec<Diagnostic> = g.order().iter().filter_map(outside).collect();
        if !refused.is_empty() {
            return Err(PassError::Refused(refused));
        }
        if cx.target.negative_indices {
            return Ok(());
        }
        let mut counted: FxHashMap<(ValueId, Shape), ValueId> = FxHashMap::default();
        for node in g.order() {
            let Some(ends) = g.indexed(node) else { continue };
            let index = g.operands(node)[1];
            // Constant ones are counted along known extents by a rule.
            if g.constant(index).is_some() && ends.extents().is_some() || is_nonnegative(g, index) {
                continue;
            }
            let fixed = match counted.get(&(index, ends.clone())) {
                Some(&fixed) => fixed,
                None => match counted_from_front(&mut Build::at(g, node), index, ends.dims()) {
                    Ok(fixed) => *counted.entry((index, ends)).or_insert(fixed),
                    Err(skip) => {
                        skip.reason()?;
                        continue;
                    }
                },
            };
            g.set_operand(node, 1, fixed);
        }
        Ok(())
    }
}

/// The most constant indices that are counted one by one.
const MOST_COUNTED: usize = 64;

/// Adds the extents `ends` to negative indices. The conversion comes before nodes that repeat or
/// reshape the indices.
pub(super) fn counted_from_front(b: &mut Build<'_>, index: ValueId, ends: &[Dim]) -> Built {
    let elem = b.ty(index).elem.clone();
    let same = ends.windows(2).all(|w| w[0] == w[1]);
    let repeats = match b.g.producer(index) {
        Op::Expand(_) | Op::Tile(_) | Op::Reshape(_) => same.then(|| b.g.op(index.node).clone()),
        _ => None,
    };
    if let Some(op) = repeats {
        let counted = counted_from_front(b, b.g.operands(index.node)[0], ends)?;
        return b.op(op, &[counted]);
    }
    if let ([end, ..], Some(known)) = (ends, b.g.constant(index).filter(|t| same && t.len() <= MOST_COUNTED)) {
        let counted = |&i: &i64| if i < 0 { end.expr().plus(&i.into()) } else { Some(i.into()) };
        let values = known.integers().and_then(|known| known.iter().map(counted).collect::<Option<_>>());
        let shape = known.dims().into_iter().collect();
        let values = values.ok_or(Skip::NoMatch)?;
        return Ok(b.node(Symbolic { values, shape, narrow: elem == Elem::I32 }, &[])?.value(0));
    }
    let (ends, shape): (&[Dim], Extents) = match ends {
        [end, ..] if same => (std::slice::from_ref(end), Extents::new()),
        _ => (ends, [ends.len()].into_iter().collect()),
    };
    let end = b.counts(ends, shape)?;
    let (end, zero) = (b.cast(end, elem)?, b.scalar(0.0, index)?);
    let negative = b.binary(BinaryFn::Less, index, zero)?;
    let counted = b.add(index, end)?;
    b.select(negative, counted, index)
}

/// A Reshape restores the reduced axis. For 64-bit integers, the index is that of the first element equal to the
/// maximum or minimum.
pub(super) fn arg_reduce(b: &mut Build<'_>, node: NodeId) -> Built {
    let &Op::ArgReduce(ArgReduce { axis, largest, keep }) = b.g.op(node) else { return Err(Skip::NoMatch) };
    let x = b.g.operands(node)[0];
    if b.ty(x).elem == Elem::I64 {
        let f = if largest { ReduceFn::Max } else { ReduceFn::Min };
        let most = b.op(Reduce { f, axes: [axis].into_iter().collect(), keep: true }, &[x])?;
        let same = b.binary(BinaryFn::Equal, x, most)?;
        let same = b.cast(same, Elem::I32)?;
        return b.op(ArgReduce { axis, largest: true, keep }, &[same]);
    }
    if !keep {
        return Err(Skip::NoMatch);
    }
    let y = b.op(ArgReduce { axis, largest, keep: false }, &[x])?;
    b.unsqueeze(y, axis)
}

/// The smallest elements are the largest of the negated operand. Integers use `-1 - x`, because the minimum has no
/// negation.
pub(super) fn top_k(b: &mut Build<'_>, node: NodeId) -> Built {
    let Op::TopK(TopK { k, axis, largest: false }) = b.g.op(node) else { return Err(Skip::NoMatch) };
    let (k, axis) = (k.clone(), *axis);
    let x = b.g.operands(node)[0];
    let turned = |b: &mut Build<'_>, x: ValueId| -> Built {
        if b.ty(x).elem.is_float() {
            return b.unary(UnaryFn::Neg, x);
        }
        let last = b.scalar(-1.0, x)?;
        b.sub(last, x)
    };
    let minus = turned(b, x)?;
    let values = b.op(TopK { k, axis, largest: true }, &[minus])?;
    b.g.replace(node.value(1), values.node.value(1))?;
    turned(b, values)
}

/// A Gather if the index depends on the axis only, else a GatherNd with full coordinates.
pub(super) fn gather_elements(b: &mut Build<'_>, node: NodeId) -> Built {
    let Op::GatherElements(op) = b.g.op(node) else { return Err(Skip::NoMatch) };
    let (axis, operands) = (op.axis, b.g.operands(node));
    let (x, index) = (operands[0], operands[1]);
    let (data, places) = (b.ty(x).shape.clone(), b.ty(index).shape.clone());
    let whole = (0..data.rank()).all(|a| a == axis || data.dims()[a] == places.dims()[a]);
    if let Some(narrow) = constant_off_axis(b.g, index, axis).filter(|_| whole) {
        let flat = b.reshape(narrow, [places.dims()[axis].clone()].into_iter().collect())?;
        return b.op(Gather { axis }, &[x, flat]);
    }
    let index = b.cast(index, Elem::I32)?;
    let coordinates: Result<Vec<ValueId>, Skip> = (0..data.rank())
        .map(|a| match a == axis {
            true => b.unsqueeze(index, data.rank()),
            false => positions(b, places.dims(), a),
        })
        .collect();
    let tuples = b.concat(data.rank(), &coordinates?)?;
    b.op(GatherNd { batch: 0 }, &[x, tuples])
}

/// A GatherNd with the coordinates of the batch axes added.
pub(super) fn gather_nd(b: &mut Build<'_>, node: NodeId) -> Built {
    let &Op::GatherNd(GatherNd { batch: shared @ 1.. }) = b.g.op(node) else { return Err(Skip::NoMatch) };
    let operands = b.g.operands(node);
    let (x, index) = (operands[0], operands[1]);
    let places = b.ty(index).shape.clone();
    let Some((_, tuples)) = places.dims().split_last() else { return Err(Skip::NoMatch) };
    let mut coordinates: Vec<ValueId> =
        (0..shared).map(|axis| positions(b, tuples, axis)).collect::<Result<_, Skip>>()?;
    coordinates.push(b.cast(index, Elem::I32)?);
    let whole = b.concat(tuples.len(), &coordinates)?;
    b.op(GatherNd { batch: 0 }, &[x, whole])
}

/// The index before it was broadcast, if its extent is 1 on all axes except `axis`.
fn constant_off_axis(g: &Graph, index: ValueId, axis: usize) -> Option<ValueId> {
    let column = |v: ValueId| {
        let ty = g.ty(v);
        ty.shape.dims().iter().enumerate().all(|(a, d)| a == axis || *d == Dim::Known(1))
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
fn positions(b: &mut Build<'_>, extents: &[Dim], axis: usize) -> Built {
    if let Some(known) = extents.iter().map(Dim::known).collect::<Option<Vec<usize>>>() {
        let inner: usize = known[axis + 1..].iter().product();
        let dims: Vec<usize> = known.iter().copied().chain([1]).collect();
        return b.table(&dims, |i| (i / inner % known[axis]) as i32);
    }
    let line = b.places(&extents[axis])?;
    let along = (0..=extents.len()).map(|a| if a == axis { extents[axis].clone() } else { 1.into() });
    let line = b.reshape(line, along.collect())?;
    b.op(Expand { shape: extents.iter().cloned().chain([1.into()]).collect() }, &[line])
}

/// Non-negative indices in place of constant ones. `None` if they are non-negative already or out of range. `ends` are
/// the extents for the columns of the last axis, or one for all.
pub(super) fn from_front(index: &Tensor, ends: &[usize]) -> Option<Tensor> {
    let values = index.integers()?;
    if values.iter().all(|&v| v >= 0) {
        return None;
    }
    let end = |i: usize| ends[i % ends.len()] as i64;
    let counted = |(i, v): (usize, i64)| if v < 0 { v.checked_add(end(i)).filter(|&v| v >= 0) } else { Some(v) };
    let values = values.into_iter().enumerate().map(counted).collect::<Option<Vec<i64>>>()?.into_iter();
    Some(match index.ty().elem {
        Elem::I64 => Tensor::of(index.ty().clone(), values.collect::<Vec<i64>>()),
        _ => Tensor::of(index.ty().with_elem(Elem::I32), values.map(|v| v as i32).collect::<Vec<i32>>()),
    })
}

/// Rewrite rules for indices.
pub(super) const RULES: &[Rule] = &[Rule {
    name: "count-from-front",
    anchor: &[OpKind::Gather, OpKind::GatherElements, OpKind::GatherNd, OpKind::ScatterNd],
    apply: count_from_front,
}];

/// Converts constant indices to non-negative ones.
fn count_from_front(g: &mut Graph, at: NodeId) -> Result<(), Skip> {
    let index = g.operands(at)[1];
    let ends = g.indexed(at).and_then(|axes| axes.extents());
    let (Some(ends), Some(known)) = (ends, g.constant(index)) else { return Err(Skip::NoMatch) };
    let fixed = from_front(known, &ends);
    let fixed = fixed.ok_or(Skip::NoMatch)?;
    let origin = g.origin(at).clone();
    let fixed = g.add_const(fixed, origin);
    g.set_operand(at, 1, fixed);
    Ok(())
}
