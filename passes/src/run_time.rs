//! Activations that runtimes put on integers themselves.

use qcc_ir::ops::{Extents, Op, Reduce, ReduceFn, UnaryFn};
use qcc_ir::target::{RunTimeGrid, Target};
use qcc_ir::{Elem, Graph, NodeId, ValueId};
use rustc_hash::FxHashMap;

use crate::lower::{Build, Built};
use crate::quantize::is_contraction;

/// What shares a grid of the real activations of a contraction that the runtime puts on integers.
pub(crate) fn run_time_grid(g: &Graph, target: &Target, n: NodeId) -> Option<RunTimeGrid> {
    let operands = g.operand_types(n);
    let [x, w, ..] = operands.as_slice() else { return None };
    let narrow = x.elem == Elem::F32 && w.elem.grid().is_some_and(|grid| !grid.is_for_weights());
    (target.grids.run_time_grids)(g.op(n)).filter(|_| is_contraction(g, n) && narrow)
}

/// The graph with those activations rounded as the runtime rounds them, so that it gives what a runtime gives. Values keep
/// their identities.
pub fn as_run(g: &Graph, target: &Target) -> Graph {
    let mut g = g.clone();
    let mut known: FxHashMap<(ValueId, usize), ValueId> = FxHashMap::default();
    for n in g.order() {
        let Some(grid) = run_time_grid(&g, target, n) else { continue };
        let (x, from) = (g.operands(n)[0], first_shared(&g, n, grid));
        let placed = match known.get(&(x, from)) {
            Some(&v) => Ok(v),
            None => rounded(&mut Build::at(&mut g, n), x, from),
        };
        // What cannot be told of open extents stays exact.
        if let Ok(v) = placed {
            known.insert((x, from), v);
            g.set_operand(n, 0, v);
        }
    }
    g
}

/// The first of the axes along which numbers share a grid.
fn first_shared(g: &Graph, n: NodeId, grid: RunTimeGrid) -> usize {
    match (grid, g.op(n)) {
        (RunTimeGrid::Tensor, _) => 0,
        (RunTimeGrid::Row, Op::MatMul(_)) => g.ty(g.operands(n)[0]).rank().saturating_sub(1),
        (RunTimeGrid::Row, _) => 1,
    }
}

/// `x` on grids of 8 bits, one for all that differ in the axes from `first` on alone.
fn rounded(b: &mut Build<'_>, x: ValueId, first: usize) -> Built {
    let axes: Extents = (first..b.ty(x).rank()).collect();
    let least = b.op(Reduce { f: ReduceFn::Min, axes: axes.clone(), keep: true }, &[x])?;
    let largest = b.op(Reduce { f: ReduceFn::Max, axes, keep: true }, &[x])?;
    let (least, largest) = (b.clamp(least, f32::NEG_INFINITY, 0.0)?, b.clamp(largest, 0.0, f32::INFINITY)?);
    let span = b.sub(largest, least)?;
    let span = b.clamp(span, f32::MIN_POSITIVE * 256.0, f32::INFINITY)?;
    let step = b.scale(span, 1.0 / 255.0)?;
    let zero = b.div(least, step)?;
    let zero = b.unary(UnaryFn::Round, zero)?;
    let steps = b.div(x, step)?;
    let steps = b.unary(UnaryFn::Round, steps)?;
    let stored = b.sub(steps, zero)?;
    let stored = b.clamp(stored, 0.0, 255.0)?;
    let steps = b.add(stored, zero)?;
    b.mul(steps, step)
}

#[cfg(test)]
mod tests {
    use qcc_ir::ops::{Binary, BinaryFn, MatMul};
    use qcc_ir::{Grid, Origin, Shape, Store, Tensor, TensorType};

    use super::*;
    use crate::testing::{BARE, outputs};

    /// A product of rows with the unit matrix in 8 bits.
    fn product(grid: RunTimeGrid) -> (Vec<f32>, Vec<f32>) {
        let mut target = BARE.clone();
        target.grids.run_time_grids = match grid {
            RunTimeGrid::Tensor => |_| Some(RunTimeGrid::Tensor),
            RunTimeGrid::Row => |_| Some(RunTimeGrid::Row),
        };
        let mut g = Graph::new("rows");
        let x = g.add_input("x", TensorType::f32(&[3, 4]));
        let rows = g.add_const(Tensor::from_vec(Shape::known(&[3, 1]), vec![1.0f32, 0.01, 0.0]), Origin::none());
        let x = g.add1(Binary { f: BinaryFn::Mul }, &[x, rows], Origin::none()).unwrap();
        let unit = (0..16).map(|i| if i % 5 == 0 { 1.0f32 } else { 0.0 }).collect();
        let unit = Tensor::from_vec(Shape::known(&[4, 4]), unit).quantized(&Grid::per_tensor(Store::I8, 1.0, 0));
        let unit = g.add_const(unit, Origin::none());
        let y = g.add1(MatMul { transpose_b: false }, &[x, unit], Origin::none()).unwrap();
        g.add_output("y", y);
        (outputs(&g).remove(0), outputs(&as_run(&g, &target)).remove(0))
    }

    /// Each number is within half a step of the grid that its row, or all, span.
    #[test]
    fn activations_are_rounded_within_what_shares_a_grid() {
        for grid in [RunTimeGrid::Tensor, RunTimeGrid::Row] {
            let (exact, rounded) = product(grid);
            let shared = if grid == RunTimeGrid::Row { 4 } else { 12 };
            for (exact, rounded) in exact.chunks(shared).zip(rounded.chunks(shared)) {
                let most = |f: fn(f32, f32) -> f32| exact.iter().copied().fold(0.0, f);
                let step = (most(f32::max) - most(f32::min)) / 255.0;
                let error = |(x, y): (&f32, &f32)| (x - y).abs();
                let worst = exact.iter().zip(rounded).map(error).fold(0.0, f32::max);
                assert!(worst <= step * 0.501 && (step == 0.0 || worst > step * 0.01), "{worst} of {step}");
            }
        }
    }
}
