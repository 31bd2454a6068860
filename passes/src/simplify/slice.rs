//! Slices and concatenations.

use qcc_ir::ops::{Gather, Op, OpKind, Range, Reshape, Slice};
use qcc_ir::{Dim, Graph, NodeId, ValueId};

use crate::pattern::{become_op, when};
use crate::{Rule, Skip};

pub(super) const RULES: &[Rule] = &[
    Rule { name: "merge-slices", anchor: &[OpKind::Slice], apply: merge_slices },
    Rule { name: "slice-of-concat", anchor: &[OpKind::Slice], apply: slice_of_concat },
    Rule { name: "concat-of-nothing", anchor: &[OpKind::Concat], apply: concat_of_nothing },
    Rule { name: "concat-of-slices", anchor: &[OpKind::Concat], apply: concat_of_slices },
    Rule { name: "gather-to-slice", anchor: &[OpKind::Gather], apply: gather_to_slice },
];

/// Rules that may make an operator that a target does not support: kernels limit the number of operands.
pub(super) const MERGE: &[Rule] = &[Rule { name: "merge-concats", anchor: &[OpKind::Concat], apply: merge_concats }];

/// Merges successive slices.
fn merge_slices(g: &mut Graph, at: NodeId) -> Result<(), Skip> {
    let Op::Slice(outer) = g.op(at) else { return Err(Skip::NoMatch) };
    let inner_node = g.operands(at)[0].node;
    let Op::Slice(inner) = g.op(inner_node) else { return Err(Skip::NoMatch) };
    let mut ranges = inner.ranges.clone();
    for o in &outer.ranges {
        match ranges.iter_mut().find(|i| i.axis == o.axis) {
            Some(i) => {
                i.start = i.start.saturating_add_signed(o.start as isize * i.step);
                i.step *= o.step;
                i.len = o.len;
            }
            None => ranges.push(*o),
        }
    }
    ranges.sort_unstable_by_key(|r| r.axis);
    become_op(g, at, Slice { ranges }, &[g.operands(inner_node)[0]], &[])
}

/// The maximum number of operands of a concatenation that is searched. Searching it for each of many slices would be
/// slow.
const MOST_OPERANDS: usize = 1024;

/// A slice of one operand of a concatenation.
fn slice_of_concat(g: &mut Graph, at: NodeId) -> Result<(), Skip> {
    let Op::Slice(slice) = g.op(at) else { return Err(Skip::NoMatch) };
    let joined = g.operands(at)[0].node;
    let Op::Concat(concat) = g.op(joined) else { return Err(Skip::NoMatch) };
    when(g.operand_count(joined) <= MOST_OPERANDS)?;
    let mut ranges = slice.ranges.clone();
    let range = ranges.iter_mut().find(|r| r.axis == concat.axis).ok_or(Skip::NoMatch)?;
    when(range.len > 0)?;
    let last = range.start.saturating_add_signed(range.step * (range.len as isize - 1));
    let (lowest, highest) = (range.start.min(last), range.start.max(last));
    let mut first = 0;
    for x in g.operands(joined) {
        let end = first + g.ty(x).shape.dims()[concat.axis].known().ok_or(Skip::NoMatch)?;
        if lowest >= first && highest < end {
            range.start -= first;
            return become_op(g, at, Slice { ranges }, &[x], &[]);
        }
        first = end;
    }
    Err(Skip::NoMatch)
}

/// Operands without elements along the axis change nothing; other extents may be open.
fn concat_of_nothing(g: &mut Graph, at: NodeId) -> Result<(), Skip> {
    let Op::Concat(op) = g.op(at).clone() else { return Err(Skip::NoMatch) };
    let operands = g.operands(at);
    let is_empty = |v: ValueId| g.ty(v).shape.dims()[op.axis] == Dim::Known(0);
    let some: Vec<ValueId> = operands.iter().copied().filter(|&v| !is_empty(v)).collect();
    when(!some.is_empty() && some.len() < operands.len())?;
    become_op(g, at, op, &some, &[])
}

/// A concatenation of adjacent slices that cover a value.
fn concat_of_slices(g: &mut Graph, at: NodeId) -> Result<(), Skip> {
    let Op::Concat(op) = g.op(at).clone() else { return Err(Skip::NoMatch) };
    let operands = g.operands(at);
    let part = |v: ValueId| match g.producer(v) {
        Op::Slice(s) => match s.ranges.as_slice() {
            &[r] if r.axis == op.axis && r.step == 1 => Some((g.operands(v.node)[0], r.start, r.start + r.len)),
            _ => None,
        },
        _ => None,
    };
    let mut joined: Vec<ValueId> = Vec::new();
    let mut rest = operands.as_slice();
    while let [first, others @ ..] = rest {
        joined.push(*first);
        rest = others;
        let Some((whole, 0, mut reached)) = part(*first) else { continue };
        let next = |v: &&ValueId| match part(**v) {
            Some((x, start, end)) if x == whole && start == reached => {
                reached = end;
                true
            }
            _ => false,
        };
        let parts = others.iter().take_while(next).count();
        if g.ty(whole).shape.dims()[op.axis].known() == Some(reached) {
            joined.pop();
            joined.push(whole);
            rest = &others[parts..];
        }
    }
    when(joined.len() < operands.len())?;
    become_op(g, at, op, &joined, &[])
}

/// Nested concatenations along the same axis. The outermost one merges all at once.
fn merge_concats(g: &mut Graph, at: NodeId) -> Result<(), Skip> {
    let op = g.op(at).clone();
    let inner = |g: &Graph, v: ValueId| *g.op(v.node) == op && g.only_user(v).is_some();
    when(g.only_user(at.value(0)).is_none_or(|user| *g.op(user) != op))?;
    let mut open: Vec<ValueId> = g.operands(at).into_iter().rev().collect();
    when(open.iter().any(|&v| inner(g, v)))?;
    let mut all = Vec::new();
    while let Some(v) = open.pop() {
        if inner(g, v) {
            open.extend(g.operands(v.node).into_iter().rev());
        } else {
            all.push(v);
        }
    }
    become_op(g, at, op, &all, &[])
}

/// A gather with constant, evenly spaced indices is a slice.
fn gather_to_slice(g: &mut Graph, at: NodeId) -> Result<(), Skip> {
    let &Op::Gather(Gather { axis }) = g.op(at) else { return Err(Skip::NoMatch) };
    let (x, indices) = (g.operands(at)[0], g.operands(at)[1]);
    let tensor = g.constant(indices).filter(|t| !t.is_empty() && t.ty().rank() < 2).ok_or(Skip::NoMatch)?;
    let extent = g.ty(x).shape.dims()[axis].known().ok_or(Skip::NoMatch)? as i64;
    let whole: Vec<i64> = tensor.integers().ok_or(Skip::NoMatch)?;
    let indices: Vec<i64> = whole.into_iter().map(|i| if i < 0 { i + extent } else { i }).collect();
    let step = if indices.len() > 1 { indices[1] - indices[0] } else { 1 };
    when(step > 0 && indices.windows(2).all(|w| w[1] - w[0] == step))?;
    when(indices.iter().all(|i| (0..extent).contains(i)))?;
    let range = Range { axis, start: indices[0] as usize, len: indices.len(), step: step as isize };
    let origin = g.origin(at).clone();
    let part = g.add1(Slice { ranges: vec![range] }, &[x], origin)?;
    let shape = g.ty(at.value(0)).shape.clone();
    become_op(g, at, Reshape { shape }, &[part], &[])
}
