//! Loops whose number of iterations follows from the first value, step and limit of a counter, and values into which each
//! iteration writes a block.

use qcc_ir::ops::{Binary, BinaryFn, Concat, Op};
use qcc_ir::{Expr, Graph, Tensor, ValueId};

use crate::build::symbolic::whole;

/// A value in which a block is replaced, from a list of positions on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Block {
    pub(super) x: ValueId,
    pub(super) block: ValueId,
    pub(super) starts: ValueId,
    /// The number of operators of the file that read `x` for it.
    pub(super) readers: usize,
}

/// A loop during import.
#[derive(Clone, Copy)]
pub(super) struct Iteration<'t> {
    /// The graph around the loop.
    pub(super) outer: &'t Graph,
    /// The body.
    pub(super) graph: &'t Graph,
    /// The values before the loop.
    pub(super) operands: &'t [ValueId],
    /// Those in the body before an iteration, where it may change them.
    pub(super) inside: &'t [Option<ValueId>],
    /// Those after it.
    pub(super) results: &'t [ValueId],
}

impl Iteration<'_> {
    /// The number of iterations, if the condition for another one compares a counter with what follows from extents.
    pub(super) fn count(&self, again: ValueId) -> Option<Expr> {
        let again = plain(self.graph, again);
        let Op::Binary(Binary { f: BinaryFn::Less }) = self.graph.producer(again) else { return None };
        let operands = self.graph.operands(again.node);
        let counter = plain(self.graph, operands[0]);
        let place = self.results.iter().position(|&v| plain(self.graph, v) == counter)?;
        let (first, step) = self.counter(place)?;
        let [limit] = whole(self.graph, plain(self.graph, operands[1]))?.try_into().ok()?;
        let mut is_known = true;
        limit.for_each_computed(&mut |symbol| is_known &= self.outer.definition(symbol).is_some());
        let far = limit.plus(&(step - 1).checked_sub(first)?.into())?;
        far.floor_div(step)?.larger(&Expr::default()).filter(|_| is_known)
    }

    /// The first value and the step of a carried integer.
    fn counter(&self, place: usize) -> Option<(i64, i64)> {
        let before = (*self.inside.get(place)?)?;
        let first = single(self.outer.constant(*self.operands.get(place)?)?)?;
        let after = plain(self.graph, self.results[place]);
        let Op::Binary(Binary { f: BinaryFn::Add }) = self.graph.producer(after) else { return None };
        let operands = self.graph.operands(after.node).into_iter().map(|v| plain(self.graph, v));
        let by = operands.filter(|&v| v != before).collect::<Vec<_>>();
        let [by] = by[..] else { return None };
        let step = single(self.graph.constant(by)?)?;
        (step > 0).then_some((first, step))
    }

    /// The axis and block of a carried value that gets an adjacent block in each of so many iterations, from its beginning
    /// on, and has room for all.
    pub(super) fn written(&self, place: usize, written: Block, count: &Expr) -> Option<(usize, ValueId)> {
        let Block { x, block, starts, .. } = written;
        if self.inside[place] != Some(x) {
            return None;
        }
        let (own, new) = (self.graph.ty(x).shape.dims(), self.graph.ty(block).shape.dims());
        let mut axes = (0..own.len()).filter(|&a| own[a] != new[a]);
        let axis = axes.next().filter(|_| axes.next().is_none())?;
        let start = plain(self.graph, element(self.graph, starts, axis)?);
        let counter = self.inside.iter().position(|&v| v == Some(start))?;
        let extent = i64::try_from(new[axis].known()?).ok()?;
        let room = own[axis].expr().minus(&count.times(&extent.into())?)?;
        let fits = room.bounds().0.is_some_and(|least| least >= 0);
        (self.counter(counter) == Some((0, extent)) && fits).then_some((axis, block))
    }
}

/// The value before reshapes and conversions between integers.
pub(super) fn plain(graph: &Graph, mut v: ValueId) -> ValueId {
    let is_integer = |v: ValueId| graph.ty(v).elem.is_integer();
    loop {
        let from = match graph.producer(v) {
            Op::Reshape(_) => graph.operand(v.node, 0),
            Op::Cast(_) if is_integer(v) && is_integer(graph.operand(v.node, 0)) => graph.operand(v.node, 0),
            _ => return v,
        };
        v = from;
    }
}

/// One integer of a list, where it is a constant.
pub(super) fn known(graph: &Graph, list: ValueId, i: usize) -> Option<i64> {
    let (part, i) = part(graph, list, i)?;
    graph.constant(part)?.integers()?.get(i).copied()
}

/// The value of one element of a list.
pub(super) fn element(graph: &Graph, list: ValueId, i: usize) -> Option<ValueId> {
    let (part, _) = part(graph, list, i)?;
    (graph.ty(part).shape.elements() == Some(1)).then_some(part)
}

/// The part of a joined list that has an element, and its place there.
fn part(graph: &Graph, list: ValueId, mut i: usize) -> Option<(ValueId, usize)> {
    let list = plain(graph, list);
    let Op::Concat(Concat { axis: 0 }) = graph.producer(list) else {
        return graph.ty(list).shape.elements().is_some_and(|count| i < count).then_some((list, i));
    };
    for joined in graph.operands(list.node) {
        let count = graph.ty(joined).shape.elements()?;
        if i < count {
            return part(graph, joined, i);
        }
        i -= count;
    }
    None
}

fn single(tensor: &Tensor) -> Option<i64> {
    tensor.integers().filter(|values| values.len() == 1).map(|values| values[0])
}
