//! Functions that keep the order of numbers are computed behind a pool of maxima, on fewer elements, where the target does not
//! compute them together with the product before them.

use qcc_ir::ops::{Binary, BinaryFn, Op, Pool, PoolFn, Unary, UnaryFn};
use qcc_ir::{Elem, Graph, NodeId};

use super::build::rewrite_behind;
use crate::pattern::when;
use crate::{Context, Pass, PassError, Skip};

#[derive(Debug)]
pub(super) struct PoolFirst;

impl Pass for PoolFirst {
    fn name(&self) -> &'static str {
        "pool-first"
    }

    fn run(&self, g: &mut Graph, cx: &mut Context<'_>) -> Result<(), PassError> {
        rewrite_behind(g, cx.target, |kernel| kernel.apart, swap)
    }
}

/// max(f(x)) becomes f(max(x)).
fn swap(g: &mut Graph, at: NodeId) -> Result<(), Skip> {
    let Op::Pool(pool) = g.op(at) else { return Err(Skip::NoMatch) };
    let (pool, function) = (pool.clone(), g.operands(at)[0]);
    let mut operands = g.operands(function.node);
    let x = operands[0];
    when(leaves_fewer(&pool) && keeps_order(g, function.node) && g.only_user(function) == Some(at))?;
    when(g.ty(x) == g.ty(function) && g.ty(x).elem == Elem::F32)?;
    operands[0] = g.add1(pool, &[x], g.origin(at).clone())?;
    let new = g.add1(g.op(function.node).clone(), &operands, g.origin(function.node).clone())?;
    Ok(g.replace(at.value(0), new)?)
}

/// True for maxima of windows that lie at more than one place, each with an element of the image inside.
fn leaves_fewer(pool: &Pool) -> bool {
    let pads = pool.before.iter().chain(&pool.after).zip(pool.window.iter().chain(&pool.window));
    let inside = pads.clone().all(|(&pad, &window)| pad < window) && pool.dilation.iter().all(|&d| d == 1);
    pool.f == PoolFn::Max
        && pool.stride.iter().any(|&stride| stride > 1)
        && (inside || pads.clone().all(|(&pad, _)| pad == 0))
}

/// True for a function of each element that is nowhere decreasing, and alike at all places of an image.
fn keeps_order(g: &Graph, n: NodeId) -> bool {
    match g.op(n) {
        Op::Unary(Unary { f: UnaryFn::Elu { alpha } | UnaryFn::LeakyRelu { alpha } }) => *alpha >= 0.0,
        Op::Unary(Unary { f: UnaryFn::Selu { alpha, gamma } }) => *alpha >= 0.0 && *gamma >= 0.0,
        Op::Unary(Unary { f: UnaryFn::Softplus | UnaryFn::Sigmoid | UnaryFn::Tanh }) => true,
        Op::Binary(Binary { f: BinaryFn::Prelu }) => {
            let [x, slope] = g.operands(n)[..] else { return false };
            let (rank, dims) = (g.ty(x).shape.rank(), g.ty(slope).shape.dims());
            // Axes are aligned at the last one; those of the image begin at 2.
            let alike = dims.iter().rev().take(rank.saturating_sub(2)).all(|d| d.known() == Some(1));
            alike && g.constant(slope).is_some_and(|slopes| slopes.floats().iter().all(|&s| s >= 0.0))
        }
        _ => false,
    }
}
