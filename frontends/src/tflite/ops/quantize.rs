//! Quantization, dequantization and casts.

use qcc_formats::tflite::{BuiltinOperator as B, FakeQuant};
use qcc_ir::ops::Clamp;
use qcc_ir::{Elem, QuantParams, StorageType};

use super::super::node::NodeCx;
use super::{Row, complex};
use crate::build::{Build, Values, one};
use crate::refusal::Refusal;

pub(super) const ROWS: &[Row] = &[
    (B::CAST, cast),
    (B::DENSIFY, densify),
    (B::DEQUANTIZE, dequantize),
    (B::FAKE_QUANT, fake_quantize),
    (B::QUANTIZE, quantize),
];

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

/// Quantization and dequantization; the range is moved so that it has zero as a step.
fn fake_quantize(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let o: FakeQuant = n.options()?;
    let x = n.input(0)?;
    if !(2..=8).contains(&o.num_bits) {
        return Err(Refusal::Unsupported(format!("{} bits; 2 to 8 are supported", o.num_bits)));
    }
    if !(o.min <= 0.0 && 0.0 <= o.max && o.min < o.max && (o.max - o.min).is_finite()) {
        return Err(Refusal::Invalid(format!("the range {} to {}; expected one around 0", o.min, o.max)));
    }
    let (least, most) = (f32::from(u8::from(o.narrow_range)), ((1 << o.num_bits) - 1) as f32);
    let scale = (o.max - o.min) / (most - least);
    let zero = (least - o.min / scale).clamp(least, most).round();
    let [lo, hi] = [least, most].map(|step| (step - zero) * scale);
    let x = n.add(Clamp { lo, hi }, &[x])?;
    let steps = Elem::Quantized(QuantParams::per_tensor(StorageType::U8, scale, zero as i32));
    let y = n.moved(x, &steps)?;
    one(n.real(y)?)
}
