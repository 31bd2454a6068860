//! The integers of quantized values.

use qcc_ir::ops::{BinaryFn, Dequantize, Extents, UnaryFn};
use qcc_ir::{Affine, Elem, Shape, Tensor, ValueId};

use super::Build;
use crate::refusal::Refusal;

/// The integers of a value, to which `shift` was added, as `F32`.
pub(crate) fn numbers(n: &mut impl Build, x: ValueId, shift: i32) -> Result<ValueId, Refusal> {
    let Some(qparams) = n.ty(x).elem.qparams().cloned() else { return n.cast(x, Elem::F32) };
    let scales = Tensor::from_vec(Shape::known(&[qparams.scales().len()]), qparams.scales().to_vec());
    let scales = n.add_constant(scales);
    let scale = match qparams.map {
        Affine::PerAxis { axis, .. } => along(n, scales, axis, x)?,
        Affine::PerTensor { .. } | Affine::PerBlock { .. } => n.reshape(scales, &[])?,
    };
    let real = n.add(Dequantize {}, &[x])?;
    let steps = n.binary(BinaryFn::Div, real, scale)?;
    let steps = n.unary(UnaryFn::Round, steps)?;
    match qparams.zero_point() - shift {
        0 => Ok(steps),
        zero => {
            let zero = n.scalar(zero.into(), steps)?;
            n.binary(BinaryFn::Add, steps, zero)
        }
    }
}

/// The value, or its integers where it is quantized.
pub(crate) fn plain(n: &mut impl Build, x: ValueId) -> Result<ValueId, Refusal> {
    let Some(elem) = n.ty(x).elem.qparams().map(|qparams| qparams.storage.elem()) else { return Ok(x) };
    let integers = numbers(n, x, 0)?;
    n.cast(integers, elem)
}

/// `v`, a scalar or a vector along `axis` of `x`, reshaped to broadcast with `x`.
pub(crate) fn along(n: &mut impl Build, v: ValueId, axis: usize, x: ValueId) -> Result<ValueId, Refusal> {
    let count: usize = n.dims(v)?.iter().product();
    if count == 1 {
        return n.reshape(v, &[]);
    }
    let mut dims = Extents::from_elem(1, n.rank(x));
    if let Some(extent) = dims.get_mut(axis) {
        *extent = count;
    }
    n.reshape(v, &dims)
}
