//! Normalizations over the innermost axis.

use qcc_formats::tflite::{BuiltinOperator as B, L2Norm, Softmax as SoftmaxOptions};
use qcc_ir::ops::{Binary, BinaryFn, ReduceFn, Softmax, UnaryFn};

use super::super::node::NodeCx;
use super::Row;
use crate::build::{Build, Values, one};
use crate::refusal::Refusal;

pub(super) const ROWS: &[Row] =
    &[(B::L2_NORMALIZATION, l2_normalization), (B::LOG_SOFTMAX, log_softmax), (B::SOFTMAX, softmax)];

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
