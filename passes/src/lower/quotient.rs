//! Quotients that are rounded to integers, where the target multiplies by a rounded reciprocal: 41 / 41 is less than 1 there.

use qcc_ir::ops::{Binary, BinaryFn, Cast, Op, Unary, UnaryFn};
use qcc_ir::{Elem, Graph, NodeId, Tensor};

use super::build::{Build, rewrite_behind};
use crate::pattern::when;
use crate::{Context, Pass, PassError, Skip};

#[derive(Debug)]
pub(super) struct WholeQuotients;

impl Pass for WholeQuotients {
    fn name(&self) -> &'static str {
        "whole-quotients"
    }

    fn run(&self, g: &mut Graph, cx: &mut Context<'_>) -> Result<(), PassError> {
        rewrite_behind(g, cx.target, |kernel| kernel.reciprocal, without_remainder)
    }
}

/// The quotient of `x` without the remainder by a constant `y` is near an integer, to which it is rounded.
fn without_remainder(g: &mut Graph, at: NodeId) -> Result<(), Skip> {
    let (remainder, upwards) = match g.op(at) {
        Op::Unary(Unary { f: UnaryFn::Floor }) => (BinaryFn::FloorMod, false),
        Op::Unary(Unary { f: UnaryFn::Ceil }) => (BinaryFn::FloorMod, true),
        Op::Cast(Cast { to }) if to.is_integer() => (BinaryFn::Rem, false),
        _ => return Err(Skip::NoMatch),
    };
    let quotient = g.operands(at)[0];
    let Op::Binary(Binary { f: BinaryFn::Div }) = g.producer(quotient) else { return Err(Skip::NoMatch) };
    let (operands, result) = (g.operands(quotient.node), g.op(at).clone());
    let (mut x, y) = (operands[0], operands[1]);
    let divides = |y: &Tensor| y.floats().iter().all(|y| y.is_normal());
    when(g.ty(quotient).elem == Elem::F32 && g.constant(y).is_some_and(divides))?;
    let b = &mut Build::at(g, at);
    if upwards {
        x = b.unary(UnaryFn::Neg, x)?;
    }
    let rest = b.binary(remainder, x, y)?;
    let whole = b.sub(x, rest)?;
    let whole = b.div(whole, y)?;
    let mut whole = b.unary(UnaryFn::Round, whole)?;
    if upwards {
        whole = b.unary(UnaryFn::Neg, whole)?;
    }
    if let Op::Cast(_) = result {
        whole = b.op(result, &[whole])?;
    }
    Ok(g.replace(at.value(0), whole)?)
}
