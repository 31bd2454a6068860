//! Restores dynamic extents at the end of the pipeline. All earlier passes use known extents.
//!
//! An extent of 1 that is dynamic in the source becomes its symbol, first in the inputs and then in all values computed
//! from them. A reshape keeps the symbol on an axis with the same number of elements before it. If a node cannot have
//! dynamic extents, the graph is not changed. The caller must check that the graph is right for other batch sizes:
//! shape arithmetic that the import folded holds for 1 only.

use qcc_ir::diagnostic::Diagnostic;
use qcc_ir::error::TypeError;
use qcc_ir::ops::{Expand, Op, Reshape, Types};
use qcc_ir::target::Target;
use qcc_ir::{Dim, Graph, NodeId, OpenExtent, Shape, TensorType};
use smallvec::SmallVec;

use crate::pass::{Context, Pass, PassError};

/// Returns the graph with symbols for the dynamic extents of its inputs.
///
/// # Errors
/// A note (`static-batch`) that names the first node that does not support dynamic extents.
pub fn open_batch(g: &Graph, target: &Target, open: &[OpenExtent]) -> Result<Graph, Box<Diagnostic>> {
    let mut g = g.clone();
    for extent in open {
        let input = g.inputs().find(|&v| g.name(v).is_some_and(|n| **n == *extent.input));
        let Some(input) = input else { continue };
        let ty = g.ty(input);
        let shape = ty.shape.with(extent.axis, Dim::symbol(extent.symbol.clone()));
        let ty = TensorType { shape, ..ty.clone() };
        g.set_type(input, ty);
    }
    for node in g.order() {
        open_node(&mut g, target, node).map_err(|why| Box::new(static_batch(why).at(&g.place(node))))?;
    }
    g.sweep();
    g.verify().map_err(|e| static_batch(e.to_string()))?;
    Ok(g)
}

/// Restores the extents of [`Context::open`]. If that is not possible, the graph is not changed and a note says why.
#[derive(Clone, Copy, Debug)]
pub struct OpenBatch;

impl Pass for OpenBatch {
    fn name(&self) -> &'static str {
        "open-batch"
    }

    fn applies(&self, cx: &Context<'_>) -> bool {
        !cx.open.is_empty()
    }

    fn run(&self, g: &mut Graph, cx: &mut Context<'_>) -> Result<(), PassError> {
        match open_batch(g, cx.target, cx.open) {
            Ok(opened) => *g = opened,
            Err(note) => cx.diagnostics.push(*note),
        }
        Ok(())
    }
}

/// A note that a dynamic batch was fixed to 1, and why.
pub fn static_batch(why: impl std::fmt::Display) -> Diagnostic {
    Diagnostic::note("static-batch", format!("the batch is 1, although it is dynamic in the source: {why}"))
}

fn open_node(g: &mut Graph, target: &Target, node: NodeId) -> Result<(), String> {
    let operands: SmallVec<[TensorType; 4]> = g.operand_types(node).into_iter().cloned().collect();
    if !operands.iter().any(|t| is_open(&t.shape)) {
        return Ok(());
    }
    let refused = |e: TypeError| format!("{} does not support a dynamic batch: {e}", g.op(node).kind().name());
    let op: Op = match g.op(node) {
        Op::Reshape(op) => Reshape { shape: reshaped(&operands[0].shape, &op.shape)? }.into(),
        Op::Expand(op) => Expand { shape: expanded(&operands[0].shape, &op.shape)? }.into(),
        Op::Reverse(op) if op.axes.iter().any(|&a| operands[0].shape.dims()[a].known().is_none()) => {
            return Err("the batch is reversed".into());
        }
        op => op.clone(),
    };
    let real: SmallVec<[TensorType; 4]> =
        operands.iter().map(|t| TensorType::new(t.elem.real(), t.shape.clone())).collect();
    let real: SmallVec<[&TensorType; 4]> = real.iter().collect();
    let inferred = op.infer(&real).map_err(refused)?;
    if (target.kernel)(&op, &real).is_none() {
        return Err(format!("{} supports a fixed batch size only", op.kind().name()));
    }
    let before = g.result_types(node);
    let results: Types =
        before.into_iter().zip(inferred).map(|(ty, open)| TensorType { shape: open.shape, ..ty }).collect();
    if op == *g.op(node) {
        g.results(node).zip(results).for_each(|(v, ty)| g.set_type(v, ty));
        return Ok(());
    }
    let origin = g.origin(node).clone();
    let values = g.operands(node);
    let name = op.kind().name();
    let new = g
        .add_typed(op, &values, results, origin)
        .map_err(|e| format!("{name} does not support a dynamic batch: {e}"))?;
    g.redirect(node.value(0), new.value(0));
    Ok(())
}

fn is_open(shape: &Shape) -> bool {
    shape.dims().iter().any(|d| d.known().is_none())
}

fn elements(dims: &[Dim]) -> usize {
    dims.iter().filter_map(Dim::known).product()
}

/// The target shape `y` of a reshape with the symbol of `x`, where both have the same number of elements at a batch of
/// 1. The symbol goes to an extent of 1 with the same number of elements before it, on the same axis if possible.
fn reshaped(x: &Shape, y: &Shape) -> Result<Shape, String> {
    let open: SmallVec<[usize; 2]> = (0..x.rank()).filter(|&a| x.dims()[a].known().is_none()).collect();
    let &[from] = open.as_slice() else { return Err(format!("{x} has more than one dynamic extent")) };
    let before = elements(&x.dims()[..from]);
    let fits = |&to: &usize| y.dims()[to] == Dim::Known(1) && elements(&y.dims()[..to]) == before;
    let to = Some(from).filter(|&a| a < y.rank()).filter(fits).or_else(|| (0..y.rank()).find(fits));
    let to = to.ok_or_else(|| format!("a reshape from {x} to {y} mixes the batch with other extents"))?;
    Ok(y.with(to, x.dims()[from].clone()))
}

/// The target shape `y` of an expand with the symbols of `x`, where those extents are not broadcast.
fn expanded(x: &Shape, y: &Shape) -> Result<Shape, String> {
    let missing = y.rank() - x.rank();
    let mut shape = y.clone();
    for (axis, dim) in x.dims().iter().enumerate().filter(|(_, d)| d.known().is_none()) {
        if y.dims()[missing + axis] != Dim::Known(1) {
            return Err(format!("the batch of {x} is broadcast to {y}"));
        }
        shape = shape.with(missing + axis, dim.clone());
    }
    Ok(shape)
}

#[cfg(test)]
mod tests {
    use qcc_ir::testing::numbers;
    use qcc_ir::text::{Weights, parse};

    use super::*;
    use crate::check_meaning;
    use crate::simplify::tests::target;

    /// The graph with `n` as the batch N.
    fn with(body: &str, n: usize) -> Graph {
        parse(&format!("graph g {{ {body} }}").replace('N', &n.to_string()), &Weights::new()).unwrap()
    }

    fn opened(body: &str) -> Result<Graph, String> {
        let open = [OpenExtent { input: "x".into(), axis: 0, symbol: "n".into() }];
        open_batch(&with(body, 1), &target(), &open).map_err(|note| note.message)
    }

    #[test]
    fn an_opened_graph_is_valid_for_any_batch() {
        let bodies = [
            "%x: f32[N,2,3] = input %r = reshape[N,6] %x %t = transpose(perm: [1, 0]) %r output y = %t",
            "%x: f32[N,2,3] = input %r = reshape[N,1,6] %x %e = expand[N,4,6] %r output y = %e",
        ];
        for body in bodies {
            let open = opened(body).unwrap_or_else(|e| panic!("{e}: {body}"));
            let fixed = with(body, 3);
            let inputs: Vec<_> = fixed.inputs().map(|v| numbers(fixed.ty(v).shape.clone(), 5)).collect();
            assert_eq!(check_meaning(&fixed, &open, &inputs).unwrap(), 0.0, "{body}");
            assert!(is_open(&open.ty(open.outputs()[0].value).shape), "{body}");
        }
    }

    /// A batch of 1 does not show which extent of 1 is the batch. A batch of 3 does.
    #[test]
    fn a_wrong_batch_axis_is_detected() {
        let body = "%x: f32[N,3] = input %t = transpose(perm: [1, 0]) %x %r = reshape[3,1,N] %t output y = %r";
        let (open, fixed) = (opened(body).unwrap(), with(body, 3));
        let inputs: Vec<_> = fixed.inputs().map(|v| numbers(fixed.ty(v).shape.clone(), 5)).collect();
        assert!(check_meaning(&fixed, &open, &inputs).is_err());
    }

    #[test]
    fn graphs_for_a_batch_of_one_are_refused() {
        let bodies = [
            "%x: f32[N,2,3] = input %r = reshape[2,3] %x output y = %r",
            "%x: f32[N,3] = input %e = expand[4,3] %x output y = %e",
            "%x: f32[N,3] = input %r = reverse(axes: [0]) %x output y = %r",
        ];
        for body in bodies {
            assert!(opened(body).is_err(), "{body}");
        }
    }
}
