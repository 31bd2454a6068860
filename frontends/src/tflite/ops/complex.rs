//! Complex numbers: real and imaginary parts are a last axis that the file does not have.

use qcc_formats::tflite::{BuiltinOperator as B, Reshape, Squeeze};
use qcc_ir::ops::{BinaryFn, Range, Slice, UnaryFn};
use qcc_ir::{Dim, Expr, ValueId};

use super::super::node::NodeCx;
use super::Row;
use crate::build::fourier::{Transform, transformed};
use crate::build::{Build, Operands, Values, count_axes, extent, movement, one};
use crate::refusal::Refusal;

pub(super) const ROWS: &[Row] =
    &[(B::COMPLEX_ABS, size), (B::IMAG, |n| one(part(n, 1)?)), (B::REAL, |n| one(part(n, 0)?)), (B::RFFT2D, transform)];

/// The transform of the two last axes, which are cropped or padded with zeros to the lengths.
fn transform(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let (x, lengths) = (n.input(0)?, n.integers(1)?);
    let rank = n.rank(x);
    let (&[height, width], true) = (lengths.as_slice(), rank >= 2) else {
        return Err(Refusal::Invalid(format!("lengths {lengths:?} of a transform of {}", n.ty(x))));
    };
    let (height, width) = (extent(height)?, extent(width)?);
    if height == 0 || width == 0 {
        return Err(Refusal::Invalid("a transform of no elements".into()));
    }
    let x = n.column(x)?;
    let along = |axis, length: usize, onesided| Transform::usual(axis, (length as i64).into(), false, onesided);
    let y = transformed(n, x, &along(rank - 1, width, true))?;
    // That of one element is the element.
    let is_flat = height == 1 && n.extent(y, rank - 2)? == 1;
    one(if is_flat { y } else { transformed(n, y, &along(rank - 2, height, false))? })
}

/// The real or the imaginary parts of input 0.
pub(super) fn part(n: &mut NodeCx<'_, '_>, place: usize) -> Result<ValueId, Refusal> {
    let x = n.complex(0)?;
    let axis = n.rank(x) - 1;
    let part = n.add(Slice { ranges: vec![Range { axis, start: place, len: 1, step: 1 }] }, &[x])?;
    let shape = n.shape(part).without(axis);
    n.reshape_to(part, shape)
}

fn size(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let squares = [part(n, 0)?, part(n, 1)?].map(|part| n.binary(BinaryFn::Mul, part, part));
    let [real, imaginary] = squares;
    let sum = n.binary(BinaryFn::Add, real?, imaginary?)?;
    one(n.unary(UnaryFn::Sqrt, sum)?)
}

/// Input 0 with other axes.
pub(super) fn reshaped(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let (o, x): (Reshape, _) = (n.options()?, n.complex(0)?);
    let mut asked: Vec<Expr> = match n.optional_whole(1)? {
        Some(asked) => asked,
        None => o.new_shape.iter().map(|&d| i64::from(d).into()).collect(),
    };
    asked.push(2.into());
    one(movement::reshaped(n, x, &asked, false)?)
}

/// Input 0 without axes of extent 1.
pub(super) fn squeezed(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let (o, x): (Squeeze, _) = (n.options()?, n.complex(0)?);
    let mut dims = n.shape(x).dims().to_vec();
    let axes: Vec<i64> = o.squeeze_dims.iter().map(|&axis| axis.into()).collect();
    let mut axes: Vec<usize> = match axes.as_slice() {
        [] => (0..dims.len() - 1).filter(|&a| dims[a] == Dim::Known(1)).collect(),
        axes => count_axes(axes, dims.len() - 1)?.to_vec(),
    };
    axes.sort_unstable();
    for a in axes.into_iter().rev() {
        if dims.remove(a) != Dim::Known(1) {
            return Err(Refusal::Invalid(format!("axis {a} of {} has not extent 1", n.ty(x))));
        }
    }
    one(n.reshape_to(x, dims.into_iter().collect())?)
}
