//! Operators without operands, or that use only the types of their operands.

use qcc_formats::tflite::BuiltinOperator as B;
use qcc_ir::Shape;
use qcc_ir::ops::Expand;

use super::super::node::NodeCx;
use super::Row;
use crate::build::{Build, Values, extents, numbers, one};
use crate::refusal::Refusal;

pub(super) const ROWS: &[Row] = &[(B::FILL, fill), (B::RANK, rank), (B::SHAPE, shape), (B::ZEROS_LIKE, zeros_like)];

/// A constant of the declared element type.
fn constant(n: &mut NodeCx<'_, '_>, shape: Shape, values: &[f64]) -> Result<Values, Refusal> {
    let elem = n.declared(0)?;
    let tensor = numbers(&elem, shape, values);
    let tensor =
        tensor.ok_or_else(|| Refusal::Invalid(format!("{} do not fit {elem}", qcc_ir::diagnostic::list(values))))?;
    one(n.add_constant(tensor))
}

fn shape(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let x = n.input(0)?;
    let dims: Vec<f64> = n.dims(x)?.iter().map(|&d| d as f64).collect();
    constant(n, Shape::known(&[dims.len()]), &dims)
}

fn rank(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let x = n.input(0)?;
    let rank = n.rank(x) as f64;
    constant(n, Shape::scalar(), &[rank])
}

fn fill(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let dims = n.integers(0)?;
    let value = n.input(1)?;
    let shape = Shape::known(&extents(&dims)?);
    if shape.rank() == 0 { one(value) } else { one(n.give(Expand { shape }, &[value])?) }
}

fn zeros_like(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let x = n.input(0)?;
    let shape = n.ty(x).shape.clone();
    let zero = n.scalar(0.0, x)?;
    if shape.rank() == 0 { one(zero) } else { one(n.add(Expand { shape }, &[zero])?) }
}
