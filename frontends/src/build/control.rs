//! Control flow as plain nodes: results of branches are selected, loops are unrolled.

use std::collections::BTreeSet;

use qcc_ir::ops::{Binary, BinaryFn, Concat, Define, Extents, Gather, Loop, Op, Range, Select, Slice};
use qcc_ir::{Dim, Expr, Graph, Tensor, TensorType, ValueId};

use super::symbolic::whole;
use super::{Build, Values, computed, count_axis};
use crate::refusal::Refusal;

/// What to do where something must be known at import.
pub(crate) const SET: &str = "set the inputs that it depends on with --set (and their shapes with --shape), \
                              or export the model with a constant in their place";

/// Maximum number of nodes that are imported for function calls, branches and iterations of loops.
pub(crate) const MOST_NODES: usize = 1 << 18;

/// Counts the nodes of a function, a branch or an iteration that is imported.
pub(crate) fn expand(expanded: &mut usize, nodes: usize) -> Result<(), Refusal> {
    // Without nodes it takes time as well.
    *expanded += nodes.max(1);
    if *expanded <= MOST_NODES {
        return Ok(());
    }
    Err(Refusal::Advised {
        message: format!("functions, branches and iterations of loops come to more than {MOST_NODES} nodes"),
        help: "export the model with fewer iterations, or without this loop",
    })
}

/// A condition.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Condition {
    /// It follows from constants and shapes.
    Known(bool),
    /// A `Bool` scalar that is known at run time only.
    Value(ValueId),
}

impl Condition {
    /// A condition of one element.
    pub(crate) fn of(n: &mut impl Build, v: ValueId) -> Result<Condition, Refusal> {
        let flag = |t: &Tensor| t.integers().filter(|values| values.len() == 1).map(|values| values[0] != 0);
        match n.constant(v).map(flag) {
            Some(Some(known)) => Ok(Condition::Known(known)),
            Some(None) => Err(Refusal::Invalid(format!("a condition of type {}", n.ty(v)))),
            // It has one element, even where its shape is open.
            None => Ok(Condition::Value(n.reshape(v, &[])?)),
        }
    }
}

/// `yes` where a condition holds that is known at run time only, else `no`: values of one type, but for the extent of one
/// axis.
pub(crate) fn selected(n: &mut impl Build, condition: ValueId, yes: ValueId, no: ValueId) -> Result<ValueId, Refusal> {
    if yes == no {
        return Ok(yes);
    }
    if removes_axis(n.graph(), condition, yes, no) {
        return Ok(yes);
    }
    let (a, b) = (n.ty(yes), n.ty(no));
    if let Some(axis) = differing(a, b).filter(|_| a.elem == b.elem && a.elem.qparams().is_none()) {
        return computed::either(n, condition, [yes, no], axis);
    }
    // A broadcast would hide that one of two extents is 1.
    if a.elem != b.elem || a.shape != b.shape || a.elem.qparams().is_some() {
        let message = format!("a condition that is known at run time only selects between {a} and {b}");
        return Err(Refusal::Advised { message, help: SET });
    }
    n.add(Select {}, &[condition, yes, no])
}

/// True where `yes` is `no` without an axis of open extent, and the condition is that this extent is 1. At any other extent
/// the reshape to `yes` fails.
fn removes_axis(graph: &Graph, mut condition: ValueId, yes: ValueId, no: ValueId) -> bool {
    while let Op::Reshape(_) | Op::Cast(_) = graph.producer(condition) {
        condition = graph.operand(condition.node, 0);
    }
    let (Op::Reshape(_), Op::Binary(Binary { f: BinaryFn::Equal })) = (graph.producer(yes), graph.producer(condition))
    else {
        return false;
    };
    let compared: Option<Vec<Expr>> =
        graph.operands(condition.node).into_iter().map(|v| whole(graph, v)?.into_iter().next()).collect();
    let shape = &graph.ty(no).shape;
    let removed = shape.removed_axis(&graph.ty(yes).shape).map(|axis| shape.dims()[axis].expr());
    let is_compared = match compared.as_deref() {
        Some([extent, one] | [one, extent]) if *one == 1.into() => removed.as_ref() == Some(extent),
        _ => false,
    };
    graph.operand(yes.node, 0) == no && is_compared
}

/// The axis of which two types have different extents, if it is one.
fn differing(a: &TensorType, b: &TensorType) -> Option<usize> {
    let pairs = a.shape.dims().iter().zip(b.shape.dims()).enumerate();
    let mut axes = pairs.filter(|(_, (a, b))| a != b).map(|(axis, _)| axis);
    let only = axes.next().filter(|_| axes.next().is_none());
    only.filter(|_| a.rank() == b.rank())
}

/// Slice `at` of an axis, without that axis.
pub(crate) fn slice_at(n: &mut impl Build, v: ValueId, axis: usize, at: usize) -> Result<ValueId, Refusal> {
    let slice = n.add(Slice { ranges: vec![Range { axis, start: at, len: 1, step: 1 }] }, &[v])?;
    let mut dims = n.shape(slice).dims().to_vec();
    dims.remove(axis);
    n.reshape_to(slice, dims.into_iter().collect())
}

/// The slice of an axis that iteration `number` has, from the first or the last one on, without that axis.
pub(crate) fn slice_of_turn(
    n: &mut impl Build,
    v: ValueId,
    axis: usize,
    mut number: ValueId,
    backward: bool,
) -> Result<ValueId, Refusal> {
    if backward {
        let last = Expr::from(-1).plus(&n.shape(v).dims()[axis].expr()).ok_or(Refusal::Open(n.shape(v).clone()))?;
        let last = n.add_whole(vec![last], Extents::new())?;
        number = n.binary(BinaryFn::Sub, last, number)?;
    }
    n.add(Gather { axis }, &[v, number])
}

/// A value whose first axis becomes axis `axis`.
pub(crate) fn first_as(n: &mut impl Build, v: ValueId, axis: usize) -> Result<ValueId, Refusal> {
    let mut perm: Vec<usize> = (1..n.rank(v)).collect();
    perm.insert(axis, 0);
    n.transpose(v, &perm)
}

/// Rows along a first axis, joined along axis `axis` of one of them.
pub(crate) fn along(n: &mut impl Build, rows: ValueId, axis: usize) -> Result<ValueId, Refusal> {
    let rows = first_as(n, rows, axis)?;
    let mut dims = n.shape(rows).dims().to_vec();
    let count = dims.remove(axis);
    dims[axis] = dims[axis].times(&count).ok_or_else(|| Refusal::Open(n.shape(rows).clone()))?;
    n.reshape_to(rows, dims.into_iter().collect())
}

/// The axis along which an iteration appends to a carried value, and what it appends, if that is all it does with it.
pub(crate) fn appended(graph: &Graph, before: ValueId, after: ValueId) -> Option<(usize, ValueId)> {
    let Op::Concat(Concat { axis }) = graph.producer(after) else { return None };
    match *graph.operands(after.node).as_slice() {
        [first, piece] if first == before && piece != before => Some((*axis, piece)),
        _ => None,
    }
}

/// A piece in the body of a loop with the extents of the value that it is appended to, but along the axis. Some follow from
/// the iteration: that they are equal is what appending it asks for.
pub(crate) fn fitted(n: &mut impl Build, piece: ValueId, before: ValueId, axis: usize) -> Result<ValueId, Refusal> {
    let along = n.shape(piece).dims()[axis].clone();
    let fitted = n.shape(before).with(axis, along);
    n.reshape_to(piece, fitted)
}

/// A carried value to which a loop has appended its rows along an axis.
pub(crate) fn with_appended(
    n: &mut impl Build,
    before: ValueId,
    rows: ValueId,
    axis: usize,
) -> Result<ValueId, Refusal> {
    let pieces = along(n, rows, axis)?;
    if n.shape(before).dims()[axis] == Dim::Known(0) { Ok(pieces) } else { n.add(Concat { axis }, &[before, pieces]) }
}

/// Fails unless the carried values of a loop have their types after an iteration of its body.
pub(crate) fn same_after(outer: &Graph, carried: &[ValueId], body: &Graph) -> Result<(), Refusal> {
    for (&before, after) in carried.iter().zip(&body.outputs()[1..]) {
        let (old, new) = (outer.ty(before), body.ty(after.value));
        if old != new {
            let message = format!("{} is {old} before an iteration and {new} after it", after.name);
            let help = "export the model with one shape for all iterations; or fix the number of iterations: --set";
            return Err(Refusal::Advised { message, help });
        }
    }
    Ok(())
}

/// The most iterations of a loop as a scalar, and as an expression where it follows from extents. More than there are
/// 32-bit integers are as many as there can be.
pub(crate) fn most(n: &mut impl Build, v: Option<ValueId>) -> Result<(ValueId, Option<Expr>), Refusal> {
    let Some(v) = v else { return Ok((n.add_constant(Tensor::scalar(ENDLESS)), None)) };
    let known = whole(n.graph(), v).and_then(|values| values.into_iter().next()?.larger(&Expr::default()));
    match known.as_ref().and_then(Expr::constant) {
        Some(most) if most > ENDLESS => Ok((n.add_constant(Tensor::scalar(ENDLESS)), None)),
        _ => Ok((n.reshape(v, &[])?, known)),
    }
}

/// The most iterations, where a negative number stands for no limit.
pub(crate) fn or_endless(n: &mut impl Build, most: ValueId) -> Result<ValueId, Refusal> {
    let (zero, endless) = (n.add_constant(Tensor::scalar(0i64)), n.add_constant(Tensor::scalar(ENDLESS)));
    let negative = n.binary(BinaryFn::Less, most, zero)?;
    n.add(Select {}, &[negative, endless, most])
}

/// A loop that carries so many values. `most` is the number of iterations where it follows from extents and nothing ends the
/// loop before; `count` becomes the symbol of this number where it does not follow.
pub(crate) fn repeat(carried: usize, most: Option<Expr>, count: String, body: Graph) -> Loop {
    let always = body.outputs().first().and_then(|o| body.constant(o.value));
    let always = always.and_then(Tensor::integers).is_some_and(|holds| holds == [1]);
    let has_rows = body.outputs().len() > 1 + carried;
    let iterations = most.filter(|_| always);
    let count = if has_rows && iterations.is_none() { count } else { String::new() };
    Loop { carried, iterations, count, body: body.into() }
}

/// Number of iterations that no loop has.
const ENDLESS: i64 = i32::MAX as i64;

/// A constant of the graph around a nested one, or integers that follow from its extents, in the nested graph.
pub(crate) fn known_inside(outer: &Graph, v: ValueId, inside: &mut Graph) -> Option<ValueId> {
    let origin = outer.origin(v.node).clone();
    match outer.op(v.node) {
        Op::Const(op) => Some(inside.add_const(op.value.clone(), origin)),
        Op::Symbolic(op) => inside.add1(op.clone(), &[], origin).ok(),
        _ => None,
    }
}

/// Makes symbols known to nested graphs that do not follow from their inputs: each gets further inputs. Returns the values
/// around them that these are.
pub(crate) fn carriers(n: &mut impl Build, bodies: &mut [&mut Graph]) -> Result<Values, Refusal> {
    let symbols: BTreeSet<Expr> = bodies.iter().flat_map(|body| body.unknown_symbols()).collect();
    let mut carriers = Values::new();
    for expr in symbols {
        let with = |v: &ValueId| n.ty(*v).shape.dims().contains(&Dim::Open(expr.clone().into()));
        let carrier = n.graph().inputs().find(with);
        if expr.as_symbol().is_some() {
            let carrier = carrier.ok_or_else(|| Refusal::Open([Dim::Open(expr.into())].into_iter().collect()))?;
            bodies.iter_mut().for_each(|body| _ = body.add_input("", n.ty(carrier).clone()));
            carriers.push(carrier);
            continue;
        }
        let number = n.add_whole(vec![expr.clone()], Extents::from_elem(1, 1))?;
        for body in bodies.iter_mut() {
            let input = body.add_input("", n.ty(number).clone());
            let mut symbols = Vec::new();
            expr.for_each_computed(&mut |symbol| symbols.push(symbol.to_string()));
            body.add(Define { symbols }, &[input], n.origin().clone())?;
        }
        carriers.push(number);
    }
    Ok(carriers)
}

/// A result of a loop without iterations, for which nothing is known.
pub(crate) fn without_iterations() -> Refusal {
    let message = "a result of a loop without iterations, whose shape is unknown".into();
    Refusal::Advised { message, help: "export the model without the loop" }
}

/// The values of all iterations along a new axis; they have one type.
pub(crate) fn stacked(n: &mut impl Build, rows: &[ValueId], axis: i64, reverse: bool) -> Result<ValueId, Refusal> {
    let &first = rows.first().ok_or_else(without_iterations)?;
    let axis = count_axis(axis, n.rank(first) + 1)?;
    let mut parts = Values::new();
    for &row in rows {
        if n.ty(row) != n.ty(first) {
            let message = format!("iterations give {} and {}", n.ty(first), n.ty(row));
            return Err(Refusal::Advised { message, help: "export the model with one shape for all iterations" });
        }
        let mut dims = n.shape(row).dims().to_vec();
        dims.insert(axis, Dim::Known(1));
        parts.push(n.reshape_to(row, dims.into_iter().collect())?);
    }
    if reverse {
        parts.reverse();
    }
    if let [only] = *parts { Ok(only) } else { n.add(Concat { axis }, &parts) }
}
