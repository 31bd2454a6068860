//! Complex numbers: their real and imaginary parts are two values.

use qcc_ir::ops::{BinaryFn, Concat, Range, Slice, UnaryFn};
use qcc_ir::{Dim, Elem, Shape, ValueId};

use super::super::importer::Complex;
use super::super::node::{NodeCx, Operand};
use super::Row;
use crate::build::einsum::einsum;
use crate::build::product::matmul;
use crate::build::{Build, Values, one};
use crate::refusal::Refusal;

/// An operator with complex results, and its import function.
pub(super) type ComplexRow = (&'static str, fn(&mut NodeCx<'_, '_>) -> Result<Complex, Refusal>);

/// Operators that make complex numbers of real ones.
pub(super) const MAKERS: &[ComplexRow] = &[
    ("complex", |n| Ok([n.tensor("real")?, n.tensor("imag")?])),
    ("polar", |n| {
        let (size, angle) = (n.tensor("abs")?, n.tensor("angle")?);
        turned(n, size, angle)
    }),
    ("view_as_complex", |n| {
        let x = n.input()?;
        match n.shape(x).dims().last() {
            Some(Dim::Known(2)) => apart(n, x),
            _ => Err(Refusal::Invalid(format!("{} as complex numbers; expected a last extent of 2", n.ty(x)))),
        }
    }),
];

/// Operators with a complex operand and complex results, in place of the rows for real ones.
pub(super) const COMPLEX_ROWS: &[ComplexRow] = &[
    ("_conj", conjugate),
    ("add", |n| sum(n, BinaryFn::Add, ["self", "other"])),
    ("bmm", |n| products(n, "mat2")),
    ("conj", conjugate),
    ("conj_physical", conjugate),
    ("div", quotient),
    ("divide", quotient),
    ("einsum", |n| {
        let equation = n.text("equation", "")?;
        match n.complex_list("tensors")?.as_slice() {
            &[a, b] => {
                let [a, b] = [a, b].map(|(re, im)| Parts { re, im });
                product(n, a, b, |n, a, b| einsum(n, equation, &[a, b]))
            }
            list => Err(Refusal::Unsupported(format!("einsum of {} complex tensors", list.len()))),
        }
    }),
    ("exp", |n| {
        let Parts { re, im } = parts(n, "self")?;
        let size = n.unary(UnaryFn::Exp, re)?;
        match im {
            Some(im) => turned(n, size, im),
            None => Err(n.missing("self")),
        }
    }),
    ("matmul", |n| products(n, "other")),
    ("mm", |n| products(n, "mat2")),
    ("mul", multiplied),
    ("multiply", multiplied),
    ("rsub", |n| sum(n, BinaryFn::Sub, ["other", "self"])),
    ("sub", |n| sum(n, BinaryFn::Sub, ["self", "other"])),
    ("subtract", |n| sum(n, BinaryFn::Sub, ["self", "other"])),
    ("true_divide", quotient),
];

/// Operators with real results. Real numbers are their own conjugates.
pub(super) const ROWS: &[Row] = &[
    ("_conj", |n| one(n.input()?)),
    ("abs", size),
    ("absolute", size),
    ("angle", |n| {
        let [re, im] = n.complex("self")?.ok_or_else(|| Refusal::Unsupported("the angle of real numbers".into()))?;
        one(n.binary(BinaryFn::Atan2, im, re)?)
    }),
    ("conj", |n| one(n.input()?)),
    ("conj_physical", |n| one(n.input()?)),
    ("imag", |n| {
        let parts = n.complex("self")?;
        one(parts.ok_or_else(|| Refusal::Invalid("the imaginary part of real numbers".into()))?[1])
    }),
    ("real", |n| match n.complex("self")? {
        Some([re, _]) => one(re),
        None => one(n.input()?),
    }),
    ("resolve_conj", |n| one(n.input()?)),
    ("resolve_neg", |n| one(n.input()?)),
    ("view_as_real", |n| {
        let parts = n.complex("self")?.ok_or_else(|| Refusal::Invalid("real numbers as complex ones".into()))?;
        one(side_by_side(n, parts)?)
    }),
];

/// Operators that apply to real and imaginary parts separately, where all their tensors are complex.
pub(super) const PARTWISE: &[&str] = &[
    "alias",
    "cat",
    "chunk",
    "clone",
    "concat",
    "concatenate",
    "contiguous",
    "detach",
    "expand",
    "flatten",
    "flip",
    "movedim",
    "mean",
    "mT",
    "narrow",
    "neg",
    "permute",
    "repeat",
    "reshape",
    "resolve_conj",
    "resolve_neg",
    "roll",
    "select",
    "slice",
    "split",
    "split_with_sizes",
    "squeeze",
    "stack",
    "sum",
    "swapaxes",
    "swapdims",
    "t",
    "transpose",
    "unbind",
    "unflatten",
    "unsqueeze",
    "view",
];

/// A number that may be complex.
#[derive(Clone, Copy, Debug)]
struct Parts {
    re: ValueId,
    im: Option<ValueId>,
}

/// A tensor or a real number.
fn parts(n: &mut NodeCx<'_, '_>, name: &str) -> Result<Parts, Refusal> {
    if let Some(Some([re, im])) = n.has_tensor(name).then(|| n.complex(name)).transpose()? {
        return Ok(Parts { re, im: Some(im) });
    }
    let re = match n.operand(name)? {
        Operand::Tensor(v) => v,
        other => n.as_value(other, &Elem::F32)?,
    };
    Ok(Parts { re: n.cast(re, Elem::F32)?, im: None })
}

/// What is linear in both operands.
fn product<'a, 'm>(
    n: &mut NodeCx<'a, 'm>,
    a: Parts,
    b: Parts,
    f: impl Fn(&mut NodeCx<'a, 'm>, ValueId, ValueId) -> Result<ValueId, Refusal>,
) -> Result<Complex, Refusal> {
    let re = f(n, a.re, b.re)?;
    let crossed = a.im.map(|im| f(n, im, b.re)).transpose()?;
    let Some(other) = b.im else { return Ok([re, crossed.ok_or_else(real)?]) };
    let beside = f(n, a.re, other)?;
    match (a.im, crossed) {
        (Some(im), Some(crossed)) => {
            let squared = f(n, im, other)?;
            Ok([n.binary(BinaryFn::Sub, re, squared)?, n.binary(BinaryFn::Add, beside, crossed)?])
        }
        _ => Ok([re, beside]),
    }
}

fn real() -> Refusal {
    Refusal::Invalid("none of its operands is complex".into())
}

fn products(n: &mut NodeCx<'_, '_>, other: &str) -> Result<Complex, Refusal> {
    let (a, b) = (parts(n, "self")?, parts(n, other)?);
    product(n, a, b, matmul)
}

fn multiplied(n: &mut NodeCx<'_, '_>) -> Result<Complex, Refusal> {
    let (a, b) = (parts(n, "self")?, parts(n, "other")?);
    product(n, a, b, |n, a, b| n.binary(BinaryFn::Mul, a, b))
}

fn quotient(n: &mut NodeCx<'_, '_>) -> Result<Complex, Refusal> {
    let (a, b) = (parts(n, "self")?, parts(n, "other")?);
    let Some(im) = b.im else {
        return product(n, a, b, |n, a, b| n.binary(BinaryFn::Div, a, b));
    };
    let (re, back) = (b.re, n.unary(UnaryFn::Neg, im)?);
    let squares = [n.binary(BinaryFn::Mul, re, re)?, n.binary(BinaryFn::Mul, im, im)?];
    let size = n.binary(BinaryFn::Add, squares[0], squares[1])?;
    let [re, im] = product(n, a, Parts { re, im: Some(back) }, |n, a, b| n.binary(BinaryFn::Mul, a, b))?;
    Ok([n.binary(BinaryFn::Div, re, size)?, n.binary(BinaryFn::Div, im, size)?])
}

/// a + alpha * b, or the difference.
fn sum(n: &mut NodeCx<'_, '_>, f: BinaryFn, [a, b]: [&str; 2]) -> Result<Complex, Refusal> {
    let (a, mut b, alpha) = (parts(n, a)?, parts(n, b)?, n.float("alpha", 1.0)?);
    if alpha != 1.0 {
        let factor = n.scalar(alpha, b.re)?;
        b.re = n.binary(BinaryFn::Mul, b.re, factor)?;
        b.im = b.im.map(|im| n.binary(BinaryFn::Mul, im, factor)).transpose()?;
    }
    let re = n.binary(f, a.re, b.re)?;
    let zero = n.scalar(0.0, a.re)?;
    let im = n.binary(f, a.im.unwrap_or(zero), b.im.unwrap_or(zero))?;
    // The operand without an imaginary part may be the larger one.
    let shape = n.shape(re).clone();
    Ok([re, n.expand_to(im, shape)?])
}

fn conjugate(n: &mut NodeCx<'_, '_>) -> Result<Complex, Refusal> {
    let [re, im] = n.complex("self")?.ok_or_else(real)?;
    Ok([re, n.unary(UnaryFn::Neg, im)?])
}

/// The number of a size and an angle.
fn turned(n: &mut NodeCx<'_, '_>, size: ValueId, angle: ValueId) -> Result<Complex, Refusal> {
    let (cos, sin) = (n.unary(UnaryFn::Cos, angle)?, n.unary(UnaryFn::Sin, angle)?);
    Ok([n.binary(BinaryFn::Mul, size, cos)?, n.binary(BinaryFn::Mul, size, sin)?])
}

/// Real and imaginary parts along a new last axis.
pub(in super::super) fn side_by_side(n: &mut NodeCx<'_, '_>, parts: Complex) -> Result<ValueId, Refusal> {
    let axis = n.rank(parts[0]);
    let parts = [n.column(parts[0])?, n.column(parts[1])?];
    n.add(Concat { axis }, &parts)
}

/// The parts that are along the last axis. Where there is only a real one, the other must not be used.
pub(super) fn apart(n: &mut NodeCx<'_, '_>, x: ValueId) -> Result<Complex, Refusal> {
    let axis = n.rank(x) - 1;
    let (shape, parts): (Shape, usize) = (n.shape(x).without(axis), n.extent(x, axis)?);
    let mut at = |start: usize| -> Result<ValueId, Refusal> {
        let part = n.add(Slice { ranges: vec![Range { axis, start, len: 1, step: 1 }] }, &[x])?;
        n.reshape_to(part, shape.clone())
    };
    let re = at(0)?;
    if parts == 1 { Ok([re, re]) } else { Ok([re, at(1)?]) }
}

/// The absolute value; for complex values the magnitude.
fn size(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let Some([re, im]) = n.complex("self")? else {
        let x = n.input()?;
        return one(n.unary(UnaryFn::Abs, x)?);
    };
    let squares = [n.binary(BinaryFn::Mul, re, re)?, n.binary(BinaryFn::Mul, im, im)?];
    let sum = n.binary(BinaryFn::Add, squares[0], squares[1])?;
    one(n.unary(UnaryFn::Sqrt, sum)?)
}
