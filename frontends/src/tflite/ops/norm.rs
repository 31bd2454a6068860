//! Normalizations over the innermost axis.

use qcc_formats::tflite::{BuiltinOperator as B, L2Norm, LocalResponseNorm, Softmax as SoftmaxOptions};
use qcc_ir::ops::{Binary, BinaryFn, ReduceFn, Softmax, UnaryFn};

use super::super::node::NodeCx;
use super::{Row, positive};
use crate::build::norm::LocalNorm;
use crate::build::{Build, Values, one};
use crate::refusal::Refusal;

pub(super) const ROWS: &[Row] = &[
    (B::L2_NORMALIZATION, l2_normalization),
    (B::LOCAL_RESPONSE_NORMALIZATION, local_response),
    (B::LOG_SOFTMAX, log_softmax),
    (B::SOFTMAX, softmax),
];

fn innermost(n: &NodeCx<'_, '_>, x: qcc_ir::ValueId) -> Result<usize, Refusal> {
    n.axis(-1, x)
}

/// `exp(beta * x) / sum(exp(beta * x))`
fn softmax(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let o: SoftmaxOptions = n.options()?;
    let mut x = n.input(0)?;
    let axis = innermost(n, x)?;
    if o.beta != 1.0 {
        x = n.real(x)?;
        let beta = n.scalar(o.beta.into(), x)?;
        x = n.binary(BinaryFn::Mul, x, beta)?;
        let y = n.add(Softmax { axis, log: false }, &[x])?;
        let to = n.declared(0)?;
        return one(n.moved(y, &to)?);
    }
    one(n.give(Softmax { axis, log: false }, &[x])?)
}

fn log_softmax(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let x = n.input(0)?;
    let axis = innermost(n, x)?;
    one(n.give(Softmax { axis, log: true }, &[x])?)
}

/// `x / sqrt(max(sum(x^2), 1e-6))`
fn l2_normalization(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let o: L2Norm = n.options()?;
    let x = n.input(0)?;
    let x = n.real(x)?;
    let axis = innermost(n, x)?;
    let squares = n.binary(BinaryFn::Mul, x, x)?;
    let sum = n.reduce(ReduceFn::Sum, squares, &[axis], true)?;
    let root = n.unary(UnaryFn::Sqrt, sum)?;
    let least = n.scalar(1e-6, root)?;
    let root = n.binary(BinaryFn::Max, root, least)?;
    let y = n.add(Binary { f: BinaryFn::Div }, &[x, root])?;
    let y = n.activated(y, o.activation)?;
    let to = n.declared(0)?;
    one(n.moved(y, &to)?)
}

/// The radius is the number of channels on each side.
fn local_response(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let o: LocalResponseNorm = n.options()?;
    let x = n.image(0)?;
    let before = if o.radius == 0 { 0 } else { positive(o.radius, "its radius")? };
    let size = before.saturating_mul(2).saturating_add(1);
    let y = LocalNorm { size, before, alpha: o.alpha, beta: o.beta, bias: o.bias }.of(n, x)?;
    n.give_image(y)
}
