//! Quantization, dequantization and casts.

use qcc_formats::tflite::BuiltinOperator as B;
use qcc_ir::Elem;

use super::super::node::NodeCx;
use super::{Row, complex};
use crate::build::{Build, Values, one};
use crate::refusal::Refusal;

pub(super) const ROWS: &[Row] =
    &[(B::CAST, cast), (B::DENSIFY, densify), (B::DEQUANTIZE, dequantize), (B::QUANTIZE, quantize)];

fn quantize(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let (x, to) = (n.input(0)?, n.declared(0)?);
    if to.qparams().is_none() {
        return Err(Refusal::Invalid(format!("its result is {to}; expected integers with a scale")));
    }
    one(n.moved(x, &to)?)
}

/// Also converts `F16` constants to `F32`.
fn dequantize(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let x = n.input(0)?;
    match &n.ty(x).elem {
        Elem::Quantized(_) => one(n.real(x)?),
        Elem::F16 | Elem::F32 => one(n.cast(x, Elem::F32)?),
        other => Err(Refusal::Invalid(format!("its operand is {other}; expected integers with a scale"))),
    }
}

/// Sparse constants are made dense on import: the operator is the identity.
fn densify(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    if !n.is_sparse(0) {
        return Err(Refusal::Invalid("its operand is no sparse constant".into()));
    }
    one(n.input(0)?)
}

fn cast(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let to = n.declared(0)?;
    // Of complex numbers the real part is kept.
    let x = if n.is_complex(0) { complex::part(n, 0)? } else { n.input(0)? };
    if to.qparams().is_some() || n.ty(x).elem.qparams().is_some() {
        return Err(Refusal::Unsupported("a cast of stored integers that have a scale is not supported".into()));
    }
    one(n.cast(x, to)?)
}
