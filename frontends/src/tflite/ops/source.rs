//! Operators without operands, or that use only the types of their operands.

use qcc_formats::tflite::BuiltinOperator as B;
use qcc_ir::ops::{Expand, Extents};
use qcc_ir::{Dim, Expr, Shape};

use super::super::node::NodeCx;
use super::Row;
use crate::build::range::range;
use crate::build::{Build, Operands, Values, movement, numbers, one};
use crate::refusal::Refusal;

pub(super) const ROWS: &[Row] = &[
    (B::FILL, fill),
    (B::RANGE, |n| {
        let terms = [n.input(0)?, n.input(1)?, n.input(2)?];
        one(range(n, terms)?)
    }),
    (B::RANK, rank),
    (B::SHAPE, shape),
    (B::ZEROS_LIKE, zeros_like),
];

/// The extents, with the element type that the file declares.
fn shape(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let to = n.declared(0)?;
    let extents = if n.is_complex(0) {
        let x = n.complex(0)?;
        let extents: Vec<Expr> =
            n.shape(x).dims().split_last().map_or(&[][..], |(_, own)| own).iter().map(Dim::expr).collect();
        let count = extents.len();
        n.add_whole(extents, Extents::from_elem(count, 1))?
    } else {
        let x = n.input(0)?;
        movement::shape(n, x)?
    };
    one(n.cast(extents, to)?)
}

fn rank(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let (x, elem) = (n.input(0)?, n.declared(0)?);
    let rank = numbers(&elem, Shape::scalar(), &[n.rank(x) as f64]);
    let rank = rank.ok_or_else(|| Refusal::Invalid(format!("a rank of type {elem}")))?;
    one(n.add_constant(rank))
}

fn fill(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let (shape, value) = (n.shape_at(0)?, n.input(1)?);
    if shape.rank() == 0 { one(value) } else { one(n.give(Expand { shape }, &[value])?) }
}

fn zeros_like(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let x = n.input(0)?;
    let shape = n.ty(x).shape.clone();
    let zero = n.scalar(0.0, x)?;
    if shape.rank() == 0 { one(zero) } else { one(n.add(Expand { shape }, &[zero])?) }
}
