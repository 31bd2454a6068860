//! Lowering of pooling: one or three spatial axes become two, padding becomes Pad, and dilated windows become slices.

use qcc_ir::ops::{Extents, Op, Pool, PoolFn, hits};
use qcc_ir::{NodeId, Shape, Tensor};

use super::build::{Build, Built};
use super::conv::row;
use super::sign::is_nonnegative;
use super::volume;
use crate::Skip;

pub(super) fn pool(b: &mut Build<'_>, node: NodeId) -> Built {
    let Op::Pool(op) = b.g.op(node) else { return Err(Skip::NoMatch) };
    let (op, x) = (op.clone(), b.g.operands(node)[0]);
    if op.window.len() == 1 {
        let x = b.unsqueeze(x, 2)?;
        let image = Pool {
            f: op.f,
            window: row(&op.window, 1),
            stride: row(&op.stride, 1),
            before: row(&op.before, 0),
            after: row(&op.after, 0),
            dilation: row(&op.dilation, 1),
        };
        let y = b.op(image, &[x])?;
        return b.squeeze(y, 2);
    }
    if op.before.iter().chain(&op.after).all(|&p| p == 0) {
        return match op.dilation.iter().position(|&d| d > 1) {
            Some(i) => {
                let x = b.pool_along(op.f, x, 2 + i, [op.window[i], op.stride[i], op.dilation[i]])?;
                let mut rest = op;
                (rest.window[i], rest.stride[i], rest.dilation[i]) = (1, 1, 1);
                b.op(rest, &[x])
            }
            None if op.window.len() == 3 => volume::pool(b, &op, x),
            None => Err(Skip::NoMatch),
        };
    }
    let outside = match op.f {
        PoolFn::Max if !is_nonnegative(b.g, x) => f32::NEG_INFINITY,
        PoolFn::Max | PoolFn::Average => 0.0,
    };
    let padded = b.pad_spatial(x, &op.before, &op.after, outside)?;
    let zero = Extents::from_elem(0, op.window.len());
    let y = b.op(Pool { before: zero.clone(), after: zero, ..op.clone() }, &[padded])?;
    match op.f {
        PoolFn::Max => Ok(y),
        PoolFn::Average => {
            let (image, places) = (b.spatial(x)?, b.spatial(y)?);
            b.room(&places, size_of::<f32>())?;
            let correction = b.floats(correction(&op, &image, &places), y)?;
            b.mul(y, correction)
        }
    }
}

/// The number of taps of the window, divided by the number inside the image, for each position of the result: `[1, 1,
/// spatial..]`. `x` and `y` are the spatial extents of the operand and of the result.
fn correction(op: &Pool, x: &[usize], y: &[usize]) -> Tensor {
    let inside = |axis: usize, at: usize| {
        let image = op.before[axis]..op.before[axis] + x[axis];
        hits(at * op.stride[axis], op.dilation[axis], image, op.window[axis])
    };
    let mut values = vec![1.0f32];
    for (axis, (&window, &places)) in op.window.iter().zip(y).enumerate() {
        let factors: Vec<f32> = (0..places).map(|at| window as f32 / inside(axis, at).max(1) as f32).collect();
        values = values.iter().flat_map(|v| factors.iter().map(move |f| v * f)).collect();
    }
    let extents: Vec<usize> = [1, 1].iter().chain(y).copied().collect();
    Tensor::from_vec(Shape::known(&extents), values)
}
